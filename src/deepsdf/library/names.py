"""Shapes of a trained space by name: what a user may call one, and its code."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import trimesh
from torch import Tensor

from deepsdf.checkpoints import load_code
from deepsdf.errors import InputError, NoFacesError, NoSurfaceError
from deepsdf.geometry.formats import MESH_FORMATS
from deepsdf.geometry.meshes import Normalization, load_mesh
from deepsdf.geometry.scanning.files import load_scan, scan_suffixes
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.geometry.sdf.sampling import SDFSamples, sample_sdf
from deepsdf.inference.fit.options import FitOptions
from deepsdf.inference.space import Shape, ShapeSpace
from deepsdf.progress import ProgressCounter
from deepsdf.splits import ShapeName, read_split, shapes_in
from deepsdf.workspace import Experiment

logger = logging.getLogger(__name__)

FITTED_SAMPLES = 100_000
"""Of a mesh that is fitted on the way."""


class Known(NamedTuple):
    """A shape that has a code."""

    shape: ShapeName
    code: Tensor
    trained: bool


def known_shapes(experiment: Experiment, space: ShapeSpace) -> list[Known]:
    """The training shapes, row by row, and after them the reconstructed ones that are none of those.

    Training shapes without a split that fits have names made of their rows; those that could not be trained on
    (codes of zeros) are left out.
    """
    names = training_names(experiment, space)
    trained = [
        Known(name, code, True)
        for name, code, is_trained in zip(names, space.codes, space.is_trained.tolist(), strict=True)
        if is_trained
    ]
    files = reconstructed_files(experiment, space)
    return trained + [
        Known(shape, load_code(path, space.code_length).to(space.device), False)
        for shape, path in files.items()
        if shape not in names
    ]


def training_names(experiment: Experiment, space: ShapeSpace) -> list[ShapeName]:
    """One a row of the training codes."""
    training = _training(experiment)
    if len(training) == len(space.codes):
        return training
    return [ShapeName("training", "training", f"code_{row}") for row in range(len(space.codes))]


def find_code(experiment: Experiment, space: ShapeSpace, name: str) -> Tensor:
    """A code by a shape's name, reconstructed or of the training split, or from a code file.

    A name is the instance alone, class/instance or dataset/class/instance.

    Raises:
        InputError: no such shape, several of that name, or a training split that does not fit the codes.
    """
    if name.endswith(".pth"):
        code = load_code(name, space.code_length)
        if not bool(code.isfinite().all()):
            raise InputError(f"{name} holds a code with numbers that are NaN or infinite")
        return code
    found = reconstructed_files(experiment, space)
    matches: dict[ShapeName, Tensor] = {
        shape: load_code(path, space.code_length) for shape, path in found.items() if _is(shape, name)
    }
    training = _training(experiment)
    rows = {shape: row for row, shape in enumerate(training) if _is(shape, name)}
    if rows and len(training) != len(space.codes):
        raise InputError(
            f"{experiment.specs.train_split} names {len(training)} shapes, but the checkpoint holds "
            f"{len(space.codes)} codes; it is not the split that was trained on"
        )
    matches |= {shape: space.codes[row] for shape, row in rows.items()}
    if len(matches) > 1:
        raise InputError(f"{name!r} is the name of {', '.join(map(str, matches))}; give dataset/class/instance")
    if not matches:
        known = sorted({*found, *training})
        some = ", ".join(shape.instance for shape in known[:6]) + (", ..." if len(known) > 6 else "")
        raise InputError(
            f"no shape {name!r} has a code in {experiment.root} (checkpoint {space.epoch}); "
            f"known are {some or 'none'}, or give a code file (.pth)"
        )
    return next(iter(matches.values()))


def find_or_fit(experiment: Experiment, space: ShapeSpace, name: str, *, seed: int = 0) -> Tensor:
    """As `find_code`, or from a file that is fitted on the way.

    A mesh (normalised by its own bounding box), or an .npz of SDF samples (unit frame), is fitted; a point cloud or
    depth map is completed, its pose and scale found as well. What is doubtful about that is logged as a warning.

    Raises:
        InputError: as `find_code`; a file that cannot be read.
    """
    path, suffix = Path(name), Path(name).suffix.lower()
    if suffix not in (*scan_suffixes(), ".npz"):
        return find_code(experiment, space, name).to(space.device)
    if not path.is_file():
        raise InputError(f"there is no file {name}; give a mesh, a scan, a code file (.pth) or a shape's name")
    if suffix == ".npz":
        return _fitted(space, path, SDFSamples.load(path), seed)
    if suffix in MESH_FORMATS:
        try:
            mesh = load_mesh(path)
        except NoFacesError:
            pass  # a point cloud
        else:
            field = MeshSDF(Normalization.fit(mesh).apply_mesh(mesh), device=str(space.device))
            return _fitted(space, path, sample_sdf(field, count=FITTED_SAMPLES, seed=seed), seed)
    from deepsdf.inference.complete.completion import badly_explained
    from deepsdf.inference.complete.options import CompletionOptions

    found = space.complete(load_scan(path, seed=seed), CompletionOptions(pose="similarity", seed=seed))
    if reason := badly_explained(found):
        logger.warning("%s: %s", path, reason)
    return found.code


def _fitted(space: ShapeSpace, path: Path, samples: SDFSamples, seed: int) -> Tensor:
    fit = space.fit(samples, FitOptions(seed=seed))
    for warning in fit.warnings[0]:
        logger.warning("%s: %s", path, warning)
    return fit.codes[0]


def short_name(name: str) -> str:
    """Of what the user called a shape: for files and labels."""
    path = Path(name)
    return path.stem if path.suffix.lower() in (*scan_suffixes(), ".npz", ".pth") else path.name


def meshed(shapes: Sequence[Shape], resolution: int, progress: ProgressCounter) -> list[trimesh.Trimesh | None]:
    """Their surfaces, None where there is none.

    Raises:
        NoSurfaceError: there is none anywhere.
    """
    found: list[trimesh.Trimesh | None] = []
    for shape in shapes:
        try:
            found.append(shape.mesh(resolution))
        except NoSurfaceError:
            found.append(None)
        progress.advance()
    if all(mesh is None for mesh in found):
        raise NoSurfaceError("none of the shapes has a surface; is the network trained?")
    return found


def _training(experiment: Experiment) -> list[ShapeName]:
    split = Path(experiment.specs.train_split)
    return read_split(split) if split.is_file() else []


def reconstructed_files(experiment: Experiment, space: ShapeSpace) -> dict[ShapeName, Path]:
    """The code files of reconstructed shapes, sorted by name."""
    return shapes_in(experiment.reconstructed_codes_folder(space.epoch), ".pth")


def _is(shape: ShapeName, name: str) -> bool:
    return name in (shape.instance, f"{shape.category}/{shape.instance}", str(shape))
