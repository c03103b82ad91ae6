"""What is drawn over or beside a learned shape: truth, errors, a slice, samples, a scan."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import trimesh

from deepsdf.errors import DeepSDFError
from deepsdf.geometry.fields import Field
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.rendering.camera import CLAY, Axis, Colour
from deepsdf.rendering.colours import error_colours, nice_maximum, slice_image
from deepsdf.viewer.content.catalogue import Known
from deepsdf.viewer.pages.widgets import by_hand, notes
from deepsdf.viewer.scene.redraw import COARSE, Drawn, Jobs, Watched
from deepsdf.viewer.scene.stage import TRUTH, Stage, home, upright

OUTSIDE, INSIDE, UNSURE, SCAN = (226, 120, 90), (58, 110, 180), (250, 200, 30), (40, 150, 90)
"""Colours of points."""

SHOWN = 12_000
"""Samples drawn of each side."""

SLICE = 224
"""Pixels a side."""

CLAMP = 0.1
"""Distance at which a slice's colours end, unit frame."""

BOUND = 1.0
"""Half the side of a slice, unit frame."""

BESIDE = 1.3
"""How far apart truth and shape stand, side by side."""

BESIDE_AWAY = 1.45
"""How far the camera steps back to have both in sight."""

OFF, LEFT, OVER = "off", "beside", "over"


def some(rows: np.ndarray, count: int = SHOWN, seed: int = 0) -> np.ndarray:
    """At most `count` rows, at random."""
    if len(rows) <= count:
        return rows
    return rows[np.random.default_rng(seed).choice(len(rows), count, replace=False)]


def colour_bar(top: float) -> str:
    """The colours of errors from 0 to `top`, in HTML."""
    steps = [f"rgb({r},{g},{b})" for r, g, b in error_colours(np.linspace(0, top, 9), top).tolist()]
    bar = f"height:0.7em;border-radius:2px;background:linear-gradient(to right,{','.join(steps)})"
    ends = f'<div style="display:flex;justify-content:space-between"><span>0</span><span>≥ {top:g}</span></div>'
    return notes(f'Distance to the truth, unit frame<div style="{bar}"></div>{ends}')


def cut(mesh: trimesh.Trimesh, axis: Axis, offset: float, side: float = 1.0) -> trimesh.Trimesh:
    """The half of a mesh below a plane across `axis`; above it where `side` is -1."""
    normal = -side * np.eye(3)["xyz".index(axis)]
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    found = trimesh.intersections.slice_faces_plane(vertices, faces, normal, -side * normal * offset)
    return trimesh.Trimesh(found[0], found[1], process=False)


def faded_slice(field: Field, axis: Axis, offset: float) -> np.ndarray:
    """A picture of `slice_image`, (size, size, 4): what lies far outside fades, so as not to hide what is behind."""
    found: list[np.ndarray] = []

    def remembered(points: np.ndarray) -> np.ndarray:
        found.append(np.asarray(field(points)))
        return found[-1]

    picture = slice_image(remembered, axis=axis, offset=offset, bound=BOUND, size=SLICE, clamp=CLAMP)
    # A learned field means nothing beyond the distance it was clamped at, and comes near it only.
    far = np.clip(np.concatenate(found).reshape(SLICE, SLICE) / CLAMP * 2.5 - 1.5, 0, 1)
    return np.dstack([picture, np.round(255 - 225 * far).astype(np.uint8)])


