"""Caps over the small holes of an oriented surface, which make its winding number an integer again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from deepsdf.geometry.repair.patches import boundary_of
from deepsdf.geometry.repair.visibility import face_normals

_CAP_SHARE = 0.35
"""A loop is capped if its flat cap has at most this share of the area of its patch. The open end of a hemisphere has
one half, and a cap there would be a guess at half of the shape; the end of a tube 1.5 diameters long has 1/6."""

_RINGS = 3  # of vertices between the rim and the apex of a dome, which approximate its curve

_DOME_EDGES = 8
"""Loops of fewer edges lack only a face or two, for which a flat cap is exact."""

_SMOOTH, _SHARP = np.radians(50.0), np.radians(75.0)
"""Mean slope of the surface at a rim. Up to the first the cap continues the curvature. Beyond the second the rim is the
edge of a missing flat side, as of a can without lid (90 degrees), and the cap is flat; in between, both are blended."""


@dataclass(frozen=True, eq=False)
class Caps:
    """Surfaces that close holes.

    Attributes:
        faces: (c, 3) int, index the given vertices followed by `added`.
        added: (a, 3) new vertices.
        capped: number of loops closed.
        open_loops: number of loops left open.
    """

    faces: np.ndarray
    added: np.ndarray
    capped: int
    open_loops: int


@dataclass(frozen=True, eq=False)
class Loops:
    """The boundary of a surface, grouped into connected loops.

    Attributes:
        edges: (m, 2) int, directed edges as the faces run along them; rows of `rim`.
        rim: (r,) int, boundary vertices.
        of_rim: (r,) int, loop of each boundary vertex.
        of_edge: (m,) int, loop of each edge.
        count: number of loops.
    """

    edges: np.ndarray
    rim: np.ndarray
    of_rim: np.ndarray
    of_edge: np.ndarray
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
    """A cap over each boundary loop that is small compared with the patch around it.

    A cap is a cone from the boundary edges to an apex. Because the boundary is a closed chain, the cone closes it
    whatever its shape, so no loop has to be traversed in order: figure-eights and branching rims need no special case.
    Over larger loops with a smooth rim the cone is bent into a dome that continues the curvature of the surface.

    Args:
        vertices: (v, 3) float64.
        faces: (f, 3) int, wound outward.
        patch: (f,) int, patch of each face.
    """
    none = Caps(np.zeros((0, 3), np.int64), np.zeros((0, 3)), 0, 0)
    if len(faces) == 0:
        return none
    loops = Loops.of(faces)
    if loops.count == 0:
        return none
    rim_points = vertices[loops.rim]
    start, stop = rim_points[loops.edges[:, 0]], rim_points[loops.edges[:, 1]]
    # The centre of a loop is that of its curve: edges weighted by length, so unevenly spaced vertices do not pull it.
    length = np.maximum(np.linalg.norm(stop - start, axis=1), 1e-12)
    centre = _sums(loops.of_edge, (start + stop) / 2 * length[:, None], loops.count)
    centre /= np.bincount(loops.of_edge, length, loops.count)[:, None]
    # A face runs along its boundary edge from start to stop, so the cap must run from stop to start:
    #
    #        surface              start --> stop       (edge of a face, outward normal towards you)
    #      -----------                \      /
    #         hole                      centre          cap face: stop, start, centre
    #
    # Their vector areas add up to the normal of the flat cap, whatever the order of the edges.
    fan = np.cross(stop - centre[loops.of_edge], start - centre[loops.of_edge]) / 2
    area = np.bincount(loops.of_edge, np.linalg.norm(fan, axis=1), loops.count)
    accepted = area <= _CAP_SHARE * _area_around(vertices, faces, patch, loops)
    up = _sums(loops.of_edge, fan, loops.count)
    up /= np.maximum(np.linalg.norm(up, axis=1), 1e-12)[:, None]
    slope, height = _slopes(vertices, faces, loops, centre, up)
    return _build(len(vertices), rim_points, loops, accepted, _Domes(centre, up, slope, height))


@dataclass(frozen=True, eq=False)
class _Domes:
    """The shape of the cap over each loop.

    Attributes:
        centre: (count, 3) centres of the loops.
        up: (count, 3) unit normals of the flat caps.
        slope: (r,) rise along `up` at each rim vertex, if the surface went on straight to the centre; 0: flat.
        height: (count,) height of each apex over its centre.
    """

    centre: np.ndarray
    up: np.ndarray
    slope: np.ndarray
    height: np.ndarray


def _sums(group: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Sums (count, 3) of rows (n, 3) by group (n,)."""
    return np.stack([np.bincount(group, rows[:, k], count) for k in range(3)], axis=1)


