"""The page of a shape space: what one visitor sees, and what their hands do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from deepsdf.errors import DeepSDFError, InputError, NoSurfaceError
from deepsdf.inference.encode import EncodeOptions, Treat
from deepsdf.inference.space import ShapeSpace
from deepsdf.metrics.surfaces import compare
from deepsdf.progress import Progress
from deepsdf.rendering.camera import Axis, PictureOptions
from deepsdf.rendering.render import render_mesh
from deepsdf.viewer.content.catalogue import COMPLETED, OWN, TRAINING, Catalogue, Entry, Known, data_of, known_of
from deepsdf.viewer.content.exports import code_bytes, file_stem, mesh_bytes, png_bytes
from deepsdf.viewer.content.follow import Follower
from deepsdf.viewer.content.place import Place
from deepsdf.viewer.content.uploads import encode_upload, upload_suffixes
from deepsdf.viewer.pages.controls import Between, Blend, Sliders
from deepsdf.viewer.pages.facts import Facts
from deepsdf.viewer.pages.widgets import by_hand, guarded, many, notes, on_click, tell, title, words
from deepsdf.viewer.scene.layers import Layers
from deepsdf.viewer.scene.map_layer import MapLayer
from deepsdf.viewer.scene.pad import Pad
from deepsdf.viewer.scene.redraw import COARSE, FINE, MIDDLE, Cancelled, Drawn, Jobs, Redraw, mesh_of
from deepsdf.viewer.scene.stage import Stage

TREATMENTS: dict[str, Treat] = {"auto": "auto", "whole shape": "whole", "partial scan": "partial"}
RANDOM = "a random shape"
FINEST = ("128", "256", "512")
PICTURE_WAIT = 20.0
"""Seconds that a browser has to send its picture."""


@dataclass(frozen=True)
class World:
    """What all visitors of an experiment share; none of them changes it."""

    follower: Follower
    catalogue: Catalogue
    up: Axis = "y"
    finest: int = FINE
    encoding: EncodeOptions = field(default_factory=EncodeOptions)


class SpacePage:
    """One visitor's page.

    Args:
        client: viser's handle of their browser.
    """

    def __init__(self, client: Any, world: World) -> None:
        self.client, self.world = client, world
        self.catalogue = world.catalogue.copy()
        self.data = data_of(world.follower.experiment)
        self.place = Place(world.follower.space)
        self.entry: Entry | None = None
        self.drawn: Drawn | None = None
        self._label = ""
        self._codes: dict[tuple[int, str], Tensor] = {}
        self._random = int(time.time_ns() % 2**31)
        self._lock = threading.RLock()
        self.jobs, self.fits = Jobs(str(client.client_id)), Jobs(f"fits {client.client_id}")
        self.stage = Stage(client, world.up)
        self._build()
        self.redraw = Redraw(self._show, str(client.client_id))
        self._unsubscribe = world.follower.subscribe(self._follow)
        self.pick(self.catalogue.kinds()[0])

    # What the page is made of

    def _build(self) -> None:
        client, gui, world = self.client, self.client.gui, self.world
        self.head = gui.add_html("")
        kinds = self.catalogue.kinds()
        self.kind = gui.add_dropdown("Shapes", tuple(kinds), initial_value=kinds[0])
        labels = self.catalogue.labels(kinds[0])
        self.choice = gui.add_dropdown("Show", tuple(labels), initial_value=labels[0])
        self.step = gui.add_button_group("", ("‹", "›", "random", "reset"))
        self.status = gui.add_html(notes("drawing ..."))
        tabs = gui.add_tab_group()
        names = list(self.names())
        with tabs.add_tab("Move"):
            self.sliders = Sliders(client, self.place.directions, self.move)
            self.pad = Pad(client, self.stage, self._dragged)
            with gui.add_folder("Between two shapes", expand_by_default=False):
                self.between = Between(client, names, self._code_of, self._went)
            with gui.add_folder("Blend of four", expand_by_default=False):
                self.blend = Blend(client, self.pad, names, self._code_of, self._went, self._corners)
        with tabs.add_tab("Layers"):
            self.layers = Layers(client, self.stage, self.jobs)
            self.finest = gui.add_dropdown("Finest mesh", FINEST, initial_value=str(world.finest))
            self.camera = gui.add_button("Camera home")
        with tabs.add_tab("Map"):
            self.map = MapLayer(
                client, self.stage, world.follower.experiment, world.follower.checkpoint, self.catalogue, self.place,
                lambda entry: self.pick(entry.kind, entry.label),
            )  # fmt: skip
        with tabs.add_tab("Facts"):
            self.facts = Facts(client, self._go_to_row)
        with tabs.add_tab("Files"):
            self._build_files()
        by_hand(self.kind, client, lambda: self.pick(self.kind.value))
        by_hand(self.choice, client, lambda: self.pick(self.kind.value, self.choice.value))
        by_hand(self.finest, client, self.ask)
        on_click(self.step, client, lambda: self._stepped(self.step.value))
        on_click(self.camera, client, self.stage.home)
        self._say_head()

    def _build_files(self) -> None:
        client, gui = self.client, self.client.gui
        with gui.add_folder("Add a shape of your own"):
            gui.add_html(notes(f"A mesh, a point cloud, SDF samples or a code: {', '.join(upload_suffixes())}"))
            self.treat = gui.add_dropdown("Treat as", tuple(TREATMENTS), initial_value="auto")
            self.pose = gui.add_dropdown(
                "Pose of a scan",
                ("similarity", "rigid", "yaw", "none"),
                initial_value="similarity",
                hint="What is estimated besides the shape: rotation, translation and scale (similarity), rotation and "
                "translation (rigid), rotation about the up axis and translation (yaw); none: it is in the unit frame",
            )
            self.upload = gui.add_upload_button("Choose a file ...")
            self.progress = gui.add_progress_bar(0.0, visible=False)
            self.doing = gui.add_html("")
        with gui.add_folder("Save what is shown"):
            for kind in (".ply", ".glb", ".png", ".pth"):
                what = {".png": "picture", ".pth": "code"}.get(kind, "mesh")
                button = gui.add_button(f"Save the {what} ({kind})")
                on_click(button, client, lambda kind=kind: self.save(kind))
            gui.add_html(notes("Meshes are in the unit frame, as fine as they are shown."))

        @self.upload.on_upload
        def _(event: Any) -> None:
            file = self.upload.value
            # Under a key of its own: a second file waits for the first, and does not take its place.
            key = f"fit {event.target.update_timestamp}"
            self.fits.ask(key, lambda wanted: guarded(client, lambda: self.add(file.name, file.content, wanted)))

    # Where to

    def names(self) -> dict[str, Entry]:
        """Every shape by a name of its own, for lists that hold all kinds."""
        found = {}
        for kind in self.catalogue.kinds():
            for label in self.catalogue.labels(kind):
                found[label if kind == TRAINING else f"{label} ({kind})"] = self.catalogue.get(kind, label)
        return found

    def _code_of(self, name: str) -> Tensor:
        key = (self.place.space.epoch, name)
        if key not in self._codes:  # a hand that drags asks for the same four many times a second
            entry = self.names().get(name)
            if entry is None:
                raise InputError(f"there is no shape {name[:60]!r} in the list any more")
            self._codes[key] = entry.code(self.place.space)
        return self._codes[key]

    def pick(self, kind: str, label: str | None = None) -> None:
        """Show a shape of the list; the first of its kind where none is named."""
        labels = self.catalogue.labels(kind)
        entry = self.catalogue.get(kind, label if label in labels else labels[0])
        with self._lock:
            self.place.pick(entry.code(self.place.space))
            self.entry, self._label = entry, entry.label
            self.kind.value, self.choice.options = kind, tuple(labels)
            self.choice.value = entry.label
        self.layers.forget()
        self.jobs.ask("known", lambda wanted: self.layers.know(known_of(entry, self.data)))
        self.ask()

    def move(self, direction: int, value: float) -> None:
        with self._lock:
            self.place.move(direction, value)
        self.ask(sliders=False)

    def _went(self, code: Tensor, label: str = "a blend") -> None:
        """To a code that is no shape of the list."""
        with self._lock:
            self.place.pick(code)
            listed, self.entry, self._label = self.entry is not None, None, label
        if listed:
            self.layers.forget()
            self.jobs.ask("known", lambda wanted: self.layers.know(Known()))
        self.ask()

    def _dragged(self, x: float, y: float) -> None:
        guarded(self.client, lambda: self.blend.go(x, y))

    def _stepped(self, way: str) -> None:
        if way == "reset":
            self.pick(self.kind.value, self.choice.value)
        elif way == "random":
            self._random += 1
            prior = self.place.space.prior
            code = prior.sample(1, torch.Generator().manual_seed(self._random))[0]
            self._went(code, RANDOM)
        else:
            labels = self.catalogue.labels(self.kind.value)
            at = labels.index(self.choice.value) + (1 if way == "›" else -1)
            self.pick(self.kind.value, labels[at % len(labels)])

    def _go_to_row(self, row: int) -> None:
        if (entry := self.catalogue.training(row)) is not None:
            self.pick(TRAINING, entry.label)

    def _corners(self, names: Sequence[str]) -> None:
        shapes = [self.place.space.shape(self._code_of(name)) for name in names]

        def draw(wanted: Callable[[], bool]) -> None:
            for number, shape in enumerate(shapes):
                self.pad.corner(number, mesh_of(shape, COARSE, wanted, quick=True, last=False).mesh)

        self.jobs.ask("corners", draw)

    # What is drawn

    def ask(self, sliders: bool = True) -> None:
        """Draw the place."""
        with self._lock:
            finest = int(self.finest.value)
            self.redraw.ask(self.place.shape, [n for n in (COARSE, MIDDLE, FINE, finest) if n < finest] + [finest])
            if sliders:
                self.sliders.put(self.place.sliders)
        self.map.stand()

    def _show(self, drawn: Drawn) -> None:
        """A mesh is there; called by the redrawing thread."""
        first = drawn.resolution == COARSE
        self.drawn = drawn
        self.layers.show(drawn)
        self._say_status(drawn)
        if first:
            self._say_near()
        if drawn.last:
            self.jobs.ask("metrics", lambda wanted: self._measure(drawn, wanted))

    def _measure(self, drawn: Drawn, wanted: Callable[[], bool]) -> None:
        reference = self.layers.reference()
        if drawn.mesh is None or drawn is not self.drawn:
            return
        if reference is None:
            self.facts.measured(None, "The truth of what is shown is not known.")
            return
        self.facts.measured(None, "measuring ...")
        try:
            found = compare(reference, drawn.mesh, device="cpu")
        except DeepSDFError as error:
            self.facts.measured(None, words(error))
            return
        if drawn is self.drawn and wanted():
            self.facts.measured(found)

    # What is said

    def _say_head(self) -> None:
        space, experiment = self.place.space, self.world.follower.experiment
        self.head.content = title(
            experiment.root.resolve().name,
            f"{len(space.trained_codes)} shapes learned, epoch {space.epoch}.",
            "Every point of this space is a shape: pick one, then drag a slider.",
        )

    def _say_status(self, drawn: Drawn) -> None:
        name = words(self._label) + (", moved" if self.place.moved else "")
        if drawn.mesh is None:
            self.status.content = notes(f"<b>{name}</b>: nothing to draw", words(drawn.reason))
            return
        fine = f"{drawn.resolution}³ samples, {many(len(drawn.mesh.faces))} triangles"
        more = "" if drawn.last else ", refining ..."
        self.status.content = notes(f"<b>{name}</b>", f"{fine}{more}")

    def _say_near(self) -> None:
        near = []
        for row, away in self.place.nearest():
            entry = self.catalogue.training(row)
            near.append((row, entry.label if entry else str(row), away))
        self.facts.near(near)
        self.facts.say([("Deviation from the mean, std", f"{self.place.unlikeliness:.2f}")])

    # A training goes on

    def _follow(self, space: ShapeSpace) -> None:
        """A later checkpoint: the same shape, as it is learned by now."""
        with self._lock:
            entry, code = self.entry, None
            if entry is not None and entry.kind == TRAINING and entry.row is not None and entry.row < len(space.codes):
                code = space.codes[entry.row]
            if space.code_length != self.place.space.code_length:
                code = space.prior.mean
            self._codes.clear()
            self.place.follow(space, code)
            self.sliders.name(self.place.directions)
        self._say_head()
        self.map.again()
        self.ask()

    # Files

    def add(self, name: str, content: bytes, wanted: Callable[[], bool]) -> None:
        """Fit a file that was dropped in, and go to its shape."""
        space = self.place.space
        self.progress.visible = True

        def show_progress(event: Progress) -> None:
            if self.jobs.closed or not wanted():
                raise Cancelled
            self.progress.value = 100.0 * event.done / max(event.total, 1)
            self.doing.content = notes(words(f"{name[:60]}: {event.task}"))

        try:
            options = replace(
                self.world.encoding, treat=TREATMENTS[self.treat.value], pose=self.pose.value, up=self.world.up
            )
            upload = encode_upload(space, name, content, options, on_progress=show_progress)
        finally:
            if not self.jobs.closed:
                self.progress.visible, self.doing.content = False, ""
        summary = "; ".join((upload.summary, *upload.encoding.warnings))
        self.doing.content = notes(words(f"{upload.label}: {summary}"))
        kind = COMPLETED if upload.encoding.kind == "scan" else OWN
        code = upload.encoding.code
        made = Entry(
            kind,
            upload.label,
            lambda space: code.to(space.device),
            truth=upload.encoding.mesh,
            samples=upload.encoding.samples,
            scan=upload.scan_points,
        )
        entry = self.catalogue.add(made)
        self.kind.options = tuple(self.catalogue.kinds())
        names = tuple(self.names())
        self.between.offer(names)
        self.blend.offer(names)
        self.map.again()
        self.pick(kind, entry.label)
        tell(self.client, "In the space now", f"{entry.label}: {summary}", wrong=False)

    def save(self, kind: str) -> None:
        """Send what is shown to the browser, as a file."""
        drawn = self.drawn
        if drawn is None or drawn.mesh is None:
            raise NoSurfaceError("there is no shape to save")
        if kind == ".png":
            content = png_bytes(self._picture(drawn))
        elif kind == ".pth":
            content = code_bytes(drawn.shape.code)
        else:
            content = mesh_bytes(drawn.mesh, kind, self.layers.colours(drawn.mesh))
        self.client.send_file_download(file_stem(self._label) + kind, content, save_immediately=True)

    def _picture(self, drawn: Drawn) -> Any:
        camera = self.client.camera
        try:
            return self.client.get_render(
                camera.image_height, camera.image_width, transport_format="png", timeout=PICTURE_WAIT
            )
        except (TimeoutError, RuntimeError):  # a browser that cannot: our own renderer does
            assert drawn.mesh is not None
            return render_mesh(drawn.mesh, PictureOptions(size=1024, up=self.world.up), device="cpu")

    def close(self) -> None:
        """The visitor is gone."""
        self._unsubscribe()
        self.fits.close()
        self.map.close()
        self.jobs.close()
        self.redraw.close()
