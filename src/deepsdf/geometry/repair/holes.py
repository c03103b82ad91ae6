"""Holes of an oriented surface: cap the small ones, so that the winding number is whole again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from deepsdf.geometry.repair.patches import boundary_of
from deepsdf.geometry.repair.visibility import face_normals

_CAP_SHARE = 0.35  # a cap larger than this share of its patch invents too much
_RINGS = 3
_DOME_EDGES = 8  # shorter loops miss a face or two: flat is exact
_SMOOTH, _SHARP = np.radians(50.0), np.radians(75.0)  # a steeper rim is where a flat underside is missing


@dataclass(frozen=True, eq=False)
class Caps:
    """Surfaces that close holes. `faces` index the vertices followed by `added`."""

    faces: np.ndarray
    added: np.ndarray
    capped: int
    open_loops: int


@dataclass(frozen=True, eq=False)
class Loops:
    """The boundary of a surface, as a chain: edges (m, 2) of rim vertices, grouped into loops."""

    edges: np.ndarray  # rows of `rim`
    rim: np.ndarray  # (r,) vertices
    of_rim: np.ndarray  # (r,) loop
    of_edge: np.ndarray  # (m,) loop
    count: int

    @classmethod
    def of(cls, faces: np.ndarray) -> Loops:
        chain = boundary_of(faces, np.zeros(len(faces), np.int64))[:, :2]
        rim, edges = np.unique(chain, return_inverse=True)
        edges = edges.reshape(-1, 2)
        graph = coo_matrix((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(len(rim), len(rim)))
        count, of_rim = connected_components(graph, directed=False) if len(rim) else (0, np.zeros(0, np.int64))
        return cls(edges, rim, of_rim, of_rim[edges[:, 0]], count)


def cap_holes(vertices: np.ndarray, faces: np.ndarray, patch: np.ndarray) -> Caps:
    """A cap over each boundary loop that is small beside the patch around it.

    Caps are cones over a closed chain, which close it whatever its shape, so no loop has to be walked. Over larger
    loops with a smooth rim they are domed, to carry on the surface's curvature.
    """
    none = Caps(np.zeros((0, 3), np.int64), np.zeros((0, 3)), 0, 0)
    if len(faces) == 0:
        return none
    loops = Loops.of(faces)
    if loops.count == 0:
        return none
    places = vertices[loops.rim]
    start, stop = places[loops.edges[:, 0]], places[loops.edges[:, 1]]
    length = np.maximum(np.linalg.norm(stop - start, axis=1), 1e-12)
    middle = _sums(loops.of_edge, (start + stop) / 2 * length[:, None], loops.count)
    middle /= np.bincount(loops.of_edge, length, loops.count)[:, None]
    fan = np.cross(stop - middle[loops.of_edge], start - middle[loops.of_edge]) / 2
    area = np.bincount(loops.of_edge, np.linalg.norm(fan, axis=1), loops.count)
    accepted = area <= _CAP_SHARE * _area_around(vertices, faces, patch, loops)
    up = _sums(loops.of_edge, fan, loops.count)
    up /= np.maximum(np.linalg.norm(up, axis=1), 1e-12)[:, None]
    slope, height = _slopes(vertices, faces, loops, middle, up)
    return _build(len(vertices), places, loops, accepted, middle, up, slope, height)


def _sums(group: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    return np.stack([np.bincount(group, rows[:, k], count) for k in range(3)], axis=1)


def _slopes(
    vertices: np.ndarray, faces: np.ndarray, loops: Loops, middle: np.ndarray, up: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How the surface would go on into each hole: rise per unit of the way at each rim vertex, height of each apex."""
    normals, area = face_normals(vertices, faces)
    row_of = np.full(len(vertices), -1)
    row_of[loops.rim] = np.arange(len(loops.rim))
    normal = np.zeros((len(loops.rim), 3))
    for k in range(3):
        row = row_of[faces[:, k]]
        on = row >= 0
        normal += _sums(row[on], (normals * area[:, None])[on], len(loops.rim))
    normal /= np.maximum(np.linalg.norm(normal, axis=1), 1e-12)[:, None]
    inward, top = middle[loops.of_rim] - vertices[loops.rim], up[loops.of_rim]
    inward -= np.einsum("ij,ij->i", inward, top)[:, None] * top
    way = np.linalg.norm(inward, axis=1)
    # along the tangent plane, a step `inward` rises by this angle
    angle = np.arctan2(-np.einsum("ij,ij->i", inward, normal), way * np.einsum("ij,ij->i", top, normal))
    members = np.maximum(np.bincount(loops.of_rim, minlength=loops.count), 1)
    steepness = np.bincount(loops.of_rim, np.abs(angle), loops.count) / members
    fade = np.clip((_SHARP - steepness) / (_SHARP - _SMOOTH), 0, 1) * (members >= _DOME_EDGES)
    slope = way * np.tan(np.clip(angle, -_SMOOTH, _SMOOTH)) * fade[loops.of_rim]
    # the apex of a long hole follows its long sides, which are near, not its far ends
    ends = vertices[loops.rim[loops.edges]]
    length = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
    weight = np.bincount(loops.edges.ravel(), np.repeat(length, 2), len(way)) / np.maximum(way, 1e-12) ** 2
    total = np.maximum(np.bincount(loops.of_rim, weight, loops.count), 1e-300)
    return slope, np.bincount(loops.of_rim, weight * slope, loops.count) / total / 2


