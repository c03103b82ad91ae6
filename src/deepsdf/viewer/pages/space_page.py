"""The page of a shape space, one for each visitor."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from deepsdf.errors import DeepSDFError, InputError, NoSurfaceError
from deepsdf.inference.encode import EncodeOptions
from deepsdf.inference.space import ShapeSpace
from deepsdf.jobs.worker import IsWanted, Worker
from deepsdf.metrics.surfaces import compare
from deepsdf.rendering.camera import Axis, PictureOptions
from deepsdf.rendering.render import render_mesh
from deepsdf.viewer.content.catalogue import (
    COMPLETED,
    OWN,
    TRAINING,
    Catalogue,
    Entry,
    ShapeData,
    data_of,
    load_shape_data,
)
from deepsdf.viewer.content.exports import code_bytes, file_stem, mesh_bytes, png_bytes
from deepsdf.viewer.content.position import LatentPosition
from deepsdf.viewer.content.uploads import Upload
from deepsdf.viewer.content.watcher import CheckpointWatcher
from deepsdf.viewer.html import escape, grouped, heading, note
from deepsdf.viewer.pages.controls import Blend, Interpolation, Sliders
from deepsdf.viewer.pages.files_panel import FilesPanel
from deepsdf.viewer.pages.metrics_panel import MetricsPanel
from deepsdf.viewer.scene.blend_square import BlendSquare
from deepsdf.viewer.scene.layers import Layers
from deepsdf.viewer.scene.map_board import MapBoard
from deepsdf.viewer.scene.meshing import COARSE, FINE, MIDDLE, ProgressiveMesher, ShapeMesh, mesh_shape
from deepsdf.viewer.scene.stage import Stage
from deepsdf.viewer.widgets import guarded, notify, on_click, on_input

FINEST = ("128", "256", "512")
"""Grid resolutions offered for the finest mesh."""


@dataclass(frozen=True)
class SharedSpace:
    """What all visitors of an experiment share; none of them changes it.

    Attributes:
        finest: grid resolution of the finest mesh at the start.
        encoding: options of the codes of uploaded files.
    """

    watcher: CheckpointWatcher
    catalogue: Catalogue
    up: Axis = "y"
    finest: int = FINE
    encoding: EncodeOptions = field(default_factory=EncodeOptions)


class SpacePage:
    """One visitor's page.

    Args:
        client: viser's handle of the visitor's browser.
    """

    def __init__(self, client: Any, shared: SharedSpace) -> None:
        self.client, self.shared = client, shared
        self.catalogue = shared.catalogue.copy()
        self.data = data_of(shared.watcher.experiment)
        self.position = LatentPosition(shared.watcher.space)
        self.entry: Entry | None = None
        self.shown: ShapeMesh | None = None
        self._label = ""
        self._codes: dict[tuple[int, str], Tensor] = {}
        self._seed = int(time.time_ns() % 2**31)
        self._lock = threading.RLock()
        self.worker = Worker(f"page {client.client_id}")
        self.stage = Stage(client, shared.up)
        self._build()
        self.mesher = ProgressiveMesher(self._show, str(client.client_id))
        self._unsubscribe = shared.watcher.subscribe(self._change_space)
        self.pick(self.catalogue.kinds()[0])

    # Controls

    def _build(self) -> None:
        client, gui, shared = self.client, self.client.gui, self.shared
        self.header = gui.add_html("")
        kinds = self.catalogue.kinds()
        self.kind = gui.add_dropdown("Shapes", tuple(kinds), initial_value=kinds[0])
        labels = self.catalogue.labels(kinds[0])
        self.choice = gui.add_dropdown("Show", tuple(labels), initial_value=labels[0])
        self.step = gui.add_button_group("", ("‹", "›", "random", "reset"))
        self.status = gui.add_html(note("meshing ..."))
        tabs = gui.add_tab_group()
        with tabs.add_tab("Move"):
            self._build_move()
        with tabs.add_tab("Layers"):
            self.layers = Layers(client, self.stage, self.worker)
            self.finest = gui.add_dropdown("Finest mesh", FINEST, initial_value=str(shared.finest))
            self.camera = gui.add_button("Reset camera")
        with tabs.add_tab("Map"):
            self.map = MapBoard(
                client, self.stage, shared.watcher.experiment, shared.watcher.checkpoint, self.catalogue,
                self.position, lambda entry: self.pick(entry.kind, entry.label),
            )  # fmt: skip
        with tabs.add_tab("Metrics"):
            self.metrics = MetricsPanel(client, self._pick_row)
        with tabs.add_tab("Files"):
            encoding = replace(shared.encoding, up=shared.up)
            self.files = FilesPanel(client, lambda: self.position.space, encoding, self._add, self.save)
        on_input(self.kind, client, lambda: self.pick(self.kind.value))
        on_input(self.choice, client, lambda: self.pick(self.kind.value, self.choice.value))
        on_input(self.finest, client, self.request_mesh)
        on_click(self.step, client, lambda: self._step(self.step.value))
        on_click(self.camera, client, self.stage.reset_camera)
        self._show_header()

    def _build_move(self) -> None:
        client, gui = self.client, self.client.gui
        names = list(self.names())
        self.sliders = Sliders(client, self.position.directions, self._set_coordinate)
        self.square = BlendSquare(client, self.stage, self._drag)
        with gui.add_folder("Between two shapes", expand_by_default=False):
            self.interpolation = Interpolation(client, names, self._code_of, self._set_code)
        with gui.add_folder("Blend of four", expand_by_default=False):
            self.blend = Blend(client, self.square, names, self._code_of, self._set_code, self._draw_corners)

    # The current code

    def names(self) -> dict[str, Entry]:
        """All shapes by a unique name, for menus that contain every kind."""
        found = {}
        for kind in self.catalogue.kinds():
            for label in self.catalogue.labels(kind):
                found[label if kind == TRAINING else f"{label} ({kind})"] = self.catalogue.get(kind, label)
        return found

    def _code_of(self, name: str) -> Tensor:
        key = (self.position.space.epoch, name)
        if key not in self._codes:  # read many times a second while the ball is dragged
            entry = self.names().get(name)
            if entry is None:
                raise InputError(f"the list has no shape {name[:60]!r}")
            self._codes[key] = entry.code(self.position.space)
        return self._codes[key]

    def pick(self, kind: str, label: str | None = None) -> None:
        """Show a shape of the list, or the first of its kind if `label` is None or unknown."""
        labels = self.catalogue.labels(kind)
        entry = self.catalogue.get(kind, label if label in labels else labels[0])
        with self._lock:
            self.position.set_code(entry.code(self.position.space))
            self.entry, self._label = entry, entry.label
            self.kind.value, self.choice.options = kind, tuple(labels)
            self.choice.value = entry.label
        self.layers.clear_data()
        self.worker.submit("data", lambda is_wanted: self.layers.set_data(load_shape_data(entry, self.data)))
        self.request_mesh()

    def _set_coordinate(self, direction: int, value: float) -> None:
        with self._lock:
            self.position.set_coordinate(direction, value)
        self.request_mesh(move_sliders=False)

    def _set_code(self, code: Tensor, label: str = "a blend") -> None:
        """Show a code (L,) that does not belong to a shape of the list."""
        with self._lock:
            self.position.set_code(code)
            was_listed, self.entry, self._label = self.entry is not None, None, label
        if was_listed:
            self.layers.clear_data()
            self.worker.submit("data", lambda is_wanted: self.layers.set_data(ShapeData()))
        self.request_mesh()

    def _drag(self, x: float, y: float) -> None:
        guarded(self.client, lambda: self.blend.move(x, y))

    def _step(self, button: str) -> None:
        if button == "reset":
            self.pick(self.kind.value, self.choice.value)
        elif button == "random":
            self._seed += 1
            code = self.position.space.prior.sample(1, torch.Generator().manual_seed(self._seed))[0]
            self._set_code(code, "a random shape")
        else:
            labels = self.catalogue.labels(self.kind.value)
            index = labels.index(self.choice.value) + (1 if button == "›" else -1)
            self.pick(self.kind.value, labels[index % len(labels)])

    def _pick_row(self, row: int) -> None:
        if (entry := self.catalogue.training(row)) is not None:
            self.pick(TRAINING, entry.label)

    def _draw_corners(self, names: Sequence[str]) -> None:
        shapes = [self.position.space.shape(self._code_of(name)) for name in names]

        def draw(is_wanted: IsWanted) -> None:
            for number, shape in enumerate(shapes):
                mesh = mesh_shape(shape, COARSE, is_wanted, quick=True, last=False).mesh
                self.square.set_corner(number, mesh)

        self.worker.submit("corners", draw)

    # Display

    def request_mesh(self, move_sliders: bool = True) -> None:
        """Mesh and draw the shape of the current code."""
        with self._lock:
            finest = int(self.finest.value)
            coarser = [resolution for resolution in (COARSE, MIDDLE, FINE) if resolution < finest]
            self.mesher.request(self.position.shape, [*coarser, finest])
            if move_sliders:
                self.sliders.show(self.position.coordinates)
        self.map.move_ball()

    def _show(self, shown: ShapeMesh) -> None:
        """Show a new mesh; called by the mesher's thread."""
        self.shown = shown
        self.layers.show(shown)
        self._show_status(shown)
        if shown.resolution == COARSE:
            self._show_code()
        if shown.last:
            self.worker.submit("metrics", lambda is_wanted: self._measure(shown, is_wanted))

    def _measure(self, shown: ShapeMesh, is_wanted: IsWanted) -> None:
        reference = self.layers.reference()
        if shown.mesh is None or shown is not self.shown:
            return
        if reference is None:
            self.metrics.show_status("The true mesh of this shape is not known.")
            return
        self.metrics.show_status("measuring ...")
        try:
            found = compare(reference, shown.mesh, device="cpu")
        except DeepSDFError as error:
            self.metrics.show_status(escape(error))
            return
        if shown is self.shown and is_wanted():
            self.metrics.show_metrics(found)

    def _show_header(self) -> None:
        space, experiment = self.position.space, self.shared.watcher.experiment
        self.header.content = heading(
            experiment.root.resolve().name,
            f"{len(space.trained_codes)} training shapes, epoch {space.epoch}.",
            "Choose a shape, then move a slider to change it.",
        )

    def _show_status(self, shown: ShapeMesh) -> None:
        name = escape(self._label) + (", moved" if self.position.moved else "")
        if shown.mesh is None:
            self.status.content = note(f"<b>{name}</b>: no surface", escape(shown.reason))
            return
        size = f"{shown.resolution}³ samples, {grouped(len(shown.mesh.faces))} triangles"
        self.status.content = note(f"<b>{name}</b>", size + ("" if shown.last else ", refining ..."))

    def _show_code(self) -> None:
        neighbours = []
        for row, distance in self.position.nearest():
            entry = self.catalogue.training(row)
            neighbours.append((row, entry.label if entry else str(row), distance))
        self.metrics.show_neighbours(neighbours)
        self.metrics.show_code([("Deviation from the mean shape, std", f"{self.position.unlikeliness:.2f}")])

    def _change_space(self, space: ShapeSpace) -> None:
        """Show the same shape in the space of a later checkpoint."""
        with self._lock:
            entry, code = self.entry, None
            if entry is not None and entry.kind == TRAINING and entry.row is not None and entry.row < len(space.codes):
                code = space.codes[entry.row]
            if space.code_length != self.position.space.code_length:
                code = space.prior.mean
            self._codes.clear()
            self.position.set_space(space, code)
            self.sliders.rename(self.position.directions)
        self._show_header()
        self.map.refresh()
        self.request_mesh()

    # Files

    def _add(self, upload: Upload) -> None:
        """Add an uploaded shape to the list, and show it."""
        encoding = upload.encoding
        code = encoding.code
        entry = self.catalogue.add(
            Entry(
                COMPLETED if encoding.kind == "scan" else OWN,
                upload.label,
                lambda space: code.to(space.device),
                truth=encoding.mesh,
                samples=encoding.samples,
                scan=upload.scan_points,
            )
        )
        self.kind.options = tuple(self.catalogue.kinds())
        names = tuple(self.names())
        self.interpolation.set_names(names)
        self.blend.set_names(names)
        self.map.refresh()
        self.pick(entry.kind, entry.label)
        notify(self.client, "Shape added", f"{entry.label}: {upload.summary}", error=False)

    def save(self, suffix: str) -> None:
        """Send the shown shape to the browser as a file: .ply, .glb, .png or .pth."""
        shown = self.shown
        if shown is None or shown.mesh is None:
            raise NoSurfaceError("there is no shape to save")
        if suffix == ".png":
            content = png_bytes(self._picture(shown))
        elif suffix == ".pth":
            content = code_bytes(shown.shape.code)
        else:
            content = mesh_bytes(shown.mesh, suffix, self.layers.colours(shown.mesh))
        self.client.send_file_download(file_stem(self._label) + suffix, content, save_immediately=True)

    def _picture(self, shown: ShapeMesh) -> Any:
        camera = self.client.camera
        try:
            return self.client.get_render(camera.image_height, camera.image_width, transport_format="png", timeout=20.0)
        except (TimeoutError, RuntimeError):  # the browser did not send a picture: draw the mesh here
            assert shown.mesh is not None
            return render_mesh(shown.mesh, PictureOptions(size=1024, up=self.shared.up), device="cpu")

    def close(self) -> None:
        """Stop all work of the page after its browser has disconnected."""
        self._unsubscribe()
        self.files.close()
        self.map.close()
        self.worker.close()
        self.mesher.close()
