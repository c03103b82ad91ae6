"""Robust losses ρ of residuals, with the weights of iteratively reweighted least squares.

Reweighting replaces Σ ρ(r) by a weighted sum of squares with the same gradient: the weight of a residual is ρ'(r) / r,
and the Gauss-Newton matrix is Σ ρ'(r) / r · J Jᵀ (Holland and Welsch 1977).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Loss(Protocol):
    """A loss of single residuals."""

    def value(self, residuals: Tensor) -> Tensor:
        """ρ(r), elementwise."""
        ...

    def reweight(self, weights: Tensor, residuals: Tensor) -> Tensor:
        """weight · ρ'(r) / r, elementwise."""
        ...


@dataclass(frozen=True)
class Squared:
    """½ r²."""

    def value(self, residuals: Tensor) -> Tensor:
        return 0.5 * residuals.square()

    def reweight(self, weights: Tensor, residuals: Tensor) -> Tensor:
        return weights


@dataclass(frozen=True)
class Huber:
    """Huber's loss divided by its width h: ½ r² / h up to |r| = h, |r| - ½ h beyond; |r| with a smooth minimum.

    Attributes:
        width: h, in the unit of the residuals.
    """

    width: float

    def value(self, residuals: Tensor) -> Tensor:
        size = residuals.abs()
        return torch.where(size < self.width, 0.5 * residuals.square() / self.width, size - 0.5 * self.width)

    def reweight(self, weights: Tensor, residuals: Tensor) -> Tensor:
        return weights / residuals.abs().clamp_min(self.width)


@dataclass(frozen=True)
class Cauchy:
    """½ c² log(1 + (r / c)²): ½ r² for small residuals; the pull of outliers falls as 1 / r.

    Attributes:
        width: c, in the unit of the residuals.
    """

    width: float

    def value(self, residuals: Tensor) -> Tensor:
        return 0.5 * self.width**2 * (1.0 + (residuals / self.width).square()).log()

    def reweight(self, weights: Tensor, residuals: Tensor) -> Tensor:
        return weights / (1.0 + (residuals / self.width).square())
