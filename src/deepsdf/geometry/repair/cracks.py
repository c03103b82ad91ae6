"""Cracks between patches: weld the narrow ones."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from deepsdf.geometry.repair.patches import Edges

_WIDEST_CRACK = 1e-3
"""Wider gaps are openings. The mesh is up to 2 units across, so this is an eighth of a cell of a 256^3 grid."""


def weld_cracks(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge vertices of boundary edges that lie closer to each other than the width of a crack.

        before            after
        ----.  .----      ----.----
             )(                |
        ----.  .----      ----.----

    Returns:
        faces with merged vertices, and the rows (f,) of the given faces that they come from. Faces that become equal by
        merging are kept once.
    """
    everything = np.arange(len(faces))
    edges = Edges.of(faces)
    boundary = edges.ends[edges.count == 1]
    if len(boundary) == 0:
        return faces, everything
    rim = np.unique(boundary)
    lengths = np.linalg.norm(vertices[boundary[:, 0]] - vertices[boundary[:, 1]], axis=1)
    # On a fine mesh a fixed width would merge neighbours along the rim; a quarter of an edge does not reach them.
    width = min(_WIDEST_CRACK, 0.25 * float(np.median(lengths)))
    pairs = KDTree(vertices[rim]).query_pairs(width, output_type="ndarray")
    if len(pairs) == 0:
        return faces, everything
    _, cluster = connected_components(
        coo_matrix((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(len(rim), len(rim))),
        directed=False,
    )
    # every vertex of a cluster becomes the one with the lowest number
    leader = np.full(cluster.max() + 1, len(vertices))
    np.minimum.at(leader, cluster, rim)
    target = np.arange(len(vertices))
    target[rim] = leader[cluster]
    merged = target[faces]
    collapsed = (merged == np.roll(merged, 1, axis=1)).any(axis=1)
    if collapsed.any():
        # Two corners of a face fell into one cluster, which would remove the face and open a new hole: such clusters
        # are left unmerged.
        swallowed = np.unique(merged[collapsed])
        keep = np.isin(target, swallowed)
        target[keep] = np.flatnonzero(keep)
        merged = target[faces]
    _, first = np.unique(np.sort(merged, axis=1), axis=0, return_index=True)
    first = np.sort(first)
    # Merging may also glue rims that do not belong together. It is kept only if it leaves fewer boundary edges.
    if (Edges.of(merged[first]).count == 1).sum() >= len(boundary):
        return faces, everything
    return merged[first], first
