"""Shapes edited by constraints.

With w the whitened code and w0 the whitened code of the given shape, an edit minimises

    ½ |w - w0|² + Σ ½ (r / σ)²

by Levenberg-Marquardt, where r are the residuals (lengths) of all constraints and σ falls from `LOOSE` to `TIGHT`. The
result is the nearest shape, in the prior's standard deviations, that meets the constraints: changes that are frequent
among the training shapes are small, changes that never occur are large.

A space also has codes that meet constraints although their surface has fallen apart. `Edit.doubt` reports those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deepsdf.errors import NoSurfaceError
from deepsdf.inference.edit.constraints import (
    Constraint,
    ResidualFunction,
    Size,
    check,
    extreme_points,
    residual_function,
    violation,
)
from deepsdf.inference.fit.problem import CodeProblem, frozen
from deepsdf.inference.shape import MAX_UNLIKELINESS, Shape, TrainedCodes
from deepsdf.solvers.levenberg_marquardt import minimise
from deepsdf.solvers.quadratic import Quadratic, gauss_newton

TOLERANCE = 0.01
"""Violation up to which a constraint counts as met, unit frame: half a percent of the unit sphere's diameter."""

LOOSE, TIGHT = 0.03, 0.002
"""σ of the first and of the last round, unit frame: three times and a fifth of `TOLERANCE`. In between, σ falls
geometrically, so that a step is never far from the last solution."""

ROUNDS, ROUND_STEPS = 5, 8
"""Number of rounds, and maximum number of steps of each."""

ROUND_TOLERANCE = 1e-4
"""Predicted relative reduction at which a round has converged."""

MAX_DISTORTION = 2.0
"""Largest distortion of an edited shape, relative to the worst training shape. Measured: edited shapes that were whole
had up to 1.8; a chair whose seat had vanished had 2.6."""

PROBES, PROBE_BAND = 4096, 0.03
"""Random points of the cube, and their largest distance from the surface, unit frame, for measuring distortion."""

COMPARED = 16
"""Training shapes that an edited shape's distortion is compared with."""


@dataclass(frozen=True)
class ConstraintResult:
    """How well a constraint is met.

    Attributes:
        constraint: the constraint.
        before, after: violation by the given and by the edited shape, unit frame. `Through`: absolute value of the
            field at the point. `Region`: how deep the surface reaches into an empty box, or the outside into a full
            one. `Size`: difference of the lengths.
    """

    constraint: Constraint
    before: float
    after: float

    @property
    def met(self) -> bool:
        return self.after <= TOLERANCE


@dataclass(frozen=True)
class Edit:
    """An edited shape.

    Attributes:
        shape: the edited shape.
        start: the given shape.
        results: one per constraint, in the given order.
        moved: root mean square of w - w0 over the directions of the prior, in its standard deviations.
        unlikeliness: distance of the code from the mean of the training codes, see `inference.shape.unlikeliness`.
        distortion: `distortion` of the shape relative to the largest of some training shapes.
        alone: for each constraint that is not met, whether it can be met without the others.
    """

    shape: Shape
    start: Shape
    results: tuple[ConstraintResult, ...]
    moved: float
    unlikeliness: float
    distortion: float
    alone: tuple[bool, ...] = ()

    @property
    def met(self) -> bool:
        """Whether all constraints are met."""
        return all(one.met for one in self.results)

    @property
    def doubt(self) -> str | None:
        """Why the result is not what was requested, for the user. None if it is."""
        unmet = [one for one in self.results if not one.met]
        if unmet:
            alone = self.alone or (False,) * len(unmet)
            listed = "; ".join(
                f"{one.constraint} is missed by {one.after:.3f}"
                + (" (it can be met alone)" if possible else " (not even met alone)" if len(self.results) > 1 else "")
                for one, possible in zip(unmet, alone, strict=True)
            )
            wanted = "all constraints" if len(self.results) > 1 else "the constraint"
            return f"no shape near the given one meets {wanted}: {listed}"
        if np.isinf(self.distortion):
            return "the constraints are met, but the surface has nearly vanished; relax them"
        if self.distortion > MAX_DISTORTION:
            return (
                "the constraints are met, but the shape has fallen apart: its field deviates from a distance "
                f"{self.distortion:.1f} times more than the worst training shape's; relax them"
            )
        if self.unlikeliness > MAX_UNLIKELINESS:
            return (
                f"the shape lies {self.unlikeliness:.1f} standard deviations from the training shapes (expected at "
                f"most {MAX_UNLIKELINESS}): the space has learned nothing similar"
            )
        return None


