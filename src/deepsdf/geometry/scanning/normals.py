"""Normals of point clouds, by the plane that each point's neighbours lie in (Hoppe et al. 1992)."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from deepsdf.kernels.launch import cpu_threads

NEIGHBOURS = (16, 48, 144)
"""Tried in this order, until the noise is small beside the neighbourhood."""

_FLAT = 0.05  # the least variance by the middle one: noise is below a quarter of the neighbourhood's width
_CHUNK = 8192


def estimate_normals(points: np.ndarray, at: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals (m, 3), of either orientation, and how thick the surface is there (m,), a standard deviation.

    The more noise, the more neighbours are asked.

    Args:
        points: (n, 3), n at least 3.
        at: (m, 3), some of the points; None: all of them.
    """
    at = points if at is None else at
    tree = KDTree(points)
    normals, thickness = np.zeros((len(at), 3)), np.zeros(len(at))
    for count in NEIGHBOURS:
        count = min(count, len(points))
        ratios = np.empty(len(at))
        for start in range(0, len(at), _CHUNK):
            part = slice(start, start + _CHUNK)
            _, near = tree.query(at[part], k=count, workers=cpu_threads())
            around = points[near] - points[near].mean(axis=1, keepdims=True)
            variances, directions = np.linalg.eigh(np.einsum("nki,nkj->nij", around, around) / count)
            normals[part], thickness[part] = directions[:, :, 0], np.sqrt(variances[:, 0].clip(min=0))
            ratios[part] = variances[:, 0] / variances[:, 1].clip(min=1e-300)
        # Where neighbours are many, bends of the surface look like noise: beyond the next step it would only get worse.
        if np.median(ratios) < _FLAT or count == len(points):
            break
    return normals, thickness


def towards(normals: np.ndarray, points: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    """Normals (n, 3) turned to where each point's camera (n, 3) stands; as they are where that is NaN."""
    away = np.einsum("ni,ni->n", normals, cameras - points) < 0
    return np.where(away[:, None], -normals, normals)
