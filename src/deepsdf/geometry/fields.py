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
