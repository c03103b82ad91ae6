"""Compact meshes for a page: fewer faces, 16-bit coordinates, zlib. assets/mesh.js unpacks them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import trimesh

from deepsdf.kernels.launch import spatial_order

LEVELS = 65_535
"""Steps along the longest side of a mesh's bounding box: 16 bits per coordinate."""

EDGE = 0.05
"""Longer edges are split if there is room, unit frame: colours are stored at vertices only. 5 % of the radius."""


@dataclass(frozen=True)
class Packed:
    """A mesh, or points, as bytes for a page.

    `content` is compressed by zlib and consists of:

    - The coordinates: all x, then all y, then all z. A coordinate is `origin + step * q` with q in 0 ... `LEVELS`. q is
      stored as the difference from the previous vertex modulo 2^16, in -2^15 ... 2^15 - 1, zigzag coded (0, -1, 1, -2,
      ... as 0, 1, 2, 3, ...): all low bytes, then all high bytes.
    - The corners of all faces. Vertices are numbered in the order in which faces use them. A corner is stored as
      `next - vertex`, where `next` is the smallest number that is not used yet, so that a new vertex is 0: all lowest
      bytes first, as above; 2 bytes for up to 2^16 vertices, else 4.
    - If `value_max` is not 0: one byte b per vertex for the value `(b / 255)^2 * value_max`, since small values must be
      told apart; stored as the difference from the previous vertex modulo 256.

    Attributes:
        vertices: number of vertices.
        faces: number of faces; 0 for points.
        origin: lowest corner of the bounding box.
        step: quantisation step.
        value_max: largest value; 0 without values.
        content: see above.
    """

    vertices: int
    faces: int
    origin: tuple[float, float, float]
    step: float
    value_max: float
    content: bytes


def pack(vertices: np.ndarray, faces: np.ndarray, values: np.ndarray | None = None) -> Packed:
    """Pack vertices (v, 3), faces (f, 3), f = 0 for points, and values (v,) >= 0."""
    low = vertices.min(axis=0)
    step = float(np.ptp(vertices, axis=0).max()) / LEVELS or 1.0
    order, faces = _numbered(vertices, faces)
    steps = np.round((vertices[order] - low) / step).astype(np.int64)
    parts = [_planes(_zigzag(np.diff(column, prepend=0)), 2) for column in steps.T]
    if len(faces):
        corners = faces.ravel()
        following = np.maximum.accumulate(np.concatenate([[-1], corners[:-1]])) + 1
        parts.append(_planes(following - corners, 2 if len(order) <= 1 << 16 else 4))
    top = 0.0 if values is None else float(values.max())
    if values is not None and top > 0:
        levels = np.round(255 * np.sqrt(values[order] / top)).astype(np.int64)
        parts.append(_planes(np.diff(levels, prepend=0) % 256, 1))
    origin = (float(low[0]), float(low[1]), float(low[2]))
    return Packed(len(order), len(faces), origin, step, top, zlib.compress(b"".join(parts), 9))


def _numbered(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order vertices and faces along a space-filling curve, so that differences are small.

    Returns:
        the old indices of the vertices in their new order, and the faces with new indices.
    """
    if not len(faces):
        return spatial_order(np.asarray(vertices, np.float32)), faces
    faces = faces[spatial_order(vertices[faces].mean(axis=1).astype(np.float32))]
    used, first, inverse = np.unique(faces.ravel(), return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return used[order], rank[inverse].reshape(-1, 3)


def _zigzag(numbers: np.ndarray) -> np.ndarray:
    """Zigzag code of numbers modulo 2^16: small numbers of both signs have a high byte of 0."""
    near = (numbers + 0x8000) % 0x10000 - 0x8000
    return np.where(near < 0, -2 * near - 1, 2 * near)


def _planes(numbers: np.ndarray, count: int) -> bytes:
    """The lowest byte of every number, then the second byte of every number, and so on."""
    return numbers.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :count].T.tobytes()


def for_view(mesh: trimesh.Trimesh, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (v, 3) float64 and about `count` faces (f, 3) that approximate a mesh.

    Duplicate faces are removed. If there are more than `count` faces, edges are collapsed (quadric error, Garland and
    Heckbert, 1997); if there are fewer, long edges are split.
    """
    import fast_simplification

    vertices, faces = _merged(np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces))
    if len(faces) <= count:
        return _split(vertices, faces, count)
    centre, scale = vertices.mean(axis=0), float(np.ptp(vertices, axis=0).max()) or 1.0
    scaled = ((vertices - centre) / scale).astype(np.float32)
    fewer, left = fast_simplification.simplify(scaled, faces.astype(np.int32), target_count=count)[:2]
    if not len(left):  # the mesh consists of loose faces
        return vertices, faces
    return np.asarray(fewer, np.float64) * scale + centre, np.asarray(left, np.int64)


def _merged(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge vertices with equal packed coordinates; remove degenerate and duplicate faces."""
    used = vertices[np.unique(faces)]
    step = float(np.ptp(used, axis=0).max()) / LEVELS or 1.0
    cells = np.round((vertices - used.min(axis=0)) / step).astype(np.int64)
    _, first, inverse = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    faces = inverse.reshape(-1)[faces]
    ring = np.sort(faces, axis=1)
    faces = faces[(ring[:, 0] != ring[:, 1]) & (ring[:, 1] != ring[:, 2])]
    _, kept = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)
    return vertices[first], faces[np.sort(kept)]


def _split(vertices: np.ndarray, faces: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Split faces with an edge longer than EDGE into four, repeatedly, while there are at most `count` faces."""
    while True:
        corners = vertices[faces]
        long = np.linalg.norm(corners - np.roll(corners, -1, axis=1), axis=2).max(axis=1) > EDGE
        if not long.any() or len(faces) + 3 * int(long.sum()) > count:
            return vertices, faces
        vertices, faces = trimesh.remesh.subdivide(vertices, faces, face_index=np.flatnonzero(long))[:2]
