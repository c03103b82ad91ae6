"""Many small robust least-squares problems at once: damped Gauss-Newton steps (Levenberg-Marquardt).

A problem is what it makes of a place: `Quadratic`, usually a sum of several kinds of residuals, each by `quadratic`.
Knows no decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CONVERGED, STUCK, STEPS_RAN_OUT = range(3)
REASONS = ("converged", "stuck", "steps ran out")
"""Why a problem's minimisation ended. Stuck: no step lowers the objective, however small."""

DAMPING = 1e-2
"""At the first step, as a share of the curvature."""

LEAST_DAMPING, LITTLE_DAMPING, MOST_DAMPING = 1e-7, 0.1, 1e3


@dataclass(frozen=True)
class Quadratic:
    """b objectives near a place: value + gradient · move + ½ move · curvature · move.

    Attributes:
        value: (b,).
        gradient: (b, p).
        curvature: (b, p, p), positive semidefinite.
    """

    value: Tensor
    gradient: Tensor
    curvature: Tensor

    def __add__(self, other: Quadratic) -> Quadratic:
        return Quadratic(*(own + theirs for own, theirs in zip(self._parts, other._parts, strict=True)))

    def __getitem__(self, rows: Tensor) -> Quadratic:
        """Some of the objectives."""
        return Quadratic(*(part[rows] for part in self._parts))

    def replaced(self, rows: Tensor, other: Quadratic) -> Quadratic:
        """With the objectives `rows` (k,) from another of k objectives."""
        parts = zip(self._parts, other._parts, strict=True)
        return Quadratic(*(own.index_copy(0, rows, theirs) for own, theirs in parts))

    @classmethod
    def joined(cls, several: Sequence[Quadratic]) -> Quadratic:
        """The objectives of several, one after the other."""
        return cls(*(torch.cat(parts) for parts in zip(*(one._parts for one in several), strict=True)))

    @property
    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.value, self.gradient, self.curvature


def quadratic(
    residuals: Tensor,
    jacobian: Tensor,
    weights: Tensor,
    width: float | None = None,
    moving: Tensor | None = None,
) -> Quadratic:
    """Σ weight · ρ(residual), its gradient, and its Gauss-Newton matrix.

    ρ(r) is ½ r², or with a width h Huber's loss over h: ½ r² / h up to |r| = h, |r| - ½ h beyond, which is the size
    of r with its corner rounded. The matrix is then that of reweighting, Σ weight · J Jᵀ / max(|r|, h).

    Args:
        residuals: (b, n).
        jacobian: (b, n, p), derivatives of the residuals. A residual that asks for nothing where it is 0, as
            max(0, -f) of a point in free space, has zeros or the weight 0 there.
        weights: (b, n), not negative.
        width: h, in the residuals' unit.
        moving: (b, n), which residuals change with the place as the jacobian says; the rest only count in the value.
            None: all.
    """
    if width is None:
        loss, scale = 0.5 * residuals.square(), weights
    else:
        size = residuals.abs()
        loss = torch.where(size < width, 0.5 * residuals.square() / width, size - 0.5 * width)
        scale = weights / size.clamp_min(width)
    if moving is not None:
        scale = scale * moving
    weighted = jacobian * scale.unsqueeze(-1)
    return Quadratic(
        (weights * loss).sum(dim=1),
        (weighted * residuals.unsqueeze(-1)).sum(dim=1),
        weighted.transpose(1, 2) @ jacobian,
    )


Linearise = Callable[[Tensor, Tensor, int], Quadratic]
"""Of places (k, p), of the problems of these numbers (k,), before the step of this number: their objectives."""


@dataclass(frozen=True)
class Minimum:
    """Where the minimisation of b problems ended.

    Attributes:
        place: (b, p).
        near: the objectives there; of one that converged, a step before.
        steps: (b,), tried.
        reason: (b,), an index of `REASONS`.
        damping: (b,), that the next step would have.
    """

    place: Tensor
    near: Quadratic
    steps: Tensor
    reason: Tensor
    damping: Tensor


