r"""Marching cubes over the active cells: the triangles that the whole dense grid would give.

scikit-image's marching cubes with the tables of Lewiner et al. (Efficient Implementation of Marching Cubes' Cases with
Topological Guarantees, 2003) runs on blocks of the grid that contain active cells, one after the other. Vertices on the
faces between blocks come out once for each block and are merged.

    block 0       block 1
    +---------+   +---------+
    |       __|   |__       |      the vertex on the shared edge is found twice, with the same key:
    |  ____/  |   |  \____  |      its grid edge
    +---------+   +---------+
"""

from __future__ import annotations

import numpy as np

from deepsdf.geometry.isosurface.active_cells import ActiveCells, fill_unknown
from deepsdf.geometry.isosurface.cells import CORNERS

BLOCK = 32
"""Cells per side of a block: 33³ float32 samples are 144 KB. Blocks lie at multiples of it, so that the result does not
depend on which cells are active."""


def marching_cubes(active: ActiveCells) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (v, 3) float64 and triangles (t, 3), faces outward."""
    blocks = active.cells // BLOCK
    across = -(-active.grid.resolution // BLOCK)
    keys = (blocks[:, 0] * across + blocks[:, 1]) * across + blocks[:, 2]
    order = np.argsort(keys, kind="stable")
    indices, triangles, count = [], [], 0
    for rows in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
        vertices, faces = _block(active, rows)
        indices.append(vertices)
        triangles.append(faces + count)
        count += len(vertices)
    return _merged(active, np.concatenate(indices), np.concatenate(triangles))


def _block(active: ActiveCells, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices in (fractional) grid indices and triangles of the block that contains these active cells."""
    from skimage.measure import marching_cubes

    cells = active.cells[rows]
    corner = cells[0] // BLOCK * BLOCK
    size = np.minimum(BLOCK + 1, active.grid.resolution - corner)  # blocks at the end of an axis are smaller
    values = np.full(size, np.nan, np.float32)
    for number, offset in enumerate(CORNERS):
        values[tuple((cells - corner + offset).T)] = active.values[rows, number]
    # Both ends of an edge with a sign change are known: all others may take any value of the right sign.
    vertices, faces, _, _ = marching_cubes(fill_unknown(values, (0, 1, 2)), 0.0, gradient_direction="descent")
    return vertices.astype(np.float64) + corner, faces


def _merged(active: ActiveCells, indices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mesh with vertices on the same grid edge or sample merged and degenerate triangles removed."""
    lower = np.floor(indices)
    between = indices > lower
    number = between.sum(axis=1)
    # Kinds: 0 on a sample, 1 to 3 on an edge along x, y or z, 4 inside a cell, where no other block has it. The key of
    # the first four is the lower sample and the kind; the last get distinct negative keys.
    kind = np.where(number == 0, 0, np.where(number == 1, between.argmax(axis=1) + 1, 4))
    keys = active.grid.key(lower) * 4 + np.minimum(kind, 3)
    keys[kind == 4] = -1 - np.arange((kind == 4).sum())
    _, first, same = np.unique(keys, return_index=True, return_inverse=True)
    triangles = same[triangles]
    a, b, c = triangles.T
    triangles = triangles[(a != b) & (b != c) & (c != a)]
    used, triangles = np.unique(triangles, return_inverse=True)
    return active.grid.position(indices[first[used]]), triangles.reshape(-1, 3)
