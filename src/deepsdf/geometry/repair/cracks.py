"""Cracks between patches: weld the narrow ones."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from deepsdf.geometry.repair.patches import Edges

_CRACK = 1e-3  # of unit size: wider gaps are openings, not cracks
_CRACK_OF_EDGE = 0.25


def weld_cracks(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joins vertices of open edges that lie closer than a crack's width.

    Returns:
        faces with joined vertices, and the rows of the given faces they are.
    """
    everything = np.arange(len(faces))
    edges = Edges.of(faces)
    open_ends = edges.ends[edges.count == 1]
    if len(open_ends) == 0:
        return faces, everything
    rim = np.unique(open_ends)
    lengths = np.linalg.norm(vertices[open_ends[:, 0]] - vertices[open_ends[:, 1]], axis=1)
    width = min(_CRACK, _CRACK_OF_EDGE * float(np.median(lengths)))
    pairs = KDTree(vertices[rim]).query_pairs(width, output_type="ndarray")
    if len(pairs) == 0:
        return faces, everything
    _, cluster = connected_components(
        coo_matrix((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(len(rim), len(rim))),
        directed=False,
    )
    leader = np.full(cluster.max() + 1, len(vertices))
    np.minimum.at(leader, cluster, rim)
    target = np.arange(len(vertices))
    target[rim] = leader[cluster]
    joined = target[faces]
    collapsed = (joined == np.roll(joined, 1, axis=1)).any(axis=1)
    if collapsed.any():  # these clusters would swallow a face: leave them apart
        swallowed = np.unique(joined[collapsed])
        keep = np.isin(target, swallowed)
        target[keep] = np.flatnonzero(keep)
        joined = target[faces]
    _, first = np.unique(np.sort(joined, axis=1), axis=0, return_index=True)
    first = np.sort(first)
    if (Edges.of(joined[first]).count == 1).sum() >= len(open_ends):
        return faces, everything
    return joined[first], first
