"""The methods that sign a distance, by name. All work in the working frame of the repaired mesh.

Why two criteria. The pseudonormal of the closest face costs one closest-point search and is exact on a closed surface.
But near a hole it depends on which rim happens to be closer, and it flips along the bisector:

        ________  A    hole    B  ________         p: the closest point is on the rim at A, whose pseudonormal
                |      . p    |                       says inside or outside by the side of A's plane alone;
                |             |                       to the right of the middle the rim at B decides, and may
                |_____________|                       disagree although no surface lies between.

The winding number integrates over all faces, so it changes smoothly across the hole (1 inside, 0 outside, about 1/2 in
the opening) and is right away from it, but it costs several searches. "auto" therefore uses the pseudonormal where it
provably or demonstrably agrees with the winding number (`trust_radii`), and the winding number elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import trimesh
from scipy.spatial import KDTree

from deepsdf.geometry.meshes import clean_mesh
from deepsdf.geometry.repair.orientation import OrientedMesh, working_frame
from deepsdf.geometry.repair.patches import Edges, boundary_of
from deepsdf.geometry.repair.visibility import face_normals
from deepsdf.geometry.sdf.original_vote import original_signs, sphere_directions
from deepsdf.kernels.launch import cpu_threads
from deepsdf.kernels.queries import QueryMesh

SignedDistance = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]
"""Points (n, 3) float32 -> signed distances (n,) float32, NaN where the sign is unknown; and (n,) bool, where only the
sign is valid because the magnitude is not the distance to the outer surface (None: nowhere)."""

_RAYS = 9
"""Rays per point of `parity_vote`. Odd, so that there is a majority; a few rays that pass exactly through an edge, or
out of a hole, are outvoted."""

_RIM_SHARE = 0.3
"""The pseudonormal is trusted up to this share of the distance to the nearest rim. At one half the closest rim can
change, see the figure above."""

_RIM_STEP = 0.01
"""Spacing (unit size) of the points that represent a rim. It is subtracted from distances to them, so it only costs
reach."""


def as_stored(mesh: trimesh.Trimesh) -> OrientedMesh:
    """The faces exactly as the file winds them, in a working frame; only equal vertices are merged."""
    clean = clean_mesh(mesh, keep_doubled=True)
    center, scale = working_frame(clean.mesh.vertices)
    faces = np.asarray(clean.mesh.faces, np.int32)
    closed = len(boundary_of(faces, np.zeros(len(faces), np.int64))) == 0
    return OrientedMesh(
        vertices=((clean.mesh.vertices - center) * scale).astype(np.float32), faces=faces,
        source_faces=clean.source_faces, loose=np.zeros(len(faces), bool),
        solid_faces=faces, shell_faces=faces, shell_own=len(faces),
        shell_crossing=np.zeros(len(faces), bool), crossing=np.zeros(len(faces), bool),
        center=center, scale=scale, closed=closed, sealed=closed,
        degenerate=clean.degenerate, doubled=0, flipped=0, buried=0, sheets=0, holes=0, capped=0,
    )  # fmt: skip


def auto(mesh: OrientedMesh, device: str) -> SignedDistance:
    """Exact if the solid is sealed; otherwise the winding number wherever the closest face could differ from it."""
    if len(mesh.solid_faces) == 0:  # only open sheets: outside everywhere
        return lambda points: (np.full(len(points), np.inf, np.float32), np.ones(len(points), bool))
    return normal(mesh, device, trust=trust_radii(mesh, device))


def normal(mesh: OrientedMesh, device: str, *, trust: np.ndarray | None = None) -> SignedDistance:
    """The angle-weighted pseudonormal of the closest feature (Baerentzen & Aanaes 2005).

    Args:
        trust: (t,) per shell face; points farther from their closest face than this are signed by the winding number.
    """
    shell = QueryMesh(mesh.vertices, mesh.shell_faces, device)
    by_normal = shell.pseudonormal_sign(*pseudonormals(mesh.vertices, mesh.shell_faces))
    by_winding = winding(mesh, device) if trust is not None and not np.isinf(trust).all() else None
    sheets = QueryMesh(mesh.vertices, mesh.faces[mesh.loose], device) if mesh.loose.any() else None

    def sign(points: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        signed, face = by_normal(points)
        if by_winding is not None and trust is not None:
            rows = np.flatnonzero(np.abs(signed) >= trust[face])
            signed[rows] = np.copysign(signed[rows], by_winding(points[rows])[0])
        if sheets is not None:
            # sheets enclose nothing, so they shorten the distance but do not change the sign
            near = sheets.closest(points)[0]
            signed = np.copysign(np.minimum(np.abs(signed), near), signed)
        # Caps decide the sign, but distances are measured to the mesh's own faces.
        return signed, face >= mesh.shell_own

    return sign


def winding(mesh: OrientedMesh, device: str) -> SignedDistance:
    """Inside is where the winding number is above one half (Jacobson et al. 2013), evaluated by Barill et al. 2018."""
    exact = np.array_equal(mesh.faces, mesh.solid_faces)
    solid = QueryMesh(mesh.vertices, mesh.solid_faces, device, winding_numbers=True)
    # Winding numbers of a closed surface are integers, so an error below one half is harmless and a coarse expansion is
    # enough. Around holes they take any value: there Warp's default, 2, is used.
    accuracy = 1.0 if mesh.sealed else 2.0

    def sign(points: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        signed = solid.winding_sign(points, accuracy, closed=mesh.sealed)
        return signed, None if exact else np.ones(len(points), bool)

    return sign


def original(mesh: OrientedMesh, device: str) -> SignedDistance:
    """The original DeepSDF's vote among what 100 cameras see; NaN where it is not unanimous."""
    vote = original_signs(mesh.vertices, mesh.faces, device)
    return lambda points: (vote(points), np.ones(len(points), bool))


