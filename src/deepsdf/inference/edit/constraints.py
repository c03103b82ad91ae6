"""What may be asked of a shape: points it passes through, boxes that are empty or full, its size.

How far a shape misses that, and the residuals by which a code is fitted to it. All lengths are of the unit frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from deepsdf.errors import InputError, NoSurfaceError
from deepsdf.geometry.isosurface.options import Meshing
from deepsdf.inference.fit.problem import CodeProblem

if TYPE_CHECKING:
    from deepsdf.inference.space import Shape, ShapeSpace

BOX_POINTS, CHECK_POINTS = 1_000, 8_000
"""Of a box: asked in each step, and when it is told how well it is kept."""

SIZE_GRID = 48
"""Samples an axis, of the cube in which a shape's ends are looked for."""

SUMMITS, BAND, APART = 6, 0.08, 0.15
"""Ends of parts that a size heeds on each side; how near to the very end, and how far from each other."""

AXES = ("x", "y", "z")

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Through:
    """The surface passes through a point, unit frame."""

    point: Triple

    def __str__(self) -> str:
        return f"through {_numbers(self.point)}"


@dataclass(frozen=True)
class Box:
    """The box from `low` to `high`, unit frame, is empty, or full."""

    low: Triple
    high: Triple
    kind: Literal["empty", "full"] = "empty"

    def __str__(self) -> str:
        return f"{self.kind} from {_numbers(self.low)} to {_numbers(self.high)}"


@dataclass(frozen=True)
class Size:
    """The extent along an axis, unit frame."""

    axis: Literal["x", "y", "z"]
    length: float

    def __str__(self) -> str:
        return f"size {self.axis} = {self.length:.4g}"


Constraint = Through | Box | Size


def check(constraints: Sequence[Constraint]) -> None:
    """Whether they can be asked for at all.

    Raises:
        InputError: none; numbers that are not finite or lie outside of the unit frame; an empty box; two that
            contradict each other whatever the space.
    """
    if not constraints:
        raise InputError("there is nothing to change; give points to pass through, boxes, or a size")
    for one in constraints:
        numbers = [one.length] if isinstance(one, Size) else _all_numbers(one)
        if not np.isfinite(numbers).all():
            raise InputError(f"{one}: its numbers must be finite")
        if isinstance(one, Size):
            if one.axis not in AXES:
                raise InputError(f"{one}: the axis may be x, y or z")
            if not 0 < one.length <= 2:
                raise InputError(f"{one}: shapes lie in the unit sphere; a size is above 0 and at most 2")
        elif np.abs(numbers).max() > 1:
            raise InputError(f"{one}: shapes lie in the unit sphere; its numbers must be from -1 to 1")
        if isinstance(one, Box):
            if one.kind not in ("empty", "full"):
                raise InputError(f"a box is 'empty' or 'full', not {one.kind!r}")
            if not all(low < high for low, high in zip(one.low, one.high, strict=True)):
                raise InputError(f"{one}: the box has no inside; each number of the second corner must be greater")
    _check_pairs(constraints)


def _check_pairs(constraints: Sequence[Constraint]) -> None:
    boxes = [one for one in constraints if isinstance(one, Box)]
    for box in boxes:
        for one in constraints:
            if isinstance(one, Through) and all(
                low < at < high for low, at, high in zip(box.low, one.point, box.high, strict=True)
            ):
                raise InputError(f"'{one}' contradicts '{box}': the point lies inside the box")
            if isinstance(one, Box) and box.kind == "empty" and one.kind == "full" and _overlap(box, one):
                raise InputError(f"'{one}' contradicts '{box}': the boxes overlap")
    sizes: dict[str, Size] = {}
    for one in constraints:
        if isinstance(one, Size) and sizes.setdefault(one.axis, one).length != one.length:
            raise InputError(f"'{one}' contradicts '{sizes[one.axis]}'")


def _overlap(a: Box, b: Box) -> bool:
    return all(max(a.low[k], b.low[k]) < min(a.high[k], b.high[k]) for k in range(3))


def missed(constraint: Constraint, shape: Shape) -> float:
    """By how much a shape misses a constraint, see `Kept`."""
    if isinstance(constraint, Through):
        return abs(float(shape.sdf(np.array([constraint.point], np.float32))[0]))
    if isinstance(constraint, Box):
        values = shape.sdf(box_points(constraint, CHECK_POINTS).astype(np.float32))
        wrong = -values if constraint.kind == "empty" else values
        return max(0.0, float(wrong.max()))
    ends = extent(shape, constraint.axis)
    return (
        2.0 if ends is None else abs(float(ends[1, _axis(constraint)] - ends[0, _axis(constraint)]) - constraint.length)
    )


def box_points(box: Box, count: int) -> np.ndarray:
    """About `count` points (n, 3) of a grid over the box, its faces included."""
    low, high = np.array(box.low), np.array(box.high)
    side = float(np.prod(high - low) / count) ** (1 / 3)
    along = [np.linspace(a, b, max(2, round((b - a) / side) + 1)) for a, b in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*along, indexing="ij"), axis=-1).reshape(-1, 3)


