"""ReLU followed by dropout, fused for the CPU.

On a CPU the dropout of torch takes longer than the matrix product of a layer in bfloat16, because it draws a float per
unit. Here a unit takes one byte of a fast generator, and its mask is applied to the bits of the result, in place.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_LEVELS = 128  # 7 random bits per unit; the 8th bit of a byte holds the sign of the comparison


def relu_dropout(x: Tensor, probability: float) -> tuple[Tensor, float]:
    """dropout(relu(x), probability) before scaling, and the scale: multiply the next weight by it, which is cheaper.

    `x` is overwritten. Random numbers are seeded by the default generator of torch.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return functional.dropout(torch.relu(x), probability), 1.0
    keep, scale = keep_mask(x.numel(), probability, torch.int16 if x.element_size() == 2 else torch.int32)
    return _ReluMask.apply(x, keep.view(x.shape)), scale  # pyright: ignore[reportReturnType]


def keep_mask(count: int, probability: float, dtype: torch.dtype) -> tuple[Tensor, float]:
    """A bit mask (count,), and 1 / the fraction of units kept. A unit is kept (all bits set) or dropped (no bit set).

    The fraction kept is a multiple of 1/128. It is drawn from the two multiples next to 1 - probability, so that its
    expectation is exact.

    Args:
        dtype: integer type of the size of the units to mask.
    """
    seed = int(torch.randint(2**63 - 1, ()))
    random = np.random.SFC64(seed)
    wanted = (1.0 - probability) * _LEVELS
    kept = math.floor(wanted) + (random.random_raw() / 2**64 < wanted % 1.0)
    if kept in (0, _LEVELS):
        return torch.full((count,), -1 if kept else 0, dtype=dtype), 1.0
    numbers = torch.from_numpy(random.random_raw(-(-count // 8)).view(np.int8))[:count]
    # Keep where the 7 random bits are less than `kept`: the arithmetic shift spreads the sign of the difference over
    # the byte, and the conversion to a wider type extends it.
    numbers.bitwise_and_(_LEVELS - 1).sub_(kept).bitwise_right_shift_(7)
    return numbers.to(dtype), _LEVELS / kept


class _ReluMask(torch.autograd.Function):
    """Only units that are positive afterwards have a gradient, so the result itself serves as the mask of backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor) -> Tensor:
        # Not marked as dirty: x is a view of the result of a product, which autograd would then copy. No backward pass
        # reads the overwritten values.
        result = x.detach()
        result.relu_().view(keep.dtype).bitwise_and_(keep)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (result,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(gradients[0], result, 0), None
