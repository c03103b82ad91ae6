"""More triangles where a mesh lies off its field's level set."""

from __future__ import annotations

import numpy as np

from deepsdf.geometry.isosurface.contour import Contour, Hermite, newton_step
from deepsdf.geometry.isosurface.hermite import unit
from deepsdf.geometry.isosurface.intersections import intersecting

_REACH = 0.3  # of an edge's length: a midpoint farther from the surface belongs to another part of it
_FACING = 0.5  # a cosine: how well the parts of a triangle must look as it does
_FAR = 0.05  # of the least height of the triangles at an edge: moved by more, its middle may cross other triangles


def subdivide(
    contour: Contour, triangles: np.ndarray, hermite: Hermite, tolerance: float, bound: float
) -> tuple[Contour, np.ndarray]:
    """Split edges whose middle is farther than `tolerance` from the surface, and put the new points on it.

    Which edges these are is first foretold by the normals at their ends, then seen: one evaluation with gradient for
    each that is foretold. The mesh stays as closed as it was, and splits that would let it cross itself are taken back.
    Points on the walls of the cube of half side `bound` stay on them.
    """
    points, normals, count = contour.points, contour.normals, len(contour.points)
    ends = np.stack([triangles, triangles[:, [1, 2, 0]]], -1).astype(np.int64)
    keys, edges = np.unique(ends.min(axis=-1) * count + ends.max(axis=-1), return_inverse=True)
    edges = edges.reshape(-1, 3)
    start, end = keys // count, keys % count
    along = points[end] - points[start]
    foretold = np.abs((along * (normals[start] - normals[end])).sum(axis=1)) / 8.0  # of an arc with these normals
    likely = np.flatnonzero(foretold > tolerance)
    middle = 0.5 * (points[start] + points[end])[likely]
    values, gradients = hermite(middle)
    step = newton_step(values, np.where(np.abs(middle) < bound, gradients, 0.0))
    off = np.linalg.norm(step, axis=1)
    split = (off > 0.5 * tolerance) & (off < _REACH * np.linalg.norm(along[likely], axis=1))
    added = np.full(len(keys), -1)
    added[likely[split]] = count + np.arange(split.sum())
    moved = np.clip(middle + step, -bound, bound)
    contour = Contour(np.concatenate([points, moved[split]]), np.concatenate([normals, unit(gradients)[split]]))
    height = np.full(len(keys), np.inf)
    np.minimum.at(height, edges, _heights(points, triangles)[:, None])
    far = np.concatenate([np.zeros(count, bool), (off > _FAR * height[likely])[split]])
    _keep_unfolded(contour.points, triangles, edges, added)
    changed = np.ones(len(triangles), bool)
    while changed.any():
        before = added.copy()
        _uncross(contour.points, triangles, edges, added, far, changed)
        _keep_unfolded(contour.points, triangles, edges, added)
        changed = (added != before)[edges].any(axis=1)
    return _compact(contour, _parts(contour.points, triangles, added[edges])[0])


def _keep_unfolded(points: np.ndarray, triangles: np.ndarray, edges: np.ndarray, added: np.ndarray) -> None:
    """Take back splits of triangles whose parts would look another way."""
    while True:
        rows = np.flatnonzero((added[edges] >= 0).any(axis=1))
        parts, parents = _parts(points, triangles[rows], added[edges[rows]])
        facing = (_face_normals(points, parts) * _face_normals(points, triangles[rows])[parents]).sum(axis=1)
        folded = edges[rows[parents[facing < _FACING]]]
        folded = folded[added[folded] >= 0]
        if not len(folded):
            return
        added[folded] = -1


def _uncross(
    points: np.ndarray,
    triangles: np.ndarray,
    edges: np.ndarray,
    added: np.ndarray,
    far: np.ndarray,
    changed: np.ndarray,
) -> None:
    """Take back splits with points moved far in triangles that pass through others, one of the two `changed` (t,)."""
    parts, parents = _parts(points, triangles, added[edges])
    moved = np.any(far[parts], axis=1)
    pairs = intersecting(points, parts, np.flatnonzero(moved if changed.all() else changed[parents]))
    either = np.concatenate([pairs[:, 0], pairs[:, 1]])
    crossing = edges[parents[either[moved[either]]]]
    crossing = crossing[(added[crossing] >= 0) & far[added[crossing]]]
    added[crossing] = -1


def _heights(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """The least height (t,) of each triangle."""
    sides = points[triangles[:, [1, 2, 0]]] - points[triangles]
    longest = np.linalg.norm(sides, axis=-1).max(axis=1)
    return np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1) / np.maximum(longest, 1e-300)


def _face_normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    a, b, c = (points[triangles[:, k]] for k in range(3))
    return unit(np.cross(b - a, c - a))


def _parts(points: np.ndarray, triangles: np.ndarray, middles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangles between corners and middles (t, 3) of edges 01, 12, 20, -1 where there is none; and their parents."""
    has = middles >= 0
    number = has.sum(axis=1)
    # Turned so that of one split edge it is the first, of two the first and the second.
    lead = np.where(number == 1, has.argmax(axis=1), np.where(number == 2, (~has).argmax(axis=1) + 1, 0)) % 3
    turned = (lead[:, None] + np.arange(3)) % 3
    a, b, c = np.take_along_axis(triangles, turned, axis=1).T
    p, q, r = np.take_along_axis(middles, turned, axis=1).T
    shorter = np.linalg.norm(points[a] - points[q], axis=1) < np.linalg.norm(points[p] - points[c], axis=1)
    patterns = [
        (number == 0, (a, b, c)),
        (number == 1, (a, p, c)),
        (number == 1, (p, b, c)),
        (number == 2, (p, b, q)),
        (number == 2, (a, p, np.where(shorter, q, c))),
        (number == 2, (np.where(shorter, a, p), q, c)),
        (number == 3, (a, p, r)),
        (number == 3, (p, b, q)),
        (number == 3, (r, q, c)),
        (number == 3, (p, q, r)),
    ]
    parts = [np.column_stack([corner[which] for corner in corners]) for which, corners in patterns]
    return np.concatenate(parts), np.concatenate([np.flatnonzero(which) for which, _ in patterns])


def _compact(contour: Contour, triangles: np.ndarray) -> tuple[Contour, np.ndarray]:
    """Without points that no triangle uses."""
    used = np.zeros(len(contour.points), bool)
    used[triangles] = True
    return Contour(contour.points[used], contour.normals[used]), (np.cumsum(used) - 1)[triangles]
