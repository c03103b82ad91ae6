"""Exact signed distance fields of simple solids, and the ways to move and combine them.

Every class here is a *field*: call it with points (n, 3) float32 and get the signed distance (n,) float32,
negative inside, in the unit of the points. The simple solids are centred at the origin with y as their axis;
`Translated`, `Rotated` and `Scaled` move any field. All are frozen dataclasses: hashable and picklable.
Each raises `InputError` for a size that is not positive and for points of another shape.

The closed forms are well known; Inigo Quilez collects them at https://iquilezles.org/articles/distfunctions/.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepsdf.errors import InputError
from deepsdf.geometry.fields import Field

Vector: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True)
class Sphere:
    """Ball around the origin. Exact everywhere."""

    radius: float = 1.0

    def __post_init__(self) -> None:
        _require_positive(radius=self.radius)

    def __call__(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        return _float32(np.linalg.norm(_float64(points), axis=1) - self.radius)


@dataclass(frozen=True)
class Box:
    """Axis-aligned box around the origin; `half_extents` are half its side lengths. Exact everywhere."""

    half_extents: Vector = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        x, y, z = self.half_extents
        _require_positive(half_extents_x=x, half_extents_y=y, half_extents_z=z)

    def __call__(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        return _float32(_box(np.abs(_float64(points)) - np.asarray(self.half_extents)))


@dataclass(frozen=True)
class Torus:
    """Ring in the xz plane: a tube of radius `minor` around a circle of radius `major`. Exact everywhere."""

    major: float = 1.0
    minor: float = 0.25

    def __post_init__(self) -> None:
        _require_positive(major=self.major, minor=self.minor)
        if self.minor >= self.major:
            # A self-crossing tube has a part of its own wall inside it, where the formula is no distance.
            raise InputError(f"a torus needs minor < major, not minor={self.minor:g}, major={self.major:g}")

    def __call__(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        x, y, z = _float64(points).T
        return _float32(np.hypot(np.hypot(x, z) - self.major, y) - self.minor)


@dataclass(frozen=True)
class Cylinder:
    """Solid cylinder with flat caps around the y axis, from -half_height to half_height. Exact everywhere."""

    radius: float = 1.0
    half_height: float = 1.0

    def __post_init__(self) -> None:
        _require_positive(radius=self.radius, half_height=self.half_height)

    def __call__(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        x, y, z = _float64(points).T
        return _float32(_box(np.stack([np.hypot(x, z) - self.radius, np.abs(y) - self.half_height], axis=1)))


@dataclass(frozen=True)
class Capsule:
    """All points within `radius` of the segment on the y axis from -half_height to half_height.

    Its whole height is 2 (half_height + radius). Exact everywhere.
    """

    radius: float = 0.5
    half_height: float = 1.0

    def __post_init__(self) -> None:
        _require_positive(radius=self.radius, half_height=self.half_height)

    def __call__(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        nearest = _float64(points)
        nearest[:, 1] -= np.clip(nearest[:, 1], -self.half_height, self.half_height)
        return _float32(np.linalg.norm(nearest, axis=1) - self.radius)


@dataclass(frozen=True)
class Translated:
    """`field` moved by `offset`. As exact as `field`."""

    field: Field
    offset: Vector

    def __call__(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        return self.field(_float32(_float64(points) - np.asarray(self.offset)))


@dataclass(frozen=True)
class Rotated:
    """`field` turned by `angle` radians, right-handed, about an axis through the origin. As exact as it."""

    field: Field
    axis: Vector
    angle: float

    def __post_init__(self) -> None:
        _require_positive(axis_length=math.hypot(*self.axis))

    def __call__(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        # `points @ R` applies the inverse of R to each row, which is what brings points to the field's frame.
        return self.field(_float32(_float64(points) @ self.matrix))

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Rotation matrix (3, 3) that takes column vectors of the field's frame to the turned one."""
        x, y, z = np.asarray(self.axis, dtype=np.float64) / math.hypot(*self.axis)
        cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
        return np.eye(3) + math.sin(self.angle) * cross + (1.0 - math.cos(self.angle)) * (cross @ cross)


@dataclass(frozen=True)
class Scaled:
    """`field` made `factor` times larger about the origin, distances with it. As exact as `field`."""

    field: Field
    factor: float

    def __post_init__(self) -> None:
        _require_positive(factor=self.factor)

    def __call__(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        return _float32(self.factor * self.field(_float32(_float64(points) / self.factor)).astype(np.float64))


@dataclass(frozen=True)
class Union:
    """Points in any of `parts`.

    The sign is right everywhere. The distance is exact outside; inside, where parts overlap, it is a
    bound: the true depth is at least as large.
    """

    parts: tuple[Field, ...]

    def __post_init__(self) -> None:
        _require_parts(self.parts)

    def __call__(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        queries = _float32(_float64(points))
        return np.min([part(queries) for part in self.parts], axis=0)


@dataclass(frozen=True)
class Intersection:
    """Points in all of `parts`.

    The sign is right everywhere. The distance is exact inside; outside it is a bound: the true distance is at
    least as large.
    """

    parts: tuple[Field, ...]

    def __post_init__(self) -> None:
        _require_parts(self.parts)

    def __call__(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        queries = _float32(_float64(points))
        return np.max([part(queries) for part in self.parts], axis=0)


@dataclass(frozen=True)
class Difference:
    """Points of `solid` that are not in `hole`.

    The sign is right everywhere. The distance is exact inside where `hole` is exact outside; outside it is
    a bound: the true distance is at least as large.
    """

    solid: Field
    hole: Field

    def __call__(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        queries = _float32(_float64(points))
        return np.maximum(self.solid(queries), -self.hole(queries))


def _box(excess: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance (n,) from how far each coordinate (n, k) lies beyond its wall."""
    outside = np.linalg.norm(np.maximum(excess, 0.0), axis=1)
    return outside + np.minimum(excess.max(axis=1), 0.0)


def _float64(points: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """A float64 copy of the points, their shape checked."""
    copy = np.array(points, dtype=np.float64)
    if copy.ndim != 2 or copy.shape[1] != 3:
        raise InputError(f"a field takes points of shape (n, 3), not {copy.shape}")
    return copy


def _float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return values.astype(np.float32)


def _require_positive(**sizes: float) -> None:
    for name, size in sizes.items():
        if not (size > 0.0 and math.isfinite(size)):
            raise InputError(f"{name} must be positive and finite, not {size!r}")


def _require_parts(parts: tuple[Field, ...]) -> None:
    if not parts:
        raise InputError("parts is empty; give at least one field")