def parity_vote(vertices: np.ndarray, faces: np.ndarray, device: str) -> Callable[[np.ndarray], np.ndarray]:
    """A second, independent sign: a function of points (n, 3) that returns inside (n,) bool.

    Inside is where most of 9 rays cross the faces an odd number of times. Uses neither the winding of faces, nor the
    closest face, nor caps, so its errors are independent of those of the other methods. A majority, because single rays
    fail: one through a hole or exactly along an edge counts one crossing too few or too many.
    """
    surface = QueryMesh(vertices, faces, device)
    # A Fibonacci spiral is aligned with no axis; CAD models have their faces and edges along the axes.
    directions = sphere_directions(_RAYS)
    return lambda points: surface.odd_crossings(points, directions) > _RAYS // 2


def pseudonormals(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pseudonormals, float64: of faces (f, 3), of their edges 0-1, 1-2, 2-0 (3 f, 3), of vertices (v, 3).

    The normal of an edge is the sum over its faces; that of a vertex is the sum over its faces weighted by their angle
    at the vertex. With this weight, and no other, the sign at a closest vertex is right (Baerentzen & Aanaes 2005): a
    plain mean would depend on how the surface is triangulated. Lengths do not matter.
    """
    vertices = vertices.astype(np.float64)
    of_face, _ = face_normals(vertices, faces)
    edges = Edges.of(faces)
    groups = len(edges.count)
    sums = np.stack([np.bincount(edges.group, of_face[edges.face, k], groups) for k in range(3)], axis=1)
    of_vertex = np.zeros((len(vertices), 3))
    for k in range(3):
        here, ahead, behind = (vertices[faces[:, (k + step) % 3]] for step in range(3))
        p, q = ahead - here, behind - here
        angle = np.arctan2(np.linalg.norm(np.cross(p, q), axis=1), np.einsum("ij,ij->i", p, q))
        for axis in range(3):
            of_vertex[:, axis] += np.bincount(faces[:, k], of_face[:, axis] * angle, len(vertices))
    return of_face, sums[edges.group], of_vertex


def trust_radii(mesh: OrientedMesh, device: str) -> np.ndarray:
    """(t,) float32: distance from each shell face up to which its pseudonormal gives the sign of the winding number.

    - 0 where the surface crosses itself or more than two faces meet in an edge: there the pseudonormal is undefined.
    - Infinity elsewhere on a sealed solid, where both signs are exact.
    - Otherwise a share of the distance to the nearest rim, if the winding number confirms it.
    """
    faces = mesh.shell_faces
    edges = Edges.of(faces)
    corners = np.zeros(len(mesh.vertices), bool)
    corners[faces[mesh.shell_crossing]] = True
    # A sealed shell may still have edges of one face, where buried faces were removed at a crossing.
    corners[edges.ends[edges.count > 2 if not mesh.sealed else edges.count != 2]] = True
    doubtful = np.asarray(corners[faces]).any(axis=1).reshape(-1)
    trust = np.where(doubtful, 0, np.inf).astype(np.float32)
    if mesh.sealed or doubtful.all():
        return trust
    middles = mesh.vertices[faces].astype(np.float64).mean(axis=1)
    size = np.linalg.norm(mesh.vertices[faces] - middles[:, None], axis=2).max(axis=1)
    rims = _points_along(mesh.vertices, edges.ends[edges.count == 1])
    away, _ = KDTree(rims).query(middles, workers=cpu_threads())
    # From the centroid to the nearest corner of the face, and by the spacing of the rim's points, less is left.
    trust = np.minimum(trust, _RIM_SHARE * np.maximum(away - _RIM_STEP - size, 0)).astype(np.float32)
    return np.where(_confirmed(mesh, middles, trust, device), trust, np.float32(0))


def _confirmed(mesh: OrientedMesh, middles: np.ndarray, reach: np.ndarray, device: str) -> np.ndarray:
    """(t,) bool: the winding number has the solid behind a face and not in front, close to it and at its reach.

      + o  at reach (0 if another face is closer there, which then decides)
        |
      + o  close by
    ====x====== face
      - o
        |
      - o
    """
    normals, _ = face_normals(mesh.vertices.astype(np.float64), mesh.shell_faces)
    decide = winding(mesh, device)
    good = reach > 0
    for step, is_close in ((np.minimum(reach, 1e-3), True), (reach, False)):
        for side in (1, -1):
            rows = np.flatnonzero(good)
            probes = (middles[rows] + side * step[rows, None] * normals[rows]).astype(np.float32)
            found = decide(probes)[0]
            expected = np.signbit(found) == (side < 0)
            good[rows] = expected | (not is_close and np.abs(found) < 0.9 * step[rows])
    return good


def _points_along(vertices: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Points (n, 3) along edges (e, 2), at most `_RIM_STEP` apart, ends included."""
    start, end = vertices[edges[:, 0]].astype(np.float64), vertices[edges[:, 1]].astype(np.float64)
    pieces = np.ceil(np.linalg.norm(end - start, axis=1) / _RIM_STEP).astype(int) + 1
    # `number` counts the points of each edge: 0, 1, ..., pieces - 1
    row = np.repeat(np.arange(len(edges)), pieces)
    number = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    share = (number / np.maximum(pieces[row] - 1, 1))[:, None]
    return start[row] + share * (end[row] - start[row])


SIGNS: dict[str, Callable[[OrientedMesh, str], SignedDistance]] = {
    "auto": auto, "normal": normal, "winding": winding, "original": original,
}  # fmt: skip
"""Values of `MeshSDF(sign=)`."""
