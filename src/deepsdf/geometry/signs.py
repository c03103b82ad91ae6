"""The ways to sign a distance, by name. All work in the repaired mesh's working frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import trimesh

from deepsdf.geometry import launch
from deepsdf.geometry.cameras import original_signs
from deepsdf.geometry.meshes import clean_mesh
from deepsdf.geometry.orientation import OrientedMesh, working_frame
from deepsdf.geometry.patches import Edges, boundary_of
from deepsdf.geometry.visibility import crosses_itself, face_normals
from deepsdf.geometry.warp_runtime import get_warp


@dataclass(frozen=True, eq=False)
class Signed:
    """A way to sign, made for one mesh."""

    of: Callable[[np.ndarray], np.ndarray]
    """Points (n, 3) float32 in spatial order -> signed distances (n,), NaN where unknown."""
    exact: bool
    """The magnitude is the distance to the outer surface; else only the sign counts."""
    crossing: bool = False
    """Faces may pass through each other, so parts of them may lie inside."""

_CLOSED_ACCURACY = 1.0  # whole winding numbers need no more to be told apart
_OPEN_ACCURACY = 2.0


def as_stored(mesh: trimesh.Trimesh) -> OrientedMesh:
    """The mesh's faces exactly as the file winds them, in a working frame; nothing repaired but equal vertices joined."""
    clean = clean_mesh(mesh, keep_doubled=True)
    center, scale = working_frame(clean.mesh.vertices)
    faces = np.asarray(clean.mesh.faces, np.int32)
    closed = len(boundary_of(faces, np.zeros(len(faces), np.int64))) == 0
    return OrientedMesh(
        vertices=((clean.mesh.vertices - center) * scale).astype(np.float32), faces=faces,
        source_faces=clean.source_faces, solid_faces=faces, center=center, scale=scale, closed=closed, sealed=closed,
        degenerate=clean.degenerate, doubled=0, flipped=0, buried=0, sheets=0, holes=0, capped=0,
    )  # fmt: skip


def auto(mesh: OrientedMesh, device: str) -> Signed:
    """Pseudonormals where the solid is closed and simple (exact, fastest), else the winding number."""
    if len(mesh.solid_faces) == 0:
        return Signed(lambda points: np.full(len(points), np.inf, np.float32), exact=False)
    if mesh.sealed and _two_faces_an_edge(mesh.solid_faces) and not crosses_itself(mesh.vertices, mesh.solid_faces, device):
        return normal(mesh, device)
    return winding(mesh, device)


def normal(mesh: OrientedMesh, device: str) -> Signed:
    """The angle-weighted pseudonormal of the closest feature (Baerentzen & Aanaes 2005)."""
    wp = get_warp()
    exact = np.array_equal(mesh.faces, mesh.solid_faces)
    solid = launch.warp_mesh(mesh.vertices, mesh.solid_faces, device)
    normals = [launch.to_device(n.astype(np.float32), wp.vec3, device) for n in pseudonormals(mesh.vertices, mesh.solid_faces)]

    def sign(points: np.ndarray) -> np.ndarray:
        before = [solid.id, solid.indices, *normals]
        found = launch.points_through(launch.kernels(device).normal_sign_kernel, points, before, [(float, ()), (wp.int32, ())], device)
        return found[0]

    return Signed(sign, exact)


def winding(mesh: OrientedMesh, device: str) -> Signed:
    """The winding number above one half is inside (Barill et al. 2018)."""
    wp = get_warp()
    exact = np.array_equal(mesh.faces, mesh.solid_faces)
    solid = launch.warp_mesh(mesh.vertices, mesh.solid_faces, device, winding=True)
    accuracy = _CLOSED_ACCURACY if mesh.sealed else _OPEN_ACCURACY

    def sign(points: np.ndarray) -> np.ndarray:
        after = [accuracy, int(mesh.sealed)]
        found = launch.points_through(
            launch.kernels(device).winding_sign_kernel, points, [solid.id], [(float, ()), (wp.int32, ())], device, after=after
        )
        return found[0]

    return Signed(sign, exact, crossing=True)


def original(mesh: OrientedMesh, device: str) -> Signed:
    """The original's vote among what 100 cameras see; NaN where it is split."""
    vote = original_signs(mesh.vertices, mesh.faces, device)
    return Signed(vote, exact=False)


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


def _two_faces_an_edge(faces: np.ndarray) -> bool:
    return bool((Edges.of(faces).count == 2).all())


SIGNS: dict[str, Callable[[OrientedMesh, str], Signed]] = {
    "auto": auto, "normal": normal, "winding": winding, "original": original,
}  # fmt: skip
