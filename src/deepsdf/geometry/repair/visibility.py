"""Visibility of patches from outside: which side of each patch can be seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepsdf.kernels.queries import QueryMesh

_RAYS = 16  # per point and side; the points of a patch, at least 16, multiply them
_OFFSET = 2e-5  # of unit size, where rays start: 300 times the float32 rounding, within the narrowest cracks


@dataclass(frozen=True, eq=False)
class Visibility:
    """Visibility of the two sides of each patch.

    Attributes:
        front, back: (number,) share of cosine-weighted rays from the patch that reach infinity, on either side.
        points: (n, 3) the points from which rays were cast.
        patch: (n,) patch of each point.
    """

    front: np.ndarray
    back: np.ndarray
    points: np.ndarray
    patch: np.ndarray


def face_normals(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals (f, 3) and areas (f,), float64; the normal of a face without area is zero."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    double = np.linalg.norm(cross, axis=1)
    return cross / np.maximum(double, 1e-300)[:, None], double / 2


def patch_visibility(
    vertices: np.ndarray, faces: np.ndarray, patch: np.ndarray, wanted: np.ndarray, device: str, seed: int
) -> Visibility:
    r"""Cast cosine-weighted rays from both sides of random points of the wanted patches, against all faces.

                 \  |  /          rays that hit nothing: the front of this patch is visible
        __________\_|_/___________
                  / | \
                 x  x  x          rays that hit another face: its back is enclosed

    Cosine weighting (ambient visibility) favours steep rays: flat ones hit neighbouring bumps of the same patch.

    Args:
        wanted: (number,) bool, patches to examine.
    """
    rng = np.random.default_rng(seed)
    number = len(wanted)
    normals, area = face_normals(vertices, faces)
    # About 2^15 points in all, at least 16 per patch (so 256 rays per side) and at most 1024.
    each = int(np.clip(32_768 // max(int(wanted.sum()), 1), 16, 1024))
    rows, points = _points_per_patch(vertices, faces, patch, wanted, area, each, rng)
    # A sunflower spiral (golden ratio) in the unit disc, lifted to the hemisphere, is cosine-weighted (Malley).
    turn = 2 * np.pi * (np.arange(_RAYS) * 0.6180339887498949 % 1)
    radius = np.sqrt((np.arange(_RAYS) + 0.5) / _RAYS)
    directions = np.stack([radius * np.cos(turn), radius * np.sin(turn), np.sqrt(1 - radius**2)], axis=1)
    mesh = QueryMesh(vertices, faces, device)
    shares = mesh.open_shares(points.astype(np.float32), normals[rows].astype(np.float32), directions, _OFFSET)
    of = patch[rows]
    count = np.maximum(np.bincount(of, minlength=number), 1)
    front, back = (np.bincount(of, share, number) / count for share in shares)
    return Visibility(front, back, points, of)


def _points_per_patch(
    vertices: np.ndarray, faces: np.ndarray, patch: np.ndarray, wanted: np.ndarray, area: np.ndarray, each: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """`each` area-weighted points on every wanted patch: face rows and points (n, 3).

    All patches at once by inverse transform sampling: the cumulative areas of the faces, sorted by patch, are one line,
    each patch is an interval [low, high) of it, and strata within the interval are looked up.
    """
    order = np.argsort(patch, kind="stable")
    order = order[wanted[patch[order]]]
    total = np.cumsum(area[order])
    of = patch[order]
    last = np.flatnonzero(np.append(of[1:] != of[:-1], True))
    high = total[last]
    low = np.append(0.0, high[:-1])
    strata = (np.arange(each) + rng.random((len(last), each))) / each
    target = low[:, None] + strata * (high - low)[:, None]
    # rounding could find the first face of the next patch: never go beyond the last of this one
    rows = order[np.minimum(np.searchsorted(total, target.ravel(), side="right"), np.repeat(last, each))]
    return rows, points_on(vertices, faces, rows, rng)


def points_on(vertices: np.ndarray, faces: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One uniform random point (n, 3) on each of the given faces, rows (n,)."""
    u, v = rng.random((2, len(rows), 1))
    # The unit square is two triangles; points in the upper one are mirrored into the lower.
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    a, b, c = (vertices[faces[rows, k]] for k in range(3))
    return a + u * (b - a) + v * (c - a)
