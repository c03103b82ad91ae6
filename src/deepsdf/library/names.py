"""Look-up of shapes and their codes by name."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import trimesh
from torch import Tensor

from deepsdf.checkpoints import load_code
from deepsdf.errors import InputError, NoSurfaceError
from deepsdf.geometry.isosurface.options import Meshing
from deepsdf.inference.encode import EncodeOptions, encodable_suffixes, encode, read_code
from deepsdf.inference.shape import Shape
from deepsdf.inference.space import ShapeSpace
from deepsdf.progress import ProgressCounter
from deepsdf.splits import ShapeName, read_split, shapes_in
from deepsdf.workspace import Experiment

logger = logging.getLogger(__name__)


class KnownShape(NamedTuple):
    """A shape that has a code.

    Attributes:
        code: (L,).
        trained: it is a training shape; otherwise it was reconstructed.
    """

    shape: ShapeName
    code: Tensor
    trained: bool


def known_shapes(experiment: Experiment, space: ShapeSpace) -> list[KnownShape]:
    """Training shapes in the order of their codes, followed by reconstructed shapes that are not training shapes.

    Training shapes are named by their rows if the split does not match the codes. Shapes that could not be trained
    (codes of zeros) are left out.
    """
    names = training_names(experiment, space)
    trained = [
        KnownShape(name, code, True)
        for name, code, is_trained in zip(names, space.codes, space.is_trained.tolist(), strict=True)
        if is_trained
    ]
    files = reconstructed_files(experiment, space)
    return trained + [
        KnownShape(shape, load_code(path, space.code_length).to(space.device), False)
        for shape, path in files.items()
        if shape not in names
    ]


def training_names(experiment: Experiment, space: ShapeSpace) -> list[ShapeName]:
    """Names of the training shapes, one for each row of the training codes."""
    training = _training(experiment)
    if len(training) == len(space.codes):
        return training
    return [ShapeName("training", "training", f"code_{row}") for row in range(len(space.codes))]


def find_code(experiment: Experiment, space: ShapeSpace, name: str) -> Tensor:
    """The code (L,) of a reconstructed or training shape, or of a code file (.pth).

    Args:
        name: `instance`, `class/instance` or `dataset/class/instance`, or the path of a code file.
    Raises:
        InputError: no such shape, an ambiguous name, or a training split that does not match the codes.
    """
    if name.endswith(".pth"):
        return read_code(name, space.code_length)
    found = reconstructed_files(experiment, space)
    matches: dict[ShapeName, Tensor] = {
        shape: load_code(path, space.code_length) for shape, path in found.items() if _matches(shape, name)
    }
    training = _training(experiment)
    rows = {shape: row for row, shape in enumerate(training) if _matches(shape, name)}
    if rows and len(training) != len(space.codes):
        raise InputError(
            f"{experiment.specs.train_split} has {len(training)} shapes, but the checkpoint has {len(space.codes)} "
            "codes; it is not the split that was used for training"
        )
    matches |= {shape: space.codes[row] for shape, row in rows.items()}
    if len(matches) > 1:
        raise InputError(f"{name!r} is ambiguous: {', '.join(map(str, matches))}; use dataset/class/instance")
    if not matches:
        known = sorted({*found, *training})
        listed = ", ".join(shape.instance for shape in known[:6]) + (", ..." if len(known) > 6 else "")
        raise InputError(
            f"no shape {name!r} has a code in {experiment.root} (checkpoint {space.epoch}); known shapes: "
            f"{listed or 'none'}; or pass a code file (.pth)"
        )
    return next(iter(matches.values()))


def find_or_encode(
    experiment: Experiment, space: ShapeSpace, name: str, options: EncodeOptions = EncodeOptions()
) -> Tensor:
    """The code (L,) of a shape by name (see `find_code`), or of a file (see `encode`), on the space's device.

    Warnings of the fit are logged.

    Raises:
        InputError: as `find_code` and `encode`; no such file.
    """
    path = Path(name)
    if path.suffix.lower() not in encodable_suffixes() or path.suffix == ".pth":
        return find_code(experiment, space, name).to(space.device)
    if not path.is_file():
        raise InputError(f"there is no file {name}; pass a mesh, a scan, a code file (.pth) or the name of a shape")
    encoding = encode(space, path, options)
    for warning in encoding.warnings:
        logger.warning("%s: %s", path, warning)
    return encoding.code


def short_name(name: str) -> str:
    """A shape's name or path as a label and file name: without folders and known suffixes."""
    path = Path(name)
    return path.stem if path.suffix.lower() in encodable_suffixes() else path.name


def mesh_shapes(shapes: Sequence[Shape], meshing: Meshing, progress: ProgressCounter) -> list[trimesh.Trimesh | None]:
    """Surfaces of shapes, unit frame; None for shapes without a surface.

    Args:
        progress: is advanced after each shape.
    Raises:
        NoSurfaceError: none of the shapes has a surface.
    """
    found: list[trimesh.Trimesh | None] = []
    for shape in shapes:
        try:
            found.append(shape.mesh(meshing))
        except NoSurfaceError:
            found.append(None)
        progress.advance()
    if all(mesh is None for mesh in found):
        raise NoSurfaceError("none of the shapes has a surface; is the network trained?")
    return found


def reconstructed_files(experiment: Experiment, space: ShapeSpace) -> dict[ShapeName, Path]:
    """Code files of reconstructed shapes of the space's checkpoint, sorted by name."""
    return shapes_in(experiment.reconstructed_codes_folder(space.epoch), ".pth")


def _training(experiment: Experiment) -> list[ShapeName]:
    split = Path(experiment.specs.train_split)
    return read_split(split) if split.is_file() else []


def _matches(shape: ShapeName, name: str) -> bool:
    return name in (shape.instance, f"{shape.category}/{shape.instance}", str(shape))
