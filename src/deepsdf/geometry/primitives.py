"""Exact signed distance fields of simple solids, and operations that move and combine fields.

Every class is a `Field`: points (n, 3) float32 -> signed distance (n,) float32, negative inside, in the unit of the
points. Solids are centred at the origin, with y as their axis of symmetry. `Translated`, `Rotated` and `Scaled` move
any field; `Union`, `Intersection` and `Difference` combine fields. All are frozen dataclasses, hashable and picklable,
and raise `InputError` for sizes that are not positive and for points of another shape.

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
    """Ball centred at the origin. Exact everywhere."""

    radius: float = 1.0

    def __post_init__(self) -> None:
        _require_positive(radius=self.radius)

    def __call__(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        return _float32(np.linalg.norm(_float64(points), axis=1) - self.radius)


@dataclass(frozen=True)
class Box:
    """Axis-aligned box centred at the origin; `half_extents` are half its side lengths. Exact everywhere."""

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
            # Such a tube intersects itself: part of its surface lies inside it, where the formula is not a distance.
            raise InputError(
                f"a torus has minor={self.minor:g} and major={self.major:g}; minor must be smaller than major"
            )

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

    Its total height is 2 (half_height + radius). Exact everywhere.
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
    """`field` moved by `offset`. Exact where `field` is."""

    field: Field
    offset: Vector

    def __call__(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        return self.field(_float32(_float64(points) - np.asarray(self.offset)))


@dataclass(frozen=True)
class Rotated:
    """`field` rotated by `angle` radians, right-handed, about `axis` through the origin. Exact where `field` is."""

    field: Field
    axis: Vector
    angle: float

    def __post_init__(self) -> None:
        _require_positive(axis_length=math.hypot(*self.axis))

    def __call__(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        # p @ R is the inverse rotation Rᵀ p of each row: it takes points to the frame of the field.
        return self.field(_float32(_float64(points) @ self.matrix))

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Rotation matrix (3, 3) from the frame of the field to the rotated one, for column vectors."""
        x, y, z = np.asarray(self.axis, dtype=np.float64) / math.hypot(*self.axis)
        # Rodrigues' formula: I + sin(a) K + (1 - cos(a)) K², with K v = axis x v.
        cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
        return np.eye(3) + math.sin(self.angle) * cross + (1.0 - math.cos(self.angle)) * (cross @ cross)


@dataclass(frozen=True)
class Scaled:
    """`field` scaled by `factor` about the origin, with its distances. Exact where `field` is."""

    field: Field
    factor: float

    def __post_init__(self) -> None:
        _require_positive(factor=self.factor)

    def __call__(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        return _float32(self.factor * self.field(_float32(_float64(points) / self.factor)).astype(np.float64))


@dataclass(frozen=True)
class Union:
    """Points in any of `parts`.

    The sign is correct everywhere. The distance is exact outside; inside, where parts overlap, it is a lower bound of
    the true depth."""

    parts: tuple[Field, ...]

    def __post_init__(self) -> None:
        _require_parts(self.parts)

    def __call__(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        queries = _float32(_float64(points))
        return np.min([part(queries) for part in self.parts], axis=0)


@dataclass(frozen=True)
class Intersection:
    """Points in all of `parts`.

    The sign is correct everywhere. The distance is exact inside; outside it is a lower bound of the true distance.
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

    The sign is correct everywhere. The distance is exact inside where `hole` is exact outside; outside it is a lower
    bound of the true distance.
    """

    solid: Field
    hole: Field

    def __call__(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        queries = _float32(_float64(points))
        return np.maximum(self.solid(queries), -self.hole(queries))


def _box(excess: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance (n,) to a box, from the distance (n, k) of each coordinate beyond the box's face (negative inside)."""
    outside = np.linalg.norm(np.maximum(excess, 0.0), axis=1)
    return outside + np.minimum(excess.max(axis=1), 0.0)


def _float64(points: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """A float64 copy of the points, after a check of their shape."""
    copy = np.array(points, dtype=np.float64)
    if copy.ndim != 2 or copy.shape[1] != 3:
        raise InputError(f"points have shape {copy.shape}; a field takes (n, 3)")
    return copy


def _float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return values.astype(np.float32)


def _require_positive(**sizes: float) -> None:
    for name, size in sizes.items():
        if not (size > 0.0 and math.isfinite(size)):
            raise InputError(f"{name} is {size!r}; it must be positive and finite")


def _require_parts(parts: tuple[Field, ...]) -> None:
    if not parts:
        raise InputError("parts is empty; give at least one field")