class SlicePlane:
    """The controls of a plane, and its picture."""

    def __init__(self, client: Any, stage: Stage, changed: Callable[[], None]) -> None:
        gui = client.gui
        self.stage = stage
        self.on = gui.add_checkbox("SDF slice", False, hint="The signed distance on a plane: blue inside, red outside")
        self.axis = gui.add_dropdown("Across", ("x", "y", "z"), initial_value="y" if stage.up == "z" else "z")
        self.offset = gui.add_slider("At", -BOUND, BOUND, 0.01, 0.0)
        self.axis.visible = self.offset.visible = False
        for handle in (self.on, self.axis, self.offset):
            by_hand(handle, client, changed)

    @property
    def plane(self) -> tuple[Axis, float] | None:
        return (self.axis.value, float(self.offset.value)) if self.on.value else None

    def cut(self, mesh: trimesh.Trimesh) -> trimesh.Trimesh:
        """The half of a mesh that lies behind the plane, seen from where a visitor begins."""
        if (plane := self.plane) is None or not len(mesh.faces):
            return mesh
        return cut(mesh, *plane, self._side(plane[0]))

    def behind(self, points: np.ndarray) -> np.ndarray:
        """Those of points (n, 3) that lie behind the plane."""
        if (plane := self.plane) is None:
            return points
        side = self._side(plane[0])
        return points[side * points[:, "xyz".index(plane[0])] <= side * plane[1]]

    def _side(self, axis: Axis) -> float:
        return float(np.sign(home(self.stage.up)["xyz".index(axis)]))

    def arrange(self) -> None:
        """Show the controls that do something now."""
        self.axis.visible = self.offset.visible = bool(self.on.value)

    def draw(self, field: Field, at: np.ndarray) -> None:
        """Hang the picture of a field up at a place."""
        if (plane := self.plane) is None:
            self.stage.remove("/slice")
            return
        self.stage.slice("/slice", faded_slice(field, *plane), *plane, BOUND, at)


