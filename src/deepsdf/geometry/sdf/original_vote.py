"""The original DeepSDF's sign: what 100 virtual cameras around the mesh see is outside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial import KDTree

from deepsdf.kernels.launch import cpu_threads, in_chunks, kernels, to_device, warp_mesh
from deepsdf.kernels.runtime import get_warp

VIEWS = 100
PIXELS = 400
VOTES = 11


def sphere_directions(count: int) -> np.ndarray:
    """(count, 3) unit vectors spread evenly (a Fibonacci spiral)."""
    z = 1 - 2 * (np.arange(count) + 0.5) / count
    turn = np.pi * (1 + 5**0.5) * np.arange(count)
    flat = np.sqrt(1 - z**2)
    return np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)


def oriented_points(vertices: np.ndarray, faces: np.ndarray, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Points (p, 3) that the cameras see and their normals (p, 3), turned towards the camera."""
    wp = get_warp()
    mesh, kernel = warp_mesh(vertices, faces, device), kernels(device).camera_kernel
    radius = float(np.linalg.norm(vertices, axis=1).max())
    step = (np.arange(PIXELS) + 0.5) / PIXELS * 2 - 1
    plane = np.stack(np.meshgrid(step, step, indexing="ij"), axis=-1).reshape(-1, 2) * radius
    seen: list[tuple[np.ndarray, np.ndarray]] = [(np.zeros((0, 3)), np.zeros((0, 3)))] * VIEWS
    directions = sphere_directions(VIEWS)

    def view(k: int) -> None:
        towards = -directions[k]
        right = np.cross(towards, [1.0, 0, 0] if abs(towards[0]) < 0.7 else [0, 1.0, 0])
        right /= np.linalg.norm(right)
        up = np.cross(right, towards)
        origins = (plane[:, :1] * right + plane[:, 1:] * up - 2 * radius * towards).astype(np.float32)
        rays = np.broadcast_to(towards.astype(np.float32), origins.shape)
        count = len(origins)
        hit = wp.zeros(count, dtype=wp.int32, device=device)
        position, normal = (wp.zeros(count, dtype=wp.vec3, device=device) for _ in range(2))
        inputs = [mesh.id, to_device(origins, wp.vec3, device), to_device(rays, wp.vec3, device)]
        wp.launch(kernel, count, inputs=inputs, outputs=[hit, position, normal], device=device)
        found = hit.numpy() >= 0
        seen[k] = position.numpy()[found], normal.numpy()[found]

    def work(start: int, stop: int) -> None:
        for k in range(start, stop):
            view(k)

    in_chunks(VIEWS, work, device, size=4)
    return np.concatenate([p for p, _ in seen]), np.concatenate([n for _, n in seen])


def original_signs(vertices: np.ndarray, faces: np.ndarray, device: str) -> Callable[[np.ndarray], np.ndarray]:
    """points (n, 3) -> +1 outside, -1 inside, NaN where the 11 nearest seen points disagree."""
    points, normals = oriented_points(vertices, faces, device)
    if len(points) < VOTES:
        return lambda queries: np.full(len(queries), np.nan, np.float32)
    tree = KDTree(points, balanced_tree=False, compact_nodes=False)

    def vote(queries: np.ndarray) -> np.ndarray:
        _, near = tree.query(queries, k=VOTES, workers=cpu_threads())
        outside = np.einsum("nkj,nkj->nk", queries[:, None] - points[near], normals[near]) > 0
        count = outside.sum(axis=1)
        return np.where(count == VOTES, 1.0, np.where(count == 0, -1.0, np.nan)).astype(np.float32)

    return vote