def minimise(
    linearise: Linearise,
    start: Tensor,
    *,
    steps: int | Tensor,
    tolerance: float,
    slack: Tensor | None = None,
    damping: float | Tensor = DAMPING,
    units: Tensor | None = None,
    retract: Callable[[Tensor, Tensor], Tensor] = torch.sub,
    on_step: Callable[[int], None] | None = None,
) -> Minimum:
    """Lower b objectives from places (b, p). Each has its own damping and its own end, and none hears of the others.

    A step goes to (curvature + damping · (diagonal + its mean))⁻¹ gradient; one that does not lower its objective is
    taken back and its damping raised. A problem ends with the step that promises to lower its objective by less than
    `tolerance`, as a share of it; whether that one keeps its promise is not looked at.

    Args:
        steps: at most; one for all or (b,).
        slack: (b,), shares by which a step may raise the objectives and still be kept: what chance makes of those that
            `linearise` takes from samples drawn anew at each step.
        damping: at the first step, as a share of the curvature; one for all or (b,).
        units: (p,), how long a unit of each coordinate is, where they are not alike: a step's length is damped as it is
            there, whatever the coordinates.
        retract: a place (k, ...) and a step (k, p) to the place that lies the step back; of a rotation no difference.
        on_step: told each step.
    """
    place = start.clone()
    every = torch.arange(len(place), device=place.device)
    near = linearise(place, every, 0)
    damp = torch.ones_like(near.value) * damping
    slack = torch.zeros_like(near.value) if slack is None else slack
    taken = torch.zeros_like(every)
    reason = torch.full_like(every, STEPS_RAN_OUT)
    active = torch.ones_like(every, dtype=torch.bool)
    limit = torch.as_tensor(steps, device=place.device).expand(len(place))
    for step in range(1, int(limit.max()) + 1):
        # Waits for the device, once a step: what has ended costs nothing more.
        at = (active & (taken < limit)).nonzero().squeeze(1)
        if not len(at):
            break
        taken[at] += 1
        here, damped = near[at], damp[at]
        move = _solve(here, damped, units)
        moved = retract(place[at], move)
        # What the quadratic loses by a step, if damping has little part in it.
        promise = 0.5 * (here.gradient * move).sum(dim=1)
        expected = 2 * promise - 0.5 * (move * (here.curvature @ move.unsqueeze(-1)).squeeze(-1)).sum(dim=1)
        settled = (promise <= tolerance * here.value) & (damped <= LITTLE_DAMPING)
        last = at[settled]
        place, reason[last], active[last] = place.index_copy(0, last, moved[settled]), CONVERGED, False
        if len(at := at[~settled]):
            moved, damped = moved[~settled], damped[~settled]
            found = linearise(moved, at, step)
            kept = found.value <= near.value[at] * (1.0 + slack[at])
            gain = (near.value[at] - found.value) / expected[~settled]
            place = place.index_copy(0, at[kept], moved[kept])
            near = near.replaced(at[kept], found[kept])
            damp[at] = torch.where(kept, damped * _eased(gain), damped * 5.0).clamp_min(LEAST_DAMPING)
            stuck = at[~kept & (damped > MOST_DAMPING)]
            reason[stuck], active[stuck] = STUCK, False
        if on_step:
            on_step(step)
    return Minimum(place, near, taken, reason, damp)


def _eased(gain: Tensor) -> Tensor:
    """What a kept step's damping is multiplied by: 0.3 where it gained what the quadratic expected, 2 where it gained
    nothing (after H. B. Nielsen, 1999). Lowered after any gain at all, the damping of a rough objective goes up and
    down between steps too long and steps refused."""
    return (1.0 - (2.0 * gain - 1.0).clamp(-1.0, 1.0) ** 3).clamp_min(0.3)


def _solve(near: Quadratic, damping: Tensor, units: Tensor | None) -> Tensor:
    """The damped step (b, p), to be subtracted; in float64, for directions that hardly change the objective."""
    diagonal = near.curvature.diagonal(dim1=1, dim2=2)
    square = torch.ones_like(diagonal) if units is None else units.square()
    extra = damping.unsqueeze(1) * (diagonal + square * (diagonal / square).mean(dim=1, keepdim=True))
    damped = (near.curvature + torch.diag_embed(extra)).double()
    factor, _ = torch.linalg.cholesky_ex(damped)  # of a matrix that is none, not finite: then the step is refused
    step = torch.cholesky_solve(near.gradient.double().unsqueeze(-1), factor)
    return step.squeeze(-1).to(near.gradient.dtype)