class Layers:
    """The layers of a page of learned shapes, with their controls.

    The controls are made where this is constructed, within the current container.
    """

    def __init__(self, client: Any, stage: Stage, jobs: Jobs) -> None:
        self.client, self.stage, self.jobs = client, stage, jobs
        self._drawn: Drawn | None = None
        self._known = Known()
        self._solid: MeshSDF | None = None
        self._unsure: np.ndarray | None = None
        self._top: float | None = None
        self._lock = threading.RLock()
        gui = client.gui
        self.shape = gui.add_checkbox("Shape", True)
        self.truth = gui.add_dropdown("Truth", (OFF, LEFT, OVER), initial_value=OFF)
        self.errors = gui.add_checkbox("Error heat map", False, hint="Distance of the shape's surface to the truth")
        self.bar = gui.add_html("", visible=False)
        self.slice = SlicePlane(client, stage, self.changed)
        self.outside = gui.add_checkbox("Samples outside", False)
        self.inside = gui.add_checkbox("Samples inside", False)
        self.unsure = gui.add_checkbox("Samples of uncertain sign", False, hint="Two methods disagree there")
        self.scan = gui.add_checkbox("Partial scan", False)
        self.missing = gui.add_html("")
        by_hand(self.truth, client, self._truth_changed)
        for handle in (self.shape, self.errors, self.outside, self.inside, self.unsure, self.scan):
            by_hand(handle, client, self.changed)

    def reference(self) -> MeshSDF | np.ndarray | None:
        """The truth to measure against: repaired once; points where the mesh is gone."""
        with self._lock:
            if self._solid is None and self._known.truth is not None:
                try:
                    self._solid = MeshSDF(self._known.truth, device="cpu")
                except DeepSDFError:
                    self._solid = None
            return self._solid if self._solid is not None else self._known.points

    def forget(self) -> None:
        """Another shape, of which nothing is known yet: it is not measured by the last one's truth."""
        with self._lock:
            self._known, self._solid, self._unsure, self._top = Known(), None, None, None

    def know(self, known: Known) -> None:
        """What is known of the shape."""
        with self._lock:
            self.forget()
            self._known = known
            self.arrange()
        self.changed()

    def arrange(self) -> None:
        """Switch off what this shape has not, and say why."""
        known = self._known
        has_truth = known.truth is not None or known.points is not None
        for handle, there in (
            (self.truth, has_truth),
            (self.errors, known.truth is not None),
            (self.outside, known.samples is not None),
            (self.inside, known.samples is not None),
            (self.unsure, known.samples is not None and known.truth is not None),
            (self.scan, known.scan is not None),
        ):
            handle.disabled = not there
        lacks = [word for word, there in (("truth", has_truth), ("samples", known.samples is not None)) if not there]
        self.missing.content = notes(f"No {' and no '.join(lacks)} of this shape are known.") if lacks else ""

    def _truth_changed(self) -> None:
        if self.truth.value == LEFT:
            self.stage.home(BESIDE_AWAY)
        self.changed()

    def changed(self) -> None:
        """A control was touched."""
        self.slice.arrange()
        if self._drawn is not None:
            self._draw_shape(self._drawn)
        self.jobs.ask("layers", self._draw_rest)

    def show(self, drawn: Drawn) -> None:
        """A new mesh of the shape."""
        self._drawn = drawn
        self._draw_shape(drawn)
        if self.slice.on.value and drawn.resolution == COARSE:
            self.jobs.ask("slice", self._draw_slice)

    def colours(self, mesh: trimesh.Trimesh) -> np.ndarray | None:
        """(v, 3) of a mesh's errors, where they are shown."""
        if not self.errors.value or self.errors.disabled or not isinstance(reference := self.reference(), MeshSDF):
            return None
        away = reference.distance(np.asarray(mesh.vertices))
        top = self._top
        if top is None or (self._drawn is not None and self._drawn.resolution > COARSE):
            top = nice_maximum(away)
            if top != self._top:
                self._top = top
                self.bar.content = colour_bar(top)
        return error_colours(away, top)

    def _apart(self) -> np.ndarray:
        """How far the shape stands to the right."""
        beside = self.truth.value == LEFT and not self.truth.disabled
        return upright(self.stage.up)[:, 0] * (BESIDE / 2 if beside else 0.0)

    def _draw_shape(self, drawn: Drawn) -> None:
        with self._lock:
            mesh = drawn.mesh
            if mesh is None or not self.shape.value:
                self.stage.remove("/shape")
                return
            mesh = self.slice.cut(mesh)
            colours = self.colours(mesh) if len(mesh.faces) else None
            self.bar.visible = colours is not None
            over = self.truth.value == OVER and not self.truth.disabled
            self.stage.mesh(
                "/shape", mesh, colours=colours, colour=CLAY, opacity=0.75 if over else None, at=self._apart()
            )

    def _draw_slice(self, wanted: Callable[[], bool]) -> None:
        if self._drawn is not None:
            self.slice.draw(Watched(self._drawn.shape, wanted, quick=True), self._apart())

    def _draw_rest(self, wanted: Callable[[], bool]) -> None:
        self._draw_slice(wanted)
        self._draw_truth()
        self._draw_samples(self._known.samples)
        scan = self._known.scan
        if scan is not None and self.scan.value:
            self.stage.points("/scan", some(scan), SCAN, 0.012, at=self._apart())
        else:
            self.stage.remove("/scan")

    def _draw_truth(self) -> None:
        known, at = self._known, -self._apart()
        shown = self.truth.value != OFF and not self.truth.disabled
        if shown and known.truth is not None:
            mesh = self.slice.cut(known.truth)
            self.stage.mesh("/truth", mesh, TRUTH, opacity=0.6 if self.truth.value == OVER else None, at=at)
        elif shown and known.points is not None:
            self.stage.points("/truth", some(known.points, 30_000), TRUTH, 0.01, at=at)
        else:
            self.stage.remove("/truth")

    def _draw_samples(self, samples: SDFSamples | None) -> None:
        sides: list[tuple[str, Any, np.ndarray | None, Colour]] = [
            ("/samples/outside", self.outside, None if samples is None else samples.pos, OUTSIDE),
            ("/samples/inside", self.inside, None if samples is None else samples.neg, INSIDE),
            ("/samples/unsure", self.unsure, self._unsure_points(samples), UNSURE),
        ]
        for name, handle, rows, colour in sides:
            if rows is None or not handle.value or handle.disabled:
                self.stage.remove(name)
                continue
            points = some(self.slice.behind(rows[:, :3]))
            self.stage.points(name, points, colour, 0.014 if name.endswith("unsure") else 0.008, at=self._apart())

    def _unsure_points(self, samples: SDFSamples | None) -> np.ndarray | None:
        """Those of some samples whose sign two methods see differently; computed when first asked for."""
        if samples is None or not self.unsure.value or not isinstance(reference := self.reference(), MeshSDF):
            return None
        if self._unsure is None:
            points = some(samples.points, 2 * SHOWN)
            self._unsure = points[reference.uncertain(points)]
        return self._unsure
