"""Layers drawn over or beside a learned shape: true mesh, errors, a slice, samples, a scan."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import trimesh

from deepsdf.errors import DeepSDFError
from deepsdf.figures.pictures import FRAME
from deepsdf.geometry.fields import Field
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.jobs.worker import IsWanted, Worker
from deepsdf.rendering.camera import CLAY, Axis, Colour
from deepsdf.rendering.colours import error_colours, nice_maximum, slice_image
from deepsdf.viewer.content.catalogue import ShapeData
from deepsdf.viewer.html import colour_bar, note
from deepsdf.viewer.scene.meshing import COARSE, CancellableField, ShapeMesh
from deepsdf.viewer.scene.stage import TRUTH, Stage, home, upright
from deepsdf.viewer.widgets import on_input

OUTSIDE, INSIDE, UNCERTAIN, SCAN = (226, 120, 90), (58, 110, 180), (250, 200, 30), (40, 150, 90)
"""Colours of points."""

MAX_POINTS = 12_000
"""Largest number of points drawn per layer: more of them overlap in a window of usual size, and take longer to send."""

CLAMP = 0.1
"""Distance at which the colours of a slice saturate, unit frame: the usual clamping distance of a training."""

GAP = 1.3
"""Distance between the shape and the true mesh, side by side, unit frame."""

OFF, BESIDE, OVERLAY = "off", "beside", "over"


def subset(rows: np.ndarray, count: int = MAX_POINTS, seed: int = 0) -> np.ndarray:
    """At most `count` rows, chosen at random."""
    if len(rows) <= count:
        return rows
    return rows[np.random.default_rng(seed).choice(len(rows), count, replace=False)]


def error_legend(maximum: float) -> str:
    """The colours of distances from 0 to `maximum` (HTML)."""
    colours = error_colours(np.linspace(0, maximum, 9), maximum).tolist()
    bar = colour_bar((f"rgb({r},{g},{b})" for r, g, b in colours), "0", f"≥ {maximum:g}")
    return note(f"Distance to the true mesh, unit frame{bar}")


def cut(mesh: trimesh.Trimesh, axis: Axis, offset: float, side: float = 1.0) -> trimesh.Trimesh:
    """The part of a mesh below the plane `axis` = `offset`; above it if `side` is -1."""
    normal = -side * np.eye(3)["xyz".index(axis)]
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    found = trimesh.intersections.slice_faces_plane(vertices, faces, normal, -side * normal * offset)
    return trimesh.Trimesh(found[0], found[1], process=False)


def faded_slice(field: Field, axis: Axis, offset: float) -> np.ndarray:
    """A picture (size, size, 4) of `slice_image` that fades out far outside, where it would hide what is behind it."""
    size = 224  # pixels per side
    distances: list[np.ndarray] = []

    def recorded(points: np.ndarray) -> np.ndarray:
        distances.append(np.asarray(field(points)))
        return distances[-1]

    picture = slice_image(recorded, axis=axis, offset=offset, bound=FRAME, size=size, clamp=CLAMP)
    # A learned field saturates slightly below the clamping distance: it fades between 0.6 and 1 times that distance.
    far = np.clip(np.concatenate(distances).reshape(size, size) / CLAMP * 2.5 - 1.5, 0, 1)
    return np.dstack([picture, np.round(255 - 225 * far).astype(np.uint8)])


class SlicePlane:
    """The controls of a slice plane, and its picture.

    Args:
        on_change: called when the visitor changes a control.
    """

    def __init__(self, client: Any, stage: Stage, on_change: Callable[[], None]) -> None:
        gui = client.gui
        self.stage = stage
        self.on = gui.add_checkbox("SDF slice", False, hint="Signed distance on a plane: blue inside, red outside")
        self.axis = gui.add_dropdown("Axis", ("x", "y", "z"), initial_value="y" if stage.up == "z" else "z")
        self.offset = gui.add_slider("Offset", -FRAME, FRAME, 0.01, 0.0)
        self.axis.visible = self.offset.visible = False
        for handle in (self.on, self.axis, self.offset):
            on_input(handle, client, on_change)

    @property
    def plane(self) -> tuple[Axis, float] | None:
        """Axis and offset of the plane; None if it is off."""
        return (self.axis.value, float(self.offset.value)) if self.on.value else None

    def cut(self, mesh: trimesh.Trimesh) -> trimesh.Trimesh:
        """The part of a mesh behind the plane, seen from the camera's initial position."""
        if (plane := self.plane) is None or not len(mesh.faces):
            return mesh
        return cut(mesh, *plane, self._side(plane[0]))

    def behind(self, points: np.ndarray) -> np.ndarray:
        """The points (n, 3) behind the plane."""
        if (plane := self.plane) is None:
            return points
        side = self._side(plane[0])
        return points[side * points[:, "xyz".index(plane[0])] <= side * plane[1]]

    def _side(self, axis: Axis) -> float:
        return float(np.sign(home(self.stage.up)["xyz".index(axis)]))

    def update_controls(self) -> None:
        """Show axis and offset if the slice is on."""
        self.axis.visible = self.offset.visible = bool(self.on.value)

    def draw(self, field: Field, at: np.ndarray) -> None:
        """Draw the slice of a field, moved by `at` (3,)."""
        if (plane := self.plane) is None:
            self.stage.remove("/slice")
            return
        self.stage.slice("/slice", faded_slice(field, *plane), *plane, FRAME, at)


