"""From the values at cells' corners: which are at the surface, and how steep the field must be to hide a zero."""

from __future__ import annotations

import numpy as np

from deepsdf.geometry.isosurface.cells import CORNERS


def mixed(corners: np.ndarray) -> np.ndarray:
    """Whether the corners (..., 8) of a cell have both signs; zero counts as inside."""
    inside = corners <= 0
    return np.asarray(inside.any(axis=-1) & ~inside.all(axis=-1))


def nearest(corners: np.ndarray) -> np.ndarray:
    """Of cells with these values at their corners (n, 8), those at the surface; the nearest where hardly any is."""
    crossed = np.flatnonzero(mixed(corners))
    if len(crossed) >= 32 or not len(corners):
        return crossed
    count = min(len(corners), max(32, len(corners) // 20))
    return np.argpartition(np.abs(corners).min(axis=1), count - 1)[:count]


def _farthest() -> np.ndarray:
    """(8, 8): the distance from a unit cell's corner to the farthest point of each of its octants."""
    low = CORNERS / 2.0
    far = np.maximum(np.abs(low - CORNERS[:, None]), np.abs(low + 0.5 - CORNERS[:, None]))
    return np.sqrt((far**2).sum(axis=-1))


_INVERSE_FARTHEST: np.ndarray = (1.0 / _farthest()).astype(np.float32)


def critical(corners: np.ndarray, side: float) -> np.ndarray:
    """(c, 8): the least slope a field of these corner values (c, 8) has if it is zero somewhere in an octant."""
    size = np.abs(corners) / np.float32(side)
    least = size[:, :1] * _INVERSE_FARTHEST[0]
    for corner in range(1, 8):
        np.maximum(least, size[:, corner : corner + 1] * _INVERSE_FARTHEST[corner], out=least)
    return least
