"""The ways to sign a distance, by name. All work in the repaired mesh's working frame."""

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
from deepsdf.kernels import launch
from deepsdf.kernels.runtime import get_warp

Signed = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]
"""Points (n, 3) float32 -> signed distances (n,), NaN where the sign is unknown, and where only their
sign counts (n,) bool: there the magnitude is not the distance to the outer surface. None: nowhere."""

_CLOSED_ACCURACY = 1.0  # whole winding numbers need no more to be told apart
_OPEN_ACCURACY = 2.0
_RAYS = 9
_TRUST_OF_RIM = 0.3
_RIM_STEP = 0.01  # of unit size


def as_stored(mesh: trimesh.Trimesh) -> OrientedMesh:
    """The mesh's faces exactly as the file winds them, in a working frame; only equal vertices are joined."""
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


def auto(mesh: OrientedMesh, device: str) -> Signed:
    """Exact where the solid is sealed; else the winding number's threshold wherever it could differ from that."""
    if len(mesh.solid_faces) == 0:
        return lambda points: (np.full(len(points), np.inf, np.float32), np.ones(len(points), bool))
    return normal(mesh, device, trust=trust_radii(mesh, device))


def normal(mesh: OrientedMesh, device: str, *, trust: np.ndarray | None = None) -> Signed:
    """The angle-weighted pseudonormal of the closest feature (Baerentzen & Aanaes 2005).

    Farther from the closest face than that is to be trusted, the winding number decides.
    """
    wp = get_warp()
    shell = launch.warp_mesh(mesh.vertices, mesh.shell_faces, device)
    normals = [
        launch.to_device(n.astype(np.float32), wp.vec3, device) for n in pseudonormals(mesh.vertices, mesh.shell_faces)
    ]
    decide = winding(mesh, device) if trust is not None and not np.isinf(trust).all() else None
    sheets = launch.warp_mesh(mesh.vertices, mesh.faces[mesh.loose], device) if mesh.loose.any() else None
    kernels = launch.kernels(device)

    def sign(points: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        before = [shell.id, shell.indices, *normals]
        outputs = [(float, ()), (wp.int32, ())]
        signed, face = launch.points_through(kernels.normal_sign_kernel, points, before, outputs, device)
        if decide is not None and trust is not None:
            rows = np.flatnonzero(np.abs(signed) >= trust[face])
            signed[rows] = np.copysign(signed[rows], decide(points[rows])[0])
        if sheets is not None:
            outputs.append((wp.vec3, (3,)))
            near = launch.points_through(kernels.closest_kernel, points, [sheets.id], outputs, device)[0]
            signed = np.copysign(np.minimum(np.abs(signed), near), signed)
        return signed, face >= mesh.shell_own

    return sign


def winding(mesh: OrientedMesh, device: str) -> Signed:
    """The winding number above one half is inside (Barill et al. 2018)."""
    wp = get_warp()
    exact = np.array_equal(mesh.faces, mesh.solid_faces)
    solid = launch.warp_mesh(mesh.vertices, mesh.solid_faces, device, winding=True)
    after = [_CLOSED_ACCURACY if mesh.sealed else _OPEN_ACCURACY, int(mesh.sealed)]
    kernel = launch.kernels(device).winding_sign_kernel

    def sign(points: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        outputs = [(float, ()), (wp.int32, ())]
        signed, _ = launch.points_through(kernel, points, [solid.id], outputs, device, after=after)
        return signed, None if exact else np.ones(len(points), bool)

    return sign


def original(mesh: OrientedMesh, device: str) -> Signed:
    """The original's vote among what 100 cameras see; NaN where it is split."""
    vote = original_signs(mesh.vertices, mesh.faces, device)
    return lambda points: (vote(points), np.ones(len(points), bool))


def stabbing(vertices: np.ndarray, faces: np.ndarray, device: str) -> Callable[[np.ndarray], np.ndarray]:
    """A second opinion: points (n, 3) -> inside (n,) bool, where most rays cross the faces an odd number of times.

    It knows nothing of the faces' direction, of the closest face, or of caps where they are not given.
    """
    wp = get_warp()
    surface = launch.warp_mesh(vertices, faces, device)
    # turned off the axes, where CAD models have their faces and edges
    directions = launch.to_device(sphere_directions(_RAYS).astype(np.float32), wp.vec3, device)
    kernel = launch.kernels(device).stab_kernel

    def inside(points: np.ndarray) -> np.ndarray:
        (odd,) = launch.points_through(kernel, points, [surface.id, directions], [(wp.int32, ())], device)
        return odd > _RAYS // 2

    return inside


def pseudonormals(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of faces (f, 3), of their edges 0-1, 1-2, 2-0 (3 f, 3), of vertices (v, 3), angle-weighted; float64."""
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
    """(t,) float32: how far from each shell face its pseudonormal tells the sign that the winding number would.

    0 where the surface crosses itself or more than two faces meet in an edge, infinity elsewhere on a sealed solid.
    Otherwise a share of the way to the nearest rim, if the winding number bears the face out.
    """
    faces = mesh.shell_faces
    edges = Edges.of(faces)
    corners = np.zeros(len(mesh.vertices), bool)
    corners[faces[mesh.shell_crossing]] = True
    corners[edges.ends[edges.count > 2 if not mesh.sealed else edges.count != 2]] = True
    doubtful = np.asarray(corners[faces]).any(axis=1).reshape(-1)
    trust = np.where(doubtful, 0, np.inf).astype(np.float32)
    if mesh.sealed or doubtful.all():
        return trust
    middles = mesh.vertices[faces].astype(np.float64).mean(axis=1)
    size = np.linalg.norm(mesh.vertices[faces] - middles[:, None], axis=2).max(axis=1)
    away, _ = KDTree(_along(mesh.vertices, edges.ends[edges.count == 1])).query(middles, workers=launch.cpu_threads())
    trust = np.minimum(trust, _TRUST_OF_RIM * np.maximum(away - _RIM_STEP - size, 0)).astype(np.float32)
    return np.where(_borne_out(mesh, middles, trust, device), trust, np.float32(0))


def _borne_out(mesh: OrientedMesh, middles: np.ndarray, reach: np.ndarray, device: str) -> np.ndarray:
    """(t,) bool: by the winding number the solid lies behind a face and not before it, close by and at its reach.

    At its reach other faces may be closer, and then they answer.
    """
    normals, _ = face_normals(mesh.vertices.astype(np.float64), mesh.shell_faces)
    decide = winding(mesh, device)
    good = reach > 0
    for step, sure in ((np.minimum(reach, 1e-3), True), (reach, False)):
        for side in (1, -1):
            rows = np.flatnonzero(good)
            probes = (middles[rows] + side * step[rows, None] * normals[rows]).astype(np.float32)
            found = decide(probes)[0]
            expected = np.signbit(found) == (side < 0)
            good[rows] = expected | (not sure and np.abs(found) < 0.9 * step[rows])
    return good


def _along(vertices: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Points (n, 3) along edges (e, 2), at most a step apart."""
    start, end = vertices[edges[:, 0]].astype(np.float64), vertices[edges[:, 1]].astype(np.float64)
    pieces = np.ceil(np.linalg.norm(end - start, axis=1) / _RIM_STEP).astype(int) + 1
    row = np.repeat(np.arange(len(edges)), pieces)
    place = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    share = (place / np.maximum(pieces[row] - 1, 1))[:, None]
    return start[row] + share * (end[row] - start[row])


SIGNS: dict[str, Callable[[OrientedMesh, str], Signed]] = {
    "auto": auto, "normal": normal, "winding": winding, "original": original,
}  # fmt: skip
