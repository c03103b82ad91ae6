"""Triangles between the points of a contour.

Every face of the grid that a sheet passes through joins four points: of the two edges where the surface crosses the
face, and of the sheet on both sides. Either diagonal makes two triangles, and with either, what lies in one cell is a
cone from the sheet's point over a ring on the cell's walls. Cones of different cells do not meet, so the mesh does not
cross itself. Of several sheets in one cell, and of edges whose point is left out, that is only what was always seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepsdf.geometry.isosurface.cells import EDGE_BASE, EDGE_BEYOND, EDGE_TURN, FACE_CORNERS, FACE_EDGES
from deepsdf.geometry.isosurface.contour import Contour, Sheets
from deepsdf.geometry.isosurface.hermite import unit
from deepsdf.geometry.isosurface.search import Crossing

_CLEAR = 0.02  # a cosine; by less than this the diagonal between edges' points is not better
_FACING = 0.9  # a cosine: how well the triangles left when an edge's point goes must look as its normal does


@dataclass(frozen=True)
class _Quads:
    """Four points each, in a ring (edge, sheet, edge, sheet), counter-clockwise seen from outside; (q, 4).

    `ambiguous` (q,): of a face with two of them, where only the diagonal between the edges keeps them apart.
    """

    ring: np.ndarray
    ambiguous: np.ndarray


def triangulate(crossing: Crossing, sheets: Sheets, contour: Contour, flat: float) -> np.ndarray:
    """Triangles (t, 3) of the contour's points, faces outward.

    Points of edges are left out where the four sheets around them lie within `flat` of their tangent plane.
    """
    count = len(sheets.sheet_cell)
    quads, walls = _quads(crossing, sheets)
    level = _level_edges(sheets, contour, quads, flat)
    triangles = [_around_edges(sheets, contour, level), walls]
    ring = quads.ring
    first, second = level[ring[:, 0] - count], level[ring[:, 2] - count]
    # (edge, sheet, edge) and (edge, edge, sheet), or (edge, sheet, sheet) for each edge that has a point
    across = (quads.ambiguous | _better_across(contour, ring)) & ~first & ~second
    triangles += [ring[across][:, [0, 1, 2]], ring[across][:, [2, 3, 0]]]
    triangles += [ring[~across & ~first][:, [0, 1, 3]], ring[~across & ~second][:, [2, 3, 1]]]
    return np.concatenate(triangles)


def _quads(crossing: Crossing, sheets: Sheets) -> tuple[_Quads, np.ndarray]:
    """The quads of all faces between two cells, and triangles (t, 3) at faces on the walls."""
    grid, cells = crossing.grid, crossing.cells
    keys, count = grid.key(cells), len(sheets.sheet_cell)
    rings, ambiguous, walls = [], [], []
    for axis in range(3):
        stride = grid.resolution ** (2 - axis)
        for side in (1, 0):
            face = 2 * axis + side
            rows, first, second, doubtful = _passes(crossing, sheets, face)
            wall = cells[rows, axis] == (grid.resolution - 2 if side else 0)
            near, edges = (
                sheets.cell_sheets[rows, first],
                sheets.cell_edges[rows[:, None], np.stack([first, second], 1)],
            )
            # Seen from the lower cell, the surface passes the face with the inside on one hand: whether the first
            # edge, the lower cell's sheet, the second edge come counter-clockwise.
            turn = _turns(sheets, face, rows, first)
            corner = np.column_stack([edges[:, 0] + count, near, edges[:, 1] + count])
            walls.append(np.where((turn == (side == 1))[wall, None], corner[wall], corner[wall][:, ::-1]))
            if side == 1:
                inner = ~wall
                beyond = np.searchsorted(keys, keys[rows[inner]] + stride)
                far = sheets.cell_sheets[beyond, EDGE_BEYOND[axis, first[inner]]]
                ring = np.column_stack([corner[inner], far])
                rings.append(np.where(turn[inner, None], ring, ring[:, [2, 1, 0, 3]]))
                ambiguous.append(doubtful[inner])
    return _Quads(np.concatenate(rings), np.concatenate(ambiguous)), np.concatenate(walls)


def _passes(crossing: Crossing, sheets: Sheets, face: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where sheets pass through a face of their cell: rows of cells, two edges' names, and whether it is ambiguous."""
    crossed = sheets.cell_edges[:, FACE_EDGES[face]] >= 0
    plain = np.flatnonzero(crossed.sum(axis=1) == 2)
    first, second = crossed[plain].argmax(axis=1), 3 - crossed[plain][:, ::-1].argmax(axis=1)
    rows = np.flatnonzero(sheets.ambiguous[:, face])
    # Cut off are the outside corners where the inside ones are joined, else the inside ones: 0 and 2, or 1 and 3.
    even = (crossing.values[rows, FACE_CORNERS[face, 0]] <= 0) != sheets.joined[rows, face]
    first = np.concatenate([first, np.where(even, 3, 0), np.where(even, 1, 2)])
    second = np.concatenate([second, np.where(even, 0, 1), np.where(even, 2, 3)])
    doubtful = np.repeat([False, True], [len(plain), 2 * len(rows)])
    return np.concatenate([plain, rows, rows]), FACE_EDGES[face][first], FACE_EDGES[face][second], doubtful