def edit(space: TrainedCodes, start: Shape, constraints: Sequence[Constraint]) -> Edit:
    """See `ShapeSpace.edit`."""
    check(constraints)
    problem = CodeProblem(space.decoder, space.prior, space.clamping_distance)
    origin = problem.prior.whiten(start.code)
    if any(isinstance(one, Size) and extreme_points(start, one.axis) is None for one in constraints):
        raise NoSurfaceError("the shape has no surface, so it has no size to change; check that the network is trained")
    before = [violation(one, start) for one in constraints]
    with frozen(space.decoder):
        whitened = _nearest(problem, origin, [residual_function(one) for one in constraints])
        shape = start if torch.equal(whitened, origin) else _shape(problem, whitened)
        results = tuple(
            ConstraintResult(one, was, violation(one, shape)) for one, was in zip(constraints, before, strict=True)
        )
        return Edit(
            shape,
            start,
            results,
            moved=_rms(whitened - origin),
            unlikeliness=_rms(whitened),
            distortion=distortion(shape) / max(_usual_distortion(space, start), 1e-9),
            alone=_met_alone(problem, origin, results),
        )


def _rms(whitened: Tensor) -> float:
    return float(whitened.square().mean().sqrt())


def _shape(problem: CodeProblem, whitened: Tensor) -> Shape:
    return Shape(problem.decoder, problem.prior.colour(whitened))


def _met_alone(problem: CodeProblem, origin: Tensor, results: Sequence[ConstraintResult]) -> tuple[bool, ...]:
    """For each constraint that is not met, whether it is when it is the only one."""
    possible = []
    for one in results:
        if not one.met:
            function = residual_function(one.constraint)
            # Of a single constraint the edit itself has shown that it cannot be met.
            shape = None if len(results) == 1 else _shape(problem, _nearest(problem, origin, [function]))
            possible.append(shape is not None and violation(one.constraint, shape) <= TOLERANCE)
    return tuple(possible)


def _usual_distortion(space: TrainedCodes, start: Shape) -> float:
    stride = max(1, len(space.trained_codes) // COMPARED)
    codes = [start.code, *space.trained_codes[::stride]]
    values = [distortion(Shape(space.decoder, code)) for code in codes]
    return max((value for value in values if np.isfinite(value)), default=1.0)


def distortion(shape: Shape) -> float:
    """Mean of ||∇f| - 1| at points near the surface; 0 for a distance. Infinite if there is hardly any surface."""
    points = np.random.default_rng(0).uniform(-1, 1, (PROBES, 3)).astype(np.float32)
    near = points[np.abs(shape.sdf(points)) < PROBE_BAND]
    if not len(near):
        return float("inf")
    return float(np.abs(np.linalg.norm(shape.sdf_and_gradient(near)[1], axis=1) - 1.0).mean())


def _nearest(problem: CodeProblem, origin: Tensor, residuals: Sequence[ResidualFunction]) -> Tensor:
    """The whitened code (L,) nearest to `origin` (L,) that meets constraints."""
    whitened = origin[None]
    one = torch.ones(1, device=origin.device)
    for sigma in np.geomspace(LOOSE, TIGHT, ROUNDS):
        weight = 1.0 / float(sigma) ** 2

        def linearise(at: Tensor, rows: Tensor, step: int, weight: float = weight) -> Quadratic:
            model = Quadratic.ridge(at - origin, one)
            for function in residuals:
                error, jacobian = function(problem, at)
                model = model + gauss_newton(error, jacobian, torch.full_like(error, weight))
            return model

        whitened = minimise(linearise, whitened, steps=ROUND_STEPS, tolerance=ROUND_TOLERANCE).state
    return whitened[0]
