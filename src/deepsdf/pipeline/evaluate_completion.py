"""Evaluate completion: complete one virtual depth view of each shape of a split and compare with the true shape."""

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
from deepsdf.figures.completion import completion_picture, painted
from deepsdf.files import csv_text, write_text
from deepsdf.geometry.isosurface.options import PREVIEW, Meshing
from deepsdf.geometry.scanning.depth_camera import DepthCamera
from deepsdf.geometry.scanning.scan import Scan, scan
from deepsdf.inference.complete.completion import Completion, nearest_training_shape
from deepsdf.inference.complete.options import CompletionOptions
from deepsdf.inference.space import ShapeSpace
from deepsdf.library.truth import true_shape
from deepsdf.metrics.options import MetricOptions
from deepsdf.metrics.registry import METRICS
from deepsdf.metrics.summary import statistics
from deepsdf.metrics.surfaces import compare
from deepsdf.pipeline.options import CompletionEvaluationOptions
from deepsdf.progress import OnProgress, ProgressCounter
from deepsdf.rendering.render import grid_image, save_image
from deepsdf.splits import Failure, ShapeName, read_split
from deepsdf.workspace import DataSource, Experiment

COMPLETED, NO_FREE_SPACE, NEAREST = "completion", "without free space", "nearest training shape"
METHODS = (COMPLETED, NO_FREE_SPACE, NEAREST)

COMPLETION_METRICS = MetricOptions(volume_points=0)
"""The paper's Table 4 has no volumetric metric."""

DISTANCE, FIELD_OF_VIEW = 3.0, 42.0
"""Distance of the camera from the origin (unit frame), and its field of view in degrees: the unit sphere, which appears
under 2 · asin(1 / 3) = 39°, fills the picture."""

PIXELS = 200
"""Pixels per side of the depth map."""

MAX_ELEVATION = 30.0
"""Largest elevation of the camera in degrees, above or below: objects are usually scanned from the side."""

PICTURES = 8  # rows of completion.png


@dataclass(frozen=True)
class CompletionRow:
    """One row of completion.csv: metrics (unit frame) of a shape and a method."""

    shape: ShapeName
    method: str
    metrics: Mapping[str, float | None]


@dataclass(frozen=True)
class CompletionEvaluation:
    """Rows of all shapes and methods, and the shapes that failed."""

    rows: Sequence[CompletionRow]
    failures: Sequence[Failure]

    def values(self, method: str, metric: str) -> np.ndarray:
        """Values (n,) of a metric, in the order of the shapes."""
        found = [row.metrics.get(metric) for row in self.rows if row.method == method]
        return np.array([value for value in found if value is not None], np.float64)


def viewpoint(shape: ShapeName, seed: int, view: int = 0) -> np.ndarray:
    """Camera position (3,) for a shape, unit frame, y up. It depends on the seed and the shape's name only."""
    rng = np.random.default_rng([seed, view, zlib.crc32(str(shape).encode())])
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(-MAX_ELEVATION, MAX_ELEVATION))
    flat = np.cos(elevation)
    return DISTANCE * np.array([flat * np.sin(azimuth), np.sin(elevation), flat * np.cos(azimuth)])


def view_of(mesh: trimesh.Trimesh, eye: np.ndarray, *, noise: float = 0.0, seed: int = 0) -> Scan:
    """Depth view of a mesh (unit frame). Pixels that do not show the mesh are rays that hit nothing."""
    camera = DepthCamera.look_at(eye, field_of_view=FIELD_OF_VIEW, resolution=PIXELS)
    return scan(mesh, camera, noise=noise, seed=seed)


def evaluate_completion(
    experiment: Experiment,
    data: DataSource,
    split: str | os.PathLike[str],
    options: CompletionEvaluationOptions = CompletionEvaluationOptions(),
    metrics: MetricOptions = COMPLETION_METRICS,
    meshing: Meshing = PREVIEW,
    *,
    checkpoint: str | int = "latest",
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> CompletionEvaluation:
    """Complete one virtual depth view of each shape and compare with the true shape: DeepSDF's Table 4, on a split.

    Two baselines are evaluated too: the same fit without free space, and the training shape that explains the same
    observations best. Writes completion.csv, completion.json and completion.png (worst first) into
    Evaluation/<checkpoint>. A shape counts if all three methods give a surface.

    Args:
        metrics: options of `compare`; its seed also sets viewpoints, noise and fits.
        on_progress: called with the number of shapes, then with each finished shape.
    Raises:
        InputError: no such checkpoint or split, or no shape of it could be evaluated.
    """
    seed = metrics.seed
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
            seen = view_of(true.mesh, viewpoint(shape, seed), noise=options.noise, seed=seed)
            if not options.background:
                seen = replace(seen, empty=seen.empty[:0])
            found, meshes = _by_all_methods(space, seen, meshing, seed)
            scores = {method: compare(true.surface, mesh, metrics, device="cpu") for method, mesh in meshes.items()}
            rows += [CompletionRow(shape, method, score.values) for method, score in scores.items()]
            if options.picture:
                drawn.append(
                    (scores[COMPLETED].chamfer, completion_picture(found, meshes[COMPLETED], truth=true.mesh, size=240))
                )
        except DeepSDFError as error:
            reason = str(error)
            failures.append(Failure(shape, reason))
        progress.advance(shape, reason)
    if not rows:
        raise InputError(f"none of the {len(shapes)} shapes of {split} can be completed; first: {failures[0].reason}")
    result = CompletionEvaluation(rows, failures)
    folder = experiment.evaluation_folder(checkpoint)
    write_text(folder / "completion.csv", completion_csv(rows))
    about = {"experiment": str(experiment.root), "epoch": space.epoch, "split": str(split), "frame": "unit"}
    conditions = {"noise": options.noise, "background": options.background, "resolution": meshing.resolution}
    conditions |= {"seed": seed, "points": metrics.points, "emd_points": metrics.emd_points}
    write_text(folder / "completion.json", json.dumps({**about, **conditions, **_summary(result)}, indent=2) + "\n")
    if options.picture:
        worst = sorted(drawn, key=lambda one: -one[0])[:PICTURES]
        save_image(folder / "completion.png", grid_image([[image] for _, image in worst], pad=4))
    return result


def _by_all_methods(
    space: ShapeSpace, seen: Scan, meshing: Meshing, seed: int
) -> tuple[Completion, dict[str, trimesh.Trimesh]]:
    found = space.complete(seen, CompletionOptions(seed=seed))
    without = space.complete(seen, CompletionOptions(free_space=0.0, seed=seed))
    nearest = space.shape(nearest_training_shape(space, seen, CompletionOptions(seed=seed)))
    meshes = {
        COMPLETED: painted(found.mesh(meshing), found.scale),
        NO_FREE_SPACE: without.shape.mesh(meshing),
        NEAREST: nearest.mesh(meshing),
    }
    return found, meshes


def completion_csv(rows: Sequence[CompletionRow]) -> str:
    """Content of completion.csv: shape, method and every metric."""
    names = [name for name in METRICS if any(name in row.metrics for row in rows)]
    lines = [[str(row.shape), row.method, *(row.metrics.get(name) for name in names)] for row in rows]
    return csv_text([["shape", "method", *names], *lines])


def _summary(result: CompletionEvaluation) -> dict[str, Any]:
    names = [metric.name for metric in METRICS.values() if metric.in_completion]
    return {
        "failed": {str(failure.shape): failure.reason for failure in result.failures},
        "methods": {method: {name: statistics(result.values(method, name)) for name in names} for method in METHODS},
    }
