"""Values of a field together with their gradients."""

from __future__ import annotations

import numpy as np

from deepsdf.geometry.fields import Field, GradientField


def values_and_gradients(field: Field, points: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Float64 values (n,) and gradients (n, 3) at points (n, 3).

    By the field's own `sdf_and_gradient`, or by central differences over about `step` to both sides, which are six
    more evaluations of each point.
    """
    points = points.astype(np.float32)
    if not len(points):  # a field need not know what to do with none
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
        # float32 moves the ends a little: the distance between them is what it came to
        gradients[:, axis] = (after - before) / (ends[1][:, axis].astype(np.float64) - ends[0][:, axis])
    return np.asarray(field(points), np.float64).reshape(-1), gradients


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) at length 1; zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-300)
