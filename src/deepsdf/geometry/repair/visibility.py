"""What can be seen of a mesh: which side of each patch sees the sky."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepsdf.kernels.launch import in_chunks, kernels, to_device, warp_mesh
from deepsdf.kernels.runtime import get_warp

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
