"""Pages without a network: the shapes of a data source, or one file."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from deepsdf.geometry.fields import Field
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.jobs.worker import IsWanted, Worker
from deepsdf.library.quality import VERDICTS, Quality
from deepsdf.rendering.camera import CLAY, Axis
from deepsdf.splits import ShapeName
from deepsdf.viewer.content.catalogue import labels_of
from deepsdf.viewer.content.previews import Preview, preview_shape
from deepsdf.viewer.html import escape, heading, note, table
from deepsdf.viewer.scene.layers import INSIDE, MAX_POINTS, OUTSIDE, SCAN, UNCERTAIN, SlicePlane, subset
from deepsdf.viewer.scene.stage import Stage
from deepsdf.viewer.widgets import on_click, on_input
from deepsdf.workspace import DataSource

VERDICT_COLOURS = {"ok": "#2f7d4f", "doubtful": "#a06a00", "rejected": "#b3352b"}
ALL = "all"


class PreviewLayers:
    """The layers of a preview, with a checkbox for each, created in the current container."""

    def __init__(self, client: Any, stage: Stage, worker: Worker) -> None:
        self.stage, self.worker = stage, worker
        self._preview = Preview("")
        self._field: Field | None = None
        self._uncertain: np.ndarray | None = None
        gui = client.gui
        self.mesh = gui.add_checkbox("Mesh", True)
        self.points = gui.add_checkbox("Surface points", False)
        self.outside = gui.add_checkbox("Samples outside", False)
        self.inside = gui.add_checkbox("Samples inside", True)
        self.uncertain = gui.add_checkbox(
            "Samples of uncertain sign", False, hint="Two methods disagree on inside and outside"
        )
        self.slice = SlicePlane(client, stage, self.draw)
        for handle in (self.mesh, self.points, self.outside, self.inside, self.uncertain):
            on_input(handle, client, self.draw)

    def show(self, preview: Preview) -> None:
        """Show another preview."""
        self._preview, self._field, self._uncertain = preview, None, None
        for handle, available in (
            (self.mesh, preview.mesh is not None),
            (self.points, preview.points is not None),
            (self.outside, preview.samples is not None),
            (self.inside, preview.samples is not None),
            (self.uncertain, preview.samples is not None and preview.mesh is not None),
            (self.slice.on, preview.field is not None),
        ):
            handle.disabled = not available
        if preview.mesh is None and preview.samples is None:
            self.points.value = True
        self.draw()

    def draw(self) -> None:
        """Redraw with the current controls."""
        self.slice.update_controls()
        self.worker.submit("draw", self._draw)

    def field(self) -> Field | None:
        """The signed distance field, computed on first use."""
        if self._field is None and self._preview.field is not None:
            self._field = self._preview.field()
        return self._field

    def _draw(self, is_wanted: IsWanted) -> None:
        preview, stage = self._preview, self.stage
        if self.slice.on.value and not self.slice.on.disabled and (field := self.field()) is not None:
            self.slice.draw(field, np.zeros(3))
        else:
            stage.remove("/slice")
        if preview.mesh is not None and self.mesh.value:
            inside = self.inside.value and preview.samples is not None
            stage.mesh("/mesh", self.slice.cut(preview.mesh), CLAY, opacity=0.35 if inside else None)
        else:
            stage.remove("/mesh")
        samples = preview.samples
        layers: list[tuple[str, Any, np.ndarray | None, Any, float]] = [
            ("/points", self.points, preview.points, SCAN, 0.009),
            ("/outside", self.outside, None if samples is None else samples.pos[:, :3], OUTSIDE, 0.006),
            ("/inside", self.inside, None if samples is None else samples.neg[:, :3], INSIDE, 0.006),
            ("/uncertain", self.uncertain, self._uncertain_points(), UNCERTAIN, 0.016),
        ]
        for name, handle, points, colour, size in layers:
            if points is None or not handle.value or handle.disabled or not is_wanted():
                stage.remove(name)
            else:
                stage.points(name, subset(self.slice.behind(points), 2 * MAX_POINTS), colour, size)

    def _uncertain_points(self) -> np.ndarray | None:
        samples = self._preview.samples
        if samples is None or not self.uncertain.value or not isinstance(field := self.field(), MeshSDF):
            return None
        if self._uncertain is None:
            points = subset(samples.points, 2 * MAX_POINTS)
            self._uncertain = points[field.uncertain(points)]
        return self._uncertain


class FilePage:
    """The page of one file."""

    def __init__(self, client: Any, preview: Preview, up: Axis) -> None:
        self.worker = Worker(f"page {client.client_id}")
        self.stage = Stage(client, up)
        client.gui.add_html(heading(preview.name, "In the unit frame: centred, and scaled into the unit sphere."))
        client.gui.add_html(table(preview.properties))
        self.layers = PreviewLayers(client, self.stage, self.worker)
        on_click(client.gui.add_button("Reset camera"), client, self.stage.reset_camera)
        self.layers.show(preview)

    def close(self) -> None:
        """Stop drawing."""
        self.worker.close()


class DataPage:
    """The page of a data source: one shape at a time, with its verdict."""

    def __init__(self, client: Any, data: DataSource, shapes: Mapping[ShapeName, Quality | None], up: Axis) -> None:
        self.client, self.data, self.shapes = client, data, shapes
        self.worker = Worker(f"page {client.client_id}")
        self.stage = Stage(client, up)
        self._lock = threading.RLock()
        self._names = {label: shape for shape, label in labels_of(shapes).items()}
        counts = {
            verdict: sum(1 for one in shapes.values() if one is not None and one.verdict == verdict)
            for verdict in VERDICTS
        }
        summary = ", ".join(f"{number} {verdict}" for verdict, number in counts.items() if number)
        gui = client.gui
        gui.add_html(heading(data.root.resolve().name, f"{len(shapes)} shapes" + (f": {summary}." if summary else ".")))
        kinds = (ALL, *(verdict for verdict, number in counts.items() if number))
        self.verdict = gui.add_dropdown("Verdict", kinds, initial_value=ALL)
        labels = self._labels()
        self.choice = gui.add_dropdown("Show", tuple(labels), initial_value=labels[0])
        self.step = gui.add_button_group("", ("‹", "›"))
        self.about = gui.add_html("")
        self.layers = PreviewLayers(client, self.stage, self.worker)
        camera = gui.add_button("Reset camera")
        on_input(self.verdict, client, self._filter)
        on_input(self.choice, client, lambda: self.pick(self.choice.value))
        on_click(self.step, client, self._step)
        on_click(camera, client, self.stage.reset_camera)
        self.pick(labels[0])

    def _labels(self) -> list[str]:
        chosen = self.verdict.value
        return [
            label
            for label, shape in self._names.items()
            if chosen == ALL or ((verdict := self.shapes[shape]) is not None and verdict.verdict == chosen)
        ]

    def _filter(self) -> None:
        labels = self._labels()
        self.choice.options = tuple(labels)
        self.pick(labels[0])

    def _step(self) -> None:
        labels = self._labels()
        index = labels.index(self.choice.value) + (1 if self.step.value == "›" else -1)
        self.pick(labels[index % len(labels)])

    def pick(self, label: str) -> None:
        """Show the shape of a label."""
        shape = self._names[label]
        with self._lock:
            self.choice.value = label
        self.about.content = note("reading ...")
        self.worker.submit("read", lambda is_wanted: self._read(shape, is_wanted))

    def _read(self, shape: ShapeName, is_wanted: IsWanted) -> None:
        preview = preview_shape(self.data, shape, self.shapes[shape])
        if is_wanted():
            self.about.content = verdict_html(preview)
            self.layers.show(preview)

    def close(self) -> None:
        """Stop reading and drawing."""
        self.worker.close()


def verdict_html(preview: Preview) -> str:
    """Verdict and properties of a shape (HTML)."""
    quality, rows = preview.verdict, list(preview.properties)
    if quality is None:
        return note("No verdict: the samples were not made by <code>deepsdf preprocess</code>.") + table(rows)
    mark = f'<b style="color:{VERDICT_COLOURS[quality.verdict]}">{escape(quality.verdict)}</b>'
    rows += [
        ("Samples of uncertain sign", f"{quality.uncertain:.2%}"),
        ("Share of samples inside", f"{quality.inside:.1%}"),
        ("Closed", "yes" if quality.closed else "no"),
        ("Faces of open surfaces", str(quality.sheets)),
        ("Holes, of which closed", f"{quality.holes}, {quality.capped}"),
    ]
    return note(f"{mark}: {escape(quality.reason)}" if quality.reason else mark) + table(rows)
