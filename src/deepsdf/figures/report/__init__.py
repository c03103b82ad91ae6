"""One HTML file that shows an evaluated experiment: figures, curves, verdicts, and every shape in pictures and 3D."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from deepsdf._version import __version__
from deepsdf.checkpoints import resolve_epoch
from deepsdf.errors import InputError
from deepsdf.figures.report.contents import (
    data_verdicts,
    description,
    error_maximum,
    flat,
    metric_table,
    settings,
    training_curves,
    training_shapes,
)
from deepsdf.figures.report.page import render_page
from deepsdf.figures.report.shapes import Drawing, Drawn, draw
from deepsdf.files import read_json, write_text
from deepsdf.jobs.processes import BatchResult, run_batch
from deepsdf.library.scores import ShapeMetrics, read_metrics_csv
from deepsdf.progress import OnProgress
from deepsdf.rendering.render import error_colours
from deepsdf.splits import Failure, ShapeName, read_split
from deepsdf.workspace import DataSource, Experiment

FACES = 12_000
"""Of each mesh of the 3D view, about."""

MAX_MB = 30.0
"""Millions of bytes that a report may take."""

SIZE = 320
"""Pixels of a picture's side: a card shows three side by side."""

MOST, LEAST = 400_000, 10_000
"""Characters of pictures and meshes that a shape has use for; and the fewest with which it can be shown."""

_MARKUP = 4_000  # characters at most of what is said of a shape beside them, once it is drawn
_NOTES = 500

# What the page's scripts are told.
_OF_A_METRIC = ("name", "direction", "label", "factor", "decimals", "description")
_OF_A_SHAPE = ("number", "name", "instance", "category", "status", "reason", "verdict", "values", "notes")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        shapes: how many it shows.
        failures: shapes that were evaluated and cannot be shown whole, and why.
        size: bytes.
    """

    path: Path
    shapes: int
    failures: Sequence[Failure]
    size: int


def report(
    experiment: Experiment,
    data: DataSource | None = None,
    split: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    checkpoint: str | int = "latest",
    faces: int = FACES,
    max_mb: float = MAX_MB,
    error_max: float | None = None,
    workers: int = 0,
    on_progress: OnProgress | None = None,
) -> Report:
    """Write the report of an evaluation as one HTML file, which needs no network, whole or not at all.

    Args:
        data: None: the one that specs.json names.
        split: the shapes to show; None: all that were evaluated.
        out: None: report.html in the evaluation's folder.
        checkpoint: whose evaluation.
        faces: of each mesh of the 3D view, about, at most; 0 leaves it out.
        max_mb: size of the file, in millions of bytes, at most; meshes and pictures become smaller to fit.
        error_max: where error colours end, unit frame; None: see `error_maximum`.
        workers: processes; 0 works in this one.
        on_progress: called with the number of shapes, then with each finished shape.
    Raises:
        InputError: nothing was evaluated, or nothing of the split, no data source, or too many shapes for the size.
    """
    if faces < 0 or not max_mb > 0 or (error_max is not None and not 0 < error_max < float("inf")):
        raise InputError(f"faces {faces} must not be negative, max_mb {max_mb} and error_max {error_max} be positive")
    source = data or _named_source(experiment)
    summary, rows = _evaluation(experiment, source, checkpoint, split)
    content = _content(experiment, source, checkpoint, summary, rows)
    top = error_maximum(rows) if error_max is None else error_max
    epoch = summary["epoch"]
    shapes = [row.shape for row in rows]
    budget = _budget(len(_page(content, rows, {}, top).encode()), len(rows), max_mb)
    drawing = Drawing(epoch, SIZE, faces, top, budget)
    result = BatchResult()
    tasks = {shape: (experiment, source, shape, drawing) for shape in shapes}
    run_batch(draw, tasks, result, workers=workers, on_progress=on_progress)
    drawn: dict[ShapeName, Drawn] = dict(result.returned)
    drawn |= {failure.shape: Drawn(notes=(failure.reason,), complete=False) for failure in result.failures}
    path = Path(out) if out else experiment.evaluation_folder(checkpoint) / "report.html"
    text = _page(content, rows, drawn, top)
    write_text(path, text)
    failures = [
        Failure(row.shape, "; ".join(drawn[row.shape].notes))
        for row in rows
        if row.status == "ok" and not drawn[row.shape].complete
    ]
    return Report(path, len(rows), failures, len(text.encode()))


def _named_source(experiment: Experiment) -> DataSource:
    try:
        return DataSource.open(experiment.specs.data_source)
    except InputError as error:
        raise InputError(f"the data source that {experiment.root / 'specs.json'} names cannot be used: {error}; say "
                         "where it is with --data") from None  # fmt: skip


def _evaluation(
    experiment: Experiment, data: DataSource, checkpoint: str | int, split: str | os.PathLike[str] | None
) -> tuple[dict[str, Any], list[ShapeMetrics]]:
    """summary.json, and the rows of metrics.csv that belong to the split, each shape once."""
    folder = experiment.evaluation_folder(checkpoint)
    again = _evaluate_command(experiment, data, checkpoint, split)
    try:
        rows = {row.shape: row for row in read_metrics_csv(folder / "metrics.csv")}
        summary = read_json(folder / "summary.json", "an evaluation's summary")
        if not isinstance(summary, dict) or not isinstance(summary.get("epoch"), int):
            raise InputError(
                f"{folder / 'summary.json'} is not a summary.json as `deepsdf evaluate` writes it: no 'epoch'"
            )
    except InputError as error:
        raise InputError(f"{error}; run `{again}` to create it") from None
    if split is None:
        return summary, list(rows.values())
    wanted = list(dict.fromkeys(read_split(split)))
    if not any(shape in rows for shape in wanted):
        raise InputError(f"none of the {len(wanted)} shapes of {split} is in {folder / 'metrics.csv'}; run `{again}` "
                         "to evaluate them")  # fmt: skip
    reason = f"not evaluated; run `{again}`"
    return {**summary, "split": str(split)}, [rows.get(shape, ShapeMetrics(shape, reason, {})) for shape in wanted]


def _evaluate_command(
    experiment: Experiment, data: DataSource, checkpoint: str | int, split: str | os.PathLike[str] | None
) -> str:
    words = ["deepsdf", "evaluate", "-e", experiment.root]
    words += [] if str(checkpoint) == "latest" else ["-c", checkpoint]
    words += ["-d", data.root, "-s", split or _test_split(experiment) or "TEST.json"]
    return shlex.join(map(str, words))


def _test_split(experiment: Experiment) -> str | None:
    try:
        return experiment.specs.test_split
    except InputError:
        return None


def _budget(fixed: int, shapes: int, max_mb: float) -> int:
    """Characters of base64 for each shape's pictures and meshes."""
    budget = int((max_mb * 1e6 - fixed) / shapes) - _MARKUP
    if budget < LEAST:
        needed = (fixed + shapes * (_MARKUP + LEAST)) / 1e6
        raise InputError(f"a report of {shapes} shapes does not fit into {max_mb:g} MB; give --max-mb at least "
                         f"{needed + 0.05:.1f}, or a --split of fewer")  # fmt: skip
    return min(budget, MOST)