def _slopes(
    vertices: np.ndarray, faces: np.ndarray, loops: Loops, centre: np.ndarray, up: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    r"""`_Domes.slope` and `_Domes.height`, by continuing the surface into each hole.

             . - + - .  <- apex, at half the mean rise
          ./     |     \.
    rim -x-------+-------x-      the dashed line is the flat cap, across the centre
        /     centre      \      slope: rise of the tangent at x over the way to the centre
    """
    # Surface normals at the rim, area-weighted over the faces that touch each rim vertex.
    normals, area = face_normals(vertices, faces)
    row_of = np.full(len(vertices), -1)
    row_of[loops.rim] = np.arange(len(loops.rim))
    normal = np.zeros((len(loops.rim), 3))
    for k in range(3):
        row = row_of[faces[:, k]]
        on = row >= 0
        normal += _sums(row[on], (normals * area[:, None])[on], len(loops.rim))
    normal /= np.maximum(np.linalg.norm(normal, axis=1), 1e-12)[:, None]
    # `inward` is the way to the centre within the plane of the flat cap, `way` its length.
    inward, top = centre[loops.of_rim] - vertices[loops.rim], up[loops.of_rim]
    inward -= np.einsum("ij,ij->i", inward, top)[:, None] * top
    way = np.linalg.norm(inward, axis=1)
    # A step `inward` leaves the tangent plane; to stay in it (normal . step = 0), it must rise by this angle.
    angle = np.arctan2(-np.einsum("ij,ij->i", inward, normal), way * np.einsum("ij,ij->i", top, normal))
    members = np.maximum(np.bincount(loops.of_rim, minlength=loops.count), 1)
    steepness = np.bincount(loops.of_rim, np.abs(angle), loops.count) / members
    fade = np.clip((_SHARP - steepness) / (_SHARP - _SMOOTH), 0, 1) * (members >= _DOME_EDGES)
    slope = way * np.tan(np.clip(angle, -_SMOOTH, _SMOOTH)) * fade[loops.of_rim]
    # The apex is at half the mean rise, where a parabola with these slopes at the rim would have it. Rim vertices are
    # weighted by edge length over squared distance, because over a long hole the nearby long sides determine the
    # height, not the distant ends.
    ends = vertices[loops.rim[loops.edges]]
    length = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
    weight = np.bincount(loops.edges.ravel(), np.repeat(length, 2), len(way)) / np.maximum(way, 1e-12) ** 2
    total = np.maximum(np.bincount(loops.of_rim, weight, loops.count), 1e-300)
    return slope, np.bincount(loops.of_rim, weight * slope, loops.count) / total / 2


def _build(first: int, rim_points: np.ndarray, loops: Loops, accepted: np.ndarray, domes: _Domes) -> Caps:
    """Vertices and faces of the accepted caps; new vertices are numbered from `first`.

    Vertices are laid out for all loops first, and unused ones are removed at the end:

        row  0 ... r - 1            rim vertices
             r ... r + count - 1    apex of each loop
             then r rows per ring   ring 1 (next to the rim), ring 2, ring 3
    """
    use = accepted[loops.of_edge]
    domed = use & (np.bincount(loops.of_rim, minlength=loops.count) >= _DOME_EDGES)[loops.of_edge]
    rim, loop = len(rim_points), loops.of_rim
    rings = []
    for s in np.arange(1, _RINGS + 1) / (_RINGS + 1):
        # Cubic Hermite curve from the rim (height 0, given slope) to the apex (given height, slope 0).
        rise = (s**3 - 2 * s**2 + s) * domes.slope + (3 * s**2 - 2 * s**3) * domes.height[loop]
        rings.append(rim_points + s * (domes.centre[loop] - rim_points) + rise[:, None] * domes.up[loop])
    added = np.concatenate([domes.centre + domes.height[:, None] * domes.up, *rings])
    # Against the run of the surface's faces, see `cap_holes`: a is the end of the edge, b its start.
    #
    #     b ---- a      outer ring, or the rim
    #     |   /  |      two triangles per edge and ring: (a, b, b') and (a, b', a')
    #     b'---- a'     inner ring; the last ring is closed by triangles to the apex
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
    """Area (count,) of the largest patch that touches each loop."""
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
