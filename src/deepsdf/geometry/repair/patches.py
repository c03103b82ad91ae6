r"""Connected, consistently wound patches of a triangle mesh, by array operations.

Orientation in one figure. Two faces are wound alike if they run along their common edge in opposite directions:

        c                       c
       /|\                     /|\
      / | \                   / | \
     a  |  d                 a  |  d
      \ | /                   \ | /
       \|/                     \|/
        b                       b
    (a,b,c) has b->c        (a,b,c) has b->c
    (d,c,b) has c->b        (d,b,c) has b->c
    alike                   not alike: flip one of them
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree


@dataclass(frozen=True)
class Edges:
    """The three directed edges of every face, grouped by undirected edge.

    Directed edge k (k = 0 ... 3 f - 1, in the order of the faces) belongs to face `face[k]` and to group `group[k]`.

    Attributes:
        face: (3 f,) int.
        group: (3 f,) int, undirected edge.
        forward: (3 f,) bool, the face runs from the lower to the higher vertex.
        count: (groups,) int, faces per undirected edge.
        ends: (groups, 2) int, its vertices, lower first.
    """

    face: np.ndarray
    group: np.ndarray
    forward: np.ndarray
    count: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, faces: np.ndarray) -> Edges:
        start = faces.reshape(-1).astype(np.int64)
        stop = np.roll(faces, -1, axis=1).reshape(-1).astype(np.int64)
        low, high = np.minimum(start, stop), np.maximum(start, stop)
        # (low, high) as one integer, because unique rows of two columns take several times as long
        base = int(faces.max()) + 1
        keys, group, count = np.unique(low * base + high, return_inverse=True, return_counts=True)
        face = np.repeat(np.arange(len(faces)), 3)
        return cls(face, group.ravel(), start < stop, count, np.stack([keys // base, keys % base], axis=1))


def neighbour_pairs(edges: Edges) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of faces that meet in an edge of exactly two faces: a (p,), b (p,), and alike (p,) bool, wound alike.

    Edges of three or more faces are left out: there "the neighbour" is ambiguous, so patches end.
    """
    # sorted by group, the two directed edges of such a group are neighbours: rows of two
    order = np.argsort(edges.group, kind="stable")
    rows = order[edges.count[edges.group[order]] == 2].reshape(-1, 2)
    a, b = rows[:, 0], rows[:, 1]
    return edges.face[a], edges.face[b], edges.forward[a] != edges.forward[b]


def orient_patches(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    r"""Wind faces alike across every edge of exactly two faces.

    Patches are the connected components over such edges. Which faces to flip follows from the double cover: a graph
    with two nodes per face, (face, as stored) and (face, flipped). An edge between faces wound alike connects equal
    states, any other edge connects opposite states:

        alike:   f  -- g        not alike:   f     g
                                              \ /
                                              / \
                 f' -- g'                    f'    g'

    An orientable patch splits into two components, its two orientations. On a one-sided patch (Moebius strip) a loop
    leads from f to f', so both orientations are one component; such a patch is cut open along a spanning tree.

    Returns:
        flip (f,) bool, patch (f,) int numbered from 0, number of patches.
    """
    n = len(faces)
    a, b, alike = neighbour_pairs(Edges.of(faces))
    number, patch = connected_components(_graph(a, b, n), directed=False)
    sheet = _double_cover(a, b, alike, n)
    # both states of a face in one component: its patch has no consistent winding
    one_sided = np.zeros(number, bool)
    one_sided[patch[sheet[:n] == sheet[n:]]] = True
    if one_sided.any():
        # A tree has no loops, so without the other edges the patch is orientable.
        weights = coo_matrix((np.ones(len(a)), (np.minimum(a, b), np.maximum(a, b))), shape=(n, n)).tocsr()
        tree = minimum_spanning_tree(weights).tocoo()
        in_tree = np.isin(np.minimum(a, b) * n + np.maximum(a, b), tree.row.astype(np.int64) * n + tree.col)
        use = in_tree | ~one_sided[patch[a]]
        sheet = _double_cover(a[use], b[use], alike[use], n)
    # Of the two orientations of a patch, take the one that keeps its lowest-numbered face as stored.
    first = np.full(number, n)
    np.minimum.at(first, patch, np.arange(n))
    return sheet[:n] != sheet[first][patch], patch, number


def connected_faces(faces: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, int]:
    """Regions (f,) of faces connected across edges of two wanted faces (f,) bool, and the number of regions."""
    a, b, _ = neighbour_pairs(Edges.of(faces))
    use = wanted[a] & wanted[b]
    number, region = connected_components(_graph(a[use], b[use], len(faces)), directed=False)
    return region, number


def _graph(a: np.ndarray, b: np.ndarray, n: int) -> coo_matrix:
    return coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(n, n))


