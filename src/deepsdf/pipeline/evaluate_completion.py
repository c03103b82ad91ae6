"""Completion measured: one virtual depth view of each shape of a split, completed, against the whole shape."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import trimesh

from deepsdf.errors import DeepSDFError, InputError
from deepsdf.files import csv_text, write_text
from deepsdf.geometry.scanning.depth_camera import DepthCamera
from deepsdf.geometry.scanning.scan import Scan, scan
from deepsdf.inference.complete.completion import Completion, nearest_training_shape
from deepsdf.inference.complete.options import CompletionOptions
from deepsdf.inference.space import ShapeSpace
from deepsdf.library.truth import true_shape
from deepsdf.metrics.pair import MetricOptions
from deepsdf.metrics.registry import METRICS
from deepsdf.metrics.summary import statistics
from deepsdf.metrics.surfaces import compare
from deepsdf.pipeline.complete import completion_picture, painted
from deepsdf.progress import OnProgress, ProgressCounter
from deepsdf.rendering.render import grid_image, save_image
from deepsdf.splits import Failure, ShapeName, read_split
from deepsdf.workspace import DataSource, Experiment

COMPLETED, NO_FREE_SPACE, NEAREST = "completion", "without free space", "nearest training shape"
METHODS = (COMPLETED, NO_FREE_SPACE, NEAREST)

DISTANCE, FIELD_OF_VIEW, PIXELS = 3.0, 42.0, 200
"""Of the camera: from the origin of the unit frame, degrees, pixels a side."""

HIGHEST = 30.0
"""Degrees above or below the horizon that a camera stands at, at most."""

PICTURES = 8


@dataclass(frozen=True)
class CompletionRow:
    """One row of completion.csv: a shape by one method; metrics by name, unit frame."""

    shape: ShapeName
    method: str
    metrics: Mapping[str, float | None]


@dataclass(frozen=True)
class CompletionEvaluation:
    """Rows of all shapes and methods, and the shapes that failed."""

    rows: Sequence[CompletionRow]
    failures: Sequence[Failure]

    def values(self, method: str, metric: str) -> np.ndarray:
        """(n,) of a metric, in the order of the shapes."""
        found = [row.metrics.get(metric) for row in self.rows if row.method == method]
        return np.array([value for value in found if value is not None], np.float64)


def viewpoint(shape: ShapeName, seed: int, view: int = 0) -> np.ndarray:
    """(3,) where the camera of a shape stands, unit frame, y up: by the seed and the shape's name alone."""
    rng = np.random.default_rng([seed, view, zlib.crc32(str(shape).encode())])
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(-HIGHEST, HIGHEST))
    flat = np.cos(elevation)
    return DISTANCE * np.array([flat * np.sin(azimuth), np.sin(elevation), flat * np.cos(azimuth)])


def view_of(mesh: trimesh.Trimesh, eye: np.ndarray, *, noise: float = 0.0, seed: int = 0) -> Scan:
    """A mesh of the unit frame as a camera sees it; pixels without the mesh are rays that met nothing."""
    camera = DepthCamera.look_at(eye, field_of_view=FIELD_OF_VIEW, resolution=PIXELS)
    return scan(mesh, camera, noise=noise, seed=seed)


