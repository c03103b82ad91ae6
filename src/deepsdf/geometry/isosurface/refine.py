"""More triangles where the edges of a mesh lie off its field's level set."""

from __future__ import annotations

import numpy as np

from deepsdf.geometry.isosurface.contour import Contour, Hermite, newton_step, unit
from deepsdf.geometry.isosurface.intersections import intersecting_pairs

_MAX_SAGITTA = 0.3
"""Largest distance of a midpoint from the surface, as a fraction of the edge. For a circular arc that turns by an angle
φ it is tan(φ / 4) / 2, so that 0.3 is a turn of 124 degrees: beyond, the surface found is more likely another part."""

_FACING = 0.5
"""Least cosine between a triangle and its parts: 60 degrees. Beyond, the surface starts to fold over."""

_FAR = 0.05
"""Displacement of a midpoint, as a fraction of the least height of the triangles at its edge, beyond which the split is
tested for intersections with other triangles."""


def subdivide(
    contour: Contour, triangles: np.ndarray, hermite: Hermite, tolerance: float, bound: float
) -> tuple[Contour, np.ndarray]:
    """Split edges whose midpoint is farther than `tolerance` from the surface, and move the new vertices onto it.

    The normals at the ends of an edge predict its distance; where that is too large, one evaluation with gradient
    measures it. An edge is split in both its triangles, so that the mesh stays watertight. Splits that would fold
    the mesh or let it intersect itself are undone. Vertices on the faces of the cube of half side `bound` stay on them.
    """
    points, normals, count = contour.points, contour.normals, len(contour.points)
    ends = np.stack([triangles, triangles[:, [1, 2, 0]]], -1).astype(np.int64)
    keys, edges = np.unique(ends.min(axis=-1) * count + ends.max(axis=-1), return_inverse=True)
    edges = edges.reshape(-1, 3)
    start, end = keys // count, keys % count
    along = points[end] - points[start]
    # Sagitta of a circular arc over the chord c whose end normals are n0 and n1: |c · (n0 - n1)| / 8. With radius r and
    # half angle θ that is r sin²θ / 2, and the sagitta is r (1 - cos θ): equal to second order.
    predicted = np.abs((along * (normals[start] - normals[end])).sum(axis=1)) / 8.0
    likely = np.flatnonzero(predicted > tolerance)
    middle = 0.5 * (points[start] + points[end])[likely]
    values, gradients = hermite(middle)
    step = newton_step(values, np.where(np.abs(middle) < bound, gradients, 0.0))
    off = np.linalg.norm(step, axis=1)
    # Half the tolerance: the prediction already exceeded it, and both have errors.
    split = (off > 0.5 * tolerance) & (off < _MAX_SAGITTA * np.linalg.norm(along[likely], axis=1))
    added = np.full(len(keys), -1)  # the new vertex of each edge
    added[likely[split]] = count + np.arange(split.sum())
    moved = np.clip(middle + step, -bound, bound)
    contour = Contour(np.concatenate([points, moved[split]]), np.concatenate([normals, unit(gradients)[split]]))
    height = np.full(len(keys), np.inf)
    np.minimum.at(height, edges, _least_heights(points, triangles)[:, None])
    far = np.concatenate([np.zeros(count, bool), (off > _FAR * height[likely])[split]])
    # Undoing a split changes its triangles, which may then fold or intersect others: repeated until nothing changes.
    # It ends because splits are only ever undone.
    _undo_folds(contour.points, triangles, edges, added)
    changed = np.ones(len(triangles), bool)
    while changed.any():
        before = added.copy()
        _undo_intersections(contour.points, triangles, edges, added, far, changed)
        _undo_folds(contour.points, triangles, edges, added)
        changed = (added != before)[edges].any(axis=1)
    return _without_unused(contour, _split_triangles(contour.points, triangles, added[edges])[0])


def _undo_folds(points: np.ndarray, triangles: np.ndarray, edges: np.ndarray, added: np.ndarray) -> None:
    """Undo the splits of triangles whose parts would face another way than they do."""
    while True:
        rows = np.flatnonzero((added[edges] >= 0).any(axis=1))
        parts, parents = _split_triangles(points, triangles[rows], added[edges[rows]])
        facing = (_face_normals(points, parts) * _face_normals(points, triangles[rows])[parents]).sum(axis=1)
        folded = edges[rows[parents[facing < _FACING]]]
        folded = folded[added[folded] >= 0]
        if not len(folded):
            return
        added[folded] = -1


def _undo_intersections(
    points: np.ndarray,
    triangles: np.ndarray,
    edges: np.ndarray,
    added: np.ndarray,
    far: np.ndarray,
    changed: np.ndarray,
) -> None:
    """Undo splits with far-moved vertices in triangles that intersect others, if one of the two is `changed` (t,)."""
    parts, parents = _split_triangles(points, triangles, added[edges])
    moved = np.any(far[parts], axis=1)
    pairs = intersecting_pairs(points, parts, np.flatnonzero(moved if changed.all() else changed[parents]))
    either = np.concatenate([pairs[:, 0], pairs[:, 1]])
    undone = edges[parents[either[moved[either]]]]
    undone = undone[(added[undone] >= 0) & far[added[undone]]]
    added[undone] = -1


def _least_heights(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """The least height (t,) of each triangle: twice its area over its longest side."""
    sides = points[triangles[:, [1, 2, 0]]] - points[triangles]
    longest = np.linalg.norm(sides, axis=-1).max(axis=1)
    return np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1) / np.maximum(longest, 1e-300)


def _face_normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    a, b, c = (points[triangles[:, k]] for k in range(3))
    return unit(np.cross(b - a, c - a))


def _split_triangles(points: np.ndarray, triangles: np.ndarray, middles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Triangles (t, 3) split at the new vertices (t, 3) of their edges 01, 12, 20 (-1 for none); and their parents.

    Each triangle is first rotated to one of these patterns, with p on ab, q on bc and r on ca:

            c                c                 c                 c
           /|\              / \               /|\               / \
          / | \            /   \             / | q             r---q
         /  |  \          /     \           /  |/ \           / \ / \
        a---p---b        a-------b         a---p---b         a---p---b
           one             none        two (or a-q for p-c)     three
    """
    has = middles >= 0
    number = has.sum(axis=1)
    # The rotation makes a single split edge the first, and two split edges the first and the second.
    lead = np.where(number == 1, has.argmax(axis=1), np.where(number == 2, (~has).argmax(axis=1) + 1, 0)) % 3
    turned = (lead[:, None] + np.arange(3)) % 3
    a, b, c = np.take_along_axis(triangles, turned, axis=1).T
    p, q, r = np.take_along_axis(middles, turned, axis=1).T
    # Of two splits a quad a, p, q, c remains: its shorter diagonal gives the better triangles.
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


def _without_unused(contour: Contour, triangles: np.ndarray) -> tuple[Contour, np.ndarray]:
    """The contour without vertices that no triangle uses."""
    used = np.zeros(len(contour.points), bool)
    used[triangles] = True
    return Contour(contour.points[used], contour.normals[used]), (np.cumsum(used) - 1)[triangles]
