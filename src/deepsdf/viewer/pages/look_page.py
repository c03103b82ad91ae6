"""The pages without a network: a data source to walk through, or one file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from deepsdf.geometry.fields import Field
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.library.quality import VERDICTS, Quality
from deepsdf.rendering.camera import CLAY, Axis
from deepsdf.splits import ShapeName
from deepsdf.viewer.content.catalogue import labels_of
from deepsdf.viewer.content.looks import Look, of_shape
from deepsdf.viewer.pages.widgets import by_hand, notes, on_click, table, title, words
from deepsdf.viewer.scene.layers import INSIDE, OUTSIDE, SCAN, SHOWN, UNSURE, SlicePlane, some
from deepsdf.viewer.scene.redraw import Jobs
from deepsdf.viewer.scene.stage import Stage
from deepsdf.workspace import DataSource

TINTS = {"ok": "#2f7d4f", "doubtful": "#a06a00", "rejected": "#b3352b"}
EVERY = "all"


class LookLayers:
    """What is drawn of a look, with a checkbox for each layer that it has."""

    def __init__(self, client: Any, stage: Stage, jobs: Jobs) -> None:
        self.stage, self.jobs = stage, jobs
        self._look = Look("")
        self._field: Field | None = None
        self._unsure: np.ndarray | None = None
        gui = client.gui
        self.mesh = gui.add_checkbox("Mesh", True)
        self.points = gui.add_checkbox("Points of the surface", False)
        self.outside = gui.add_checkbox("Samples outside", False)
        self.inside = gui.add_checkbox("Samples inside", True)
        self.unsure = gui.add_checkbox("Samples of uncertain sign", False, hint="Two methods disagree there")
        self.slice = SlicePlane(client, stage, self.draw)
        for handle in (self.mesh, self.points, self.outside, self.inside, self.unsure):
            by_hand(handle, client, self.draw)

    def show(self, look: Look) -> None:
        """Another shape."""
        self._look, self._field, self._unsure = look, None, None
        for handle, there in (
            (self.mesh, look.mesh is not None),
            (self.points, look.points is not None),
            (self.outside, look.samples is not None),
            (self.inside, look.samples is not None),
            (self.unsure, look.samples is not None and look.mesh is not None),
            (self.slice.on, look.field is not None),
        ):
            handle.disabled = not there
        if look.mesh is None and look.samples is None:
            self.points.value = True
        self.draw()

    def draw(self) -> None:
        self.slice.arrange()
        self.jobs.ask("draw", self._draw)

    def field(self) -> Field | None:
        """The signed distance, made when it is first asked for."""
        if self._field is None and self._look.field is not None:
            self._field = self._look.field()
        return self._field

    def _draw(self, wanted: Callable[[], bool]) -> None:
        look, stage = self._look, self.stage
        if self.slice.on.value and not self.slice.on.disabled and (made := self.field()) is not None:
            self.slice.draw(made, np.zeros(3))
        else:
            stage.remove("/slice")
        if look.mesh is not None and self.mesh.value:
            inside = self.inside.value and look.samples is not None
            stage.mesh("/mesh", self.slice.cut(look.mesh), CLAY, opacity=0.35 if inside else None)
        else:
            stage.remove("/mesh")
        samples = look.samples
        layers: list[tuple[str, Any, np.ndarray | None, Any, float]] = [
            ("/points", self.points, look.points, SCAN, 0.009),
            ("/outside", self.outside, None if samples is None else samples.pos[:, :3], OUTSIDE, 0.006),
            ("/inside", self.inside, None if samples is None else samples.neg[:, :3], INSIDE, 0.006),
            ("/unsure", self.unsure, self._uncertain(), UNSURE, 0.016),
        ]
        for name, handle, points, colour, size in layers:
            if points is None or not handle.value or handle.disabled or not wanted():
                stage.remove(name)
            else:
                stage.points(name, some(self.slice.behind(points), 2 * SHOWN), colour, size)

    def _uncertain(self) -> np.ndarray | None:
        look = self._look
        if look.samples is None or not self.unsure.value or not isinstance(made := self.field(), MeshSDF):
            return None
        if self._unsure is None:
            points = some(look.samples.points, 2 * SHOWN)
            self._unsure = points[made.uncertain(points)]
        return self._unsure


class FilePage:
    """One file."""

    def __init__(self, client: Any, look: Look, up: Axis) -> None:
        self.jobs = Jobs(str(client.client_id))
        self.stage = Stage(client, up)
        client.gui.add_html(title(look.name, "In the unit frame: its middle in the middle, scaled into a ball."))
        client.gui.add_html(table(look.facts))
        self.layers = LookLayers(client, self.stage, self.jobs)
        on_click(client.gui.add_button("Camera home"), client, self.stage.home)
        self.layers.show(look)

    def close(self) -> None:
        self.jobs.close()


class DataPage:
    """Shapes of a data source, one after the other, with their verdicts."""

    def __init__(self, client: Any, data: DataSource, shapes: Mapping[ShapeName, Quality | None], up: Axis) -> None:
        self.client, self.data, self.shapes = client, data, shapes
        self.jobs = Jobs(str(client.client_id))
        self.stage = Stage(client, up)
        self._lock = threading.RLock()
        self._names = {label: shape for shape, label in labels_of(shapes).items()}
        counts = {
            verdict: sum(1 for one in shapes.values() if one is not None and one.verdict == verdict)
            for verdict in VERDICTS
        }
        said = ", ".join(f"{number} {verdict}" for verdict, number in counts.items() if number)
        gui = client.gui
        gui.add_html(title(data.root.resolve().name, f"{len(shapes)} shapes" + (f": {said}." if said else ".")))
        kinds = (EVERY, *(verdict for verdict, number in counts.items() if number))
        self.verdict = gui.add_dropdown("Verdict", kinds, initial_value=EVERY)
        labels = self._labels()
        self.choice = gui.add_dropdown("Show", tuple(labels), initial_value=labels[0])
        self.step = gui.add_button_group("", ("‹", "›"))
        self.about = gui.add_html("")
        self.layers = LookLayers(client, self.stage, self.jobs)
        camera = gui.add_button("Camera home")
        by_hand(self.verdict, client, self._filter)
        by_hand(self.choice, client, lambda: self.pick(self.choice.value))
        on_click(self.step, client, self._stepped)
        on_click(camera, client, self.stage.home)
        self.pick(labels[0])

    def _labels(self) -> list[str]:
        wanted = self.verdict.value
        return [
            label
            for label, shape in self._names.items()
            if wanted == EVERY or ((verdict := self.shapes[shape]) is not None and verdict.verdict == wanted)
        ]

    def _filter(self) -> None:
        labels = self._labels()
        self.choice.options = tuple(labels)
        self.pick(labels[0])

    def _stepped(self) -> None:
        labels = self._labels()
        at = labels.index(self.choice.value) + (1 if self.step.value == "›" else -1)
        self.pick(labels[at % len(labels)])

    def pick(self, label: str) -> None:
        """Show a shape by the name it has in the list."""
        shape = self._names[label]
        with self._lock:
            self.choice.value = label
        self.about.content = notes("reading ...")
        self.jobs.ask("read", lambda wanted: self._read(shape, wanted))

    def _read(self, shape: ShapeName, wanted: Callable[[], bool]) -> None:
        look = of_shape(self.data, shape, self.shapes[shape])
        if wanted():
            self.about.content = verdict_html(look)
            self.layers.show(look)

    def close(self) -> None:
        self.jobs.close()


def verdict_html(look: Look) -> str:
    """A look's verdict and figures."""
    quality, rows = look.verdict, list(look.facts)
    if quality is None:
        return notes("No verdict: the samples were not made by <code>deepsdf preprocess</code>.") + table(rows)
    mark = f'<b style="color:{TINTS[quality.verdict]}">{words(quality.verdict)}</b>'
    rows += [
        ("Samples of uncertain sign", f"{quality.uncertain:.2%}"),
        ("Samples inside, share", f"{quality.inside:.1%}"),
        ("Closed", "yes" if quality.closed else "no"),
        ("Open sheets, faces", str(quality.sheets)),
        ("Holes, and closed ones", f"{quality.holes}, {quality.capped}"),
    ]
    return notes(f"{mark}: {words(quality.reason)}" if quality.reason else mark) + table(rows)