def _content(
    experiment: Experiment,
    data: DataSource,
    checkpoint: str | int,
    summary: Mapping[str, Any],
    rows: Sequence[ShapeMetrics],
) -> dict[str, Any]:
    """All but what is drawn."""
    conditions = summary.get("conditions")
    conditions = conditions if isinstance(conditions, dict) else {}
    seed = conditions.get("seed")
    parts = {"training": training_shapes(experiment), "evaluated": [row.shape for row in rows]}
    table = metric_table(rows, seed if isinstance(seed, int) and seed >= 0 else 0)
    measured = experiment.evaluation_folder(checkpoint) / "summary.json"
    return {
        "version": __version__,
        "name": experiment.root.resolve().name,
        "parent": experiment.root.resolve().parent.name,
        "description": description(experiment),
        "checkpoint": str(checkpoint),
        "epoch": summary["epoch"],
        "stale": _stale(experiment, checkpoint, summary["epoch"]),
        "split": str(summary.get("split", "")),
        "data_source": str(data.root),
        "evaluated": datetime.fromtimestamp(measured.stat().st_mtime).strftime("%Y-%m-%d %H:%M"),
        "failed": sum(row.status == "failed" for row in rows),
        "metrics": table,
        "headlines": [metric for metric in table if metric["headline"]],
        "training": training_curves(experiment),
        "verdicts": data_verdicts(data, parts),
        "settings": settings(experiment),
        "conditions": flat(conditions),
    }


def _stale(experiment: Experiment, checkpoint: str | int, epoch: int) -> str:
    """That the checkpoint is another one now than was evaluated; nothing where it is the same, or gone."""
    try:
        now = resolve_epoch(experiment, checkpoint)
    except InputError:
        return ""
    if now == epoch:
        return ""
    words = f"the checkpoint {checkpoint} was epoch {epoch} when it was evaluated, and is epoch {now} now"
    logger.warning("%s: %s; this is the report of the former", experiment.root, words)
    return words


def _page(
    content: Mapping[str, Any], rows: Sequence[ShapeMetrics], drawn: Mapping[ShapeName, Drawn], top: float
) -> str:
    several = len({row.shape.dataset for row in rows}) > 1
    verdicts = content["verdicts"].get("by_shape", {})
    cards = []
    for number, row in enumerate(rows):
        found = drawn.get(row.shape, Drawn())
        shape = row.shape
        cards.append({
            "number": number,
            "name": str(shape),
            "instance": shape.instance,
            "category": f"{shape.dataset}/{shape.category}" if several else shape.category,
            "status": row.status,
            "reason": row.reason,
            "verdict": verdicts.get(str(shape), ""),
            "values": dict(row.metrics),
            "notes": " ".join("; ".join(found.notes).split())[:_NOTES],
            "pictures": found.pictures,
            "meshes": found.meshes,
            "faces": dict(found.faces),
        })  # fmt: skip
    cards.sort(key=_worst_first)
    error = {"max": top, "colours": error_colours(np.linspace(0, 1, 64), 1.0).tolist()}
    app = {
        "metrics": [{key: each[key] for key in _OF_A_METRIC} for each in content["metrics"]],
        "shapes": [{**{key: card[key] for key in _OF_A_SHAPE}, "sides": list(card["meshes"])} for card in cards],
        "charts": content["training"].get("charts", []),
        "error": error,
    }
    return render_page({**content, "cards": cards, "size": SIZE, "error": error, "app": app})


def _worst_first(card: Mapping[str, Any]) -> tuple[float, int]:
    """Failures before all others."""
    chamfer = card["values"].get("chamfer")
    return (-float("inf") if chamfer is None else -chamfer, card["number"])
