"""Closed shells inside closed shells: which of them are cavities."""

from __future__ import annotations

import numpy as np

from deepsdf.geometry.repair.visibility import face_normals


def cavity_turns(
    vertices: np.ndarray, faces: np.ndarray, patch: np.ndarray, is_closed: np.ndarray, turned: np.ndarray
) -> np.ndarray:
    """(number,) bool: closed patches to turn inward so that they stay hollow.

    A shell inside another is a cavity where the file winds it the other way than its outermost container.

    Args:
        faces: wound outward. turned: (f,) bool, which of them the file has the other way round.
    """
    number = len(is_closed)
    _, area = face_normals(vertices, faces)
    as_stored = np.bincount(patch, np.where(turned, -area, area), number) > 0
    shells = np.flatnonzero(is_closed)
    low, high = np.full((number, 3), np.inf), np.full((number, 3), -np.inf)
    for k in range(3):
        np.minimum.at(low, patch, vertices[faces[:, k]])
        np.maximum.at(high, patch, vertices[faces[:, k]])
    size = np.linalg.norm(high - low, axis=1)
    first = np.unique(patch, return_index=True)[1]
    cavity = np.zeros(number, bool)
    for shell in shells:
        around = shells[(low[shells] <= low[shell]).all(axis=1) & (high[shells] >= high[shell]).all(axis=1)]
        point = vertices[faces[first[shell]]].mean(axis=0)
        for other in around[np.argsort(-size[around])]:
            if other != shell and winding_number(vertices, faces[patch == other], point) > 0.5:
                cavity[shell] = as_stored[shell] != as_stored[other]
                break
    return cavity


def winding_number(vertices: np.ndarray, faces: np.ndarray, point: np.ndarray) -> float:
    """Winding number of faces around one point, by their exact solid angles (van Oosterom & Strackee 1983)."""
    a, b, c = (vertices[faces[:, k]] - point for k in range(3))
    la, lb, lc = (np.linalg.norm(side, axis=1) for side in (a, b, c))
    top = np.einsum("ij,ij->i", a, np.cross(b, c))
    dots = [np.einsum("ij,ij->i", p, q) for p, q in ((a, b), (b, c), (c, a))]
    return float(np.arctan2(top, la * lb * lc + dots[0] * lc + dots[1] * la + dots[2] * lb).sum() / (2 * np.pi))
