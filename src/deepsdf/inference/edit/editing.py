"""A shape changed by what is said about it: points it passes through, boxes it leaves empty or fills, its size.

Of all codes that do as they are told, the nearest to the shape's own is sought: with w the code in units of the
prior's standard deviations and w0 where it starts,

    ½ |w - w0|² + Σ ½ (r / σ)²

by Gauss-Newton steps, r the residuals (lengths) of all constraints and σ falling from `LOOSE` to `TIGHT`. The prior is
in w: a change that the training shapes often make is near, one that they never make is far.

A space also holds codes that keep constraints by falling apart; where the nearest is one of those `Edit.doubt` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from deepsdf.errors import NoSurfaceError
from deepsdf.inference.edit.constraints import Constraint, Residuals, Size, check, extent, missed, residuals_of
from deepsdf.inference.fit.problem import CodeProblem, frozen
from deepsdf.solvers.levenberg_marquardt import Quadratic, minimise, quadratic

if TYPE_CHECKING:
    from deepsdf.inference.space import Shape, ShapeSpace

TOLERANCE = 0.01
"""Unit frame: a constraint that is kept within it is met."""

LOOSE, TIGHT = 0.03, 0.002
"""σ of the first and of the last round, unit frame."""

ROUNDS, STEPS = 5, 8
"""Rounds, and steps of each at most."""

UNLIKELY = 2.5
"""Distance from the mean of the training codes, in standard deviations a direction, beyond which a shape is none of
the space's (as `completion.UNLIKELY`)."""

WORST = 2.0
"""Times as far from a distance as the worst training shape's field, beyond which a field has fallen apart: shapes that
were edited and whole had up to 1.8, one whose seat was gone 2.6."""

_PROBES, _NEAR, _COMPARED = 4096, 0.03, 16


@dataclass(frozen=True)
class Kept:
    """How well a constraint is kept.

    Attributes:
        constraint: which.
        before, after: by how much it is missed, unit frame: the distance from a point to the surface as the field
            tells; how deep the surface reaches into an empty box, or the outside into a full one; how far the size is
            off.
    """

    constraint: Constraint
    before: float
    after: float

    @property
    def met(self) -> bool:
        return self.after <= TOLERANCE


@dataclass(frozen=True)
class Edit:
    """A changed shape.

    Attributes:
        shape: the new one; `start`: the old one.
        kept: of each constraint, in the order given.
        moved: root of the mean over directions of (w - w0)², in the prior's standard deviations.
        unlikeliness: distance from the mean of the training codes, standard deviations a direction: 1 is usual.
        distortion: how far its field is from a distance, as a multiple of the worst of some training shapes'; see
            `distortion`.
        alone: of constraints that are not met, whether each could be met without the others; in their order.
    """

    shape: Shape
    start: Shape
    kept: tuple[Kept, ...]
    moved: float
    unlikeliness: float
    distortion: float
    alone: tuple[bool, ...] = ()

    @property
    def met(self) -> bool:
        """All constraints are."""
        return all(one.met for one in self.kept)

    @property
    def doubt(self) -> str | None:
        """In words, why this is not the shape that was asked for."""
        unmet = [one for one in self.kept if not one.met]
        if unmet:
            alone = self.alone or (False,) * len(unmet)
            told = "; ".join(
                f"{one.constraint} is missed by {one.after:.3f}"
                + (" (it can be met alone)" if possible else " (not even met alone)" if len(self.kept) > 1 else "")
                for one, possible in zip(unmet, alone, strict=True)
            )
            return f"no shape near this one keeps {'all constraints' if len(self.kept) > 1 else 'it'}: {told}"
        if np.isinf(self.distortion):
            return "the constraints are kept, but by a shape that is all but gone; ask for less"
        if self.distortion > WORST:
            return (
                "the constraints are kept, but by a shape that falls apart: its field is "
                f"{self.distortion:.1f} times as far from a distance as the worst training shape's"
            )
        if self.unlikeliness > UNLIKELY:
            return (
                f"the shape lies {self.unlikeliness:.1f} standard deviations from the training shapes (up to "
                f"{UNLIKELY} is usual): the space has learned nothing like it"
            )
        return None


