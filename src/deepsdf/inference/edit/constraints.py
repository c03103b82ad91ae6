"""Constraints on a shape: a point on the surface, an empty or full box, a size.

How far a shape violates a constraint, and the residuals by which an edit meets it. All lengths are in the unit frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from deepsdf.errors import InputError, NoSurfaceError
from deepsdf.geometry.isosurface.options import Meshing
from deepsdf.inference.fit.problem import CodeProblem
from deepsdf.inference.shape import Shape

FIT_POINTS, CHECK_POINTS = 1_000, 8_000
"""Approximate number of grid points in a region: in each step of a fit, and when the result is checked. The second is
twice as dense along each axis, so that it sees between the points of the first."""

SIZE_RESOLUTION = 48
"""Grid resolution of the mesh on which a shape's ends are found."""

MAX_ENDS, END_BAND, END_DISTANCE = 6, 0.08, 0.15
"""Local ends of a shape on each side, such as hands and feet: how many, how close to the extreme end along the axis,
and how far from each other, unit frame. The band is two cells of the mesh."""

MIN_SLOPE = 0.1
"""Where the field is flatter than this, ends move as if it had this slope; a distance has slope 1."""

AXES = ("x", "y", "z")

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Through:
    """The surface passes through a point, unit frame."""

    point: Triple

    def __str__(self) -> str:
        return f"through {_text(self.point)}"


@dataclass(frozen=True)
class Region:
    """The box from `low` to `high`, unit frame, lies outside the shape ("empty") or inside it ("full")."""

    low: Triple
    high: Triple
    kind: Literal["empty", "full"] = "empty"

    def __str__(self) -> str:
        return f"{self.kind} from {_text(self.low)} to {_text(self.high)}"


@dataclass(frozen=True)
class Size:
    """The shape has a length along an axis, unit frame."""

    axis: Literal["x", "y", "z"]
    length: float

    def __str__(self) -> str:
        return f"size {self.axis} = {self.length:.4g}"


Constraint = Through | Region | Size


def check(constraints: Sequence[Constraint]) -> None:
    """Check constraints before a shape is known.

    Raises:
        InputError: there are none; numbers are not finite or outside the unit frame; a region is empty; or two of them
            contradict each other in every space.
    """
    if not constraints:
        raise InputError("no constraints were given; pass points, regions or a size")
    for one in constraints:
        _check_one(one)
    regions = [one for one in constraints if isinstance(one, Region)]
    for region in regions:
        for one in constraints:
            if isinstance(one, Through) and _contains(region, one.point):
                raise InputError(f"'{one}' contradicts '{region}': the point lies inside the box")
            if isinstance(one, Region) and region.kind == "empty" and one.kind == "full" and _overlap(region, one):
                raise InputError(f"'{one}' contradicts '{region}': the boxes overlap")
    sizes: dict[str, Size] = {}
    for one in constraints:
        if isinstance(one, Size) and sizes.setdefault(one.axis, one).length != one.length:
            raise InputError(f"'{one}' contradicts '{sizes[one.axis]}'")


def _check_one(one: Constraint) -> None:
    if isinstance(one, Size):
        numbers = [one.length]
    else:
        numbers = [*one.point] if isinstance(one, Through) else [*one.low, *one.high]
    if not np.isfinite(numbers).all():
        raise InputError(f"{one}: expected finite numbers")
    if isinstance(one, Size):
        if one.axis not in AXES:
            raise InputError(f"{one}: expected the axis x, y or z")
        if not 0 < one.length <= 2:
            raise InputError(f"{one}: expected a length above 0 and at most 2, since shapes lie in the unit sphere")
    elif np.abs(numbers).max() > 1:
        raise InputError(f"{one}: expected numbers from -1 to 1, since shapes lie in the unit sphere")
    if isinstance(one, Region):
        if one.kind not in ("empty", "full"):
            raise InputError(f"the kind of a region is {one.kind!r}; expected 'empty' or 'full'")
        if not all(low < high for low, high in zip(one.low, one.high, strict=True)):
            raise InputError(f"{one}: expected every number of the second corner to be greater than of the first")


def _contains(region: Region, point: Triple) -> bool:
    return all(low < at < high for low, at, high in zip(region.low, point, region.high, strict=True))


def _overlap(a: Region, b: Region) -> bool:
    return all(max(a.low[k], b.low[k]) < min(a.high[k], b.high[k]) for k in range(3))


def violation(constraint: Constraint, shape: Shape) -> float:
    """How far a shape is from meeting a constraint, see `editing.ConstraintResult`."""
    if isinstance(constraint, Through):
        return abs(float(shape.sdf(np.array([constraint.point], np.float32))[0]))
    if isinstance(constraint, Region):
        values = shape.sdf(region_points(constraint, CHECK_POINTS).astype(np.float32))
        depth = -values if constraint.kind == "empty" else values
        return max(0.0, float(depth.max()))
    ends = extreme_points(shape, constraint.axis)
    if ends is None:
        return 2.0  # no surface: the longest length in the unit sphere
    axis = AXES.index(constraint.axis)
    return abs(float(ends[1, axis] - ends[0, axis]) - constraint.length)


def region_points(region: Region, count: int) -> np.ndarray:
    """About `count` points (n, 3) on a regular grid over the box, its faces included."""
    low, high = np.array(region.low), np.array(region.high)
    side = float(np.prod(high - low) / count) ** (1 / 3)
    along = [np.linspace(a, b, max(2, round((b - a) / side) + 1)) for a, b in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*along, indexing="ij"), axis=-1).reshape(-1, 3)


