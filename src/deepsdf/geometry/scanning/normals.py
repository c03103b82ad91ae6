"""Normals of point clouds, from the plane through the neighbours of each point (Hoppe et al. 1992)."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from deepsdf.kernels.launch import cpu_threads

_NEIGHBOURS = (16, 48, 144)
"""Sizes of the neighbourhood, tried in this order until the noise is small compared with its width. Each has three
times the points of the one before, so about 1.7 times its width."""


def estimate_normals(points: np.ndarray, at: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals of a point cloud, and its thickness, from as many neighbours as the noise requires.

    The covariance of the neighbours has the normal as eigenvector of its smallest eigenvalue, which is the variance
    across the surface.

    Args:
        points: (n, 3), n at least 3.
        at: (m, 3), points at which normals are wanted; None: all of them.
    Returns:
        normals (m, 3), of either orientation, and thickness (m,), the standard deviation across the surface.
    """
    at = points if at is None else at
    tree = KDTree(points)
    normals, thickness = np.zeros((len(at), 3)), np.zeros(len(at))
    chunk = 8192  # (chunk, 144, 3) float64 of neighbours are 28 MB
    for count in _NEIGHBOURS:
        count = min(count, len(points))
        ratios = np.empty(len(at))
        for start in range(0, len(at), chunk):
            part = slice(start, start + chunk)
            _, near = tree.query(at[part], k=count, workers=cpu_threads())
            around = points[near] - points[near].mean(axis=1, keepdims=True)
            variances, directions = np.linalg.eigh(np.einsum("nki,nkj->nij", around, around) / count)
            normals[part], thickness[part] = directions[:, :, 0], np.sqrt(variances[:, 0].clip(min=0))
            ratios[part] = variances[:, 0] / variances[:, 1].clip(min=1e-300)
        # Smallest over middle eigenvalue: below 0.05 the noise is less than a quarter of the neighbourhood's width
        # (0.05^(1/2) = 0.22), so the plane is well defined. More neighbours would only mistake curvature for noise.
        if np.median(ratios) < 0.05 or count == len(points):
            break
    return normals, thickness


def towards(normals: np.ndarray, points: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    """Normals (n, 3) turned towards the camera (n, 3) of each point; unchanged where the camera is NaN."""
    away = np.einsum("ni,ni->n", normals, cameras - points) < 0
    return np.where(away[:, None], -normals, normals)