def edit(space: ShapeSpace, start: Shape, constraints: Sequence[Constraint]) -> Edit:
    """See `ShapeSpace.edit`."""
    check(constraints)
    problem = CodeProblem(space.decoder, space.prior, space.clamping_distance)
    origin = problem.prior.whiten(start.code)
    if any(isinstance(one, Size) and extent(start, one.axis) is None for one in constraints):
        raise NoSurfaceError("the shape has no surface, so no size that could be changed; is the network trained?")
    before = [missed(one, start) for one in constraints]
    with frozen(space.decoder):
        usual = _usual_distortion(space, start)
        place = _fitted(space, problem, origin, [residuals_of(one) for one in constraints])
        found = _judged(space, problem, start, place, constraints, before, usual)
        return replace(found, alone=_met_alone(space, problem, origin, found.kept))


def _judged(
    space: ShapeSpace,
    problem: CodeProblem,
    start: Shape,
    place: Tensor,
    constraints: Sequence[Constraint],
    before: Sequence[float],
    usual: float,
) -> Edit:
    origin = problem.prior.whiten(start.code)
    shape = start if torch.equal(place, origin) else space.shape(problem.prior.colour(place))
    kept = tuple(Kept(one, was, missed(one, shape)) for one, was in zip(constraints, before, strict=True))
    moved = float((place - origin).square().mean().sqrt())
    return Edit(shape, start, kept, moved, float(place.square().mean().sqrt()), distortion(shape) / max(usual, 1e-9))


def _met_alone(space: ShapeSpace, problem: CodeProblem, origin: Tensor, kept: Sequence[Kept]) -> tuple[bool, ...]:
    """Of each constraint that is not met, whether it is when nothing else is asked."""
    found = []
    for one in kept:
        if not one.met:
            place = origin if len(kept) == 1 else _fitted(space, problem, origin, [residuals_of(one.constraint)])
            found.append(missed(one.constraint, space.shape(problem.prior.colour(place))) <= TOLERANCE)
    return tuple(found)


def _usual_distortion(space: ShapeSpace, start: Shape) -> float:
    every = max(1, len(space.trained_codes) // _COMPARED)
    found = [distortion(space.shape(code)) for code in [start.code, *space.trained_codes[::every]]]
    return max((one for one in found if np.isfinite(one)), default=1.0)


def distortion(shape: Shape) -> float:
    """Mean of ||∇f| - 1| at points near the surface: 0 of a distance. Infinite where there is all but no surface."""
    points = np.random.default_rng(0).uniform(-1, 1, (_PROBES, 3)).astype(np.float32)
    near = points[np.abs(shape.sdf(points)) < _NEAR]
    if not len(near):
        return float("inf")
    return float(np.abs(np.linalg.norm(shape.sdf_and_gradient(near)[1], axis=1) - 1.0).mean())


def _fitted(space: ShapeSpace, problem: CodeProblem, origin: Tensor, asked: Sequence[Residuals]) -> Tensor:
    """The whitened place (L,) that keeps what is asked, nearest to where it starts."""
    place = origin[None]
    identity = torch.eye(len(origin), device=origin.device)[None]
    for sigma in np.geomspace(LOOSE, TIGHT, ROUNDS):
        weight = 1.0 / float(sigma) ** 2

        def linearise(at: Tensor, rows: Tensor, step: int, weight: float = weight) -> Quadratic:
            away = at - origin
            total = Quadratic(0.5 * away.square().sum(dim=1), away, identity)
            for residuals in asked:
                error, jacobian = residuals(space, problem, at)
                total = total + quadratic(error, jacobian, torch.full_like(error, weight))
            return total

        place = minimise(linearise, place, steps=STEPS, tolerance=1e-4).place
    return place[0]