def extent(shape: Shape, axis: str) -> np.ndarray | None:
    """The lowest and the highest point (2, 3) of a shape along an axis, unit frame; None without a surface."""
    ends = _ends(shape, AXES.index(axis))
    return None if ends is None else np.stack([ends[0][0], ends[1][0]])


def _ends(shape: Shape, axis: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The lowest points (k, 3) and the highest (m, 3): the very end first, then those of other parts that end near it.

    Looked for on a mesh of `SIZE_GRID` samples an axis, then moved onto the level set.
    """
    try:
        vertices = np.asarray(shape.mesh(Meshing(resolution=SIZE_GRID, vertices="linear")).vertices)
    except NoSurfaceError:
        return None
    low, high = (_onto(shape, _summits(vertices, sign * vertices[:, axis])) for sign in (-1.0, 1.0))
    return low[np.argsort(low[:, axis])], high[np.argsort(-high[:, axis])]


def _summits(vertices: np.ndarray, height: np.ndarray) -> np.ndarray:
    """The highest vertices, `APART` from each other, of those that lie less than `BAND` below the highest of all."""
    near = np.flatnonzero(height > height.max() - BAND)
    near = near[np.argsort(-height[near], kind="stable")]
    found = []
    while len(near) and len(found) < SUMMITS:
        found.append(near[0])
        near = near[np.linalg.norm(vertices[near] - vertices[near[0]], axis=1) > APART]
    return vertices[found].astype(np.float32)


def _onto(shape: Shape, points: np.ndarray) -> np.ndarray:
    """Points near the surface, moved onto it by Newton's steps."""
    for _ in range(3):
        values, slopes = shape.sdf_and_gradient(points)
        step = slopes * (values / np.maximum(np.square(slopes).sum(axis=1), 0.1))[:, None]
        points = points - np.clip(step, -1.0 / SIZE_GRID, 1.0 / SIZE_GRID)
    return points


Residuals = Callable[["ShapeSpace", CodeProblem, Tensor], tuple[Tensor, Tensor]]
"""Of a whitened place (1, L): residuals (1, n) and their derivatives (1, n, L)."""


def residuals_of(constraint: Constraint) -> Residuals:
    """The residual function of a constraint; its residuals are zero where the constraint is met."""
    if isinstance(constraint, Size):
        return _size_residuals(constraint)
    points = np.array([constraint.point]) if isinstance(constraint, Through) else box_points(constraint, BOX_POINTS)
    sign = 0.0 if isinstance(constraint, Through) else 1.0 if constraint.kind == "empty" else -1.0

    def residuals(space: ShapeSpace, problem: CodeProblem, place: Tensor) -> tuple[Tensor, Tensor]:
        at = torch.as_tensor(points, dtype=torch.float32, device=place.device)[None]
        found, jacobian = problem.jacobian(problem.prior.colour(place), at)
        if sign:  # only what is on the wrong side asks for anything
            wrong = sign * found < 0
            return found * wrong, jacobian * wrong.unsqueeze(-1)
        return found, jacobian

    return residuals


def _size_residuals(constraint: Size) -> Residuals:
    """By the implicit function: an end x moves by -(∂f/∂w) / (∂f/∂x) along the axis as the code changes.

    Parts that end near the very end follow it when it is drawn in, so they must not reach beyond the length, either.
    """
    axis = _axis(constraint)

    def residuals(space: ShapeSpace, problem: CodeProblem, place: Tensor) -> tuple[Tensor, Tensor]:
        code = problem.prior.colour(place)
        shape = space.shape(code[0])
        ends = _ends(shape, axis)
        if ends is None:  # no step leads here: the objective is not finite
            return place.new_full((1, 1), torch.inf), place.new_zeros(1, 1, place.shape[1])
        low, high = ends
        points = np.concatenate([low, high])
        _, jacobian = problem.jacobian(code, torch.as_tensor(points, device=place.device)[None])
        slopes = shape.sdf_and_gradient(points)[1][:, axis]
        # Where a field is flat an end moves no faster than ten times its value.
        slope = torch.as_tensor(slopes, device=place.device).abs().clamp_min(0.1)
        outward = -jacobian[0] / slope[:, None]
        lengths = [high[:1, axis] - low[:1, axis], high[1:, axis] - low[0, axis], high[0, axis] - low[1:, axis]]
        k, first = len(low), outward[len(low)]
        moves = [outward[:1] + first, outward[:1] + outward[k + 1 :], outward[1:k] + first]
        error = torch.as_tensor(np.concatenate(lengths), device=place.device) - constraint.length
        heeded = error > 0
        heeded[0] = True
        return (error * heeded)[None], (torch.cat(moves) * heeded[:, None])[None]

    return residuals


def _axis(constraint: Size) -> int:
    return AXES.index(constraint.axis)


def _all_numbers(constraint: Through | Box) -> list[float]:
    return list(constraint.point) if isinstance(constraint, Through) else [*constraint.low, *constraint.high]


def _numbers(triple: Triple) -> str:
    return "(" + ", ".join(f"{number:.4g}" for number in triple) + ")"
