"""Scores of reconstructed shapes: the rows of metrics.csv and chamfer.csv."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from deepsdf.errors import InputError
from deepsdf.files import csv_text, safe_name
from deepsdf.metrics.registry import METRICS
from deepsdf.splits import ShapeName
from deepsdf.workspace import Experiment

_KEYS = ("shape", "status", "reason")  # columns of metrics.csv before the metrics


@dataclass(frozen=True)
class Score:
    """Chamfer distance of one shape, in squared lengths of the mesh frame and of the unit frame."""

    shape: ShapeName
    mesh_frame: float
    unit_frame: float


@dataclass(frozen=True)
class ShapeMetrics:
    """Metrics of one shape: a row of metrics.csv.

    Attributes:
        reason: why the shape failed; for other shapes, what was omitted and why, if anything.
        metrics: by the names of `registry.METRICS`, in the unit frame; None where a metric is undefined, empty if the
            shape failed.
    """

    shape: ShapeName
    reason: str
    metrics: Mapping[str, float | None]

    @property
    def status(self) -> Literal["ok", "failed"]:
        return "ok" if self.metrics else "failed"


def missing_reconstruction(experiment: Experiment, epoch: int, shape: ShapeName) -> str | None:
    """An error message if a shape was not reconstructed, else None."""
    path = experiment.reconstructed_mesh_path(epoch, shape)
    return None if path.is_file() else f"there is no reconstruction at {path}; run `deepsdf reconstruct` to create it"


def metrics_csv(rows: Sequence[ShapeMetrics]) -> str:
    """The text of metrics.csv. Floats are written in full precision, so that reading them back is exact."""
    lines = [
        [str(row.shape), row.status, " ".join(row.reason.split()), *(row.metrics.get(name) for name in METRICS)]
        for row in rows
    ]
    return csv_text([[*_KEYS, *METRICS], *lines])


def read_metrics_csv(path: str | os.PathLike[str]) -> list[ShapeMetrics]:
    """The rows of a metrics.csv.

    Raises:
        InputError: no such file, not a metrics.csv, no rows, or a shape name that would leave its folder.
    """
    path = Path(path)
    invalid = f"{path} is not a metrics.csv as `deepsdf evaluate` writes it"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *lines = [*csv.reader(file)] or [[]]
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{invalid}: {error}") from None
    if header != [*_KEYS, *METRICS]:
        raise InputError(f"{invalid}: its columns differ; expected {', '.join([*_KEYS, *METRICS])}")
    if not lines:
        raise InputError(f"{invalid}: it has no rows")
    return [_parse_row(line, f"{invalid}: row {number}") for number, line in enumerate(lines, 1)]


def _parse_row(line: Sequence[str], where: str) -> ShapeMetrics:
    columns = len(_KEYS) + len(METRICS)
    if len(line) != columns:
        raise InputError(f"{where} has {len(line)} columns; expected {columns}")
    names, status, reason, *cells = line
    parts = [safe_name(name, where) for name in names.split("/")]
    if len(parts) != 3 or status not in ("ok", "failed"):
        raise InputError(f"{where} is {names!r}, {status!r}; expected dataset/class/instance, and 'ok' or 'failed'")
    try:
        metrics = {name: float(cell) if cell else None for name, cell in zip(METRICS, cells, strict=True)}
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    if not np.isfinite([value for value in metrics.values() if value is not None]).all():
        raise InputError(f"{where} has a value that is not finite")
    return ShapeMetrics(ShapeName(*parts), reason, metrics if status == "ok" else {})
