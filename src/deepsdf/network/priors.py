"""Priors that follow the training codes more closely than one Gaussian: a kernel mixture, and blends of neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deepsdf.network.codes import CodePrior

WIDTH = 0.5
"""Standard deviation of a kernel, in the prior's standard deviations: docs/space.md shows what it does."""

BLENDED = 3
"""Training codes of a blend."""


@dataclass(frozen=True)
class CodeMixture:
    """A Gaussian about every training code, all of the prior's shape, `width` times as wide.

    Codes are drawn towards the prior's mean by 1 / sqrt(1 + width²), so that the mixture has the mean and covariance
    of the prior whatever the width (Silverman, Density Estimation, 1986, section 6.4): 0 gives the training codes
    themselves, and infinity the prior.

    Attributes:
        prior: of the codes.
        centres: (n, L), of the kernels, in the prior's whitened coordinates.
        std: of a kernel along each whitened direction.
    """

    prior: CodePrior
    centres: Tensor
    std: float

    @classmethod
    def fit(cls, codes: Tensor, prior: CodePrior, width: float = WIDTH) -> CodeMixture:
        """Of codes (n, L)."""
        shrink = 1.0 / math.sqrt(1.0 + width**2)
        return cls(prior, prior.whiten(codes) * shrink, width * shrink)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Codes (count, L); drawn on the CPU, so the same on every device."""
        which = torch.randint(len(self.centres), (count,), generator=generator)
        noise = torch.randn(count, self.centres.shape[1], generator=generator)
        whitened = self.centres[which.to(self.centres.device)] + self.std * noise.to(self.centres.device)
        return self.prior.colour(whitened)


def blend(codes: Tensor, count: int, generator: torch.Generator, blended: int = BLENDED) -> Tensor:
    """Codes (count, L), each a random mean of a training code and those nearest to it.

    Weights are uniform over all that add up to 1, so that a blend lies between its `blended` codes, never beyond
    them. Drawn on the CPU.

    Args:
        codes: (n, L) of training.
    """
    blended = min(blended, len(codes))
    which = torch.randint(len(codes), (count,), generator=generator)
    weights = torch.empty(count, blended).exponential_(generator=generator)
    weights = (weights / weights.sum(dim=1, keepdim=True)).to(codes.device)
    near = torch.cdist(codes[which.to(codes.device)], codes).topk(blended, dim=1, largest=False).indices
    return (codes[near] * weights.unsqueeze(-1)).sum(dim=1)
