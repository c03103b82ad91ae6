"""A grid cell's corners, edges and faces, and the sheets in which a surface can pass through it.

A corner is named 4 i + 2 j + k by its place (i, j, k). An edge is named 4 a + 2 u + v: along axis a, at u on the next
axis and v on the one after (x, y, z, x, ...). A face is named 2 a + s: across axis a, on the lower or upper side s.
"""

from __future__ import annotations

import functools

import numpy as np

CORNERS: np.ndarray = np.stack(np.meshgrid((0, 1), (0, 1), (0, 1), indexing="ij"), -1).reshape(-1, 3).astype(np.int32)
"""(8, 3): places of the corners."""


def _place(axis: int, along: int, u: int, v: int) -> list[int]:
    place = [0, 0, 0]
    place[axis], place[(axis + 1) % 3], place[(axis + 2) % 3] = along, u, v
    return place


def _corner(place: list[int]) -> int:
    return 4 * place[0] + 2 * place[1] + place[2]


_EDGES = [(a, u, v) for a in range(3) for u in (0, 1) for v in (0, 1)]

EDGE_AXIS: np.ndarray = np.array([a for a, _, _ in _EDGES])
EDGE_BASE: np.ndarray = np.array([_place(a, 0, u, v) for a, u, v in _EDGES])
"""(12, 3): where an edge begins."""

EDGE_ENDS: np.ndarray = np.array([[_corner(_place(a, end, u, v)) for end in (0, 1)] for a, u, v in _EDGES])
"""(12, 2): an edge's corners."""

EDGE_TURN: np.ndarray = np.array([{(0, 0): 0, (1, 0): 1, (1, 1): 2, (0, 1): 3}[u, v] for _, u, v in _EDGES])
"""Which of the four cells around an edge has it under that name, counted counter-clockwise seen from its far end."""


def _around(axis: int, side: int) -> tuple[list[int], list[int]]:
    ring = [_place(axis, side, *place) for place in ((0, 0), (1, 0), (1, 1), (0, 1))]
    u, v = (axis + 1) % 3, (axis + 2) % 3
    edges = []
    for along, start in ((u, 0), (v, 1), (u, 3), (v, 0)):
        place = ring[start]
        edges.append(4 * along + 2 * place[(along + 1) % 3] + place[(along + 2) % 3])
    return [_corner(place) for place in ring], edges


FACE_CORNERS: np.ndarray = np.array([_around(axis, side)[0] for axis in range(3) for side in (0, 1)])
"""(6, 4): a face's corners in a ring."""

FACE_EDGES: np.ndarray = np.array([_around(axis, side)[1] for axis in range(3) for side in (0, 1)])
"""(6, 4): a face's edges; edge k joins corners k and k + 1."""

EDGE_BEYOND: np.ndarray = np.full((3, 12), -1)
"""(3, 12): the name of an edge of the upper face across an axis in the next cell on that axis."""
for _axis in range(3):
    EDGE_BEYOND[_axis, FACE_EDGES[2 * _axis + 1]] = FACE_EDGES[2 * _axis]


def is_ambiguous(inside: np.ndarray) -> np.ndarray:
    """Whether the corners (..., 4) of a face alternate, so that the surface crosses all its four edges."""
    return (inside[..., 0] == inside[..., 2]) & (inside[..., 1] == inside[..., 3]) & (inside[..., 0] != inside[..., 1])


@functools.cache
def sheets() -> np.ndarray:
    """(256, 64, 12) int8: for each edge the first edge of its sheet, 12 where the surface does not cross it.

    The first index has bit c set where corner c is inside; the second bit f where the inside corners of the ambiguous
    face f are joined. A sheet is what hangs together over the faces; its edges form one closed ring.
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
            # Neighbouring edges of an ambiguous face are linked where their corner is cut off.
            cut = (corners[..., q] != joined[..., face]) if (q - p) % 4 == 1 else np.zeros(1, bool)
            links.append((edges[p], edges[q], both & (~ambiguous | cut)))
    for _ in range(6):  # a ring has at most 12 edges, and the least name spreads both ways
        for p, q, linked in links:
            least = np.where(linked, np.minimum(first[..., p], first[..., q]), 12)
            for edge in (p, q):
                first[..., edge] = np.minimum(first[..., edge], least)
    return first
