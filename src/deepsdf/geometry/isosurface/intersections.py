"""Where triangles of a mesh pass through one another."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

_CHUNK = 1 << 12  # triangles whose neighbours are looked at together
_FLAT = 1e-9  # of the volume that an edge and a triangle could span: by less they are in one plane


def intersecting(points: np.ndarray, triangles: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Pairs (p, 2) of triangles that an edge of either pierces, the first of each among `which`.

    Edges that end in a corner of the other triangle do not count, nor do triangles in one plane.
    """
    if not len(which):
        return np.zeros((0, 2), np.int64)
    corners = points[triangles]
    a, b, c = corners.transpose(1, 0, 2)
    centre = (a + b + c) / 3.0
    low, high = np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)
    normals = np.cross(b - a, c - a)
    radius = np.sqrt(np.maximum.reduce([((corner - centre) ** 2) @ np.ones(3) for corner in (a, b, c)]))
    # Long triangles are few: they are looked for apart, so that the reach of all others stays short.
    long = 2.0 * np.median(radius)
    found = []
    for group in (np.flatnonzero(radius <= long), np.flatnonzero(radius > long)):
        if not len(group):
            continue
        tree, reach = KDTree(centre[group]), radius[group].max()
        for start in range(0, len(which), _CHUNK):
            part = which[start : start + _CHUNK]
            near = tree.query_ball_point(centre[part], radius[part] + reach, return_sorted=False)
            first = np.repeat(part, [len(each) for each in near])
            second = group[np.concatenate([np.asarray(each, np.int64) for each in near])]
            for axis in range(3):
                overlap = (low[first, axis] <= high[second, axis]) & (low[second, axis] <= high[first, axis])
                first, second = first[overlap], second[overlap]
            apart = first != second
            pairs = np.column_stack([first, second])[apart]
            hit = np.zeros(len(pairs), bool)
            for turned in (pairs, pairs[:, ::-1]):
                through = _straddles(corners, normals, turned)
                hit[through] |= _pierces(corners, triangles, turned[through])
            found.append(pairs[hit])
    return np.concatenate(found)


def _straddles(corners: np.ndarray, normals: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Which pairs have corners of the first triangle on both sides of the second's plane, as numbers."""
    first, second = pairs.T
    a, normal = corners[second, 0], normals[second]
    side = [((corners[first, k] - a) * normal).sum(axis=1) for k in range(3)]
    return np.flatnonzero((np.minimum.reduce(side) <= 0) & (np.maximum.reduce(side) >= 0))


def _pierces(corners: np.ndarray, triangles: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Whether an edge of the first triangle of each pair goes through the second (Moeller and Trumbore, 1997)."""
    first, second = pairs.T
    a = corners[second, 0]
    one, other = corners[second, 1] - a, corners[second, 2] - a
    hit = np.zeros(len(pairs), bool)
    for edge in range(3):
        names = triangles[first][:, [edge, (edge + 1) % 3]]
        apart = np.logical_and.reduce([names[:, k] != triangles[second, m] for k in range(2) for m in range(3)])
        start = corners[first, edge]
        along = corners[first, (edge + 1) % 3] - start
        across = np.cross(along, other)
        volume = (one * across).sum(axis=1)
        whole = np.linalg.norm(along, axis=1) * np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        scale = 1.0 / np.where(np.abs(volume) > _FLAT * whole, volume, np.inf)
        u = ((start - a) * across).sum(axis=1) * scale
        turned = np.cross(start - a, one)
        v = (along * turned).sum(axis=1) * scale
        share = (other * turned).sum(axis=1) * scale
        least = np.minimum.reduce([u, v, 1.0 - u - v, share, 1.0 - share])
        hit |= apart & (scale != 0.0) & (least > 1e-9)
    return hit