def _double_cover(a: np.ndarray, b: np.ndarray, alike: np.ndarray, n: int) -> np.ndarray:
    """Components (2 n,) of the double cover: nodes 0 ... n - 1 are faces as stored, n ... 2 n - 1 flipped."""
    rows = np.concatenate([a, a + n])
    columns = np.concatenate([np.where(alike, b, b + n), np.where(alike, b + n, b)])
    return connected_components(_graph(rows, columns, 2 * n), directed=False)[1]


def boundary_of(faces: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The boundary of each labelled part, as a chain: rows (m, 3) of start vertex, end vertex, label.

    The boundary operator of homology: every face contributes its three directed edges, and u->v cancels v->u. An edge
    that remains twice is listed twice. Empty if and only if every part is closed, and then its winding number is an
    integer everywhere.

    Args:
        label: (f,) int, part of each face.
    """
    start = faces.reshape(-1).astype(np.int64)
    stop = np.roll(faces, -1, axis=1).reshape(-1).astype(np.int64)
    base = int(faces.max()) + 1  # (low, high) as one integer, as in `Edges.of`
    pair = np.minimum(start, stop) * base + np.maximum(start, stop)
    parts = int(label.max()) + 1 if len(label) else 1
    if parts * base * base >= 2**62:  # vertex pair and label do not fit one int64: number the pairs instead
        pair = np.unique(pair, return_inverse=True)[1].ravel()
    # edges that may cancel have equal keys: the same two vertices and the same label
    key = pair * parts + np.repeat(label, 3)
    order = np.argsort(key)
    first = np.flatnonzero(np.diff(key[order], prepend=-1))
    # +1 for each run from the lower to the higher vertex, -1 for each run back; what does not cancel is boundary
    total = np.add.reduceat(np.where(start < stop, 1, -1)[order], first)
    left = np.flatnonzero(total)
    rows, total = order[first[left]], total[left]
    low, high = np.minimum(start, stop)[rows], np.maximum(start, stop)[rows]
    ends = np.where((total > 0)[:, None], np.stack([low, high], axis=1), np.stack([high, low], axis=1))
    return np.repeat(np.column_stack([ends, np.repeat(label, 3)[rows]]), np.abs(total), axis=0)


def signed_volumes(vertices: np.ndarray, faces: np.ndarray, patch: np.ndarray, number: int) -> np.ndarray:
    """Signed volume (number,) of each patch, positive if its faces look outward.

    Each face spans a tetrahedron with the centroid of its patch, of volume a . (b x c) / 6. About the patch's own
    centroid, because far from the origin large terms would cancel; for an open patch this also closes it by a cone.
    """
    corners = vertices[faces]
    size = np.bincount(patch, minlength=number)
    middle = np.stack([np.bincount(patch, corners.mean(axis=1)[:, k], number) for k in range(3)], axis=1)
    middle /= np.maximum(size, 1)[:, None]
    a, b, c = (corners[:, k] - middle[patch] for k in range(3))
    return np.bincount(patch, np.einsum("ij,ij->i", a, np.cross(b, c)) / 6, number)