class Layers:
    """The layers of a page of learned shapes, with their controls, which are created in the current container."""

    def __init__(self, client: Any, stage: Stage, worker: Worker) -> None:
        self.client, self.stage, self.worker = client, stage, worker
        self._shown: ShapeMesh | None = None
        self._data = ShapeData()
        self._surface: MeshSDF | None = None
        self._uncertain: np.ndarray | None = None
        self._maximum: float | None = None
        self._lock = threading.RLock()
        gui = client.gui
        self.shape = gui.add_checkbox("Shape", True)
        self.truth = gui.add_dropdown("True mesh", (OFF, BESIDE, OVERLAY), initial_value=OFF)
        self.errors = gui.add_checkbox("Error colours", False, hint="Distance of the surface to the true mesh")
        self.bar = gui.add_html("", visible=False)
        self.slice = SlicePlane(client, stage, self.update)
        self.outside = gui.add_checkbox("Samples outside", False)
        self.inside = gui.add_checkbox("Samples inside", False)
        self.uncertain = gui.add_checkbox(
            "Samples of uncertain sign", False, hint="Two methods disagree on inside and outside"
        )
        self.scan = gui.add_checkbox("Partial scan", False)
        self.missing = gui.add_html("")
        on_input(self.truth, client, self._truth_changed)
        for handle in (self.shape, self.errors, self.outside, self.inside, self.uncertain, self.scan):
            on_input(handle, client, self.update)

    def reference(self) -> MeshSDF | np.ndarray | None:
        """The true surface for measurements (repaired on first use), or surface samples (n, 3) if there is no mesh."""
        with self._lock:
            if self._surface is None and self._data.truth is not None:
                try:
                    self._surface = MeshSDF(self._data.truth, device="cpu")
                except DeepSDFError:
                    self._surface = None
            return self._surface if self._surface is not None else self._data.points

    def clear_data(self) -> None:
        """Discard the data of the previous shape, so that the next one is not measured against it."""
        with self._lock:
            self._data, self._surface, self._uncertain, self._maximum = ShapeData(), None, None, None

    def set_data(self, data: ShapeData) -> None:
        """Set the data of the shape, and redraw."""
        with self._lock:
            self.clear_data()
            self._data = data
            self._update_controls()
        self.update()

    def _update_controls(self) -> None:
        """Disable layers without data, and say what is missing."""
        data = self._data
        has_truth, has_samples = data.truth is not None or data.points is not None, data.samples is not None
        for handle, available in (
            (self.truth, has_truth),
            (self.errors, data.truth is not None),
            (self.outside, has_samples),
            (self.inside, has_samples),
            (self.uncertain, has_samples and data.truth is not None),
            (self.scan, data.scan is not None),
        ):
            handle.disabled = not available
        missing = [name for name, available in (("true mesh", has_truth), ("samples", has_samples)) if not available]
        self.missing.content = note(f"Not available for this shape: {', '.join(missing)}.") if missing else ""

    def _truth_changed(self) -> None:
        if self.truth.value == BESIDE:
            self.stage.reset_camera(1.45)  # far enough to show both
        self.update()

    def update(self) -> None:
        """Redraw all layers with the current controls."""
        self.slice.update_controls()
        if self._shown is not None:
            self._draw_shape(self._shown)
        self.worker.submit("layers", self._draw_rest)

    def show(self, shown: ShapeMesh) -> None:
        """Draw a new mesh of the shape."""
        self._shown = shown
        self._draw_shape(shown)
        if self.slice.on.value and shown.resolution == COARSE:
            self.worker.submit("slice", self._draw_slice)

    def colours(self, mesh: trimesh.Trimesh) -> np.ndarray | None:
        """Error colours (v, 3) uint8 of a mesh; None if they are off."""
        if not self.errors.value or self.errors.disabled or not isinstance(reference := self.reference(), MeshSDF):
            return None
        distances = reference.distance(np.asarray(mesh.vertices))
        maximum = self._maximum
        # Coarse meshes keep the scale, so that colours do not flicker while a slider is dragged.
        if maximum is None or (self._shown is not None and self._shown.resolution > COARSE):
            maximum = nice_maximum(distances)
            if maximum != self._maximum:
                self._maximum = maximum
                self.bar.content = error_legend(maximum)
        return error_colours(distances, maximum)

    def _shift(self) -> np.ndarray:
        """Displacement (3,) of the shape to the right, if the true mesh is beside it."""
        beside = self.truth.value == BESIDE and not self.truth.disabled
        return upright(self.stage.up)[:, 0] * (GAP / 2 if beside else 0.0)

    def _draw_shape(self, shown: ShapeMesh) -> None:
        with self._lock:
            mesh = shown.mesh
            if mesh is None or not self.shape.value:
                self.stage.remove("/shape")
                return
            mesh = self.slice.cut(mesh)
            colours = self.colours(mesh) if len(mesh.faces) else None
            self.bar.visible = colours is not None
            over = self.truth.value == OVERLAY and not self.truth.disabled
            self.stage.mesh(
                "/shape", mesh, colours=colours, colour=CLAY, opacity=0.75 if over else None, at=self._shift()
            )

    def _draw_slice(self, is_wanted: IsWanted) -> None:
        if self._shown is not None:
            self.slice.draw(CancellableField(self._shown.shape, is_wanted, quick=True), self._shift())

    def _draw_rest(self, is_wanted: IsWanted) -> None:
        self._draw_slice(is_wanted)
        self._draw_truth()
        self._draw_samples(self._data.samples)
        scan = self._data.scan
        if scan is not None and self.scan.value:
            self.stage.points("/scan", subset(scan), SCAN, 0.012, at=self._shift())
        else:
            self.stage.remove("/scan")

    def _draw_truth(self) -> None:
        data, at = self._data, -self._shift()
        shown = self.truth.value != OFF and not self.truth.disabled
        if shown and data.truth is not None:
            mesh = self.slice.cut(data.truth)
            self.stage.mesh("/truth", mesh, TRUTH, opacity=0.6 if self.truth.value == OVERLAY else None, at=at)
        elif shown and data.points is not None:
            self.stage.points("/truth", subset(data.points, 30_000), TRUTH, 0.01, at=at)
        else:
            self.stage.remove("/truth")

    def _draw_samples(self, samples: SDFSamples | None) -> None:
        sides: list[tuple[str, Any, np.ndarray | None, Colour]] = [
            ("/samples/outside", self.outside, None if samples is None else samples.pos, OUTSIDE),
            ("/samples/inside", self.inside, None if samples is None else samples.neg, INSIDE),
            ("/samples/uncertain", self.uncertain, self._uncertain_points(samples), UNCERTAIN),
        ]
        for name, handle, rows, colour in sides:
            if rows is None or not handle.value or handle.disabled:
                self.stage.remove(name)
                continue
            points = subset(self.slice.behind(rows[:, :3]))
            self.stage.points(name, points, colour, 0.014 if name.endswith("uncertain") else 0.008, at=self._shift())

    def _uncertain_points(self, samples: SDFSamples | None) -> np.ndarray | None:
        """Samples on whose signs two methods disagree; computed on first use."""
        if samples is None or not self.uncertain.value or not isinstance(reference := self.reference(), MeshSDF):
            return None
        if self._uncertain is None:
            points = subset(samples.points, 2 * MAX_POINTS)
            self._uncertain = points[reference.uncertain(points)]
        return self._uncertain
