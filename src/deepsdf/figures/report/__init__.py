"""The report of an evaluation as one HTML file: metrics, curves, verdicts, and every shape in pictures and 3D."""

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
from deepsdf.figures.options import ReportOptions
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
from deepsdf.rendering.colours import error_colours
from deepsdf.splits import Failure, ShapeName, read_split
from deepsdf.workspace import DataSource, Experiment

SIZE = 320
"""Pixels per side of a picture. A card shows three in a row, each about 160 CSS pixels wide: twice that is sharp on
screens of high density."""

LARGEST_BUDGET, SMALLEST_BUDGET = 400_000, 10_000
"""Bounds of the characters per shape for pictures and meshes. Pictures take at most half of them. Two meshes of 12 000
faces take about 180 000 characters, two of 300 faces (the fewest that are shown) about 5 000."""

_MARKUP = 4_000  # characters per shape for names, values, notes and markup: about 3 000 with the longest notes
_NOTES = 500  # characters of a shape's notes, at most

_METRIC_KEYS = ("name", "direction", "label", "factor", "decimals", "description")
_SHAPE_KEYS = ("number", "name", "instance", "category", "status", "reason", "verdict", "values", "notes")
"""Values that the page's scripts receive."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        path: of the HTML file.
        shapes: number of shapes.
        failures: evaluated shapes of which a picture or a mesh is missing, and why.
        size: of the file in bytes.
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
    options: ReportOptions = ReportOptions(),
    *,
    checkpoint: str | int = "latest",
    workers: int = 0,
    on_progress: OnProgress | None = None,
) -> Report:
    """Write the report of an evaluation as one HTML file, which needs no network. Never leaves a partial file.

    Args:
        data: the data source; None: that of specs.json.
        split: file of the shapes to show; None: all evaluated shapes.
        out: the file to write; None: report.html in the folder of the evaluation.
        checkpoint: the checkpoint that was evaluated.
        workers: number of processes; 0: this process.
        on_progress: called with the number of shapes, then with each finished shape.
    Raises:
        InputError: no shape (of the split) was evaluated, no data source, or too many shapes for `options.max_mb`.
    """
    source = data or _named_source(experiment)
    summary, rows = _evaluation(experiment, source, checkpoint, split)
    content = _content(experiment, source, checkpoint, summary, rows)
    top = error_maximum(rows) if options.error_max is None else options.error_max
    epoch = summary["epoch"]
    shapes = [row.shape for row in rows]
    budget = _budget(len(_page(content, rows, {}, top).encode()), len(rows), options.max_mb)
    drawing = Drawing(epoch, SIZE, options.faces, top, budget)
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
        specs = experiment.root / "specs.json"
        raise InputError(f"cannot open the data source of {specs}: {error}; pass --data") from None


def _evaluation(
    experiment: Experiment, data: DataSource, checkpoint: str | int, split: str | os.PathLike[str] | None
) -> tuple[dict[str, Any], list[ShapeMetrics]]:
    """summary.json, and the rows of metrics.csv that belong to the split, one per shape."""
    folder = experiment.evaluation_folder(checkpoint)
    again = _evaluate_command(experiment, data, checkpoint, split)
    try:
        rows = {row.shape: row for row in read_metrics_csv(folder / "metrics.csv")}
        summary = read_json(folder / "summary.json", "a summary.json")
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
    """Characters of base64 per shape for pictures and meshes."""
    budget = int((max_mb * 1e6 - fixed) / shapes) - _MARKUP
    if budget < SMALLEST_BUDGET:
        needed = (fixed + shapes * (_MARKUP + SMALLEST_BUDGET)) / 1e6
        raise InputError(f"a report of {shapes} shapes does not fit into {max_mb:g} MB; pass --max-mb "
                         f"{needed + 0.05:.1f} or more, or a --split with fewer shapes")  # fmt: skip
    return min(budget, LARGEST_BUDGET)


def _content(
    experiment: Experiment,
    data: DataSource,
    checkpoint: str | int,
    summary: Mapping[str, Any],
    rows: Sequence[ShapeMetrics],
) -> dict[str, Any]:
    """The content of the page except pictures and meshes."""
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
    """A notice if the checkpoint has changed since the evaluation; empty if it has not, or is missing."""
    try:
        now = resolve_epoch(experiment, checkpoint)
    except InputError:
        return ""
    if now == epoch:
        return ""
    notice = f"the checkpoint {checkpoint} was epoch {epoch} when it was evaluated, but is epoch {now} now"
    logger.warning("%s: %s; the report shows epoch %d", experiment.root, notice, epoch)
    return notice


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
        "metrics": [{key: each[key] for key in _METRIC_KEYS} for each in content["metrics"]],
        "shapes": [{**{key: card[key] for key in _SHAPE_KEYS}, "sides": list(card["meshes"])} for card in cards],
        "charts": content["training"].get("charts", []),
        "error": error,
    }
    return render_page({**content, "cards": cards, "size": SIZE, "error": error, "app": app})


def _worst_first(card: Mapping[str, Any]) -> tuple[float, int]:
    """Sort key: failed shapes first, then by falling chamfer distance."""
    chamfer = card["values"].get("chamfer")
    return (-float("inf") if chamfer is None else -chamfer, card["number"])