def evaluate_completion(
    experiment: Experiment,
    data: DataSource,
    split: str | os.PathLike[str],
    *,
    checkpoint: str | int = "latest",
    noise: float = 0.0,
    background: bool = True,
    resolution: int = 128,
    points: int = 30_000,
    emd_points: int = 500,
    picture: bool = True,
    device: str = "auto",
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> CompletionEvaluation:
    """Complete one virtual depth view of each shape, and compare with the whole: DeepSDF's Table 4, on a split.

    Beside the completion stand two baselines: the same fit without free space, and the training shape that explains
    the same observations best. Writes completion.csv, completion.json and completion.png, worst first, into
    Evaluation/<checkpoint>. A shape counts where all three methods gave a surface.

    Args:
        noise: standard deviation of each depth, unit frame.
        background: rays that met nothing are free space; else, as in the paper, only what lies before the surface.
        resolution: of the meshes' grid.
        points, emd_points: of `compare`.
        seed: of the viewpoints, the noise, the fits and the metrics.
    Raises:
        InputError: no such checkpoint or split, or no shape of it could be evaluated.
    """
    space = ShapeSpace.load(experiment, checkpoint, device)
    shapes = read_split(split)
    progress = ProgressCounter(len(shapes), on_progress)
    rows: list[CompletionRow] = []
    failures: list[Failure] = []
    drawn: list[tuple[float, np.ndarray]] = []
    for shape in shapes:
        reason = None
        try:
            true = true_shape(data, shape)
            truth = true.mesh
            seen = view_of(truth, viewpoint(shape, seed), noise=noise, seed=seed)
            if not background:
                seen = replace(seen, empty=seen.empty[:0])
            found, meshes = _by_all_methods(space, seen, resolution, seed)
            reference = true.surface
            options = MetricOptions(points=points, emd_points=emd_points, volume_points=0, seed=seed)
            scores = {method: compare(reference, mesh, options, device="cpu") for method, mesh in meshes.items()}
            rows += [CompletionRow(shape, method, score.values) for method, score in scores.items()]
            if picture:
                drawn.append(
                    (scores[COMPLETED].chamfer, completion_picture(found, meshes[COMPLETED], truth=truth, size=240))
                )
        except DeepSDFError as error:
            reason = str(error)
            failures.append(Failure(shape, reason))
        progress.advance(shape, reason)
    if not rows:
        raise InputError(f"none of the {len(shapes)} shapes of {split} can be completed; first: {failures[0].reason}")
    result = CompletionEvaluation(rows, failures)
    folder = experiment.evaluation_folder(checkpoint)
    write_text(folder / "completion.csv", table(rows))
    about = {"experiment": str(experiment.root), "epoch": space.epoch, "split": str(split), "frame": "unit"}
    conditions = {"noise": noise, "background": background, "resolution": resolution, "seed": seed}
    conditions |= {"points": points, "emd_points": emd_points}
    write_text(folder / "completion.json", json.dumps({**about, **conditions, **_summary(result)}, indent=2) + "\n")
    if picture:
        worst = sorted(drawn, key=lambda one: -one[0])[:PICTURES]
        save_image(folder / "completion.png", grid_image([[image] for _, image in worst], pad=4))
    return result


def _by_all_methods(
    space: ShapeSpace, seen: Scan, resolution: int, seed: int
) -> tuple[Completion, dict[str, trimesh.Trimesh]]:
    found = space.complete(seen, CompletionOptions(seed=seed))
    without = space.complete(seen, CompletionOptions(free_space=0.0, seed=seed))
    nearest = space.shape(nearest_training_shape(space, seen, CompletionOptions(seed=seed)))
    meshes = {
        COMPLETED: painted(found.mesh(resolution), found.scale),
        NO_FREE_SPACE: without.shape.mesh(resolution),
        NEAREST: nearest.mesh(resolution),
    }
    return found, meshes


def table(rows: Sequence[CompletionRow]) -> str:
    """The text of completion.csv: shape, method, then every metric of `SurfaceMetrics`."""
    names = [name for name in METRICS if any(name in row.metrics for row in rows)]
    lines = [[str(row.shape), row.method, *(row.metrics.get(name) for name in names)] for row in rows]
    return csv_text([["shape", "method", *names], *lines])


def _summary(result: CompletionEvaluation) -> dict[str, Any]:
    names = [metric.name for metric in METRICS.values() if metric.in_completion]
    return {
        "failed": {str(failure.shape): failure.reason for failure in result.failures},
        "methods": {method: {name: statistics(result.values(method, name)) for name in names} for method in METHODS},
    }
