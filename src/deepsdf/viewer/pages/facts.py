"""Figures of the shape that is shown, and its neighbours among the training shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from deepsdf.metrics.surfaces import SurfaceMetrics
from deepsdf.viewer.pages.widgets import many, notes, on_click, table

NEIGHBOURS = 5


def rows_of(found: SurfaceMetrics) -> list[tuple[str, str]]:
    """What a person asks first; the rest is in `deepsdf evaluate`. Unit frame."""
    rows = [
        ("Chamfer × 10³", f"{1000 * found.chamfer:.3f}"),
        ("F-score at 1 %", f"{found.f_score_one_percent:.3f}"),
        ("Mesh accuracy, 90 %", f"{found.mesh_accuracy:.4f}"),
        ("Mesh completion", f"{found.mesh_completion:.3f}"),
        ("Hausdorff", f"{found.hausdorff:.3f}"),
    ]
    if found.earth_mover_distance is not None:
        rows.insert(1, ("Earth mover's distance", f"{found.earth_mover_distance:.4f}"))
    if found.volumetric_iou is not None:
        rows.append(("Volumetric IoU", f"{found.volumetric_iou:.3f}"))
    if found.cosine_to_surface is not None:
        rows.append(("Normals' cosine", f"{found.cosine_to_surface:.3f}"))
    return rows


class Facts:
    """The figures' place in the page.

    Args:
        go: told the row of a training shape that was clicked.
    """

    def __init__(self, client: Any, go: Callable[[int], None]) -> None:
        gui = client.gui
        self._rows: list[int] = []
        self.place = gui.add_html("")
        with gui.add_folder("Against the truth"):
            self.metrics = gui.add_html("")
        with gui.add_folder("Nearest training shapes"):
            gui.add_html(notes("By the distance between codes; click to go there."))
            self.buttons = [gui.add_button("", visible=False) for _ in range(NEIGHBOURS)]
        for number, button in enumerate(self.buttons):
            on_click(button, client, lambda number=number: go(self._rows[number]))

    def near(self, found: Sequence[tuple[int, str, float]]) -> None:
        """Row, name and distance of the nearest training shapes."""
        self._rows = [row for row, _, _ in found]
        for number, button in enumerate(self.buttons):
            button.visible = number < len(found)
            if number < len(found):
                _, name, away = found[number]
                button.label = f"{away:.2f} · {name}"

    def say(self, rows: Sequence[tuple[str, str]]) -> None:
        self.place.content = table(rows)

    def measured(self, found: SurfaceMetrics | None, why: str = "") -> None:
        """The metrics, or why there are none."""
        if found is None:
            self.metrics.content = notes(why)
            return
        self.metrics.content = table(rows_of(found)) + notes(
            f"{many(found.surface_points)} points a surface, unit frame"
        )
