"""Results of fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Fit:
    """Fitted codes of b shapes.

    Attributes:
        codes: (b, L).
        losses: (b,), mean loss over up to 8000 samples, half outside and half inside the shape.
        steps: (b,), optimiser steps.
        reasons: why each fit ended: "converged", "stuck" (no step lowers the objective), "steps ran out". Always the
            last for `adam`, which takes all steps, and for `lm` where the space is rough.
        start_losses: (b, starts), loss of each start when it was dropped, and of the best when the trial ended.
        covariance: (b, L, L), posterior covariance of the whitened codes (see `inference.fit.posterior`).
        noise: (b,), standard deviation of the observations about the fitted field, unit frame.
        uncertainty: (b,), posterior standard deviation of the surface along its normal, unit frame.
        warnings: for each shape, warnings for the user: too few observations, contradictory observations, observations
            unlike any shape of the space.
    """

    codes: Tensor
    losses: Tensor
    steps: Tensor
    reasons: tuple[str, ...]
    start_losses: Tensor
    covariance: Tensor
    noise: Tensor
    uncertainty: Tensor
    warnings: tuple[tuple[str, ...], ...]

    @classmethod
    def best(cls, fits: Sequence[Fit]) -> Fit:
        """For each shape, the fit with the lowest loss; the first of equal ones. All fits are of the same shapes."""
        first = torch.stack([fit.losses for fit in fits]).argmin(dim=0).tolist()
        return cls._of([(fits[fit], shape) for shape, fit in enumerate(first)])

    @classmethod
    def joined(cls, fits: Sequence[Fit], members: Sequence[Sequence[int]]) -> Fit:
        """Fits of different shapes as one; `members` are the numbers of each fit's shapes in the result."""
        rows = {number: (fit, row) for fit, own in zip(fits, members, strict=True) for row, number in enumerate(own)}
        return cls._of([rows[number] for number in range(len(rows))])

    @classmethod
    def _of(cls, rows: Sequence[tuple[Fit, int]]) -> Fit:
        """The fit whose shapes are the given rows of other fits."""

        def pick(name: str) -> Any:
            values = [getattr(fit, name)[row] for fit, row in rows]
            return torch.stack(values) if isinstance(values[0], Tensor) else tuple(values)

        return cls(**{field.name: pick(field.name) for field in fields(cls)})

    @property
    def converged(self) -> Tensor:
        """(b,) bool."""
        return torch.tensor([reason == "converged" for reason in self.reasons], device=self.codes.device)

    @property
    def std(self) -> Tensor:
        """(b, L), posterior standard deviations of the whitened codes; 1 is that of the prior."""
        return self.covariance.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()


@dataclass(frozen=True)
class OptimizedCodes:
    """Codes of b shapes as an optimizer returns them; see `Fit`.

    Attributes:
        hessian: (b, L, L), Gauss-Newton matrix of the data at the codes. None: not computed by the optimizer.
    """

    codes: Tensor
    steps: Tensor
    reasons: tuple[str, ...]
    start_losses: Tensor | None = None
    hessian: Tensor | None = None
