"""One reconstruction measured against the truth: the work of `evaluate` on one shape."""

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
from deepsdf.metrics.pair import PAPER_POINTS, MetricOptions
from deepsdf.metrics.registry import METRICS
from deepsdf.metrics.surfaces import chamfer, compare
from deepsdf.splits import ShapeName
from deepsdf.workspace import DataSource, Experiment

SDF_SAMPLES = 100_000
"""SDF samples of a shape, at most, that the learned field is compared with."""


@dataclass(frozen=True)
class Measuring:
    """How a shape is measured.

    Attributes:
        checkpoint, epoch: whose reconstructions.
        every: every metric; else the original's chamfer alone.
        options: see `compare`.
    """

    checkpoint: str | int
    epoch: int
    every: bool
    options: MetricOptions


@dataclass(frozen=True)
class Measured:
    """What was found of one shape.

    Attributes:
        metrics: unit frame, by the names of `registry.METRICS`; empty where they failed.
        conditions: those of `SurfaceMetrics`, and `sdf_clamp`.
        reason: what failed, or was left out, and why.
    """

    score: Score
    metrics: Mapping[str, float | None]
    conditions: Mapping[str, float | int | str | None] = field(default_factory=dict)
    reason: str = ""


def measure(experiment: Experiment, data: DataSource, shape: ShapeName, settings: Measuring) -> Measured:
    """One shape's scores and metrics.

    Raises:
        InputError: its reconstruction, its surface samples or its normalization is missing or broken.
    """
    normalization = data.load_normalization(shape)
    samples = data.load_surface(shape)
    mesh = load_mesh(experiment.reconstructed_mesh_path(settings.epoch, shape))
    points = normalization.invert(sample_surface(mesh, PAPER_POINTS, seed=settings.options.seed))
    found = chamfer(samples, points).chamfer
    score = Score(shape, found, found * normalization.scale**2)
    if not settings.every:
        return Measured(score, {"chamfer": score.unit_frame})
    try:
        with _one_thread():
            return _every(experiment, data, mesh, samples, normalization, score, settings)
    except DeepSDFError as error:  # the original's score stands
        return Measured(score, {}, reason=str(error))


def _every(
    experiment: Experiment,
    data: DataSource,
    mesh: trimesh.Trimesh,
    samples: np.ndarray,
    normalization: Normalization,
    score: Score,
    settings: Measuring,
) -> Measured:
    notes = []
    unit_samples = normalization.apply(samples)
    try:
        reference = true_shape(data, score.shape, samples=unit_samples).surface
    except DeepSDFError as error:
        reference = unit_samples
        notes.append(f"compared with its surface samples: {error}")
    found = compare(reference, mesh, settings.options, device="cpu")  # the same figures on every machine
    metrics, conditions = dict(found.values), found.conditions
    try:
        pair = _field_pair(experiment, data, score.shape, settings)
        metrics |= {metric.name: metric.of_field(pair) for metric in METRICS.values() if metric.of_field}
        conditions["sdf_clamp"] = pair.clamp
    except DeepSDFError as error:
        notes.append(f"no SDF error: {error}")
    return Measured(score, metrics, conditions, "; ".join(notes))


def _field_pair(experiment: Experiment, data: DataSource, shape: ShapeName, settings: Measuring) -> FieldPair:
    """The learned field on the shape's SDF samples.

    Raises:
        InputError: code, samples or network are missing or broken, or the field is not finite.
    """
    path = experiment.reconstructed_code_path(settings.epoch, shape)
    if not path.is_file():
        raise InputError(f"there is no code at {path}")
    samples = _some(data.load_samples(shape), settings.options.seed)
    space = ShapeSpace.load(experiment, settings.checkpoint, "cpu")
    if space.epoch != settings.epoch:
        raise InputError(f"the checkpoint {settings.checkpoint} was epoch {settings.epoch}, and is {space.epoch} now")
    field = space.shape(load_code(path, space.code_length))
    return field_pair(field, samples, space.clamping_distance)


def _some(samples: SDFSamples, seed: int) -> SDFSamples:
    if len(samples) <= SDF_SAMPLES:
        return samples
    rows = np.random.default_rng([seed, 3]).choice(len(samples), SDF_SAMPLES, replace=False)
    return SDFSamples.of(samples.points[rows], samples.distances[rows])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Workers share the cores already; and figures come out the same to the last digit, whatever the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with limited_threads(1):
            yield
    finally:
        torch.set_num_threads(before)
