"""The mesh file formats that deepsdf reads and writes, one entry for each suffix.

To add a format, add one entry to `MESH_FORMATS`. Reading, writing, the search for meshes in a folder, the viewer, and
every help text and error message take their suffixes from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from deepsdf.errors import MeshError

# trimesh and numpy are imported by the readers: `--help` lists the formats and should not wait for them.
if TYPE_CHECKING:
    from trimesh import Trimesh

Reader = Callable[[Path], "Trimesh"]
"""Reads a file into a mesh: vertices (v, 3), faces (f, 3), in the mesh frame, nothing merged or removed.

A file without faces is a mesh without faces. A reader may raise any exception; `load_mesh` turns it into a `MeshError`
that names the file.
"""

Writer = Callable[["Trimesh", Path, bool], None]
"""Writes a mesh to a path; the flag asks for vertex normals, which formats that cannot hold them ignore."""


@dataclass(frozen=True)
class MeshFormat:
    """A mesh file format.

    Attributes:
        suffix: lower case, with the dot.
        description: one line, for documentation.
        read: see `Reader`.
        write: see `Writer`; None if the format is only read.
    """

    suffix: str
    description: str
    read: Reader
    write: Writer | None = None


def written_suffixes() -> tuple[str, ...]:
    """Suffixes of the formats that can be written, in the order of `MESH_FORMATS`."""
    return tuple(suffix for suffix, kind in MESH_FORMATS.items() if kind.write is not None)


def _read(path: Path, **options: Any) -> Trimesh:
    """Read a file with trimesh; parts of a scene are joined with their transforms applied."""
    import numpy as np
    import trimesh

    with path.open("rb") as file:
        kind = path.suffix.lower()[1:]
        scene = trimesh.load_scene(
            file, file_type=kind, resolver=_folder_resolver(path.parent), process=False, **options
        )
    parts = [part for part in scene.dump() if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    if not parts:
        return trimesh.Trimesh(process=False)
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    return trimesh.Trimesh(
        vertices=np.concatenate([np.asarray(part.vertices, np.float64) for part in parts]),
        faces=np.concatenate([np.asarray(part.faces) + start for part, start in zip(parts, offsets, strict=True)]),
        process=False,
    )


def _folder_resolver(folder: Path) -> Any:
    """Gives trimesh the companions of a mesh file (.bin buffers) from its own folder, and nothing else.

    A file is data, so it must not choose what else of the disk or the network is read.
    """
    from trimesh.resolvers import Resolver

    root = folder.resolve()

    class FolderResolver(Resolver):
        def __init__(self) -> None:
            pass

        def get(self, key: str) -> bytes:
            path = (root / unquote(str(key)).strip()).resolve()
            if not path.is_relative_to(root):
                raise MeshError(f"it refers to {key!r}, outside its own folder {root}; copy that file beside it")
            if not path.is_file():
                raise MeshError(f"it refers to {key!r}, which is not in its folder {root}")
            return path.read_bytes()

        def keys(self) -> list[str]:
            return [path.name for path in root.iterdir()]

        def namespaced(self, namespace: str) -> Resolver:
            return self

        def write(self, name: str, data: str | bytes) -> None:
            raise MeshError("reading a mesh never writes")

    return FolderResolver()


def _write(mesh: Trimesh, path: Path, normals: bool, *, normals_option: str | None = None) -> None:
    """Write a file with trimesh. `normals_option`: its keyword for normals, None where the format holds none."""
    options = {normals_option: True} if normals and normals_option else {}
    mesh.export(str(path), path.suffix.lower()[1:], **options)


# Materials name further files, which are not needed for geometry.
_read_geometry = partial(_read, skip_materials=True)

MESH_FORMATS: dict[str, MeshFormat] = {
    entry.suffix: entry
    for entry in (
        MeshFormat(".obj", "Wavefront OBJ", _read_geometry, partial(_write, normals_option="include_normals")),
        MeshFormat(".ply", "Stanford PLY, ascii or binary", _read, partial(_write, normals_option="vertex_normal")),
        MeshFormat(".stl", "STL, ascii or binary", _read, _write),
        MeshFormat(".off", "Object File Format", _read, _write),
        MeshFormat(".glb", "binary glTF", _read_geometry, partial(_write, normals_option="include_normals")),
        MeshFormat(".gltf", "glTF with its buffers beside it", _read_geometry),
    )
}
"""Mesh formats by suffix. Where a shape has several files, the first format that is present is taken."""
