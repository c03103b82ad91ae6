"""What can be seen of a mesh: which side of a patch sees the sky, which faces lie inside a solid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepsdf.geometry.launch import in_chunks, kernels, points_through, spatial_order, to_device, warp_mesh
from deepsdf.geometry.warp_runtime import get_warp

_RAYS = 16
_OFFSET = 2e-5  # of unit size: off the face itself, in float32, yet within the narrowest cracks


@dataclass(frozen=True, eq=False)
class View:
    """Shares (number,) of rays that escape from each patch's front and back; the points they started from."""

    front: np.ndarray
    back: np.ndarray
    points: np.ndarray
    patch: np.ndarray


def face_normals(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals (f, 3) and areas (f,), float64; zero where a face has no area."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    double = np.linalg.norm(cross, axis=1)
    return cross / np.maximum(double, 1e-300)[:, None], double / 2


def see_sky(
    vertices: np.ndarray, faces: np.ndarray, patch: np.ndarray, wanted: np.ndarray, device: str, seed: int
) -> View:
    """Casts cosine-weighted rays from both sides of random points of the wanted patches, against all faces."""
    wp = get_warp()
    rng = np.random.default_rng(seed)
    number = len(wanted)
    normals, area = face_normals(vertices, faces)
    each = int(np.clip(32_768 // max(int(wanted.sum()), 1), 16, 1024))
    rows, points = _points_per_patch(vertices, faces, patch, wanted, area, each, rng)
    turn = 2 * np.pi * (np.arange(_RAYS) * 0.6180339887498949 % 1)
    radius = np.sqrt((np.arange(_RAYS) + 0.5) / _RAYS)
    table = np.stack([radius * np.cos(turn), radius * np.sin(turn), np.sqrt(1 - radius**2)], axis=1)
    mesh = warp_mesh(vertices, faces, device)
    directions = to_device(table.astype(np.float32), wp.vec3, device)
    starts, towards = points.astype(np.float32), normals[rows].astype(np.float32)
    shares = np.zeros((2, len(rows)), np.float32)
    kernel = kernels(device).escape_kernel

    def work(start: int, stop: int) -> None:
        front, back = (wp.zeros(stop - start, dtype=float, device=device) for _ in range(2))
        inputs = [
            mesh.id, to_device(starts[start:stop], wp.vec3, device), to_device(towards[start:stop], wp.vec3, device),
            directions, _OFFSET,
        ]  # fmt: skip
        wp.launch(kernel, stop - start, inputs=inputs, outputs=[front, back], device=device)
        shares[0, start:stop], shares[1, start:stop] = front.numpy(), back.numpy()

    in_chunks(len(rows), work, device)
    of = patch[rows]
    count = np.maximum(np.bincount(of, minlength=number), 1)
    front, back = (np.bincount(of, share, number) / count for share in shares)
    return View(front, back, points, of)


def _points_per_patch(
    vertices: np.ndarray, faces: np.ndarray, patch: np.ndarray, wanted: np.ndarray, area: np.ndarray, each: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """`each` area-weighted points on every wanted patch: face rows and points."""
    order = np.argsort(patch, kind="stable")
    order = order[wanted[patch[order]]]
    total = np.cumsum(area[order])
    of = patch[order]
    last = np.flatnonzero(np.append(of[1:] != of[:-1], True))
    high = total[last]
    low = np.append(0.0, high[:-1])
    strata = (np.arange(each) + rng.random((len(last), each))) / each
    target = low[:, None] + strata * (high - low)[:, None]
    rows = order[np.minimum(np.searchsorted(total, target.ravel(), side="right"), np.repeat(last, each))]
    return rows, points_on(vertices, faces, rows, rng)


def points_on(vertices: np.ndarray, faces: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One uniform random point (n, 3) on each of the given faces."""
    u, v = rng.random((2, len(rows), 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    a, b, c = (vertices[faces[rows, k]] for k in range(3))
    return a + u * (b - a) + v * (c - a)


def inside_of(vertices: np.ndarray, solid: np.ndarray, points: np.ndarray, device: str) -> np.ndarray:
    """(n,) bool: winding number of the solid's faces at the points above one half."""
    mesh = warp_mesh(vertices, solid, device, winding=True)
    return _inside(mesh, points.astype(np.float32), device)


def _inside(mesh: object, points: np.ndarray, device: str, accuracy: float = 2.0) -> np.ndarray:
    wp = get_warp()
    order = spatial_order(points) if len(points) else np.zeros(0, int)
    outputs = [(float, ()), (wp.int32, ())]
    found = points_through(kernels(device).winding_sign_kernel, points[order], [mesh.id], outputs, device, after=[accuracy, 0])  # type: ignore[attr-defined]
    inside = np.zeros(len(points), bool)
    inside[order] = np.signbit(found[0])
    return inside


def buried_faces(
    vertices: np.ndarray, faces: np.ndarray, solid: np.ndarray, device: str, *, single: bool
) -> np.ndarray:
    """(f,) bool: faces with the solid on both sides, at their middle and near their corners."""
    buried = np.zeros(len(faces), bool)
    if single and not crosses_itself(vertices, solid, device):
        return buried
    mesh = warp_mesh(vertices, solid, device, winding=True)
    normals, _ = face_normals(vertices, faces)
    corners = vertices[faces]
    left = np.arange(len(faces))
    for weights in ((1 / 3, 1 / 3, 1 / 3), (0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.1, 0.8)):
        points = np.einsum("k,fkj->fj", weights, corners[left])
        for side in (1.0, -1.0):
            inside = _inside(mesh, (points + side * 1e-4 * normals[left]).astype(np.float32), device)
            left, points = left[inside], points[inside]
    buried[left] = True
    return buried


def crosses_itself(vertices: np.ndarray, faces: np.ndarray, device: str) -> bool:
    """Does some face's edge pass through another face? Neighbours that merely touch do not count."""
    wp = get_warp()
    mesh = warp_mesh(vertices, faces, device)
    flags = wp.zeros(len(faces), dtype=wp.int32, device=device)
    wp.launch(
        kernels(device).self_intersection_kernel, len(faces), inputs=[mesh.id, mesh.points, mesh.indices], outputs=[flags], device=device
    )
    return bool(flags.numpy().any())
