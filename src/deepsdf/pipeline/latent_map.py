"""Map of a shape space: its codes in the plane, with pictures of the shapes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepsdf.errors import NoSurfaceError
from deepsdf.figures.latent_map import Colouring, colouring, map_figure, map_positions, spread_out, variance_shares
from deepsdf.figures.pictures import FRAME
from deepsdf.figures.plots import check_figure, save_figure
from deepsdf.files import csv_text, write_text
from deepsdf.geometry.isosurface.options import Meshing
from deepsdf.inference.space import ShapeSpace
from deepsdf.library.names import KnownShape, known_shapes
from deepsdf.pipeline.options import MapOptions
from deepsdf.progress import OnProgress, ProgressCounter
from deepsdf.rendering.camera import PictureOptions
from deepsdf.rendering.render import render_mesh
from deepsdf.workspace import Experiment

THUMBNAIL = 128  # pixels
THUMBNAIL_MESHING = Meshing(resolution=THUMBNAIL // 2, vertices="linear")
"""Meshes of thumbnails: with cells of two pixels, finer grids make no visible difference."""


def latent_map(
    experiment: Experiment,
    out: str | os.PathLike[str],
    options: MapOptions = MapOptions(),
    *,
    checkpoint: str | int = "latest",
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> Path:
    """Draw training and reconstructed codes in the plane, with pictures of some of the shapes.

    Writes `out` (.png or another format of matplotlib), and beside it a .csv with name, position and value of each
    shape. If there are more shapes than `options.thumbnails`, those farthest apart are shown.

    Args:
        on_progress: called with each drawn thumbnail.
    Raises:
        InputError: fewer than 3 shapes, an unknown picture format, or options that `positions` or `colouring` reject.
    """
    out = Path(out)
    check_figure(out)
    space = ShapeSpace.load(experiment, checkpoint, device)
    shapes = known_shapes(experiment, space)
    codes = np.stack([one.code.cpu().numpy() for one in shapes]) if shapes else np.zeros((0, space.code_length))
    placed = map_positions(codes, options.method, seed=options.seed)
    colours = colouring(experiment, shapes, options.colour_by, checkpoint)
    shown = spread_out(placed, options.thumbnails) if options.thumbnails else np.zeros(0, int)
    pictures, progress = [], ProgressCounter(len(shown), on_progress)
    for one in shown:
        pictures.append(_thumbnail(space, shapes[one]))
        progress.advance()
    labels = ("", "")
    if options.method == "pca":
        labels = tuple(f"direction {k + 1}: {share:.0%} of variance" for k, share in enumerate(variance_shares(codes)))
    save_figure(map_figure(placed, shapes, colours, shown, pictures, labels), out)
    _write_csv(out.with_suffix(".csv"), shapes, placed, colours)
    return out


def _thumbnail(space: ShapeSpace, one: KnownShape) -> np.ndarray | None:
    try:
        mesh = space.shape(one.code).mesh(THUMBNAIL_MESHING)
    except NoSurfaceError:
        return None
    return render_mesh(mesh, PictureOptions(size=THUMBNAIL, bound=FRAME * 0.9, ground=False, background=None))


def _write_csv(path: Path, shapes: Sequence[KnownShape], placed: np.ndarray, colours: Colouring) -> None:
    lines: list[list[Any]] = [["shape", "set", "x", "y", colours.title]]
    for one, (x, y), value in zip(shapes, placed, colours.values, strict=True):
        known = "" if value != value else value  # NaN is the only value that differs from itself
        lines.append([one.shape, "training" if one.trained else "reconstructed", f"{x:.6g}", f"{y:.6g}", known])
    write_text(path, csv_text(lines))