def _build(
    first: int, places: np.ndarray, loops: Loops, accepted: np.ndarray, middle: np.ndarray, up: np.ndarray,
    slope: np.ndarray, height: np.ndarray,
) -> Caps:  # fmt: skip
    use = accepted[loops.of_edge]
    domed = use & (np.bincount(loops.of_rim, minlength=loops.count) >= _DOME_EDGES)[loops.of_edge]
    rim, loop = len(places), loops.of_rim
    # rows of the new vertices: apexes of all loops, then ring by ring; unused ones are cut away at the end
    rings = []
    for s in np.arange(1, _RINGS + 1) / (_RINGS + 1):
        rise = (s**3 - 2 * s**2 + s) * slope + (3 * s**2 - 2 * s**3) * height[loop]
        rings.append(places + s * (middle[loop] - places) + rise[:, None] * up[loop])
    added = np.concatenate([middle + height[:, None] * up, *rings])
    # from here on, rows below `rim` are rim vertices and the rest are added ones
    a, b = loops.edges[domed, 1], loops.edges[domed, 0]
    faces = []
    for ring in range(_RINGS):
        outer = 0 if ring == 0 else rim + loops.count + (ring - 1) * rim
        inner = rim + loops.count + ring * rim
        faces += [
            np.column_stack([a + outer, b + outer, b + inner]),
            np.column_stack([a + outer, b + inner, a + inner]),
        ]
    last = rim + loops.count + (_RINGS - 1) * rim
    faces.append(np.column_stack([a + last, b + last, rim + loops.of_edge[domed]]))
    flat = use & ~domed
    faces.append(np.column_stack([loops.edges[flat, 1], loops.edges[flat, 0], rim + loops.of_edge[flat]]))
    rows, compact = np.unique(np.concatenate(faces), return_inverse=True)
    old = rows < rim
    number = np.where(old, loops.rim[np.minimum(rows, rim - 1)], first + np.cumsum(~old) - 1)
    return Caps(number[compact].reshape(-1, 3), added[rows[~old] - rim], int(accepted.sum()), int((~accepted).sum()))


def _area_around(vertices: np.ndarray, faces: np.ndarray, patch: np.ndarray, loops: Loops) -> np.ndarray:
    """Area of the largest patch that touches each loop."""
    _, area = face_normals(vertices, faces)
    of_patch = np.bincount(patch, area)
    loop_of = np.full(len(vertices), -1)
    loop_of[loops.rim] = loops.of_rim
    around = np.zeros(loops.count)
    for k in range(3):
        corner = loop_of[faces[:, k]]
        on = corner >= 0
        np.maximum.at(around, corner[on], of_patch[patch[on]])
    return around
