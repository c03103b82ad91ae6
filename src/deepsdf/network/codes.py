"""The codes of the training shapes, and the prior they amount to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


def make_codes(
    count: int, length: int, *, init_std: float, bound: float | None, generator: torch.Generator
) -> nn.Embedding:
    """The table of codes, (count, length), from N(0, init_std^2 / length).

    Rows longer than `bound` are scaled back to it whenever they are looked up, as in the original.
    """
    codes = torch.randn(count, length, generator=generator) * (init_std / math.sqrt(length))
    return nn.Embedding.from_pretrained(codes, freeze=False, max_norm=bound)


@dataclass(frozen=True)
class CodePrior:
    """A Gaussian over codes: the mean and covariance of the training codes.

    Attributes:
        mean: (L,).
        directions: (L, L), principal directions in columns, most variance first.
        std: (L,), standard deviation along each direction, positive.
    """

    mean: Tensor
    directions: Tensor
    std: Tensor

    @classmethod
    def fit(cls, codes: Tensor) -> CodePrior:
        """The prior of codes (n, L).

        Directions that n codes do not span get a small share of the mean variance, so that the prior stays a
        proper distribution however few codes there are.
        """
        codes = codes.detach().double()
        mean = codes.mean(0)
        centred = codes - mean
        covariance = centred.T @ centred / max(1, len(codes) - 1)
        variance, directions = torch.linalg.eigh(covariance)
        floor = 1e-2 * variance.clamp_min(0).mean() + 1e-12
        order = torch.arange(len(mean) - 1, -1, -1, device=codes.device)
        std = variance.clamp_min(0).add(floor).sqrt()[order]
        return cls(mean.float(), directions[:, order].float(), std.float())

    def whiten(self, codes: Tensor) -> Tensor:
        """Codes (..., L) in units of standard deviations along the principal directions."""
        return (codes - self.mean) @ self.directions / self.std

    def colour(self, whitened: Tensor) -> Tensor:
        """The way back from `whiten`."""
        return (whitened * self.std) @ self.directions.T + self.mean

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Codes (count, L) drawn from the prior; drawn on the CPU, so the same on every device."""
        return self.colour(torch.randn(count, len(self.mean), generator=generator).to(self.mean.device))
