"""Interpolate between shapes: meshes, a strip and a film."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from torch import Tensor

from deepsdf.errors import InputError, NoSurfaceError
from deepsdf.figures.pictures import strip_picture, unit_picture
from deepsdf.files import check_folder
from deepsdf.geometry.isosurface.options import PREVIEW, Meshing
from deepsdf.geometry.meshes import save_mesh
from deepsdf.inference.encode import EncodeOptions
from deepsdf.inference.paths import Path as CodePath
from deepsdf.inference.shape import Shape
from deepsdf.inference.space import ShapeSpace
from deepsdf.library.names import find_or_encode, mesh_shapes
from deepsdf.pipeline.options import InterpolationOptions
from deepsdf.progress import OnProgress, ProgressCounter
from deepsdf.rendering.film import check_film, save_film
from deepsdf.workspace import Experiment

FILM_SIZE = 256  # pixels
FILM_MESHING = Meshing(resolution=96, vertices="linear")
"""Meshes of film frames: a grid cell is 2.7 pixels of the frame, so finer grids make no visible difference."""

FILM_FPS = 12.0


def interpolate(
    experiment: Experiment,
    names: Sequence[str],
    folder: Path,
    options: InterpolationOptions = InterpolationOptions(),
    meshing: Meshing = PREVIEW,
    *,
    checkpoint: str | int = "latest",
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> list[Path]:
    """Mesh shapes from each named shape to the next, and draw them in a strip and a film.

    Writes step_<k>.ply, strip.png and loop.gif or loop.mp4 into `folder`. The film goes to the last shape and back.

    Args:
        names: shapes or files, see `find_or_encode`.
        on_progress: called with each meshed shape and each drawn frame.
    Returns:
        The pictures: the strip, and the film if there is one.
    Raises:
        InputError: fewer than two names, a name without a code or with several, or a film that cannot be written.
        NoSurfaceError: none of the shapes has a surface.
    """
    if len(names) < 2:
        raise InputError(f"an interpolation needs at least 2 shapes; {len(names)} was given")
    check_folder(folder)
    strip = folder / "strip.png"
    loop = None if options.film == "none" else folder / f"loop.{options.film}"
    if loop is not None:
        check_film(loop)
    space = ShapeSpace.load(experiment, checkpoint, device)
    codes = [find_or_encode(experiment, space, name, EncodeOptions(seed=options.seed)) for name in names]
    shapes = _shapes_between(space, codes, options.steps, options.path)
    between = [] if loop is None else _shapes_between(space, codes, options.frames, options.path)
    progress = ProgressCounter(len(shapes) + len(between), on_progress)
    meshes = mesh_shapes(shapes, meshing, progress)
    for number, mesh in enumerate(meshes):
        if mesh is not None:
            save_mesh(mesh, folder / f"step_{number:02d}.ply")
    strip_picture(meshes, strip)
    if loop is None:
        return [strip]
    film_meshing = replace(FILM_MESHING, resolution=min(meshing.resolution, FILM_MESHING.resolution))
    forward = []
    for shape in between:
        forward.append(_frame(shape, film_meshing))
        progress.advance()
    save_film(loop, [*forward, *forward[-2:0:-1]], fps=FILM_FPS)
    return [strip, loop]


def _shapes_between(space: ShapeSpace, codes: Sequence[Tensor], steps: int, path: CodePath) -> list[Shape]:
    shapes = [space.shape(codes[0])]
    for a, b in pairwise(codes):
        shapes += space.interpolate(a, b, steps, path=path)[1:]
    return shapes


def _frame(shape: Shape, meshing: Meshing) -> np.ndarray:
    try:
        return unit_picture(shape.mesh(meshing), FILM_SIZE)
    except NoSurfaceError:
        return np.full((FILM_SIZE, FILM_SIZE, 3), 255, np.uint8)
