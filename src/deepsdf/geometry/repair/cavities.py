"""Closed shells inside closed shells: which of them are cavities."""

from __future__ import annotations

import numpy as np

from deepsdf.geometry.repair.visibility import face_normals


def cavity_patches(
    vertices: np.ndarray, faces: np.ndarray, patch: np.ndarray, is_closed: np.ndarray, flipped: np.ndarray
) -> np.ndarray:
    """(number,) bool: closed patches that bound a cavity, so their faces must look inward for it to stay hollow.

    A shell inside another is a cavity if the file winds it the other way than the outermost shell around it:

         ->  +------------+           faces of the container look outward (->) as stored,
             |   +----+   |           those of the inner shell look the other way, into the hollow:
             |   | -> |   |           a cavity. If both were stored alike, the inner shell would be
             |   +----+   |           a solid inside a solid, and be filled.
             +------------+

    Only the comparison counts, because a file may store every face inside out.

    Args:
        faces: (f, 3), each closed patch wound outward.
        patch: (f,) patch of each face.
        is_closed: (number,) bool.
        flipped: (f,) bool, faces that the file winds the other way round.
    """
    number = len(is_closed)
    _, area = face_normals(vertices, faces)
    # Did the file wind most of a patch's area outward?
    outward_as_stored = np.bincount(patch, np.where(flipped, -area, area), number) > 0
    shells = np.flatnonzero(is_closed)
    low, high = np.full((number, 3), np.inf), np.full((number, 3), -np.inf)
    for k in range(3):
        np.minimum.at(low, patch, vertices[faces[:, k]])
        np.maximum.at(high, patch, vertices[faces[:, k]])
    size = np.linalg.norm(high - low, axis=1)
    first = np.unique(patch, return_index=True)[1]
    cavity = np.zeros(number, bool)
    for shell in shells:
        # Only shells whose bounding box contains this one can contain it; the largest that does is the outermost.
        around = shells[(low[shells] <= low[shell]).all(axis=1) & (high[shells] >= high[shell]).all(axis=1)]
        # Shells that do not cross each other lie wholly inside or outside, so one point decides.
        point = vertices[faces[first[shell]]].mean(axis=0)
        for other in around[np.argsort(-size[around])]:
            if other != shell and winding_number(vertices, faces[patch == other], point) > 0.5:
                cavity[shell] = outward_as_stored[shell] != outward_as_stored[other]
                break
    return cavity


def winding_number(vertices: np.ndarray, faces: np.ndarray, point: np.ndarray) -> float:
    """Winding number of faces (f, 3) around one point (3,): the sum of their signed solid angles over 4 pi.

    The solid angle W of a triangle with corners a, b, c seen from the origin, by van Oosterom & Strackee (1983):

        tan(W / 2) = a . (b x c) / (|a| |b| |c| + (a . b) |c| + (b . c) |a| + (c . a) |b|)

    arctan2 returns W / 2, so the sum is divided by 2 pi.
    """
    a, b, c = (vertices[faces[:, k]] - point for k in range(3))
    la, lb, lc = (np.linalg.norm(side, axis=1) for side in (a, b, c))
    top = np.einsum("ij,ij->i", a, np.cross(b, c))
    dots = [np.einsum("ij,ij->i", p, q) for p, q in ((a, b), (b, c), (c, a))]
    return float(np.arctan2(top, la * lb * lc + dots[0] * lc + dots[1] * la + dots[2] * lb).sum() / (2 * np.pi))