def _turns(sheets: Sheets, face: int, rows: np.ndarray, edge: np.ndarray) -> np.ndarray:
    """Whether (edge's point, point of the lower cell's sheet, point of the upper cell's) looks outward."""
    axis, along = face // 2, edge // 4
    # Around the edge, seen from its far end, the lower cell comes before the upper one where the face lies on the
    # upper side of the third axis, for axes in turn; else after it.
    third = 3 - axis - along
    upper = EDGE_BASE[edge, third] == 0
    in_turn = (axis - along) % 3 == 1
    outward = sheets.outward[sheets.cell_edges[rows, edge]]
    return (upper != in_turn) == outward


def _better_across(contour: Contour, ring: np.ndarray) -> np.ndarray:
    """Whether the diagonal between the edges' points gives triangles that look more as the normals there do."""
    edge, sheet, other, beyond = (contour.points[ring[:, k]] for k in range(4))
    normal, opposite = contour.normals[ring[:, 0]], contour.normals[ring[:, 2]]

    def facing(a: np.ndarray, b: np.ndarray, c: np.ndarray, *normals: np.ndarray) -> np.ndarray:
        face = unit(np.cross(b - a, c - a))
        return np.min([(face * normal).sum(axis=1) for normal in normals], axis=0)

    along = np.minimum(facing(edge, sheet, beyond, normal), facing(other, beyond, sheet, opposite))
    across = np.minimum(facing(edge, sheet, other, normal, opposite), facing(other, beyond, edge, normal, opposite))
    return across > along + _CLEAR


def _level_edges(sheets: Sheets, contour: Contour, quads: _Quads, flat: float) -> np.ndarray:
    """(e,), edges whose point adds nothing: all that surrounds it lies in its tangent plane."""
    count, size = len(sheets.sheet_cell), len(sheets.axis)
    height, faces = np.zeros(size), np.zeros(size, np.int64)
    for edge in (0, 2):
        at = quads.ring[:, edge]
        faces += np.bincount(at - count, np.where(quads.ambiguous, 5, 1), size).astype(np.int64)
        for sheet in (1, 3):
            off = contour.points[quads.ring[:, sheet]] - contour.points[at]
            np.maximum.at(height, at - count, np.abs((off * contour.normals[at]).sum(axis=1)))
    return (faces == 4) & (height < flat)


def _around_edges(sheets: Sheets, contour: Contour, level: np.ndarray) -> np.ndarray:
    """Two triangles for each level edge, between the sheets of the four cells around it.

    Where neither diagonal gives two that look outward, `level` is unset.
    """
    around = np.full((len(level), 4), -1)
    rows, names = np.nonzero(sheets.cell_edges >= 0)
    around[sheets.cell_edges[rows, names], EDGE_TURN[names]] = sheets.cell_sheets[rows, names]
    at = np.flatnonzero(level)
    around = np.where(sheets.outward[at, None], around[at], around[at][:, ::-1])
    normal = contour.normals[len(sheets.sheet_cell) + at]

    def facing(*ring: int) -> np.ndarray:
        a, b, c = (contour.points[around[:, k]] for k in ring)
        return (unit(np.cross(b - a, c - a)) * normal).sum(axis=1)

    one, other = np.minimum(facing(0, 1, 2), facing(2, 3, 0)), np.minimum(facing(1, 2, 3), facing(3, 0, 1))
    level[at[np.maximum(one, other) < _FACING]] = False
    first, second = around[(one >= other) & (one >= _FACING)], around[(other > one) & (other >= _FACING)]
    return np.concatenate([first[:, [0, 1, 2]], first[:, [2, 3, 0]], second[:, [1, 2, 3]], second[:, [3, 0, 1]]])
