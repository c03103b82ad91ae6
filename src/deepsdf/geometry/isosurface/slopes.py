"""How steep a field must be to have a zero inside a cell, and the cells that show how steep it is at the surface."""

from __future__ import annotations

import numpy as np

from deepsdf.geometry.isosurface.active_cells import is_active
from deepsdf.geometry.isosurface.cells import CORNERS

_ENOUGH = 32
"""Cells at the surface that suffice for an estimate of its slope: the median of 32 normal values errs by 0.22 standard
deviations, sqrt(pi / 2 / 32)."""


def near_surface(corners: np.ndarray) -> np.ndarray:
    """Rows of the active cells among cells with corner values (n, 8).

    If there are fewer than 32, a coarse grid has missed most of the surface; then rows of the 5 % of the cells (at
    least 32) with the smallest value at a corner.
    """
    active = np.flatnonzero(is_active(corners))
    if len(active) >= _ENOUGH or not len(corners):
        return active
    # The smallest |f| marks the cells nearest to the surface if the field is anything like a distance.
    count = min(len(corners), max(_ENOUGH, len(corners) // 20))
    return np.argpartition(np.abs(corners).min(axis=1), count - 1)[:count]


def _farthest() -> np.ndarray:
    """(8, 8): distance from a unit cell's corner (rows) to the farthest point of each of its octants."""
    # Octant o covers [low, low + 1/2] per axis; the farthest point of an interval is one of its ends.
    low = CORNERS / 2.0
    far = np.maximum(np.abs(low - CORNERS[:, None]), np.abs(low + 0.5 - CORNERS[:, None]))
    return np.sqrt((far**2).sum(axis=-1))


_INVERSE_FARTHEST: np.ndarray = (1.0 / _farthest()).astype(np.float32)


def critical_slopes(corners: np.ndarray, side: float) -> np.ndarray:
    """(c, 8): the smallest slope with which a field of corner values (c, 8) can be zero somewhere in each octant.

    A field of slope L has no zero within |f| / L of a sample of value f. An octant is free of zeros if such a ball
    around one of the cell's corners contains it, that is, if |f| / L exceeds the distance d to its farthest point:

        f ------+-------       Octants of the right half are farther from this corner than those of the left half.
        |   .   |  .   |       The critical slope of an octant is the largest |f| / d over the eight corners.
        |......d|......|
        +-------+------+       Two dimensions; `side` is the side of the whole cell.
        |       |      |
        +-------+------+
    """
    # The largest over the corners, one corner at a time: an array (c, 8, 8) would not fit the cache. Dividing by the
    # side first lets one table of unit distances serve all levels.
    size = np.abs(corners) / np.float32(side)
    slope = size[:, :1] * _INVERSE_FARTHEST[0]
    for corner in range(1, 8):
        np.maximum(slope, size[:, corner : corner + 1] * _INVERSE_FARTHEST[corner], out=slope)
    return slope
