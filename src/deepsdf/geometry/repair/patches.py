"""Connected, consistently wound patches of a triangle mesh, all as array operations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree


@dataclass(frozen=True)
class Edges:
    """The three directed edges of each face, grouped: row k belongs to face `face[k]`, group `group[k]`.

    Groups are undirected edges; `forward[k]` says that the face runs from the lower to the higher vertex.
    """

    face: np.ndarray
    group: np.ndarray
    forward: np.ndarray
    count: np.ndarray  # faces per group
    ends: np.ndarray  # (groups, 2) vertices, lower first

    @classmethod
    def of(cls, faces: np.ndarray) -> Edges:
        start = faces.reshape(-1).astype(np.int64)
        stop = np.roll(faces, -1, axis=1).reshape(-1).astype(np.int64)
        low, high = np.minimum(start, stop), np.maximum(start, stop)
        base = int(faces.max()) + 1
        keys, group, count = np.unique(low * base + high, return_inverse=True, return_counts=True)
        face = np.repeat(np.arange(len(faces)), 3)
        return cls(face, group.ravel(), start < stop, count, np.stack([keys // base, keys % base], axis=1))


def pairs_of(edges: Edges) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Faces that meet in an edge of exactly two faces: (a, b, same), `same` where both run the same way round."""
    order = np.argsort(edges.group, kind="stable")
    rows = order[edges.count[edges.group[order]] == 2].reshape(-1, 2)
    a, b = rows[:, 0], rows[:, 1]
    return edges.face[a], edges.face[b], edges.forward[a] != edges.forward[b]


def orient_patches(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Winds faces alike across every edge of exactly two faces.

    Patches are the connected components over such edges. Each one is a component pair of the double cover,
    whose nodes are (face, as stored) and (face, flipped). A one-sided patch (Moebius) is cut open along a
    spanning tree.

    Returns:
        flip (f,) bool, patch (f,) int numbered from 0, number of patches.
    """
    n = len(faces)
    a, b, same = pairs_of(Edges.of(faces))
    number, patch = connected_components(_graph(a, b, n), directed=False)
    sheet = _double_cover(a, b, same, n)
    one_sided = np.zeros(number, bool)
    one_sided[patch[sheet[:n] == sheet[n:]]] = True
    if one_sided.any():
        weights = coo_matrix((np.ones(len(a)), (np.minimum(a, b), np.maximum(a, b))), shape=(n, n)).tocsr()
        tree = minimum_spanning_tree(weights).tocoo()
        in_tree = np.isin(np.minimum(a, b) * n + np.maximum(a, b), tree.row.astype(np.int64) * n + tree.col)
        use = in_tree | ~one_sided[patch[a]]
        sheet = _double_cover(a[use], b[use], same[use], n)
    # of a patch's two sheets, stay with the one that keeps its lowest-numbered face as stored
    first = np.full(number, n)
    np.minimum.at(first, patch, np.arange(n))
    return sheet[:n] != sheet[first][patch], patch, number


def connected_faces(faces: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, int]:
    """Regions (f,) of faces joined across edges of two wanted faces, and their number."""
    a, b, _ = pairs_of(Edges.of(faces))
    use = wanted[a] & wanted[b]
    number, region = connected_components(_graph(a[use], b[use], len(faces)), directed=False)
    return region, number


def _graph(a: np.ndarray, b: np.ndarray, n: int) -> coo_matrix:
    return coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(n, n))


def _double_cover(a: np.ndarray, b: np.ndarray, same: np.ndarray, n: int) -> np.ndarray:
    rows = np.concatenate([a, a + n])
    columns = np.concatenate([np.where(same, b, b + n), np.where(same, b + n, b)])
    return connected_components(_graph(rows, columns, 2 * n), directed=False)[1]


def boundary_of(faces: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Directed edges (m, 2) where the surfaces labelled alike do not cancel: their boundary as a chain.

    Empty exactly when each labelled part is closed, so that its winding number is whole everywhere.
    """
    start = faces.reshape(-1).astype(np.int64)
    stop = np.roll(faces, -1, axis=1).reshape(-1).astype(np.int64)
    base = int(faces.max()) + 1
    pair = np.minimum(start, stop) * base + np.maximum(start, stop)
    parts = int(label.max()) + 1 if len(label) else 1
    if parts * base * base >= 2**62:  # pair and part do not fit one number
        pair = np.unique(pair, return_inverse=True)[1].ravel()
    key = pair * parts + np.repeat(label, 3)
    order = np.argsort(key)
    first = np.flatnonzero(np.diff(key[order], prepend=-1))
    total = np.add.reduceat(np.where(start < stop, 1, -1)[order], first)
    left = np.flatnonzero(total)
    rows, total = order[first[left]], total[left]
    low, high = np.minimum(start, stop)[rows], np.maximum(start, stop)[rows]
    ends = np.where((total > 0)[:, None], np.stack([low, high], axis=1), np.stack([high, low], axis=1))
    return np.repeat(np.column_stack([ends, np.repeat(label, 3)[rows]]), np.abs(total), axis=0)


def signed_volumes(vertices: np.ndarray, faces: np.ndarray, patch: np.ndarray, number: int) -> np.ndarray:
    """Signed volume of each patch, positive when its faces look outward; about the patch's own middle."""
    corners = vertices[faces]
    size = np.bincount(patch, minlength=number)
    middle = np.stack([np.bincount(patch, corners.mean(axis=1)[:, k], number) for k in range(3)], axis=1)
    middle /= np.maximum(size, 1)[:, None]
    a, b, c = (corners[:, k] - middle[patch] for k in range(3))
    return np.bincount(patch, np.einsum("ij,ij->i", a, np.cross(b, c)) / 6, number)
