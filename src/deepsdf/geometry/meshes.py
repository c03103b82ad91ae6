"""Triangle meshes: load them from files, clean them, move them between the mesh frame and the unit frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np
import trimesh
from trimesh.resolvers import Resolver

from deepsdf.errors import MeshError, NoFacesError

MESH_SUFFIXES: tuple[str, ...] = (".obj", ".ply", ".stl", ".off", ".glb", ".gltf")
"""Kinds of files that `load_mesh` reads."""

UNIT_BUFFER = 1.03
"""The original's: the farthest vertex lands at 1 / 1.03 of the unit sphere's radius."""

_MERGE_GRID = 1e-7  # of the largest extent: float32 noise of soups, far below any feature


class _FolderResolver(Resolver):
    """Serves a mesh file its companions (.bin buffers) from its own folder, and nothing else.

    A file is data, so it must not choose what else of the disk or the network is read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def get(self, name: str) -> bytes:
        path = (self.folder / unquote(str(name)).strip()).resolve()
        if not path.is_relative_to(self.folder):
            raise MeshError(f"it refers to {name!r}, outside its own folder {self.folder}; copy that file beside it")
        if not path.is_file():
            raise MeshError(f"it refers to {name!r}, which is not in its folder {self.folder}")
        return path.read_bytes()

    def keys(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()]

    def namespaced(self, namespace: str) -> _FolderResolver:
        return self

    def write(self, name: str, data: str | bytes) -> None:
        raise MeshError("reading a mesh never writes")


def load_mesh(path: str | Path) -> trimesh.Trimesh:
    """The triangles of a mesh file, in the mesh frame, as the file has them.

    Parts of a scene are joined with their transforms applied. Vertices are not merged, faces not removed;
    materials and textures are not read. Vertices become float64.

    Args:
        path: an .obj, .ply, .stl, .off, .glb or .gltf file (`MESH_SUFFIXES`).
    Raises:
        MeshError: no such file, another suffix, unreadable content, no faces, NaN or infinite vertices,
            faces that name vertices which are not there, or zero extent.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in MESH_SUFFIXES:
        raise MeshError(
            f"{path}: cannot read {suffix or 'files without a suffix'}; a mesh is one of {', '.join(MESH_SUFFIXES)}"
        )
    if not path.is_file():
        raise MeshError(f"{path}: no such file")
    mesh = _parse(path, suffix[1:])
    _check(mesh, path)
    return mesh


def _parse(path: Path, kind: str) -> trimesh.Trimesh:
    options: dict[str, Any] = {"skip_materials": True} if kind in ("obj", "glb", "gltf") else {}
    try:
        with path.open("rb") as file:
            scene = trimesh.load_scene(
                file, file_type=kind, resolver=_FolderResolver(path.parent), process=False, **options
            )
        parts = [part for part in scene.dump() if isinstance(part, trimesh.Trimesh)]
    except Exception as error:  # every parser fails in its own way
        words = " ".join(str(error).split()) or type(error).__name__
        raise MeshError(f"{path}: cannot be read as {kind}: {words}") from error
    parts = [part for part in parts if len(part.faces)]
    if not parts:
        raise NoFacesError(f"{path}: has no faces; a surface is needed, not a point cloud or an empty file")
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    return trimesh.Trimesh(
        vertices=np.concatenate([np.asarray(part.vertices, np.float64) for part in parts]),
        faces=np.concatenate([np.asarray(part.faces) + start for part, start in zip(parts, offsets, strict=True)]),
        process=False,
    )


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
    """The way between the mesh frame and the unit frame: `unit = (p + offset) * scale`.

    `offset` (3,) float64 in mesh lengths, `scale` in unit lengths per mesh length.
    """

    offset: np.ndarray
    scale: float

    def __post_init__(self) -> None:
        offset = np.array(self.offset, np.float64)
        if offset.shape != (3,) or not np.isfinite(offset).all():
            raise MeshError(f"a normalisation's offset is three finite numbers, not {offset.tolist()}")
        scale = float(self.scale)
        if not (np.isfinite(scale) and scale > 0):
            raise MeshError(f"a normalisation's scale is a positive number, not {scale}")
        offset.setflags(write=False)
        object.__setattr__(self, "offset", offset)
        object.__setattr__(self, "scale", scale)

    @classmethod
    def identity(cls) -> Normalization:
        """Unit frame and mesh frame are the same."""
        return cls(np.zeros(3), 1.0)

    @classmethod
    def fit(cls, mesh: trimesh.Trimesh, buffer: float = UNIT_BUFFER) -> Normalization:
        """The original's: the used vertices' bounding box is centred, the farthest one lands at radius 1 / buffer.

        Raises:
            MeshError: no faces, NaN or infinite vertices, or zero extent.
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
        """Points (n, 3) of the mesh frame in the unit frame, float64."""
        return (np.asarray(points, np.float64) + self.offset) * self.scale

    def invert(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 3) of the unit frame in the mesh frame, float64."""
        return np.asarray(points, np.float64) / self.scale - self.offset

    def apply_mesh(self, mesh: trimesh.Trimesh) -> trimesh.Trimesh:
        """A copy of a mesh of the mesh frame, in the unit frame."""
        return trimesh.Trimesh(self.apply(mesh.vertices), np.array(mesh.faces), process=False)

    def invert_mesh(self, mesh: trimesh.Trimesh) -> trimesh.Trimesh:
        """A copy of a mesh of the unit frame, in the mesh frame."""
        return trimesh.Trimesh(self.invert(mesh.vertices), np.array(mesh.faces), process=False)


class CleanMesh(NamedTuple):
    """What `clean_mesh` returns. `source_faces` (f,) are the rows of the given mesh's faces that were kept."""

    mesh: trimesh.Trimesh
    degenerate: int
    doubled: int
    source_faces: np.ndarray


def clean_mesh(mesh: trimesh.Trimesh, *, keep_doubled: bool = False) -> CleanMesh:
    """Join equal vertices; drop faces without area, repeated faces and unused vertices.

    Vertices are equal within 1e-7 of the largest extent. Two faces on the same three vertices are one,
    whichever way they are wound; the first stays.

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
