"""Fields: functions from points to signed distances.

`polygonize`, `sample_sdf`, the pictures and the metrics take any field: a function, a primitive, a `MeshSDF` or a
`Shape` of a shape space.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np


class Field(Protocol):
    """A function of points (n, 3) float32 that returns signed distances (n,) float32, negative inside.

    Points and distances have the same unit and frame, which the field defines.
    """

    def __call__(self, points: np.ndarray, /) -> np.ndarray: ...


@runtime_checkable
class GradientField(Field, Protocol):
    """A field that also computes its gradient. Functions that need gradients fall back to differences without it."""

    def sdf_and_gradient(self, points: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        """Signed distances (n,) and their gradients (n, 3) by the points, at points (n, 3) float32."""
        ...


def values_and_gradients(field: Field, points: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Float64 values (n,) and gradients (n, 3) at points (n, 3).

    Uses the field's own `sdf_and_gradient`, or else central differences over `step` on both sides, which take six more
    evaluations for each point.
    """
    points = points.astype(np.float32)
    if not len(points):  # fields need not accept an empty array
        return np.zeros(0), np.zeros((0, 3))
    if isinstance(field, GradientField):
        values, gradients = field.sdf_and_gradient(points)
        return np.asarray(values, np.float64).reshape(-1), np.asarray(gradients, np.float64)
    gradients = np.empty((len(points), 3))
    for axis in range(3):
        ends = [points.copy() for _ in range(2)]
        ends[0][:, axis] -= np.float32(step)
        ends[1][:, axis] += np.float32(step)
        before, after = (np.asarray(field(end), np.float64).reshape(-1) for end in ends)
        # Rounding to float32 moves the ends a little: divide by the distance between them as they are.
        gradients[:, axis] = (after - before) / (ends[1][:, axis].astype(np.float64) - ends[0][:, axis])
    return np.asarray(field(points), np.float64).reshape(-1), gradients
