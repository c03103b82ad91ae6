"""Metrics as text: cells of the tables that `deepsdf evaluate` prints, and the table of docs/metrics.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from deepsdf.metrics.registry import METRICS, Column, Metric


def cells(metric: Metric, column: Column, samples: Sequence[np.ndarray], *, mark: bool) -> list[str]:
    """One column of a table: a statistic of each sample (n,), "-" for an empty one.

    Args:
        mark: append "*" to the best figures, and a space to the others so that digits stay aligned.
    """
    statistic = getattr(np, column.statistic)
    figures = [float(statistic(values)) if len(values) else None for values in samples]
    best = metric.best([figure for figure in figures if figure is not None])
    suffix = {True: "*", False: " "} if mark else {True: "", False: ""}
    return [
        "-" if figure is None else f"{figure * metric.factor:.{column.decimals}f}{suffix[figure == best]}"
        for figure in figures
    ]


def factors(metrics: Iterable[Metric]) -> str:
    """The factors of printed figures: "chamfer × 10³"; empty if there are none."""
    return ", ".join(metric.heading.lower() for metric in metrics if metric.factor != 1)


def markdown_table() -> str:
    """All metrics as the Markdown table of docs/metrics.md."""
    rows = [
        f"| `{metric.name}` | {metric.unit} | {metric.direction} | {metric.definition.replace('|', chr(92) + '|')} |"
        for metric in METRICS.values()
    ]
    return "\n".join(["| metric | unit | better | definition |", "|---|---|---|---|", *rows])
