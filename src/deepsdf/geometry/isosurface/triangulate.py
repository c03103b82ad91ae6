r"""Triangles between the vertices of a contour.

Every face of the grid that a component passes through joins four vertices: those of the two edges e, e' of the face
that the surface crosses, and those of the components c, c' in the two cells of the face.

             e'                    The line e-e' lies in the shared face of the cells. Either diagonal of the ring
            /|\                    e, c, e', c' makes two triangles:
           / | \                     edge diagonal e-e':   (e, c, e') and (e', c', e)
   lower  c  |  c'  upper            cell diagonal c-c':   (e, c, c') and (e', c', c)
   cell    \ | /    cell
            \|/                    With the edge diagonal, the part in one cell is a cone from the component's vertex
             e                     over a ring on the faces of the cell.

Cones of different cells do not intersect, and neither do these meshes with cell diagonals. For several components in
one cell, and around edges whose vertex is left out, that is not proven: no intersection was found in tests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepsdf.geometry.isosurface.active_cells import ActiveCells
from deepsdf.geometry.isosurface.cells import EDGE_BASE, EDGE_IN_NEXT_CELL, EDGE_TURN, FACE_CORNERS, FACE_EDGES
from deepsdf.geometry.isosurface.contour import Components, Contour, unit

_CLEAR = 0.02
"""Difference of cosines by which the edge diagonal must agree better with the normals to be used. On flat parts, where
both agree equally but for rounding, the cell diagonal lets vertices of edges be left out."""

_FACING = 0.9
"""Least cosine between the normal at an edge and the triangles that remain if its vertex is left out: 26 degrees."""

_Crossings = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class _Quads:
    """Rings (q, 4) of vertices (edge, component, edge, component), counter-clockwise seen from outside.

    `ambiguous` (q,): of an ambiguous face, which two quads share. Only edge diagonals keep these apart: the cell
    diagonals of both could run through the same point of the face.
    """

    ring: np.ndarray
    ambiguous: np.ndarray


def triangulate(active: ActiveCells, components: Components, contour: Contour, flat: float) -> np.ndarray:
    """Triangles (t, 3) of the contour's vertices, faces outward.

    An edge's vertex is left out if those of the four components around it lie within `flat` of its tangent plane.
    """
    count = len(components.component_cell)  # numbers of edges' vertices begin here
    quads, at_boundary = _quads(active, components)
    left_out = _flat_edges(components, contour, quads, flat)
    triangles = [_fill_flat_edges(components, contour, left_out), at_boundary]
    ring = quads.ring
    first, second = left_out[ring[:, 0] - count], left_out[ring[:, 2] - count]
    # An edge without a vertex has no triangles: its side of the quad belongs to the two triangles that fill its place,
    # and those end at the cell diagonal.
    edge_diagonal = (quads.ambiguous | _edge_diagonal_is_better(contour, ring)) & ~first & ~second
    triangles += [ring[edge_diagonal][:, [0, 1, 2]], ring[edge_diagonal][:, [2, 3, 0]]]
    triangles += [ring[~edge_diagonal & ~first][:, [0, 1, 3]], ring[~edge_diagonal & ~second][:, [2, 3, 1]]]
    return np.concatenate(triangles)


def _quads(active: ActiveCells, components: Components) -> tuple[_Quads, np.ndarray]:
    """The quads of all faces between two cells, and triangles (t, 3) of faces on the boundary of the grid."""
    grid, cells = active.grid, active.cells
    keys, count = grid.key(cells), len(components.component_cell)
    rings, ambiguous, at_boundary = [], [], []
    for axis in range(3):
        stride = grid.resolution ** (2 - axis)  # difference of keys between neighbours on this axis
        # A face between two cells is visited once, as the upper face (side 1) of its lower cell.
        for side in (1, 0):
            face = 2 * axis + side
            rows, first, second, doubtful = _face_crossings(active, components, face)
            outer = cells[rows, axis] == (grid.resolution - 2 if side else 0)
            near = components.cell_components[rows, first]
            edges = components.cell_edges[rows[:, None], np.stack([first, second], 1)]
            turn = _is_counter_clockwise(components, face, rows, first)
            # Half a quad, (edge, component, edge). A cell is the upper one of its lower face: the other way round.
            half = np.column_stack([edges[:, 0] + count, near, edges[:, 1] + count])
            at_boundary.append(np.where((turn == (side == 1))[outer, None], half[outer], half[outer][:, ::-1]))
            if side == 1:
                inner = ~outer
                # The next cell shares the crossed edges, so that it is active too.
                beyond = np.searchsorted(keys, keys[rows[inner]] + stride)
                far = components.cell_components[beyond, EDGE_IN_NEXT_CELL[axis, first[inner]]]
                ring = np.column_stack([half[inner], far])
                rings.append(np.where(turn[inner, None], ring, ring[:, [2, 1, 0, 3]]))
                ambiguous.append(doubtful[inner])
    return _Quads(np.concatenate(rings), np.concatenate(ambiguous)), np.concatenate(at_boundary)


def _face_crossings(active: ActiveCells, components: Components, face: int) -> _Crossings:
    """Where components pass through a face of their cell: rows of cells, two edges, whether the face is ambiguous."""
    crossed = components.cell_edges[:, FACE_EDGES[face]] >= 0
    plain = np.flatnonzero(crossed.sum(axis=1) == 2)
    first, second = crossed[plain].argmax(axis=1), 3 - crossed[plain][:, ::-1].argmax(axis=1)
    rows = np.flatnonzero(components.ambiguous[:, face])
    # On an ambiguous face two components (or one, twice) cut off two opposite corners: the outside ones if the inside
    # ones are joined, else the inside ones. Corner 0 lies between edges 3 and 0 of the ring, corner 1 between 0 and 1.
    even = (active.values[rows, FACE_CORNERS[face, 0]] <= 0) != components.joined[rows, face]
    first = np.concatenate([first, np.where(even, 3, 0), np.where(even, 1, 2)])
    second = np.concatenate([second, np.where(even, 0, 1), np.where(even, 2, 3)])
    doubtful = np.repeat([False, True], [len(plain), 2 * len(rows)])
    return np.concatenate([plain, rows, rows]), FACE_EDGES[face][first], FACE_EDGES[face][second], doubtful


def _is_counter_clockwise(components: Components, face: int, rows: np.ndarray, edge: np.ndarray) -> np.ndarray:
    """Whether the triangle (edge's vertex, component in the lower cell, component in the upper cell) faces outward.

    Seen from the upper end of the edge E, for axis = along + 1 (cyclic), and with the face on the upper side of E:

          third
            |      | face           (E, lower, upper) turns clockwise: the triangle faces against the edge's axis.
            | lower|upper           It faces along the axis if the face is on the lower side of E, or if
            |  cell|cell            axis = along - 1, where this view is mirrored; against it if both.
            |      E                Outward is along the axis where the edge leads from inside to outside.
            +------------ axis
    """
    axis, along = face // 2, edge // 4
    third = 3 - axis - along
    upper_side = EDGE_BASE[edge, third] == 0
    cyclic = (axis - along) % 3 == 1
    outward = components.outward[components.cell_edges[rows, edge]]
    return (upper_side != cyclic) == outward


def _edge_diagonal_is_better(contour: Contour, ring: np.ndarray) -> np.ndarray:
    """Whether the triangles of the edge diagonal agree better with the normals at the edges than those of the other.

    This keeps a crease sharp that runs from edge to edge. The worst triangle of each pair counts.
    """
    edge, cell, other, beyond = (contour.points[ring[:, k]] for k in range(4))
    normal, opposite = contour.normals[ring[:, 0]], contour.normals[ring[:, 2]]

    def facing(a: np.ndarray, b: np.ndarray, c: np.ndarray, *normals: np.ndarray) -> np.ndarray:
        face = unit(np.cross(b - a, c - a))
        return np.min([(face * normal).sum(axis=1) for normal in normals], axis=0)

    by_cells = np.minimum(facing(edge, cell, beyond, normal), facing(other, beyond, cell, opposite))
    by_edges = np.minimum(facing(edge, cell, other, normal, opposite), facing(other, beyond, edge, normal, opposite))
    return by_edges > by_cells + _CLEAR


def _flat_edges(components: Components, contour: Contour, quads: _Quads, flat: float) -> np.ndarray:
    """(e,), edges whose vertex is redundant: the vertices of all components around it lie in its tangent plane."""
    count, size = len(components.component_cell), len(components.axis)
    height, faces = np.zeros(size), np.zeros(size, np.int64)
    for edge in (0, 2):
        at = quads.ring[:, edge]
        # An inner edge has four faces. Ambiguous ones count 5, so that the sum differs from 4: their quads need the
        # edge diagonal and so the vertex. Edges on the boundary of the grid have fewer than four quads.
        faces += np.bincount(at - count, np.where(quads.ambiguous, 5, 1), size).astype(np.int64)
        for component in (1, 3):
            off = contour.points[quads.ring[:, component]] - contour.points[at]
            np.maximum.at(height, at - count, np.abs((off * contour.normals[at]).sum(axis=1)))
    return (faces == 4) & (height < flat)


def _fill_flat_edges(components: Components, contour: Contour, left_out: np.ndarray) -> np.ndarray:
    """Two triangles for each edge without a vertex, between the components of the four cells around it.

        1-------0
        |   e   |      seen from outside, as in `cells.EDGE_TURN`; diagonal 0-2 or 1-3
        2-------3

    Where neither diagonal gives two triangles that agree with the edge's normal, `left_out` is unset.
    """
    around = np.full((len(left_out), 4), -1)
    rows, edges = np.nonzero(components.cell_edges >= 0)
    around[components.cell_edges[rows, edges], EDGE_TURN[edges]] = components.cell_components[rows, edges]
    at = np.flatnonzero(left_out)
    # The order is counter-clockwise seen from the upper end of the edge, which is outside if the edge leads outward.
    around = np.where(components.outward[at, None], around[at], around[at][:, ::-1])
    normal = contour.normals[len(components.component_cell) + at]

    def facing(*ring: int) -> np.ndarray:
        a, b, c = (contour.points[around[:, k]] for k in ring)
        return (unit(np.cross(b - a, c - a)) * normal).sum(axis=1)

    one, other = np.minimum(facing(0, 1, 2), facing(2, 3, 0)), np.minimum(facing(1, 2, 3), facing(3, 0, 1))
    left_out[at[np.maximum(one, other) < _FACING]] = False
    first, second = around[(one >= other) & (one >= _FACING)], around[(other > one) & (other >= _FACING)]
    return np.concatenate([first[:, [0, 1, 2]], first[:, [2, 3, 0]], second[:, [1, 2, 3]], second[:, [3, 0, 1]]])
