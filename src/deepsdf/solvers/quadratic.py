"""Quadratic models of objectives, and the Gauss-Newton model of weighted residuals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deepsdf.solvers.losses import Loss, Squared


@dataclass(frozen=True)
class Quadratic:
    """Models of b objectives about a state: value + gradient · step + ½ step · curvature · step.

    Attributes:
        value: (b,).
        gradient: (b, p).
        curvature: (b, p, p), positive semidefinite.
    """

    value: Tensor
    gradient: Tensor
    curvature: Tensor

    @classmethod
    def ridge(cls, difference: Tensor, weight: Tensor) -> Quadratic:
        """½ weight |x - x0|² for differences x - x0 (b, p) and weights (b,)."""
        identity = torch.eye(difference.shape[1], dtype=difference.dtype, device=difference.device)
        return cls(
            0.5 * weight * difference.square().sum(dim=1),
            weight[:, None] * difference,
            weight[:, None, None] * identity,
        )

    @classmethod
    def concatenate(cls, models: Sequence[Quadratic]) -> Quadratic:
        """The objectives of several models along the batch axis."""
        return cls(*(torch.cat(parts) for parts in zip(*(one._parts for one in models), strict=True)))

    def __add__(self, other: Quadratic) -> Quadratic:
        """Models of the sums of objectives."""
        return Quadratic(*(own + added for own, added in zip(self._parts, other._parts, strict=True)))

    def __getitem__(self, rows: Tensor) -> Quadratic:
        """Models of some of the objectives."""
        return Quadratic(*(part[rows] for part in self._parts))

    def replaced(self, rows: Tensor, other: Quadratic) -> Quadratic:
        """A copy in which the models `rows` (k,) are those of another batch of k."""
        parts = zip(self._parts, other._parts, strict=True)
        return Quadratic(*(own.index_copy(0, rows, new) for own, new in parts))

    def padded(self, count: int) -> Quadratic:
        """The model with `count` more parameters, which do not change the objectives."""
        return Quadratic(
            self.value,
            torch.nn.functional.pad(self.gradient, (0, count)),
            torch.nn.functional.pad(self.curvature, (0, count, 0, count)),
        )

    @property
    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.value, self.gradient, self.curvature


def gauss_newton(
    residuals: Tensor, jacobian: Tensor, weights: Tensor, loss: Loss | None = None, active: Tensor | None = None
) -> Quadratic:
    """The Gauss-Newton model of Σ weight · ρ(residual), by reweighting (see `solvers.losses`).

    Args:
        residuals: (b, n).
        jacobian: (b, n, p), derivatives of the residuals.
        weights: (b, n), not negative.
        loss: ρ. None: ½ r².
        active: (b, n), residuals that contribute to gradient and curvature; the others only to the value. None: all.
    """
    loss = loss or Squared()
    scale = loss.reweight(weights, residuals)
    if active is not None:
        scale = scale * active
    weighted = jacobian * scale.unsqueeze(-1)
    return Quadratic(
        (weights * loss.value(residuals)).sum(dim=1),
        (weighted * residuals.unsqueeze(-1)).sum(dim=1),
        weighted.transpose(1, 2) @ jacobian,
    )
