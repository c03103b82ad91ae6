"""Closing a surface where the faces of the cube cut it.

One more layer of cells is added around the cube, with all outer samples outside. The surface then closes within that
layer, and the layer is collapsed onto the faces of the cube:

    o   o   o   o   o        o outside, # inside
      +---+---+---+          samples of the cube are joined by lines, those of the layer are not
    o #---#---o---o   o
      |   |   |   |          the surface ends here at the left and upper face of the cube; with the layer it
    o #---#---o---o   o      continues between # and the o of the layer
      |   |   |   |
    o o---o---o---o   o
"""

from __future__ import annotations

import numpy as np

from deepsdf.geometry.isosurface.active_cells import ActiveCells, Grid, unique
from deepsdf.geometry.isosurface.cells import CORNERS
from deepsdf.geometry.isosurface.contour import Components, Contour, Hermite

_ROUNDING = 1e-9  # of the bound: positions are float64 with a few roundings of 1e-16; a cell is larger than 1e-4


def close(active: ActiveCells) -> ActiveCells:
    """The active cells of the field inside the cube and of nothing outside it, on a grid with one more layer."""
    small, n = active.grid, active.grid.resolution
    grid = Grid(n + 2, small.bound + small.cell)
    axis, side, first, second = np.nonzero(active.boundary <= 0)
    inside = np.empty((len(axis), 3), np.int32)
    for a in range(3):
        at = axis == a
        # Indices of the small grid are one less than those of the large one.
        inside[at] = np.insert(np.column_stack([first, second])[at], a, side[at] * (n - 1), axis=1) + 1
    # Every cell of the layer with an inside corner is active, because its outer corners are outside.
    around = grid.indices(unique(grid.key((inside[:, None] - CORNERS).reshape(-1, 3))))
    layer = around[((around == 0) | (around == n)).any(axis=1)]
    values = np.full((len(layer), 8), small.cell, np.float32)
    for corner, offset in enumerate(CORNERS):
        sample = layer + offset - 1
        within = ((sample >= 0) & (sample < n)).all(axis=1)
        for a in range(3):
            for s in (0, 1):
                at = within & (sample[:, a] == s * (n - 1))
                values[at, corner] = active.boundary[a, s][tuple(np.delete(sample[at], a, axis=1).T)]
    cells = np.concatenate([active.cells + 1, layer]).astype(np.int32)
    order = np.argsort(grid.key(cells))
    values = np.concatenate([active.values, values])[order]
    return ActiveCells(grid, cells[order], values, active.boundary, active.low, active.high, active.evaluations)


def clipped_to_cube(hermite: Hermite, bound: float) -> Hermite:
    """A field's values and gradients within the cube; outside, those of the distance |p|_max - bound to its faces."""

    def both(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        axis = np.abs(points).argmax(axis=1)
        farthest = points[np.arange(len(points)), axis]
        values, gradients = np.abs(farthest) - bound, np.eye(3)[axis] * np.sign(farthest)[:, None]
        within = values <= _ROUNDING * bound
        values[within], gradients[within] = hermite(points[within])
        return values, gradients

    return both


def collapse_layer(
    active: ActiveCells, components: Components, contour: Contour, triangles: np.ndarray, bound: float
) -> tuple[Contour, np.ndarray]:
    """The contour of closed active cells, with the added layer collapsed onto the faces of the cube."""
    points = contour.points.copy()
    layer = active.cells[components.component_cell]
    # A cell of the layer at an edge or corner of the cube collapses in two or three axes. Moving its component's vertex
    # along each of them would put it somewhere on the cube's edge; it takes the place of one of its edges' vertices,
    # so that the triangles between the two vanish.
    corners = np.flatnonzero(((layer == 0) | (layer == active.grid.resolution - 2)).sum(axis=1) > 1)
    rows, edges = np.nonzero(components.cell_edges >= 0)
    edge_of = np.zeros(len(layer), np.int64)
    edge_of[components.cell_components[rows, edges]] = components.cell_edges[rows, edges]
    points[corners] = points[len(layer) + edge_of[corners]]
    points, triangles = snap_to_cube(points, triangles, bound)
    return Contour(points, contour.normals), triangles


def snap_to_cube(points: np.ndarray, triangles: np.ndarray, bound: float) -> tuple[np.ndarray, np.ndarray]:
    """Points moved into the cube, and the triangles that keep three distinct corners.

    Points that coincide on the cube's edges are replaced by the first of them in the triangles.
    """
    points = np.where(np.abs(points) > (1.0 - _ROUNDING) * bound, np.copysign(bound, points), points)
    # Only on the cube's edges and corners, where two or three coordinates are at the bound, can points coincide.
    on_edge = np.flatnonzero((np.abs(points) == bound).sum(axis=1) > 1)
    _, first, same = np.unique(np.round(points[on_edge] / bound, 9), axis=0, return_index=True, return_inverse=True)
    name = np.arange(len(points))
    name[on_edge] = on_edge[first[same.reshape(-1)]]
    triangles = name[triangles]
    a, b, c = triangles.T
    return points, triangles[(a != b) & (b != c) & (c != a)]
