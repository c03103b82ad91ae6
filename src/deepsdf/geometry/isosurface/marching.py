"""Marching cubes over the crossed cells of a grid: the triangles that the whole grid would give."""

from __future__ import annotations

import numpy as np

from deepsdf.geometry.isosurface.cells import CORNERS
from deepsdf.geometry.isosurface.search import Crossing, spread

BLOCK = 32
"""Cells of a side that are worked on at once. Blocks lie at multiples of it, whatever cells are crossed."""


def marching_cubes(crossing: Crossing) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (v, 3) float64 and triangles (t, 3), faces outward, by scikit-image with Lewiner's tables."""
    blocks = crossing.cells // BLOCK
    across = -(-crossing.grid.resolution // BLOCK)
    keys = (blocks[:, 0] * across + blocks[:, 1]) * across + blocks[:, 2]
    order = np.argsort(keys, kind="stable")
    places, triangles, count = [], [], 0
    for rows in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
        vertices, faces = _block(crossing, rows)
        places.append(vertices)
        triangles.append(faces + count)
        count += len(vertices)
    return _joined(crossing, np.concatenate(places), np.concatenate(triangles))


def _block(crossing: Crossing, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from skimage.measure import marching_cubes

    cells = crossing.cells[rows]
    corner = cells[0] // BLOCK * BLOCK
    size = np.minimum(BLOCK + 1, crossing.grid.resolution - corner)  # a block at a wall ends there
    values = np.full(size, np.nan, np.float32)
    for number, offset in enumerate(CORNERS):
        values[tuple((cells - corner + offset).T)] = crossing.values[rows, number]
    # Between what is known and what is not, there is no crossing: any value of the right sign does.
    vertices, faces, _, _ = marching_cubes(spread(values, (0, 1, 2)), 0.0, gradient_direction="descent")
    return vertices.astype(np.float64) + corner, faces


def _joined(crossing: Crossing, places: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """With vertices on the same edge or sample made one, and triangles without area left out."""
    whole = np.floor(places)
    between = places > whole
    number = between.sum(axis=1)
    # A vertex lies on a sample, on an edge along x, y or z, or within a cell, where no other block has it.
    kind = np.where(number == 0, 0, np.where(number == 1, between.argmax(axis=1) + 1, 4))
    keys = crossing.grid.key(whole) * 4 + np.minimum(kind, 3)
    keys[kind == 4] = -1 - np.arange((kind == 4).sum())
    _, first, same = np.unique(keys, return_index=True, return_inverse=True)
    triangles = same[triangles]
    a, b, c = triangles.T
    triangles = triangles[(a != b) & (b != c) & (c != a)]
    used, triangles = np.unique(triangles, return_inverse=True)
    return crossing.grid.position(places[first[used]]), triangles.reshape(-1, 3)
