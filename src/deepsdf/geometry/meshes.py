"""Triangle meshes: read, write and clean them, and convert them between the mesh frame and the unit frame."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import trimesh

from deepsdf.errors import InputError, MeshError, NoFacesError
from deepsdf.files import atomic_path
from deepsdf.geometry.formats import MESH_FORMATS, written_suffixes

UNIT_BUFFER = 1.03
"""The original's normalisation places the farthest vertex at radius 1 / 1.03 of the unit sphere."""

_MERGE_GRID = 1e-7
"""Distance (share of the largest extent) within which vertices are equal: about the float32 rounding of coordinates."""


def load_mesh(path: str | Path) -> trimesh.Trimesh:
    """Read the triangles of a mesh file, in the mesh frame, as they are stored.

    Parts of a scene are joined with their transforms applied. Vertices are not merged and faces not removed;
    materials and textures are not read. Vertices become float64.

    Args:
        path: a file of one of `deepsdf.geometry.formats.MESH_FORMATS`.
    Raises:
        NoFacesError: the file has no faces; it may be a point cloud.
        MeshError: the file does not exist, has another suffix or cannot be parsed; vertices are NaN or infinite, or
            all equal; or a face refers to a vertex that does not exist.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in MESH_FORMATS:
        raise MeshError(
            f"{path}: cannot read {suffix or 'files without a suffix'}; a mesh is one of {', '.join(MESH_FORMATS)}"
        )
    if not path.is_file():
        raise MeshError(f"{path}: no such file")
    try:
        mesh = MESH_FORMATS[suffix].read(path)
    except Exception as error:  # a parser may raise anything on a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MeshError(f"{path}: cannot be read as {suffix[1:]}: {reason}") from error
    if not len(mesh.faces):
        raise NoFacesError(f"{path}: has no faces; a surface is needed, not a point cloud or an empty file")
    _check(mesh, path)
    return mesh


def save_mesh(mesh: trimesh.Trimesh, path: str | os.PathLike[str], *, normals: bool = False) -> None:
    """Write a mesh in the format of the path's suffix. The file is complete or absent, never partial.

    Args:
        normals: also write vertex normals, if the format can hold them.
    Raises:
        InputError: the suffix is not one of `written_suffixes()`.
    """
    path = Path(path)
    kind = MESH_FORMATS.get(path.suffix.lower())
    if kind is None or kind.write is None:
        raise InputError(
            f"{path}: cannot write this format; a mesh is written as one of {', '.join(written_suffixes())}"
        )
    with atomic_path(path) as temporary:
        kind.write(mesh, temporary, normals)


def _check(mesh: trimesh.Trimesh, path: Path) -> None:
    count = len(mesh.vertices)
    faces = np.asarray(mesh.faces)
    if faces.min() < 0 or faces.max() >= count:
        raise MeshError(f"{path}: a face names vertex {int(faces.max())}, but there are {count} vertices")
    used = mesh.vertices[np.unique(faces)]
    broken = int((~np.isfinite(used)).any(axis=1).sum())
    if broken:
        raise MeshError(
            f"{path}: {broken} of {len(used)} vertices are NaN or infinite; repair or export the file again"
        )
    if not np.ptp(used, axis=0).max() > 0:
        raise MeshError(f"{path}: all faces lie in one point; a mesh needs an extent")


@dataclass(frozen=True, eq=False)
class Normalization:
    """Transform between the mesh frame and the unit frame: `unit = (p + offset) * scale`.

    Attributes:
        offset: (3,) float64, in the unit of the mesh frame.
        scale: positive, lengths in the unit frame per length in the mesh frame.
    """

    offset: np.ndarray
    scale: float

    def __post_init__(self) -> None:
        offset = np.array(self.offset, np.float64)
        if offset.shape != (3,) or not np.isfinite(offset).all():
            raise MeshError(f"invalid normalisation: offset is {offset.tolist()}; expected three finite numbers")
        scale = float(self.scale)
        if not (np.isfinite(scale) and scale > 0):
            raise MeshError(f"invalid normalisation: scale is {scale}; expected a positive number")
        offset.setflags(write=False)
        object.__setattr__(self, "offset", offset)
        object.__setattr__(self, "scale", scale)

    @classmethod
    def identity(cls) -> Normalization:
        """The normalisation under which unit frame and mesh frame are the same."""
        return cls(np.zeros(3), 1.0)

    @classmethod
    def fit(cls, mesh: trimesh.Trimesh, buffer: float = UNIT_BUFFER) -> Normalization:
        """The original's normalisation: centres the bounding box and scales the farthest vertex to radius 1 / buffer.

        Only vertices that faces use count.

        Raises:
            MeshError: the mesh has no faces, vertices that are not finite, or zero extent.
        """
        if len(mesh.faces) == 0:
            raise MeshError("a mesh without faces cannot be normalised")
        used = np.asarray(mesh.vertices, np.float64)[np.unique(mesh.faces)]
        center = (used.min(axis=0) + used.max(axis=0)) / 2
        farthest = float(np.linalg.norm(used - center, axis=1).max())
        if not (np.isfinite(farthest) and farthest > 0):
            raise MeshError(
                f"a mesh of radius {farthest} cannot be normalised; its vertices must be finite and not all equal"
            )
        return cls(-center, 1.0 / (buffer * farthest))

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 3) from the mesh frame to the unit frame, float64."""
        return (np.asarray(points, np.float64) + self.offset) * self.scale

    def invert(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 3) from the unit frame to the mesh frame, float64."""
        return np.asarray(points, np.float64) / self.scale - self.offset

    def apply_mesh(self, mesh: trimesh.Trimesh) -> trimesh.Trimesh:
        """A copy of a mesh, from the mesh frame to the unit frame."""
        return trimesh.Trimesh(self.apply(mesh.vertices), np.array(mesh.faces), process=False)

    def invert_mesh(self, mesh: trimesh.Trimesh) -> trimesh.Trimesh:
        """A copy of a mesh, from the unit frame to the mesh frame. Vertex normals stay the same."""
        normals = np.array(mesh.vertex_normals)
        return trimesh.Trimesh(self.invert(mesh.vertices), np.array(mesh.faces), vertex_normals=normals, process=False)


class CleanMesh(NamedTuple):
    """A cleaned mesh.

    Attributes:
        mesh: vertices merged, faces removed.
        degenerate: number of faces without area that were removed.
        doubled: number of duplicate faces that were removed.
        source_faces: (f,) the rows of the given mesh's faces that were kept.
    """

    mesh: trimesh.Trimesh
    degenerate: int
    doubled: int
    source_faces: np.ndarray


def clean_mesh(mesh: trimesh.Trimesh, *, keep_doubled: bool = False) -> CleanMesh:
    """Merge equal vertices; remove faces without area, duplicate faces and unused vertices.

    Vertices are equal within 1e-7 of the largest extent. Faces with the same three vertices are duplicates, however
    they are wound; the first is kept.

    Args:
        keep_doubled: keep duplicate faces.
    Raises:
        MeshError: no face is left.
    """
    vertices = np.asarray(mesh.vertices, np.float64)
    faces = np.asarray(mesh.faces, np.int64)
    if len(faces) == 0:
        raise MeshError("the mesh has no faces")
    vertices, faces = _merge(vertices, faces)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    longest = np.maximum(
        np.linalg.norm(b - a, axis=1), np.maximum(np.linalg.norm(c - a, axis=1), np.linalg.norm(c - b, axis=1))
    )
    ordered = np.sort(faces, axis=1)
    # Relative to the longest edge, so that small faces are not mistaken for slivers. 1e-12 is the height over the
    # length of a sliver, near the rounding of float64 coordinates.
    solid = (ordered[:, 0] != ordered[:, 1]) & (ordered[:, 1] != ordered[:, 2]) & (area > 1e-12 * longest**2)
    kept = np.flatnonzero(solid)
    degenerate, doubled = len(faces) - len(kept), 0
    if not keep_doubled:
        _, first = np.unique(_face_keys(ordered[kept], len(vertices)), return_index=True)
        kept, doubled = kept[np.sort(first)], len(kept) - len(first)
    if len(kept) == 0:
        raise MeshError(f"all {len(faces)} faces have no area; the mesh has no surface")
    used, compact = np.unique(faces[kept], return_inverse=True)
    clean = trimesh.Trimesh(vertices[used], compact.reshape(-1, 3), process=False)
    return CleanMesh(clean, degenerate, doubled, kept)


def _merge(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    used, compact = np.unique(faces, return_inverse=True)
    vertices, faces = vertices[used], compact.reshape(-1, 3)
    low, extent = vertices.min(axis=0), np.ptp(vertices, axis=0).max()
    if not (np.isfinite(extent) and extent > 0):
        raise MeshError("the mesh has NaN or infinite vertices, or they all lie in one point")
    grid = np.rint((vertices - low) / (extent * _MERGE_GRID)).astype(np.int64)
    base = int(1 / _MERGE_GRID) + 2
    # three grid coordinates below 1e7 + 2 do not fit one int64, hence two keys
    order = np.lexsort((grid[:, 2], grid[:, 0] * base + grid[:, 1]))
    new = np.ones(len(order), bool)
    new[1:] = (grid[order[1:]] != grid[order[:-1]]).any(axis=1)
    group = np.empty(len(order), np.int64)
    group[order] = np.cumsum(new) - 1
    return vertices[order[new]], group[faces]


def _face_keys(ordered: np.ndarray, count: int) -> np.ndarray:
    if count < 2_000_000:  # three indices fit one int64
        return (ordered[:, 0] * count + ordered[:, 1]) * count + ordered[:, 2]
    return np.unique(ordered, axis=0, return_inverse=True)[1].ravel()
