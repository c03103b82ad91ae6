"""Which faces lie inside a solid, and which pass through each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepsdf.geometry.repair.patches import connected_faces
from deepsdf.geometry.repair.visibility import face_normals
from deepsdf.kernels.launch import in_chunks, kernels, points_through, warp_mesh
from deepsdf.kernels.runtime import get_warp

_STEP = 1e-4  # of unit size: to either side of a face
_WITNESSES = 12
_PLACES = ((1 / 3, 1 / 3, 1 / 3), (0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.1, 0.8))


def inside_of(vertices: np.ndarray, solid: np.ndarray, points: np.ndarray, device: str) -> np.ndarray:
    """(n,) bool: winding number of the solid's faces at the points above one half."""
    return _inside(warp_mesh(vertices, solid, device, winding=True), points, device)


def _inside(mesh: Any, points: np.ndarray, device: str) -> np.ndarray:
    wp = get_warp()
    outputs = [(float, ()), (wp.int32, ())]
    kernel = kernels(device).winding_sign_kernel
    found = points_through(kernel, points.astype(np.float32), [mesh.id], outputs, device, after=[2.0, 0])
    return np.signbit(found[0])


def crossing_faces(vertices: np.ndarray, faces: np.ndarray, device: str) -> np.ndarray:
    """(f,) bool: faces that pass through others. Neighbours that merely touch do not count."""
    wp = get_warp()
    kernel = kernels(device).self_intersection_kernel
    mesh = warp_mesh(vertices, faces, device)
    flags = wp.zeros(len(faces), dtype=wp.int32, device=device)

    def work(start: int, stop: int) -> None:
        inputs = [mesh.id, mesh.points, mesh.indices, start]
        wp.launch(kernel, stop - start, inputs=inputs, outputs=[flags], device=device)

    in_chunks(len(faces), work, device, size=4096)
    return flags.numpy().astype(bool)


def buried_regions(
    vertices: np.ndarray, faces: np.ndarray, crossing: np.ndarray, components: int, device: str
) -> tuple[np.ndarray, np.ndarray]:
    """Faces of a closed solid that have the solid on both sides, and those that may have it in places; (f,) bool each.

    That changes along the surface only where it passes through another part of it, so a few faces answer for each
    region between crossings. Crossing faces are not buried: a part of them shows.
    """
    if components == 1 and not crossing.any():
        return np.zeros(len(faces), bool), crossing
    crossing = crossing.copy()
    region, number = connected_faces(faces, ~crossing)
    order = np.random.default_rng(0).permutation(len(faces))
    rows = order[np.argsort(region[order], kind="stable")]
    rank = np.arange(len(rows)) - np.searchsorted(region[rows], region[rows])
    rows = rows[(rank < _WITNESSES) & ~crossing[rows]]
    both = _solid_on_both_sides(vertices, faces, rows, _PLACES[:1], faces, device)
    share = np.bincount(region[rows], both, number) / np.maximum(np.bincount(region[rows], minlength=number), 1)
    buried = (share == 1)[region] & ~crossing
    # witnesses that disagree: a crossing went unnoticed, for instance of coplanar faces
    unclear = np.flatnonzero(((share > 0) & (share < 1))[region] & ~crossing)
    buried[unclear] = _solid_on_both_sides(vertices, faces, unclear, _PLACES, faces, device)
    crossing[unclear] = True
    return buried, crossing & ~buried


def buried_one_by_one(vertices: np.ndarray, faces: np.ndarray, solid: np.ndarray, device: str) -> np.ndarray:
    """(f,) bool: faces with the solid on both sides, at their middle and near their corners."""
    if len(faces) == 0 or len(solid) == 0:
        return np.zeros(len(faces), bool)
    return _solid_on_both_sides(vertices, faces, np.arange(len(faces)), _PLACES, solid, device)


def _solid_on_both_sides(
    vertices: np.ndarray, faces: np.ndarray, rows: np.ndarray, places: tuple, solid: np.ndarray, device: str
) -> np.ndarray:
    mesh = warp_mesh(vertices, solid, device, winding=True)
    corners = vertices[faces[rows]]
    normals, _ = face_normals(vertices, faces[rows])
    left = np.arange(len(rows))
    for weights in places:
        for side in (_STEP, -_STEP):
            points = np.einsum("k,fkj->fj", weights, corners[left]) + side * normals[left]
            left = left[_inside(mesh, points, device)] if len(left) else left
    both = np.zeros(len(rows), bool)
    both[left] = True
    return both
