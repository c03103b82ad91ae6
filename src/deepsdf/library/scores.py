"""Scores of reconstructed shapes: the rows of metrics.csv and chamfer.csv, and reading them back."""

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
from deepsdf.metrics.summary import METRICS
from deepsdf.splits import ShapeName
from deepsdf.workspace import Experiment


@dataclass(frozen=True)
class Score:
    """Chamfer distance of one shape, squared lengths of the mesh frame and of the unit frame."""

    shape: ShapeName
    mesh_frame: float
    unit_frame: float


@dataclass(frozen=True)
class Row:
    """One row of metrics.csv.

    Attributes:
        reason: why it failed; of a shape that did not, what was left out and why, if anything.
        metrics: by the names of `summary.METRICS`, unit frame; None where one could not be taken, empty where the
            shape failed.
    """

    shape: ShapeName
    reason: str
    metrics: Mapping[str, float | None]

    @property
    def status(self) -> Literal["ok", "failed"]:
        return "ok" if self.metrics else "failed"


def missing(experiment: Experiment, epoch: int, shape: ShapeName) -> str | None:
    """Where a reconstruction was looked for in vain, in words."""
    path = experiment.reconstructed_mesh_path(epoch, shape)
    return None if path.is_file() else f"there is no reconstruction at {path}; `deepsdf reconstruct` makes it"


def table(rows: Sequence[Row]) -> str:
    """The text of metrics.csv. Floats are written as Python does, so that none loses a digit."""
    lines = [
        [str(row.shape), row.status, " ".join(row.reason.split()), *(row.metrics.get(name) for name in METRICS)]
        for row in rows
    ]
    return csv_text([["shape", "status", "reason", *METRICS], *lines])


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """The rows of a metrics.csv.

    Raises:
        InputError: no such file, another form, no rows, or a name that leaves its folder.
    """
    path = Path(path)
    form = f"{path} is not a table of metrics as `deepsdf evaluate` writes it"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *lines = [*csv.reader(file)] or [[]]
    except FileNotFoundError:
        raise InputError(f"there is no table of metrics at {path}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{form}: {error}") from None
    if header != ["shape", "status", "reason", *METRICS]:
        raise InputError(f"{form}: its columns are others")
    if not lines:
        raise InputError(f"{form}: it has no rows")
    return [_parse_row(line, f"{form}: row {number}") for number, line in enumerate(lines, 1)]


def _parse_row(line: Sequence[str], where: str) -> Row:
    if len(line) != 3 + len(METRICS):
        raise InputError(f"{where} has {len(line)} columns")
    names, status, reason, *cells = line
    parts = [safe_name(name, where) for name in names.split("/")]
    if len(parts) != 3 or status not in ("ok", "failed"):
        raise InputError(
            f"{where} is {names!r}, {status!r}; a shape dataset/class/instance, ok or failed, was expected"
        )
    try:
        metrics = {name: float(cell) if cell else None for name, cell in zip(METRICS, cells, strict=True)}
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    if not np.isfinite([value for value in metrics.values() if value is not None]).all():
        raise InputError(f"{where} holds a figure that is not finite")
    return Row(ShapeName(*parts), reason, metrics if status == "ok" else {})
