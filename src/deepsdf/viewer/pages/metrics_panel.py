"""Metrics of the shown shape, and its nearest training shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from deepsdf.metrics.registry import METRICS
from deepsdf.metrics.surfaces import SurfaceMetrics
from deepsdf.viewer.html import grouped, note, table
from deepsdf.viewer.widgets import on_click


def metric_rows(metrics: SurfaceMetrics) -> list[tuple[str, str]]:
    """Names and values of the metrics that `deepsdf evaluate` prints, unit frame; undefined ones are left out."""
    rows = []
    for name, value in metrics.values.items():
        metric = METRICS[name]
        if metric.columns and value is not None:
            rows.append((metric.heading, f"{metric.factor * value:.{metric.decimals}f}"))
    return rows


class MetricsPanel:
    """The panel, whose controls are created in the current container.

    Args:
        on_neighbour: receives the row of a training shape that was clicked.
    """

    def __init__(self, client: Any, on_neighbour: Callable[[int], None], neighbours: int = 5) -> None:
        gui = client.gui
        self._rows: list[int] = []
        self.code = gui.add_html("")
        with gui.add_folder("Compared with the true mesh"):
            self.metrics = gui.add_html("")
        with gui.add_folder("Nearest training shapes"):
            gui.add_html(note("Distance between the codes, and name. Click to show the shape."))
            self.buttons = [gui.add_button("", visible=False) for _ in range(neighbours)]
        for number, button in enumerate(self.buttons):
            on_click(button, client, lambda number=number: on_neighbour(self._rows[number]))

    def show_neighbours(self, neighbours: Sequence[tuple[int, str, float]]) -> None:
        """Show row, name and distance of the nearest training shapes."""
        self._rows = [row for row, _, _ in neighbours]
        for number, button in enumerate(self.buttons):
            button.visible = number < len(neighbours)
            if number < len(neighbours):
                _, name, distance = neighbours[number]
                button.label = f"{distance:.2f} · {name}"

    def show_code(self, rows: Sequence[tuple[str, str]]) -> None:
        """Show names and values that describe the code."""
        self.code.content = table(rows)

    def show_metrics(self, metrics: SurfaceMetrics) -> None:
        """Show the metrics of the shown mesh."""
        self.metrics.content = table(metric_rows(metrics)) + note(
            f"{grouped(metrics.surface_points)} points per surface, unit frame"
        )

    def show_status(self, text: str) -> None:
        """Show a line of HTML in place of the metrics."""
        self.metrics.content = note(text)
