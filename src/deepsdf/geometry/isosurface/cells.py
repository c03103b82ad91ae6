"""Numbering of a grid cell's corners, edges and faces, and the components in which a surface passes through a cell.

Corner 4 i + 2 j + k lies at offset (i, j, k). Edge 4 a + 2 u + v runs along axis a, at offset u on the next axis and v
on the one after it (in the cyclic order x, y, z, x). Face 2 a + s is perpendicular to axis a, at its lower (s = 0) or
upper (s = 1) end.

Corners are numbered at the vertices of the figure, edges in the middle of its lines:

             3------3------7
            /|            /|
           6 9           7 11
          /  |          /  |
         1------1------5   |            z
         |   |         |   |            |  y
         |   2------2--|---6            | /
         8  /         10  /             |/
         | 4           | 5              o----- x
         |/            |/
         0------0------4
"""

from __future__ import annotations

import functools

import numpy as np

CORNERS: np.ndarray = np.stack(np.meshgrid((0, 1), (0, 1), (0, 1), indexing="ij"), -1).reshape(-1, 3).astype(np.int32)
"""(8, 3): offsets of the corners."""


def _offset(axis: int, along: int, u: int, v: int) -> list[int]:
    offset = [0, 0, 0]
    offset[axis], offset[(axis + 1) % 3], offset[(axis + 2) % 3] = along, u, v
    return offset


def _corner(offset: list[int]) -> int:
    return 4 * offset[0] + 2 * offset[1] + offset[2]


_EDGES = [(a, u, v) for a in range(3) for u in (0, 1) for v in (0, 1)]

EDGE_AXIS: np.ndarray = np.array([a for a, _, _ in _EDGES])
"""(12,): the axis along which an edge runs."""

EDGE_BASE: np.ndarray = np.array([_offset(a, 0, u, v) for a, u, v in _EDGES])
"""(12, 3): offset of the lower end of an edge."""

EDGE_ENDS: np.ndarray = np.array([[_corner(_offset(a, end, u, v)) for end in (0, 1)] for a, u, v in _EDGES])
"""(12, 2): corners at the lower and upper end of an edge."""

# The cells around an edge, seen from its upper end (its axis points to the viewer). A cell that has the edge at offset
# (u, v) = (0, 0) lies on the upper side of it on both other axes:
#
#         v
#         |    (1,0) = 1 | (0,0) = 0
#         |   -----------+-----------
#         |    (1,1) = 2 | (0,1) = 3
#         +-------------------------- u
_TURN = {(0, 0): 0, (1, 0): 1, (1, 1): 2, (0, 1): 3}

EDGE_TURN: np.ndarray = np.array([_TURN[u, v] for _, u, v in _EDGES])
"""(12,): position of the cell among the four around its edge, counter-clockwise seen from the edge's upper end."""


def _face_ring(axis: int, side: int) -> tuple[list[int], list[int]]:
    """Corners and edges of a face in the ring of the figure, where u and v are the next two axes.

    v
    |   3---2---2
    |   |       |
    |   3       1
    |   |       |
    |   0---0---1
    +-------------- u
    """
    ring = [_offset(axis, side, *offset) for offset in ((0, 0), (1, 0), (1, 1), (0, 1))]
    u, v = (axis + 1) % 3, (axis + 2) % 3
    edges = []
    for along, start in ((u, 0), (v, 1), (u, 3), (v, 0)):
        offset = ring[start]
        edges.append(4 * along + 2 * offset[(along + 1) % 3] + offset[(along + 2) % 3])
    return [_corner(offset) for offset in ring], edges


_RINGS = [_face_ring(axis, side) for axis in range(3) for side in (0, 1)]

FACE_CORNERS: np.ndarray = np.array([corners for corners, _ in _RINGS])
"""(6, 4): corners of a face, in a ring."""

FACE_EDGES: np.ndarray = np.array([edges for _, edges in _RINGS])
"""(6, 4): edges of a face; edge k of the ring joins its corners k and k + 1."""

EDGE_IN_NEXT_CELL: np.ndarray = np.full((3, 12), -1)
"""(3, 12): for an edge of the upper face across an axis, its number in the next cell on that axis; -1 for others."""
for _axis in range(3):
    EDGE_IN_NEXT_CELL[_axis, FACE_EDGES[2 * _axis + 1]] = FACE_EDGES[2 * _axis]


def is_ambiguous(inside: np.ndarray) -> np.ndarray:
    r"""Whether the signs of a face's corners (..., 4) alternate around it, so that the surface crosses all four edges.

    Such a face has two possible topologies ('#' inside, 'o' outside):

        o-/-----#        o-----\-#
        |/      |        |      \|
        /       /        \       |
        |      /|        |\      \
        #-----/-o        #-\-----o
      inside corners    inside corners
          joined           separate
    """
    return (inside[..., 0] == inside[..., 2]) & (inside[..., 1] == inside[..., 3]) & (inside[..., 0] != inside[..., 1])


@functools.cache
def component_table() -> np.ndarray:
    """(256, 64, 12) int8: for each edge the lowest edge of its component; 12 if the surface does not cross the edge.

    Bit c of the first index is set if corner c is inside; bit f of the second if the inside corners of the ambiguous
    face f are joined. A component is a connected part of the surface in a cell: its edges form one closed ring, in
    which consecutive edges share a face. The table takes the place of the case tables of marching cubes.
    """
    inside = ((np.arange(256)[:, None, None] >> np.arange(8)) & 1).astype(bool)
    joined = ((np.arange(64)[None, :, None] >> np.arange(6)) & 1).astype(bool)
    crossed = inside[..., EDGE_ENDS[:, 0]] != inside[..., EDGE_ENDS[:, 1]]
    first = np.broadcast_to(np.where(crossed, np.arange(12), 12), (256, 64, 12)).astype(np.int8)
    links = []
    for face in range(6):
        corners, edges = inside[..., FACE_CORNERS[face]], FACE_EDGES[face]
        ambiguous = is_ambiguous(corners)
        for p, q in ((0, 1), (1, 2), (2, 3), (3, 0), (0, 2), (1, 3)):
            both = crossed[..., edges[p]] & crossed[..., edges[q]]
            # On an ambiguous face the surface links two neighbouring edges where it cuts off the corner between them:
            # edges k and k + 1 share corner k + 1. Where inside corners are joined, outside corners are cut off.
            # Opposite edges are never linked there.
            cut = (corners[..., q] != joined[..., face]) if (q - p) % 4 == 1 else np.zeros(1, bool)
            links.append((edges[p], edges[q], both & (~ambiguous | cut)))
    # Connected components by spreading the lowest label along the links. A ring has at most 12 edges, so that the
    # lowest is at most 6 links away.
    for _ in range(6):
        for p, q, linked in links:
            lowest = np.where(linked, np.minimum(first[..., p], first[..., q]), 12)
            for edge in (p, q):
                first[..., edge] = np.minimum(first[..., edge], lowest)
    return first
