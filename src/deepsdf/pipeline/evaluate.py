"""Evaluate reconstructions: the original's chamfer distance and every metric, over a split."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from deepsdf.checkpoints import resolve_epoch
from deepsdf.errors import InputError
from deepsdf.files import write_text
from deepsdf.jobs.processes import BatchResult, run_batch
from deepsdf.library.scores import Score, ShapeMetrics, metrics_csv, missing_reconstruction
from deepsdf.metrics.options import MetricOptions
from deepsdf.metrics.pair import ACCURACY_SHARE, F_SCORE_SHARES
from deepsdf.metrics.registry import METRICS
from deepsdf.metrics.sides import TO_THE_SURFACE
from deepsdf.metrics.summary import LEVEL, RESAMPLES, statistics
from deepsdf.pipeline.evaluate_shape import SDF_SAMPLES, EvaluationSettings, ShapeEvaluation, evaluate_shape
from deepsdf.progress import OnProgress
from deepsdf.splits import Failure, ShapeName, read_split
from deepsdf.workspace import DataSource, Experiment

Metrics = Literal["all", "chamfer"]


@dataclass(frozen=True)
class Evaluation:
    """Metrics of the shapes of a split.

    Attributes:
        scores: rows of chamfer.csv.
        failures: shapes without metrics, with the reason.
        rows: metrics of every shape of the split, in its order; with which="chamfer" that one only.
        summary: content of summary.json; empty with which="chamfer".
    """

    scores: Sequence[Score]
    failures: Sequence[Failure]
    rows: Sequence[ShapeMetrics] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)

    def unit_frame(self) -> np.ndarray:
        """Chamfer distances (n,) of `scores`, unit frame."""
        return np.array([score.unit_frame for score in self.scores])

    def worst(self, count: int = 5) -> list[Score]:
        """The scores with the largest distances, largest first."""
        return sorted(self.scores, key=lambda score: -score.unit_frame)[:count]

    def values(self, metric: str, shapes: Collection[ShapeName] | None = None) -> np.ndarray:
        """Values (n,) of a metric, unit frame, for those of the given shapes (default: all) that have it."""
        rows = [row for row in self.rows if shapes is None or row.shape in shapes]
        found = [row.metrics.get(metric) for row in rows]
        return np.array([value for value in found if value is not None], np.float64)


def evaluate(
    experiment: Experiment,
    data: DataSource,
    split: str | os.PathLike[str],
    metrics: MetricOptions = MetricOptions(),
    *,
    which: Metrics = "all",
    checkpoint: str | int = "latest",
    workers: int = 0,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Compare the reconstructed meshes of a split with the true shapes. Writes into Evaluation/<checkpoint>.

    chamfer.csv is that of the original: 30 000 points of the reconstruction, transformed to the mesh frame, against the
    30 000 surface samples, in squared lengths of the mesh frame. With "all", metrics.csv has every metric of `METRICS`
    in the unit frame for every shape of the split, and summary.json their statistics.

    The reference of `compare` is the outer surface of the true mesh if that mesh still exists, else the surface
    samples. Equal seeds give equal files for any number of workers.

    Args:
        metrics: options of `compare`.
        which: "all", or "chamfer", which writes chamfer.csv only.
        workers: number of processes; 0 works in this process.
        on_progress: called with the number of shapes, then with each finished shape.
    Raises:
        InputError: no such checkpoint or split, or none of its shapes can be evaluated.
    """
    if which not in get_args(Metrics):
        raise InputError(f"which is {which!r}; expected {' or '.join(map(repr, get_args(Metrics)))}")
    settings = EvaluationSettings(checkpoint, resolve_epoch(experiment, checkpoint), which == "all", metrics)
    shapes = read_split(split)
    result = _run(experiment, data, dict.fromkeys(shapes), settings, workers, on_progress)
    reasons = dict(result.failures)
    measured: dict[ShapeName, ShapeEvaluation] = result.returned
    rows = [_row(shape, measured.get(shape), reasons.get(shape, "")) for shape in shapes]
    scores = [measured[shape].score for shape in shapes if shape in measured]
    failures = [Failure(row.shape, row.reason) for row in rows if row.status == "failed"]
    if not scores:
        raise InputError(f"none of the {len(shapes)} shapes of {split} can be evaluated; first: {failures[0].reason}")
    folder = experiment.evaluation_folder(checkpoint)
    lines = [f"{score.shape}, {score.mesh_frame}\n" for score in scores]
    write_text(folder / "chamfer.csv", "shape, chamfer_dist\n" + "".join(lines))
    if which == "chamfer":
        return Evaluation(scores, failures, rows)
    write_text(folder / "metrics.csv", metrics_csv(rows))
    about = {"experiment": str(experiment.root), "checkpoint": str(checkpoint), "epoch": settings.epoch}
    summary = {**about, "split": str(split), **_summary(rows, metrics, [measured[s] for s in shapes if s in measured])}
    write_text(folder / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    return Evaluation(scores, failures, rows, summary)


def _run(
    experiment: Experiment,
    data: DataSource,
    shapes: Collection[ShapeName],
    settings: EvaluationSettings,
    workers: int,
    on_progress: OnProgress | None,
) -> BatchResult:
    result = BatchResult()
    with suppress(InputError):
        _ = experiment.specs  # read once in this process, so that its warnings are shown once
    tasks = {}
    for shape in shapes:
        reason = missing_reconstruction(experiment, settings.epoch, shape)
        if reason:
            result.add(shape, reason)
        else:
            tasks[shape] = (experiment, data, shape, settings)
    run_batch(evaluate_shape, tasks, result, workers=workers, on_progress=on_progress)
    return result


def _row(shape: ShapeName, measured: ShapeEvaluation | None, reason: str) -> ShapeMetrics:
    if measured is None:
        return ShapeMetrics(shape, reason, {})
    return ShapeMetrics(shape, measured.reason, measured.metrics)


def _summary(
    rows: Sequence[ShapeMetrics], options: MetricOptions, measured: Sequence[ShapeEvaluation]
) -> dict[str, Any]:
    found = Evaluation([], [], rows)
    return {
        "shapes": len(rows),
        "failed": sum(row.status == "failed" for row in rows),
        "frame": "unit",
        "conditions": _conditions(options, measured),
        "metrics": {
            name: _of_metric(found.values(name), metric.direction, options.seed) for name, metric in METRICS.items()
        },
    }


def _of_metric(values: np.ndarray, direction: str, seed: int) -> dict[str, Any]:
    return {"direction": direction, "shapes": len(values), **statistics(values, seed=seed)}


def _conditions(options: MetricOptions, measured: Sequence[ShapeEvaluation]) -> dict[str, Any]:
    """Conditions of the metrics. For those that differ between shapes, the number of shapes with each value."""
    taken = [one.conditions for one in measured if one.conditions]
    references = Counter(
        "mesh" if one["distances_to_reference"] == TO_THE_SURFACE else "surface samples" for one in taken
    )
    return {
        "seed": options.seed,
        "points": options.points,
        "references": dict(sorted(references.items())),
        "emd_points": options.emd_points,
        "emd_methods": dict(sorted(Counter(one["emd_method"] for one in taken if one["emd_method"]).items())),
        "volume_points": options.volume_points,
        "accuracy_share": ACCURACY_SHARE,
        "completion_delta": options.completion_delta,
        "f_score_shares": list(F_SCORE_SHARES),
        "f_score_side": "the longest side of the reference's bounding box",
        "sdf_samples": SDF_SAMPLES,
        "sdf_clamp": next((one["sdf_clamp"] for one in taken if "sdf_clamp" in one), None),
        "bootstrap": {"resamples": RESAMPLES, "level": LEVEL, "seed": options.seed},
    }
