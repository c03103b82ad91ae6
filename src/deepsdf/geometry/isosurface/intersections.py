"""Pairs of triangles of a mesh that intersect."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

_CHUNK = 1 << 12  # triangles queried together: a hundred neighbours each make 4e5 pairs, 60 MB of corners
_ROUNDING = 1e-9
"""Relative size below which determinants and barycentric coordinates count as zero: that of parallel edges, and of
edges that only touch. Rounding is 1e-16, and 1e-13 after the cancellation of coordinates a thousand cells from the
origin."""


def intersecting_pairs(points: np.ndarray, triangles: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Pairs (p, 2) of triangles in which an edge of either pierces the other, the first of each among `which`.

    Edges that end in a corner of the other triangle do not count, nor do coplanar triangles.
    """
    if not len(which):
        return np.zeros((0, 2), np.int64)
    corners = points[triangles]
    a, b, c = corners.transpose(1, 0, 2)
    centre = (a + b + c) / 3.0
    low, high = np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)
    normals = np.cross(b - a, c - a)
    radius = np.sqrt(np.maximum.reduce([((corner - centre) ** 2) @ np.ones(3) for corner in (a, b, c)]))
    # Candidates have centres closer than the sum of their radii. The tree can only search with the largest radius of
    # its triangles, so that the few long ones get a tree of their own and do not widen the search among the others.
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
            # Bounding boxes first: they rule out most of the candidates at a fraction of the cost.
            for axis in range(3):
                overlap = (low[first, axis] <= high[second, axis]) & (low[second, axis] <= high[first, axis])
                first, second = first[overlap], second[overlap]
            distinct = first != second
            pairs = np.column_stack([first, second])[distinct]
            hit = np.zeros(len(pairs), bool)
            for ordered in (pairs, pairs[:, ::-1]):
                through = _straddling(corners, normals, ordered)
                hit[through] |= _pierces(corners, triangles, ordered[through])
            found.append(pairs[hit])
    return np.concatenate(found)


def _straddling(corners: np.ndarray, normals: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Rows of pairs whose first triangle has corners on both sides of the plane of the second."""
    first, second = pairs.T
    a, normal = corners[second, 0], normals[second]
    side = [((corners[first, k] - a) * normal).sum(axis=1) for k in range(3)]
    return np.flatnonzero((np.minimum.reduce(side) <= 0) & (np.maximum.reduce(side) >= 0))


def _pierces(corners: np.ndarray, triangles: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Whether an edge of the first triangle of each pair goes through the second (Möller and Trumbore, 1997).

    The intersection of the edge s + t d with the plane of a triangle (a, a + e1, a + e2) solves

        s - a = u e1 + v e2 - t d,

    by Cramer's rule with the determinant e1 · (d x e2). It lies inside both if u, v, 1 - u - v, t, 1 - t are positive.
    """
    first, second = pairs.T
    a = corners[second, 0]
    e1, e2 = corners[second, 1] - a, corners[second, 2] - a
    hit = np.zeros(len(pairs), bool)
    for edge in range(3):
        ends = triangles[first][:, [edge, (edge + 1) % 3]]
        disjoint = np.logical_and.reduce([ends[:, k] != triangles[second, m] for k in range(2) for m in range(3)])
        start = corners[first, edge]
        along = corners[first, (edge + 1) % 3] - start
        across = np.cross(along, e2)
        determinant = (e1 * across).sum(axis=1)
        # Relative to the volume that vectors of these lengths could span: the test is independent of the mesh's scale.
        volume = np.linalg.norm(along, axis=1) * np.linalg.norm(e1, axis=1) * np.linalg.norm(e2, axis=1)
        scale = 1.0 / np.where(np.abs(determinant) > _ROUNDING * volume, determinant, np.inf)
        u = ((start - a) * across).sum(axis=1) * scale
        turned = np.cross(start - a, e1)
        v = (along * turned).sum(axis=1) * scale
        t = (e2 * turned).sum(axis=1) * scale
        least = np.minimum.reduce([u, v, 1.0 - u - v, t, 1.0 - t])
        hit |= disjoint & (scale != 0.0) & (least > _ROUNDING)
    return hit
