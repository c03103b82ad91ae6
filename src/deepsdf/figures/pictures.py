"""Pictures of samples and of reconstructed shapes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import trimesh
from scipy.spatial import KDTree

from deepsdf.checkpoints import resolve_epoch
from deepsdf.errors import DeepSDFError, InputError
from deepsdf.geometry.meshes import load_mesh
from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.library.scores import Score
from deepsdf.library.truth import true_shape
from deepsdf.rendering.camera import PictureOptions
from deepsdf.rendering.colours import slice_image
from deepsdf.rendering.render import render_mesh, render_points
from deepsdf.rendering.sheet import grid_image, save_image
from deepsdf.splits import ShapeName
from deepsdf.workspace import DataSource, Experiment

FRAME = 1.0
"""Radius of the framed sphere for shapes of the unit frame: the unit sphere, so that all pictures have one scale."""

COLUMNS = 4
"""Pairs of truth and reconstruction per row of comparison.png."""


def unit_picture(mesh: trimesh.Trimesh, size: int = 320) -> np.ndarray:
    """Picture of a mesh of the unit frame, (size, size, 3) uint8."""
    return render_mesh(mesh, PictureOptions(size=size, bound=FRAME))


def truth_picture(data: DataSource, shape: ShapeName, size: int = 320) -> np.ndarray | None:
    """Picture of a shape's mesh, or of its surface samples if the mesh is missing, or None if both are missing."""
    with suppress(InputError):  # the mesh is missing or broken: draw its samples
        return unit_picture(true_shape(data, shape).mesh, size)
    try:
        points = data.load_normalization(shape).apply(data.load_surface(shape))
    except DeepSDFError:
        return None
    return render_points(points, PictureOptions(size=size, bound=FRAME))


def scores_picture(
    experiment: Experiment,
    data: DataSource,
    checkpoint: str | int,
    scores: Sequence[Score],
    path: str | os.PathLike[str],
    *,
    size: int = 320,
) -> None:
    """Write pairs of truth and reconstruction for evaluated shapes, labelled with the chamfer distance × 10³."""
    epoch = resolve_epoch(experiment, checkpoint)
    pairs = []
    for score in scores:
        mesh = load_mesh(experiment.reconstructed_mesh_path(epoch, score.shape))
        pair = [truth_picture(data, score.shape, size), unit_picture(mesh, size)]
        pairs.append(grid_image([pair], column_labels=[score.shape.instance, f"{score.unit_frame * 1e3:.3f}"], pad=4))
    rows = [pairs[start : start + COLUMNS] for start in range(0, len(pairs), COLUMNS)]
    save_image(Path(path), grid_image(rows, pad=16))


def strip_picture(
    meshes: Sequence[trimesh.Trimesh | None],
    path: str | os.PathLike[str],
    *,
    columns: int | None = None,
    size: int = 320,
) -> None:
    """Write a picture of meshes of the unit frame side by side. None leaves a gap; all are in one row by default."""
    drawn = [None if mesh is None else unit_picture(mesh, size) for mesh in meshes]
    columns = columns or len(drawn)
    rows = [drawn[start : start + columns] for start in range(0, len(drawn), columns)]
    save_image(Path(path), grid_image(rows))


def samples_picture(path: str | os.PathLike[str], out: str | os.PathLike[str], *, size: int = 640) -> str:
    """Write a picture of SDF samples: those inside, and the distance of the nearest sample on the planes x, y, z = 0.

    Returns:
        a sentence with the number of samples outside and inside.
    Raises:
        InputError: not a file of SDF samples, or one without samples.
    """
    samples = SDFSamples.load(Path(path))
    if not len(samples):
        raise InputError(f"{path} has no samples to draw")
    tree = KDTree(samples.points)

    def nearest(points: np.ndarray) -> np.ndarray:
        return samples.distances[tree.query(points, workers=-1)[1]]

    inside = render_points(samples.neg[:, :3], PictureOptions(size=size, bound=FRAME)) if len(samples.neg) else None
    slices = [slice_image(nearest, axis=axis, size=size) for axis in ("x", "y", "z")]
    save_image(
        Path(out),
        grid_image([[inside, *slices]], column_labels=["inside samples", "plane x = 0", "plane y = 0", "plane z = 0"]),
    )
    return f"{len(samples.pos)} samples outside, {len(samples.neg)} inside"
