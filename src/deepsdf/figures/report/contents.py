"""Metrics, curves, verdicts and settings of a report as plain values, from the files that exist."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image

from deepsdf.errors import InputError
from deepsdf.figures.report.shapes import webp
from deepsdf.files import read_json
from deepsdf.library.quality import VERDICTS, QualityFile
from deepsdf.library.scores import ShapeMetrics
from deepsdf.metrics.registry import METRICS
from deepsdf.metrics.summary import statistics
from deepsdf.rendering.colours import nice_maximum
from deepsdf.splits import ShapeName, read_split
from deepsdf.training.logs import TrainingLogs
from deepsdf.workspace import DataSource, Experiment

CURVE = 500
"""Points per curve at most: about one per CSS pixel of a chart."""

LISTED = 500
"""Shapes in the table of verdicts at most, doubtful shapes first: each row takes about 200 bytes."""

PICTURED = 24
"""Doubtful shapes of which the slice of the signed distance is shown, at most."""

_PICTURE_HEIGHT = 120  # pixels


def metric_table(rows: Sequence[ShapeMetrics], seed: int) -> list[dict[str, Any]]:
    """Statistics of every metric over the rows that have it, equal to those of summary.json, with its texts."""
    table = []
    for name, metric in METRICS.items():
        values = [row.metrics.get(name) for row in rows]
        known = np.array([value for value in values if value is not None], np.float64)
        texts = {
            "name": name,
            "label": metric.heading,
            "description": metric.description,
            "direction": metric.direction,
        }
        printed = {"factor": metric.factor, "decimals": metric.decimals, "headline": metric.headline}
        table.append({**texts, **printed, "count": len(known), **statistics(known, seed=seed)})
    return table


def error_maximum(rows: Sequence[ShapeMetrics]) -> float:
    """End of the error scale, unit frame: nine tenths of the shapes have a smaller `hausdorff_95`. Rounded up."""
    values = [row.metrics.get("hausdorff_95") for row in rows]
    known = [value for value in values if value is not None]
    return nice_maximum(np.quantile(known, [0.9])) if known else 1.0


def training_curves(experiment: Experiment) -> dict[str, Any]:
    """Curves of the training log, or `{"missing": reason}`."""
    try:
        logs = TrainingLogs.load(experiment.logs_path)
        losses = np.asarray(logs.loss, np.float64)
        rates = np.asarray(logs.learning_rate, np.float64)
        seconds = np.asarray(logs.timing, np.float64)
        magnitudes = np.array([float(value) for value in logs.latent_magnitude])
        epochs = len(seconds)
        if not epochs or not len(losses) or rates.ndim != 2:
            raise InputError(f"{experiment.logs_path} has no epochs yet")
    except (InputError, ValueError, TypeError) as error:
        return {"missing": str(error)}
    steps = len(losses) / epochs
    names = ("decoder", "codes", "hidden matrices")
    rate_curves = [{"name": name, **curve(rate)} for name, rate in zip(names, rates.T, strict=False)]
    per_epoch = max(1, round(steps))
    return {
        "epochs": epochs,
        "steps": len(losses),
        "seconds": float(seconds.sum()),
        "loss": float(losses[-per_epoch:].mean()),
        "first_loss": float(losses[:per_epoch].mean()),
        "charts": [
            _chart("loss", "Training loss", "loss", [{"name": "loss", **curve(losses, 1 / steps)}], log=True),
            _chart("rates", "Learning rates", "rate", rate_curves),
            _chart("time", "Time per epoch", "seconds", [{"name": "time", **curve(seconds)}]),
            _chart("codes", "Norm of the codes", "mean norm", [{"name": "codes", **curve(magnitudes)}]),
        ],
    }


def _chart(key: str, title: str, unit: str, curves: Sequence[Mapping[str, Any]], log: bool = False) -> dict[str, Any]:
    ends = ", ".join(f"{each['name']} from {each['y'][0]:.3g} to {each['y'][-1]:.3g}" for each in curves if each["y"])
    epochs = max((each["x"][-1] for each in curves if each["x"]), default=0)
    words = f"{title} over {epochs:.0f} epochs: {ends}"
    return {"key": key, "title": title, "unit": unit, "log": log, "curves": curves, "words": words}


def curve(values: np.ndarray, step: float = 1.0) -> dict[str, list[float]]:
    """A curve of at most `CURVE` points: values (n,) are divided into parts.

    Args:
        step: distance along x between values; the first value is at x = `step`.
    Returns:
        "x", "y": means of the parts; "low", "high": their extremes. Parts without finite values are omitted.
    """
    parts = [part for part in np.array_split(np.arange(len(values)), min(CURVE, max(1, len(values)))) if len(part)]
    kept = [part[np.isfinite(values[part])] for part in parts]
    kept = [part for part in kept if len(part)]
    return {
        "x": [_short((part.mean() + 1) * step) for part in kept],
        "y": [_short(values[part].mean()) for part in kept],
        "low": [_short(values[part].min()) for part in kept],
        "high": [_short(values[part].max()) for part in kept],
    }


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def data_verdicts(data: DataSource, parts: Mapping[str, Collection[ShapeName]]) -> dict[str, Any]:
    """Verdicts of preprocess.csv on the shapes of each part ("training", "evaluated"), most doubtful first."""
    qualities = QualityFile(data.quality_path).read()
    names = {str(shape): shape for shapes in parts.values() for shape in shapes}
    found = [quality for name, quality in qualities.items() if name in names]
    found.sort(key=lambda each: (VERDICTS.index(each.verdict), -each.uncertain, each.shape))
    if not found:
        return {
            "missing": f"{data.quality_path} has no verdicts on these shapes; run `deepsdf preprocess` to create them."
        }
    counts = []
    for part, shapes in parts.items():
        own = Counter(qualities[name].verdict if (name := str(shape)) in qualities else "unknown" for shape in shapes)
        counts.append({"part": part, "shapes": len(shapes), **{each: own[each] for each in (*VERDICTS, "unknown")}})
    of_part = {part: {str(shape) for shape in shapes} for part, shapes in parts.items()}
    listed = [
        {**quality._asdict(), "parts": [part for part in parts if quality.shape in of_part[part]]}
        for quality in found[:LISTED]
    ]
    doubtful = [quality for quality in found if quality.verdict != "ok"][:PICTURED]
    pictures = [{"quality": quality, "picture": _picture(data, names[quality.shape])} for quality in doubtful]
    return {
        "counts": counts,
        "rows": listed,
        "more": len(found) - len(listed),
        "pictures": [each for each in pictures if each["picture"]],
        "by_shape": {quality.shape: quality.verdict for quality in found},
    }


def _picture(data: DataSource, shape: ShapeName) -> str:
    """The picture of a shape that preprocessing wrote, as base64; empty if there is none."""
    with suppress(OSError, ValueError, Image.DecompressionBombError), Image.open(data.picture_path(shape)) as image:
        return base64.b64encode(webp(image.convert("RGB"), _PICTURE_HEIGHT / image.height)).decode()
    return ""


def settings(experiment: Experiment) -> list[tuple[str, str]]:
    """Names and values of specs.json, or why it cannot be read."""
    try:
        return flat(read_json(experiment.root / "specs.json", "a settings file (specs.json)"))
    except InputError as error:
        return [("specs.json", str(error))]


def flat(content: object, name: str = "") -> list[tuple[str, str]]:
    """JSON as rows of name and text; nested values are named `key › key`."""
    if isinstance(content, dict) and content:
        found = [flat(below, f"{name} › {key}" if name else str(key)) for key, below in content.items()]
    elif isinstance(content, list) and content and all(isinstance(each, dict) for each in content):
        found = [flat(each, f"{name} {number}") for number, each in enumerate(content, 1)]
    else:
        return [(name, content if isinstance(content, str) else json.dumps(content, ensure_ascii=False))]
    return [row for rows in found for row in rows]


def description(experiment: Experiment) -> str:
    """The description in specs.json; empty if it cannot be read."""
    with suppress(InputError):
        return experiment.specs.description_text
    return ""


def training_shapes(experiment: Experiment) -> list[ShapeName]:
    """Shapes of the training split; empty if it cannot be read."""
    with suppress(InputError):
        return read_split(experiment.specs.train_split)
    return []
