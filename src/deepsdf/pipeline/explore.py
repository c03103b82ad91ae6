"""Moving through a trained space: interpolation and new shapes, as meshes and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import trimesh
from torch import Tensor

from deepsdf.checkpoints import load_code
from deepsdf.errors import InputError, NoSurfaceError
from deepsdf.inference.shapespace import Shape, ShapeSpace
from deepsdf.pipeline.pictures import strip_picture
from deepsdf.pipeline.reconstruct import save_mesh
from deepsdf.splits import ShapeName, read_split
from deepsdf.workspace import Experiment


def interpolate(
    experiment: Experiment,
    first: str,
    second: str,
    folder: Path,
    *,
    checkpoint: str | int = "latest",
    steps: int = 7,
    resolution: int = 128,
    device: str = "auto",
) -> Path:
    """Mesh the shapes between two, into `folder`, and draw them in a strip.

    Args:
        first, second: an instance's name among the reconstructed or training shapes, or a code file.
    Returns:
        The path of the strip.
    Raises:
        InputError: a name that is neither, or stands for several shapes.
    """
    space = ShapeSpace.load(experiment, checkpoint, device)
    a, b = (find_code(experiment, space, name) for name in (first, second))
    shapes = space.interpolate(a, b, steps)
    picture = folder / "strip.png"
    _write(shapes, folder, "step", picture, resolution=resolution, columns=None)
    return picture


def sample(
    experiment: Experiment,
    count: int,
    folder: Path,
    *,
    checkpoint: str | int = "latest",
    resolution: int = 128,
    device: str = "auto",
    seed: int = 0,
) -> Path:
    """Mesh new shapes drawn from the prior, into `folder`, and draw them; returns the picture's path."""
    space = ShapeSpace.load(experiment, checkpoint, device)
    picture = folder / "samples.png"
    _write(space.sample(count, seed=seed), folder, "sample", picture, resolution=resolution, columns=4)
    return picture


def _write(
    shapes: Sequence[Shape], folder: Path, stem: str, picture: Path, *, resolution: int, columns: int | None
) -> None:
    meshes: list[trimesh.Trimesh | None] = []
    for number, shape in enumerate(shapes):
        try:
            mesh = shape.mesh(resolution)
        except NoSurfaceError:
            meshes.append(None)  # a gap in the picture
            continue
        meshes.append(mesh)
        save_mesh(mesh, folder / f"{stem}_{number:02d}.ply")
    if all(mesh is None for mesh in meshes):
        raise NoSurfaceError("none of the shapes has a surface; is the network trained?")
    strip_picture(meshes, picture, columns=columns)


def find_code(experiment: Experiment, space: ShapeSpace, name: str) -> Tensor:
    """A code by a shape's name, reconstructed or of the training split, or from a code file.

    A name is the instance alone, class/instance or dataset/class/instance.

    Raises:
        InputError: no such shape, several of that name, or a training split that does not fit the codes.
    """
    if name.endswith(".pth"):
        return load_code(name, space.code_length)
    codes = experiment.reconstructed_codes_folder(space.epoch)
    found = {ShapeName(*path.relative_to(codes).with_suffix("").parts): path for path in codes.glob("*/*/*.pth")}
    matches: dict[ShapeName, Tensor] = {
        shape: load_code(path, space.code_length) for shape, path in found.items() if _is(shape, name)
    }
    split = Path(experiment.specs.train_split)
    training = read_split(split) if split.is_file() else []
    rows = {shape: row for row, shape in enumerate(training) if _is(shape, name)}
    if rows and len(training) != len(space.codes):
        raise InputError(
            f"{split} names {len(training)} shapes, but the checkpoint holds {len(space.codes)} codes; "
            "it is not the split that was trained on"
        )
    matches |= {shape: space.codes[row] for shape, row in rows.items()}
    if len(matches) > 1:
        raise InputError(f"{name!r} is the name of {', '.join(map(str, matches))}; give dataset/class/instance")
    if not matches:
        known = [*found, *training]
        some = ", ".join(shape.instance for shape in known[:6]) + (", ..." if len(known) > 6 else "")
        raise InputError(
            f"no shape {name!r} has a code in {experiment.root} (checkpoint {space.epoch}); "
            f"known are {some or 'none'}, or give a code file (.pth)"
        )
    return next(iter(matches.values()))


def _is(shape: ShapeName, name: str) -> bool:
    return name in (shape.instance, f"{shape.category}/{shape.instance}", str(shape))
