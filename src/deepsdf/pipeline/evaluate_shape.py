"""Evaluate one reconstruction: the part of `evaluate` that runs in worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
import trimesh

from deepsdf.checkpoints import load_code
from deepsdf.errors import DeepSDFError, InputError
from deepsdf.geometry.meshes import Normalization, load_mesh
from deepsdf.geometry.sdf.sampling import SDFSamples, sample_surface
from deepsdf.inference.space import ShapeSpace
from deepsdf.kernels.launch import limited_threads
from deepsdf.library.scores import Score
from deepsdf.library.truth import true_shape
from deepsdf.metrics.fields import FieldPair, field_pair
from deepsdf.metrics.options import PAPER_POINTS, MetricOptions
from deepsdf.metrics.registry import METRICS
from deepsdf.metrics.surfaces import chamfer, compare
from deepsdf.splits import ShapeName
from deepsdf.workspace import DataSource, Experiment

SDF_SAMPLES = 100_000
"""Maximum number of SDF samples with which the learned field is compared: the standard error of a share is then at
most 0.0016."""


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of the evaluation of each shape.

    Attributes:
        checkpoint, epoch: checkpoint of the reconstructions, and its epoch.
        all_metrics: compute all metrics; otherwise only the original's chamfer distance.
        options: options of `compare`.
    """

    checkpoint: str | int
    epoch: int
    all_metrics: bool
    options: MetricOptions


@dataclass(frozen=True)
class ShapeEvaluation:
    """Scores and metrics of one shape.

    Attributes:
        metrics: values in the unit frame, by the names of `METRICS`; empty if they failed.
        conditions: conditions of `SurfaceMetrics`, and `sdf_clamp`.
        reason: what failed or was left out, and why.
    """

    score: Score
    metrics: Mapping[str, float | None]
    conditions: Mapping[str, float | int | str | None] = field(default_factory=dict)
    reason: str = ""


def evaluate_shape(
    experiment: Experiment, data: DataSource, shape: ShapeName, settings: EvaluationSettings
) -> ShapeEvaluation:
    """Scores and metrics of one shape.

    Raises:
        InputError: the reconstruction, the surface samples or the normalization is missing or damaged.
    """
    normalization = data.load_normalization(shape)
    samples = data.load_surface(shape)
    mesh = load_mesh(experiment.reconstructed_mesh_path(settings.epoch, shape))
    points = normalization.invert(sample_surface(mesh, PAPER_POINTS, seed=settings.options.seed))
    found = chamfer(samples, points).chamfer
    score = Score(shape, found, found * normalization.scale**2)
    if not settings.all_metrics:
        return ShapeEvaluation(score, {"chamfer": score.unit_frame})
    try:
        with _one_thread():
            return _all_metrics(experiment, data, mesh, samples, normalization, score, settings)
    except DeepSDFError as error:  # the original's score is valid nevertheless
        return ShapeEvaluation(score, {}, reason=str(error))


def _all_metrics(
    experiment: Experiment,
    data: DataSource,
    mesh: trimesh.Trimesh,
    samples: np.ndarray,
    normalization: Normalization,
    score: Score,
    settings: EvaluationSettings,
) -> ShapeEvaluation:
    notes = []
    unit_samples = normalization.apply(samples)
    try:
        reference = true_shape(data, score.shape, samples=unit_samples).surface
    except DeepSDFError as error:
        reference = unit_samples
        notes.append(f"compared with its surface samples: {error}")
    found = compare(reference, mesh, settings.options, device="cpu")  # so that every machine gives the same values
    metrics, conditions = dict(found.values), found.conditions
    try:
        pair = _field_pair(experiment, data, score.shape, settings)
        metrics |= {metric.name: metric.of_field(pair) for metric in METRICS.values() if metric.of_field}
        conditions["sdf_clamp"] = pair.clamp
    except DeepSDFError as error:
        notes.append(f"no SDF error: {error}")
    return ShapeEvaluation(score, metrics, conditions, "; ".join(notes))


def _field_pair(experiment: Experiment, data: DataSource, shape: ShapeName, settings: EvaluationSettings) -> FieldPair:
    """Values of the learned field and true distances at the SDF samples of the shape.

    Raises:
        InputError: code, samples or network are missing or damaged, or the field is not finite.
    """
    path = experiment.reconstructed_code_path(settings.epoch, shape)
    if not path.is_file():
        raise InputError(f"no such code file: {path}")
    samples = _subset(data.load_samples(shape), settings.options.seed)
    space = ShapeSpace.load(experiment, settings.checkpoint, "cpu")
    if space.epoch != settings.epoch:
        raise InputError(
            f"checkpoint {settings.checkpoint} changed from epoch {settings.epoch} to {space.epoch} meanwhile"
        )
    field = space.shape(load_code(path, space.code_length))
    return field_pair(field, samples, space.clamping_distance)


def _subset(samples: SDFSamples, seed: int) -> SDFSamples:
    if len(samples) <= SDF_SAMPLES:
        return samples
    rows = np.random.default_rng([seed, 3]).choice(len(samples), SDF_SAMPLES, replace=False)
    return SDFSamples.of(samples.points[rows], samples.distances[rows])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread: the workers share the cores, and sums do not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with limited_threads(1):
            yield
    finally:
        torch.set_num_threads(before)
