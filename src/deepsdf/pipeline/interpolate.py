"""From shape to shape: meshes on the way, a strip and a film."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from torch import Tensor

from deepsdf.errors import InputError, NoSurfaceError
from deepsdf.figures.pictures import strip_picture, unit_picture
from deepsdf.files import check_folder
from deepsdf.geometry.isosurface.options import Meshing
from deepsdf.geometry.meshes import save_mesh
from deepsdf.inference.encode import EncodeOptions
from deepsdf.inference.paths import Path as Way
from deepsdf.inference.space import Shape, ShapeSpace
from deepsdf.library.names import find_or_encode, mesh_shapes
from deepsdf.progress import OnProgress, ProgressCounter
from deepsdf.rendering.film import check_film, save_film
from deepsdf.workspace import Experiment

FRAMES = 16
"""Shapes of a film from one named shape to the next."""

FILM_SIZE, FILM_RESOLUTION, FPS = 256, 96, 12.0


def interpolate(
    experiment: Experiment,
    names: Sequence[str],
    folder: Path,
    *,
    checkpoint: str | int = "latest",
    path: Way = "linear",
    steps: int = 7,
    resolution: int = 128,
    film: str | None = None,
    frames: int = FRAMES,
    device: str = "auto",
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> list[Path]:
    """Mesh the shapes from each of several to the next, into `folder`, and draw them in a strip.

    Args:
        names: see `library.names.find_or_encode`.
        path: see `deepsdf.inference.paths`.
        steps: shapes from each name to the next, ends included.
        film: "gif" or "mp4": loop.gif or loop.mp4 goes there and back, by `frames` shapes from each name to the next.
        seed: of what is fitted.
        on_progress: called with each meshed shape and each drawn frame.
    Returns:
        The pictures: the strip, and the film where one was asked for.
    Raises:
        InputError: a name that is no shape, or of several; fewer than two names; a film that cannot be written.
        NoSurfaceError: none of the shapes has one.
    """
    if len(names) < 2:
        raise InputError(f"an interpolation goes from one shape to another; {len(names)} was named")
    check_folder(folder)
    strip = folder / "strip.png"
    loop = None if film is None else folder / f"loop.{film}"
    if loop is not None:
        check_film(loop)
        if frames < 2:
            raise InputError(f"frames is {frames}; a film goes from one shape to another in at least 2")
    space = ShapeSpace.load(experiment, checkpoint, device)
    codes = [find_or_encode(experiment, space, name, EncodeOptions(seed=seed)) for name in names]
    shapes = _way(space, codes, steps, path)
    between = [] if loop is None else _way(space, codes, frames, path)
    progress = ProgressCounter(len(shapes) + len(between), on_progress)
    meshes = mesh_shapes(shapes, resolution, progress)
    for number, mesh in enumerate(meshes):
        if mesh is not None:
            save_mesh(mesh, folder / f"step_{number:02d}.ply")
    strip_picture(meshes, strip)
    if loop is None:
        return [strip]
    ahead = []
    for shape in between:
        ahead.append(_frame(shape, min(resolution, FILM_RESOLUTION)))
        progress.advance()
    save_film(loop, [*ahead, *ahead[-2:0:-1]], fps=FPS)
    return [strip, loop]


def _way(space: ShapeSpace, codes: Sequence[Tensor], steps: int, path: Way) -> list[Shape]:
    shapes = [space.shape(codes[0])]
    for a, b in pairwise(codes):
        shapes += space.interpolate(a, b, steps, path=path)[1:]
    return shapes


def _frame(shape: Shape, resolution: int) -> np.ndarray:
    try:
        return unit_picture(shape.mesh(Meshing(resolution=resolution, vertices="linear")), FILM_SIZE)
    except NoSurfaceError:
        return np.full((FILM_SIZE, FILM_SIZE, 3), 255, np.uint8)
