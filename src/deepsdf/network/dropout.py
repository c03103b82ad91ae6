"""ReLU and dropout in one, with masks that cost little.

On a CPU torch's dropout takes longer than a layer's matrix product in bfloat16: it draws a float a unit. Here a unit
takes a byte of a fast generator, and its mask is applied to the bits of the result, in place.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_LEVELS = 128


def relu_dropout(x: Tensor, probability: float) -> tuple[Tensor, float]:
    """`dropout(relu(x), probability)`, not scaled, and the scale that it lacks: for the next weight to take.

    `x` is overwritten. The random numbers follow from torch's default generator.
    """
    if x.device.type != "cpu":
        return functional.dropout(torch.relu(x), probability), 1.0
    keep, scale = keep_mask(x.numel(), probability, torch.int16 if x.element_size() == 2 else torch.int32)
    return _ReluMask.apply(x, keep.view(x.shape)), scale  # pyright: ignore[reportReturnType]


def keep_mask(count: int, probability: float, dtype: torch.dtype) -> tuple[Tensor, float]:
    """All bits set, or with the probability none, (count,); and 1 / the share that is kept of all.

    Shares are multiples of 1/128. The one to use is drawn between the two nearest, so that over many masks the
    probability is the given one exactly.
    """
    seed = int(torch.randint(2**63 - 1, ()))
    random = np.random.SFC64(seed)
    wanted = (1.0 - probability) * _LEVELS
    kept = math.floor(wanted) + (random.random_raw() / 2**64 < wanted % 1.0)
    if kept in (0, _LEVELS):
        return torch.full((count,), -1 if kept else 0, dtype=dtype), 1.0
    numbers = torch.from_numpy(random.random_raw(-(-count // 8)).view(np.int8))[:count]
    # Of 7 random bits, less than `kept`? The sign of the difference tells, spread over the byte by the shift.
    numbers.bitwise_and_(_LEVELS - 1).sub_(kept).bitwise_right_shift_(7)
    return numbers.to(dtype), _LEVELS / kept


class _ReluMask(torch.autograd.Function):
    """What is zero afterwards, by ReLU or mask, gets no gradient: the result says which, and no mask is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor) -> Tensor:
        # Not marked as dirty: x is a view of a product's result, and autograd would copy it. No backward needs it.
        result = x.detach()
        result.relu_().view(keep.dtype).bitwise_and_(keep)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (result,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(gradients[0], result, 0), None
