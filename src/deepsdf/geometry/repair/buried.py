"""Faces inside a solid, and faces that pass through each other."""

from __future__ import annotations

import numpy as np

from deepsdf.geometry.repair.patches import connected_faces
from deepsdf.geometry.repair.visibility import face_normals
from deepsdf.kernels.queries import QueryMesh

_STEP = 1e-4
"""Distance (unit size) from a face to the test points on either side: a thousand times the float32 rounding of
unit-size coordinates, and a tenth of the width up to which cracks are welded."""

_WITNESSES = 12
"""Random faces tested per region. They must agree; a region that is half wrong passes with probability 2 / 2^12."""


def is_inside(vertices: np.ndarray, solid: np.ndarray, points: np.ndarray, device: str) -> np.ndarray:
    """(n,) bool: points (n, 3) at which the winding number of the faces `solid` (s, 3) is above one half."""
    return _is_inside(QueryMesh(vertices, solid, device, winding_numbers=True), points)


def _is_inside(mesh: QueryMesh, points: np.ndarray) -> np.ndarray:
    # The solid may have a boundary, where the winding number varies within empty balls, hence closed=False.
    return np.signbit(mesh.winding_sign(points.astype(np.float32), accuracy=2.0, closed=False))


def crossing_faces(vertices: np.ndarray, faces: np.ndarray, device: str) -> np.ndarray:
    """(f,) bool: faces that pass through others. Neighbours that only touch do not count."""
    return QueryMesh(vertices, faces, device).crossing_faces()


def buried_regions(
    vertices: np.ndarray, faces: np.ndarray, crossing: np.ndarray, components: int, device: str
) -> tuple[np.ndarray, np.ndarray]:
    """Faces of a closed solid that lie inside it, i.e. have the solid on both sides.

    Whether a face lies inside can change along the surface only where the surface passes through itself, so a few faces
    decide for each region between crossing faces. Crossing faces themselves are not buried: a part of each is visible.

                        +-----------------+
        +---------------x . . . .         |      --  visible regions
        |    part 1     .       .  part 2 |      . . buried regions
        +---------------x . . . .         |      x   crossing faces
                        +-----------------+

    Args:
        crossing: (f,) bool, from `crossing_faces`.
        components: number of connected patches.
    Returns:
        buried (f,) bool; and (f,) bool, faces that may be partly inside.
    """
    if components == 1 and not crossing.any():
        return np.zeros(len(faces), bool), crossing
    crossing = crossing.copy()
    region, number = connected_faces(faces, ~crossing)
    # `rank` numbers the faces of each region in random order; the first few are its witnesses.
    order = np.random.default_rng(0).permutation(len(faces))
    rows = order[np.argsort(region[order], kind="stable")]
    rank = np.arange(len(rows)) - np.searchsorted(region[rows], region[rows])
    rows = rows[(rank < _WITNESSES) & ~crossing[rows]]
    both = _has_solid_on_both_sides(vertices, faces, rows, faces, device, corners=False)
    share = np.bincount(region[rows], both, number) / np.maximum(np.bincount(region[rows], minlength=number), 1)
    buried = (share == 1)[region] & ~crossing
    # Witnesses that disagree mean that a crossing was missed, for instance one of coplanar faces, which do not
    # intersect in a segment. Then every face of the region is tested.
    unclear = np.flatnonzero(((share > 0) & (share < 1))[region] & ~crossing)
    buried[unclear] = _has_solid_on_both_sides(vertices, faces, unclear, faces, device)
    crossing[unclear] = True
    return buried, crossing & ~buried


def buried_faces(vertices: np.ndarray, faces: np.ndarray, solid: np.ndarray, device: str) -> np.ndarray:
    """(f,) bool: faces with the solid on both sides, at their centroid and near their corners. Tests every face."""
    if len(faces) == 0 or len(solid) == 0:
        return np.zeros(len(faces), bool)
    return _has_solid_on_both_sides(vertices, faces, np.arange(len(faces)), solid, device)


def _has_solid_on_both_sides(
    vertices: np.ndarray, faces: np.ndarray, rows: np.ndarray, solid: np.ndarray, device: str, *, corners: bool = True
) -> np.ndarray:
    """(len(rows),) bool, by test points on both sides of the faces: at the centroid and, if `corners`, near corners."""
    mesh = QueryMesh(vertices, solid, device, winding_numbers=True)
    triangles = vertices[faces[rows]]
    normals, _ = face_normals(vertices, faces[rows])
    # Barycentric coordinates of the test points. A face that pokes out of the solid usually does so at a corner; points
    # at 80 % of the way there stay clear of the neighbouring faces.
    places = [np.full(3, 1 / 3), *(np.where(np.eye(3, dtype=bool), 0.8, 0.1) if corners else ())]
    # `left` are the rows that were inside so far; each test point is evaluated only for those.
    left = np.arange(len(rows))
    for weights in places:
        for side in (_STEP, -_STEP):
            points = np.einsum("k,fkj->fj", weights, triangles[left]) + side * normals[left]
            left = left[_is_inside(mesh, points)] if len(left) else left
    both = np.zeros(len(rows), bool)
    both[left] = True
    return both
