"""The original DeepSDF's sign: what 100 virtual cameras around the mesh see is outside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial import KDTree

from deepsdf.kernels.launch import cpu_threads
from deepsdf.kernels.queries import QueryMesh

# The original's PreprocessMesh.cpp: 100 orthographic views of 400 x 400 pixels, and a vote of the 11 nearest points.
_VIEWS, _PIXELS, _VOTES = 100, 400, 11


def sphere_directions(count: int) -> np.ndarray:
    """(count, 3) unit vectors spread evenly over the sphere by a Fibonacci spiral."""
    z = 1 - 2 * (np.arange(count) + 0.5) / count
    turn = np.pi * (1 + 5**0.5) * np.arange(count)
    flat = np.sqrt(1 - z**2)
    return np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)


def oriented_points(vertices: np.ndarray, faces: np.ndarray, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Points (p, 3) that the cameras see, and face normals (p, 3) there, turned towards the camera."""
    mesh = QueryMesh(vertices, faces, device)
    radius = float(np.linalg.norm(vertices, axis=1).max())
    step = (np.arange(_PIXELS) + 0.5) / _PIXELS * 2 - 1
    plane = np.stack(np.meshgrid(step, step, indexing="ij"), axis=-1).reshape(-1, 2) * radius
    points, normals = [], []
    for direction in sphere_directions(_VIEWS):
        towards = -direction
        # any vector not parallel to the view gives a basis of the image plane
        right = np.cross(towards, [1.0, 0, 0] if abs(towards[0]) < 0.7 else [0, 1.0, 0])
        right /= np.linalg.norm(right)
        up = np.cross(right, towards)
        origins = (plane[:, :1] * right + plane[:, 1:] * up - 2 * radius * towards).astype(np.float32)
        rays = np.broadcast_to(towards.astype(np.float32), origins.shape)
        hit, position, normal = mesh.first_hits(origins, rays)
        points.append(position[hit])
        normals.append(normal[hit])
    return np.concatenate(points), np.concatenate(normals)


def original_signs(vertices: np.ndarray, faces: np.ndarray, device: str) -> Callable[[np.ndarray], np.ndarray]:
    """A function of points (n, 3): (n,) +1 outside, -1 inside, NaN where the 11 nearest seen points disagree."""
    points, normals = oriented_points(vertices, faces, device)
    if len(points) < _VOTES:
        return lambda queries: np.full(len(queries), np.nan, np.float32)
    # SciPy builds an unbalanced tree faster, and there are up to 16 million points.
    tree = KDTree(points, balanced_tree=False, compact_nodes=False)

    def vote(queries: np.ndarray) -> np.ndarray:
        _, near = tree.query(queries, k=_VOTES, workers=cpu_threads())
        outside = np.einsum("nkj,nkj->nk", queries[:, None] - points[near], normals[near]) > 0
        count = outside.sum(axis=1)
        return np.where(count == _VOTES, 1.0, np.where(count == 0, -1.0, np.nan)).astype(np.float32)

    return vote
