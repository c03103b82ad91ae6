"""The ways to sign a distance, by name. All work in the repaired mesh's working frame."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import trimesh

from deepsdf.geometry import launch
from deepsdf.geometry.cameras import original_signs
from deepsdf.geometry.meshes import clean_mesh
from deepsdf.geometry.orientation import OrientedMesh, working_frame
from deepsdf.geometry.patches import Edges, boundary_of
from deepsdf.geometry.visibility import face_normals
from deepsdf.geometry.warp_runtime import get_warp

Signed = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]
"""Points (n, 3) float32 in spatial order -> signed distances (n,), NaN where the sign is unknown, and where only their
sign counts (n,) bool: there the magnitude is not the distance to the outer surface. None: nowhere."""

_CLOSED_ACCURACY = 1.0  # whole winding numbers need no more to be told apart
_OPEN_ACCURACY = 2.0


def as_stored(mesh: trimesh.Trimesh) -> OrientedMesh:
    """The mesh's faces exactly as the file winds them, in a working frame; only equal vertices are joined."""
    clean = clean_mesh(mesh, keep_doubled=True)
    center, scale = working_frame(clean.mesh.vertices)
    faces = np.asarray(clean.mesh.faces, np.int32)
    closed = len(boundary_of(faces, np.zeros(len(faces), np.int64))) == 0
    return OrientedMesh(
        vertices=((clean.mesh.vertices - center) * scale).astype(np.float32), faces=faces,
        source_faces=clean.source_faces, solid_faces=faces, shell_faces=faces, shell_own=len(faces),
        shell_crossing=np.zeros(len(faces), bool), crossing=np.zeros(len(faces), bool),
        center=center, scale=scale, closed=closed, sealed=closed,
        degenerate=clean.degenerate, doubled=0, flipped=0, buried=0, sheets=0, holes=0, capped=0,
    )  # fmt: skip


def auto(mesh: OrientedMesh, device: str) -> Signed:
    """Exact where the solid is sealed; else the winding number's threshold."""
    if len(mesh.solid_faces) == 0:
        return lambda points: (np.full(len(points), np.inf, np.float32), np.ones(len(points), bool))
    return normal(mesh, device, doubtful=_doubtful(mesh)) if mesh.sealed else winding(mesh, device)


def normal(mesh: OrientedMesh, device: str, *, doubtful: np.ndarray | None = None) -> Signed:
    """The angle-weighted pseudonormal of the closest feature (Baerentzen & Aanaes 2005).

    Where that lies on a doubtful face of the shell, the winding number decides.
    """
    wp = get_warp()
    shell = launch.warp_mesh(mesh.vertices, mesh.shell_faces, device)
    normals = [
        launch.to_device(n.astype(np.float32), wp.vec3, device) for n in pseudonormals(mesh.vertices, mesh.shell_faces)
    ]
    decide = winding(mesh, device) if doubtful is not None and doubtful.any() else None
    sheets = mesh.sheets > 0
    kernel = launch.kernels(device).normal_sign_kernel

    def sign(points: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        before = [shell.id, shell.indices, *normals]
        signed, face = launch.points_through(kernel, points, before, [(float, ()), (wp.int32, ())], device)
        if decide is not None and doubtful is not None:
            rows = np.flatnonzero(doubtful[face])
            signed[rows] = np.copysign(signed[rows], decide(points[rows])[0])
        return signed, np.ones(len(points), bool) if sheets else face >= mesh.shell_own

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


def _doubtful(mesh: OrientedMesh) -> np.ndarray:
    """(t,) bool: shell faces with a corner where the surface crosses itself or more than two faces meet in an edge."""
    faces = mesh.shell_faces
    edges = Edges.of(faces)
    corners = np.zeros(len(mesh.vertices), bool)
    corners[faces[mesh.shell_crossing]] = True
    corners[edges.ends[edges.count != 2]] = True
    return np.asarray(corners[faces]).any(axis=1).reshape(-1)


SIGNS: dict[str, Callable[[OrientedMesh, str], Signed]] = {
    "auto": auto, "normal": normal, "winding": winding, "original": original,
}  # fmt: skip
