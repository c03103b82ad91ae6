"""Closing a surface where the walls of the cube cut it: one more layer of cells around, all its samples outside.

The layer has no thickness: what comes to lie in it is moved onto the walls afterwards.
"""

from __future__ import annotations

import numpy as np

from deepsdf.geometry.isosurface.cells import CORNERS
from deepsdf.geometry.isosurface.contour import Contour, Hermite, Sheets
from deepsdf.geometry.isosurface.search import Crossing, Grid, unique

_ROUNDING = 1e-9  # of the bound


def close(crossing: Crossing) -> Crossing:
    """The crossing of the field inside the cube and nothing beyond, on a grid of one more layer of cells."""
    small, n = crossing.grid, crossing.grid.resolution
    grid = Grid(n + 2, small.bound + small.cell)
    axis, side, first, second = np.nonzero(crossing.walls <= 0)
    inside = np.empty((len(axis), 3), np.int32)
    for a in range(3):
        at = axis == a
        inside[at] = np.insert(np.column_stack([first, second])[at], a, side[at] * (n - 1), axis=1) + 1
    around = grid.place(unique(grid.key((inside[:, None] - CORNERS).reshape(-1, 3))))
    layer = around[((around == 0) | (around == n)).any(axis=1)]
    values = np.full((len(layer), 8), small.cell, np.float32)
    for corner, offset in enumerate(CORNERS):
        place = layer + offset - 1
        within = ((place >= 0) & (place < n)).all(axis=1)
        for a in range(3):
            for s in (0, 1):
                at = within & (place[:, a] == s * (n - 1))
                values[at, corner] = crossing.walls[a, s][tuple(np.delete(place[at], a, axis=1).T)]
    cells = np.concatenate([crossing.cells + 1, layer]).astype(np.int32)
    order = np.argsort(grid.key(cells))
    values = np.concatenate([crossing.values, values])[order]
    return Crossing(grid, cells[order], values, crossing.walls, crossing.low, crossing.high, crossing.queries)


def walled(hermite: Hermite, bound: float) -> Hermite:
    """A field's values and gradients within the cube, and those of the distance from the cube beyond it."""

    def both(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        axis = np.abs(points).argmax(axis=1)
        farthest = points[np.arange(len(points)), axis]
        values, gradients = np.abs(farthest) - bound, np.eye(3)[axis] * np.sign(farthest)[:, None]
        within = values <= _ROUNDING * bound
        values[within], gradients[within] = hermite(points[within])
        return values, gradients

    return both


def flatten(
    crossing: Crossing, sheets: Sheets, contour: Contour, triangles: np.ndarray, bound: float
) -> tuple[Contour, np.ndarray]:
    """A contour of a closed crossing with the added layer pressed onto the walls."""
    points = contour.points.copy()
    layer = crossing.cells[sheets.sheet_cell]
    # Along the cube's own edges the layer has no width either: its sheets' points go where one of their edges' is.
    corners = np.flatnonzero(((layer == 0) | (layer == crossing.grid.resolution - 2)).sum(axis=1) > 1)
    rows, names = np.nonzero(sheets.cell_edges >= 0)
    edge_of = np.zeros(len(layer), np.int64)
    edge_of[sheets.cell_sheets[rows, names]] = sheets.cell_edges[rows, names]
    points[corners] = points[len(layer) + edge_of[corners]]
    points, triangles = press(points, triangles, bound)
    return Contour(points, contour.normals), triangles


def press(points: np.ndarray, triangles: np.ndarray, bound: float) -> tuple[np.ndarray, np.ndarray]:
    """Points moved into the cube, and triangles without those that have lost a side to it.

    Points that fall together on the cube's edges become the first of them in the triangles.
    """
    points = np.where(np.abs(points) > (1.0 - _ROUNDING) * bound, np.copysign(bound, points), points)
    crowded = np.flatnonzero((np.abs(points) == bound).sum(axis=1) > 1)
    _, first, same = np.unique(np.round(points[crowded] / bound, 9), axis=0, return_index=True, return_inverse=True)
    name = np.arange(len(points))
    name[crowded] = crowded[first[same.reshape(-1)]]
    triangles = name[triangles]
    a, b, c = triangles.T
    return points, triangles[(a != b) & (b != c) & (c != a)]