def extreme_points(shape: Shape, axis: str) -> np.ndarray | None:
    """The lowest and the highest point (2, 3) of a shape along an axis, unit frame. None if it has no surface."""
    ends = _ends(shape, AXES.index(axis))
    return None if ends is None else np.stack([ends[0][0], ends[1][0]])


def _ends(shape: Shape, axis: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The lowest points (k, 3) and the highest (m, 3) of a shape: first the extreme one, then local ones close to it.

    They are found on a coarse mesh, then moved onto the level set.
    """
    try:
        vertices = np.asarray(shape.mesh(Meshing(resolution=SIZE_RESOLUTION, vertices="linear")).vertices)
    except NoSurfaceError:
        return None
    low, high = (_project(shape, _local_maxima(vertices, sign * vertices[:, axis])) for sign in (-1.0, 1.0))
    return low[np.argsort(low[:, axis])], high[np.argsort(-high[:, axis])]


def _local_maxima(vertices: np.ndarray, height: np.ndarray) -> np.ndarray:
    """The highest vertices, at least `END_DISTANCE` apart, within `END_BAND` of the highest of all."""
    near = np.flatnonzero(height > height.max() - END_BAND)
    near = near[np.argsort(-height[near], kind="stable")]
    maxima = []
    while len(near) and len(maxima) < MAX_ENDS:
        maxima.append(near[0])
        near = near[np.linalg.norm(vertices[near] - vertices[near[0]], axis=1) > END_DISTANCE]
    return vertices[maxima].astype(np.float32)


def _project(shape: Shape, points: np.ndarray) -> np.ndarray:
    """Points near the surface, moved onto it by three Newton steps of at most half a cell."""
    for _ in range(3):
        values, slopes = shape.sdf_and_gradient(points)
        step = slopes * (values / np.maximum(np.square(slopes).sum(axis=1), MIN_SLOPE))[:, None]
        points = points - np.clip(step, -1.0 / SIZE_RESOLUTION, 1.0 / SIZE_RESOLUTION)
    return points


ResidualFunction = Callable[[CodeProblem, Tensor], tuple[Tensor, Tensor]]
"""(problem, whitened code (1, L)) -> residuals (1, n) and their derivatives (1, n, L)."""


def residual_function(constraint: Constraint) -> ResidualFunction:
    """The residuals of a constraint, lengths in the unit frame."""
    if isinstance(constraint, Size):
        return _size_residuals(constraint)
    points = np.array([constraint.point]) if isinstance(constraint, Through) else region_points(constraint, FIT_POINTS)
    sign = 0.0 if isinstance(constraint, Through) else 1.0 if constraint.kind == "empty" else -1.0

    def residuals(problem: CodeProblem, whitened: Tensor) -> tuple[Tensor, Tensor]:
        at = torch.as_tensor(points, dtype=torch.float32, device=whitened.device)[None]
        values, jacobian = problem.jacobian(problem.prior.colour(whitened), at)
        if sign:  # an inequality: points on the required side have residual 0, and derivative 0
            wrong = sign * values < 0
            return values * wrong, jacobian * wrong.unsqueeze(-1)
        return values, jacobian

    return residuals


def _size_residuals(constraint: Size) -> ResidualFunction:
    """The length along an axis, by the implicit function theorem: f(x, w) = 0 at an end x of the shape, and ∂f/∂x is
    parallel to the axis there, so the end moves along the axis by -(∂f/∂w) / (∂f/∂x).

    Once the extreme end is drawn in, a local one close to it may become the extreme, so their distances from the
    opposite end are residuals too, as soon as they exceed the length.
    """
    axis = AXES.index(constraint.axis)

    def residuals(problem: CodeProblem, whitened: Tensor) -> tuple[Tensor, Tensor]:
        code = problem.prior.colour(whitened)
        shape = Shape(problem.decoder, code[0])
        ends = _ends(shape, axis)
        if ends is None:  # an infinite objective, so that the step to this code is rejected
            return whitened.new_full((1, 1), torch.inf), whitened.new_zeros(1, 1, whitened.shape[1])
        low, high = ends
        points = np.concatenate([low, high])
        _, jacobian = problem.jacobian(code, torch.as_tensor(points, device=whitened.device)[None])
        slopes = shape.sdf_and_gradient(points)[1][:, axis]
        slope = torch.as_tensor(slopes, device=whitened.device).abs().clamp_min(MIN_SLOPE)
        outward = -jacobian[0] / slope[:, None]
        # Lengths: extreme low to extreme high, extreme low to the other high ends, other low ends to extreme high.
        lengths = [high[:1, axis] - low[:1, axis], high[1:, axis] - low[0, axis], high[0, axis] - low[1:, axis]]
        k, first_high = len(low), outward[len(low)]
        moves = [outward[:1] + first_high, outward[:1] + outward[k + 1 :], outward[1:k] + first_high]
        error = torch.as_tensor(np.concatenate(lengths), device=whitened.device) - constraint.length
        active = error > 0
        active[0] = True
        return (error * active)[None], (torch.cat(moves) * active[:, None])[None]

    return residuals


def _text(triple: Triple) -> str:
    return "(" + ", ".join(f"{number:.4g}" for number in triple) + ")"
