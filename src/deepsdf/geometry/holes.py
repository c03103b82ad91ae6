"""Cracks and holes of oriented patches: weld the narrow ones, cap the small ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from deepsdf.geometry.patches import Edges, boundary_of
from deepsdf.geometry.visibility import face_normals

_CRACK = 1e-3  # of unit size: wider gaps are openings, not cracks
_CRACK_OF_EDGE = 0.25
_CAP_SHARE = 0.35  # a cap larger than this share of its patch invents too much


@dataclass(frozen=True, eq=False)
class Caps:
    """Fans that close holes. `faces` index the vertices followed by `apexes`."""

    faces: np.ndarray
    apexes: np.ndarray
    capped: int
    open_loops: int


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
    pairs = cKDTree(vertices[rim]).query_pairs(width, output_type="ndarray")
    if len(pairs) == 0:
        return faces, everything
    _, cluster = connected_components(
        coo_matrix((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(len(rim), len(rim))), directed=False
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


def cap_holes(vertices: np.ndarray, faces: np.ndarray, patch: np.ndarray) -> Caps:
    """A fan from its middle over each boundary loop that is small beside the patch around it.

    A cone over a closed chain closes it whatever its shape, so no loop has to be walked.
    """
    none = Caps(np.zeros((0, 3), np.int64), np.zeros((0, 3)), 0, 0)
    if len(faces) == 0:
        return none
    chain = boundary_of(faces, np.zeros(len(faces), np.int64))[:, :2]
    if len(chain) == 0:
        return none
    ends, compact = np.unique(chain, return_inverse=True)
    compact = compact.reshape(-1, 2)
    loops, of_vertex = connected_components(
        coo_matrix((np.ones(len(chain), np.int8), (compact[:, 0], compact[:, 1])), shape=(len(ends), len(ends))),
        directed=False,
    )
    loop = of_vertex[compact[:, 0]]
    start, stop = vertices[chain[:, 0]], vertices[chain[:, 1]]
    length = np.maximum(np.linalg.norm(stop - start, axis=1), 1e-12)
    middle = np.stack([np.bincount(loop, ((start + stop) / 2 * length[:, None])[:, k], loops) for k in range(3)], axis=1)
    middle /= np.bincount(loop, length, loops)[:, None]
    fan = np.bincount(loop, np.linalg.norm(np.cross(start - middle[loop], stop - middle[loop]), axis=1) / 2, loops)
    accepted = fan <= _CAP_SHARE * _area_around(vertices, faces, patch, ends, of_vertex, loops)
    use = accepted[loop]
    number = np.cumsum(accepted) - 1
    apex = len(vertices) + number[loop[use]]
    caps = np.column_stack([chain[use, 1], chain[use, 0], apex])
    return Caps(caps, middle[accepted], int(accepted.sum()), int(loops - accepted.sum()))


def _area_around(
    vertices: np.ndarray, faces: np.ndarray, patch: np.ndarray, ends: np.ndarray, of_vertex: np.ndarray, loops: int
) -> np.ndarray:
    """Area of the largest patch that touches each loop."""
    _, area = face_normals(vertices, faces)
    of_patch = np.bincount(patch, area)
    loop_of = np.full(int(faces.max()) + 1, -1)
    loop_of[ends] = of_vertex
    corner = loop_of[faces]
    around = np.zeros(loops)
    for k in range(3):
        touching = corner[:, k] >= 0
        np.maximum.at(around, corner[touching, k], of_patch[patch[touching]])
    return around
