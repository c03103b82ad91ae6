"""Meshes in a folder, in every supported layout."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from deepsdf.errors import InputError
from deepsdf.files import safe_name
from deepsdf.geometry.formats import MESH_FORMATS
from deepsdf.splits import ShapeName

logger = logging.getLogger(__name__)

LAYOUTS = "SOURCE/<class>/<instance>.<ext>, SOURCE/<class>/<instance>/**/<any>.<ext>, or SOURCE/<instance>.<ext>"


def dataset_name(source: str | os.PathLike[str]) -> str:
    """Default name of a dataset: the name of its folder."""
    return Path(os.path.abspath(source)).name


def list_shapes(source: str | os.PathLike[str], dataset: str | None = None) -> list[ShapeName]:
    """All shapes of a folder of meshes, sorted. Meshes at the top form a class with the folder's name.

    Raises:
        InputError: no such folder, or no meshes in it.
    """
    root = _folder(source)
    dataset = dataset or dataset_name(root)
    flat = {path.stem for path in _meshes(root.iterdir())}
    shapes = {ShapeName(dataset, dataset_name(root), instance) for instance in flat}
    for category in _subfolders(root):
        shapes |= {ShapeName(dataset, category.name, path.stem) for path in _meshes(category.iterdir())}
        for instance in _subfolders(category):
            if any(_meshes(instance.rglob("*"))):
                shapes.add(ShapeName(dataset, category.name, instance.name))
    shapes = {shape for shape in shapes if _usable(shape, root)}
    if not shapes:
        raise InputError(f"there are no meshes in {root} ({', '.join(MESH_FORMATS)}); supported layouts: {LAYOUTS}")
    return sorted(shapes)


def _usable(shape: ShapeName, root: Path) -> bool:
    """Whether the names are allowed in a split file, which may be used on other systems; logs a warning if not."""
    try:
        for name in shape:
            safe_name(name, str(root))
    except InputError as error:
        logger.warning("%s; the mesh is skipped", error)
        return False
    return True


def find_mesh(source: str | os.PathLike[str], shape: ShapeName) -> Path:
    """The mesh file of a shape.

    In the folder of an instance, meshes at the top take precedence over meshes below, and .obj files over others.

    Raises:
        InputError: there is no mesh, or more than one candidate.
    """
    root = _folder(source)
    category = root / shape.category
    # Meshes of a class may be at the top of the source, which may also be the folder of the class itself.
    folders = [category] + ([root] if shape.category == dataset_name(root) else [])
    for folder in folders:
        named = [path for suffix in MESH_FORMATS if (path := folder / (shape.instance + suffix)).is_file()]
        if named:
            return _only(named, shape, folder)
    folder = category / shape.instance
    if not folder.is_dir():
        present = [path for parent in folders if parent.is_dir() for path in _meshes(parent.iterdir())]
        if named := [path for path in present if path.stem == shape.instance]:  # the suffix is in upper case
            return _only(named, shape, root)
        raise InputError(f"there is no mesh of {shape} in {root}; supported layouts: {LAYOUTS}")
    for found in (_meshes(folder.iterdir()), _meshes(folder.rglob("*"))):
        if found:
            return _only([path for path in found if path.suffix.lower() == ".obj"] or found, shape, folder)
    raise InputError(f"there is no mesh of {shape} in {folder} ({', '.join(MESH_FORMATS)})")


def _only(found: list[Path], shape: ShapeName, folder: Path) -> Path:
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in sorted(found)[:5])
        raise InputError(f"{shape} has {len(found)} meshes in {folder} ({names}); keep one of them")
    return found[0]


def _folder(source: str | os.PathLike[str]) -> Path:
    root = Path(source)
    if not root.is_dir():
        raise InputError(f"there is no folder of meshes at {root}")
    return root


def _meshes(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.suffix.lower() in MESH_FORMATS and path.name[0] != "." and path.is_file()]


def _subfolders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."]
