"""The viewer in a real browser: headless Chromium, driven by Playwright, its pages served by this process."""

from __future__ import annotations

import io
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from browser import launched, need_chromium
from conftest import ball, draw
from PIL import Image
from test_viewer import obj, rewrite

from deepsdf.checkpoints import load_code
from deepsdf.geometry.meshes import load_mesh
from deepsdf.inference.encode import EncodeOptions
from deepsdf.viewer.content.catalogue import catalogue_of
from deepsdf.viewer.content.exports import code_bytes, png_bytes
from deepsdf.viewer.content.previews import data_shapes, preview_file
from deepsdf.viewer.content.watcher import CheckpointWatcher
from deepsdf.viewer.pages.preview_pages import DataPage, FilePage
from deepsdf.viewer.pages.space_page import SharedSpace, SpacePage
from deepsdf.workspace import Experiment

pytest.importorskip("viser", reason="needs viser: pip install deepsdf[viewer]")
from deepsdf.viewer.serve import Server

pytest_plugins = ["helpers"]

playwright = need_chromium("viewer")

PATIENCE = 60.0
"""Seconds; a browser that draws by software on a busy core needs some."""

DESK = {"width": 800, "height": 640}

pytestmark = pytest.mark.filterwarnings("ignore:Queued a .* on a closed connection:UserWarning")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright.expect.set_options(timeout=1000 * PATIENCE)
    yield from launched(playwright)
    playwright.expect.set_options(timeout=5000)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@pytest.fixture(scope="module")
def world(trained: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedSpace]:
    """A copy of the toys' space, as a training that goes on would write to it."""
    root = tmp_path_factory.mktemp("view") / "exp"
    shutil.copytree(trained.root, root)
    experiment = Experiment.open(root)
    watcher = CheckpointWatcher(experiment, device="cpu")
    yield SharedSpace(watcher, catalogue_of(experiment, watcher.space), finest=64, encoding=EncodeOptions(samples=8000))
    watcher.close()


@pytest.fixture(scope="module")
def server(world: SharedSpace) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deepsdf.viewer.pages.space_page.FINEST", ("64",))  # the toys are no finer
        server = Server(lambda client: SpacePage(client, world), port=free_port())
        yield server
        server.close()


class Visitor:
    """A tab, and the page that serves it."""

    def __init__(self, browser: Any, server: Server) -> None:
        known = set(server.pages)
        self.context = browser.new_context(viewport=DESK, reduced_motion="reduce", accept_downloads=True)
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(1000 * PATIENCE)
        self.complaints: list[str] = []
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.requests: list[str] = []
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.goto(server.url)
        self.until(lambda: bool(set(server.pages) - known))
        (self.number,) = set(server.pages) - known
        self.page: Any = server.pages[self.number]

    def until(self, there: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Wait, and let the browser's events be heard."""
        deadline = time.monotonic() + seconds
        while not there():
            assert time.monotonic() < deadline, "it did not come"
            self.tab.wait_for_timeout(50)

    def settled(self, width: int = 400, height: int = 400) -> np.ndarray:
        """What the scene shows once nothing is refined any more, drawn by the browser with all that was sent before."""
        for work in (getattr(self.page, "files", None), self.page):
            assert work is None or work.worker.wait(PATIENCE)
            mesher = getattr(work, "mesher", None)
            assert mesher is None or mesher.wait(PATIENCE)
        client = self.page.stage.client
        picture = client.get_render(height, width, transport_format="png", timeout=PATIENCE)
        return np.asarray(Image.open(io.BytesIO(png_bytes(picture)))).astype(int)

    def open(self, name: str) -> None:
        self.tab.get_by_role("tab", name=name).click()

    def drop(self, name: str, content: bytes) -> None:
        """Choose a file."""
        self.open("Files")
        chosen = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
        self.tab.locator("input[type=file]").set_input_files(chosen)

    def saved(self, what: str, path: Path) -> Path:
        self.open("Files")
        with self.tab.expect_download() as download:
            self.tab.get_by_role("button", name=f"Save the {what}").click()
        name = path / download.value.suggested_filename
        download.value.save_as(name)
        return name

    def close(self) -> None:
        assert self.complaints == []
        self.context.close()


@pytest.fixture(scope="module")
def tab_of_all(browser: Any, server: Server) -> Iterator[Visitor]:
    visitor = Visitor(browser, server)
    yield visitor
    visitor.close()


@pytest.fixture
def visitor(tab_of_all: Visitor) -> Visitor:
    """A tab that shows the first training shape; loading a page for each test would take the longest of all."""
    tab_of_all.page.pick("training", "b0")
    tab_of_all.open("Move")
    return tab_of_all


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the pixels that show a shape in one picture alone. viser draws finer or coarser as time allows."""
    return float((bluish(a) != bluish(b)).mean())


SAME, OTHER = 0.004, 0.01


def bluish(picture: np.ndarray) -> np.ndarray:
    """Pixels as shapes are, and the floor is not."""
    return picture[..., 2] - picture[..., 0] > 15


def red(picture: np.ndarray) -> float:
    """Share of the pixels that are reddish, as what lies outside and large errors are."""
    return float((picture[..., 0] - picture[..., 2] > 20).mean())


def clay(picture: np.ndarray) -> float:
    """Share of the pixels that show a shape."""
    return float(bluish(picture).mean())


def test_the_page_shows_a_shape_and_a_slider_changes_it(visitor: Visitor, server: Server) -> None:
    tab, page = visitor.tab, visitor.page
    playwright.expect(tab.get_by_text("6 training shapes, epoch 700.")).to_be_visible()
    visitor.until(lambda: 0.03 < clay(visitor.settled()) < 0.9)
    first = visitor.settled()
    visitor.until(lambda: clay(np.asarray(Image.open(io.BytesIO(tab.screenshot())).convert("RGB")).astype(int)) > 0.02)
    assert all(url.startswith(("http://127.0.0.1", "data:", "blob:")) for url in visitor.requests)
    connection = server._server._websock_server._live_connections[visitor.number]
    assert connection.request.headers["Origin"] == server.url  # by which other sites are told from us
    code = page.position.code.clone()
    name = page.position.directions.names()[0]
    row = tab.get_by_text(name, exact=True).locator("xpath=ancestor::*[.//input][1]")
    row.get_by_role("slider").press("Home")
    visitor.until(lambda: not torch.equal(page.position.code, code))
    expected = (
        code + (page.position.coordinates[0] - float(page.position._start[0])) * page.position.directions.steps[0]
    )
    torch.testing.assert_close(page.position.code, expected)
    assert page.position.coordinates[0] == -page.position.directions.reach
    visitor.until(lambda: difference(first, visitor.settled()) > OTHER)
    playwright.expect(tab.get_by_text(", moved")).to_be_visible()
    tab.get_by_role("button", name="reset").click()
    visitor.until(lambda: torch.equal(page.position.code, code))
    visitor.until(lambda: difference(first, visitor.settled()) < SAME)


def test_layers_are_drawn(visitor: Visitor) -> None:
    plain = visitor.settled()
    visitor.open("Layers")
    shape = visitor.tab.get_by_label("Shape", exact=True)
    shape.uncheck()
    visitor.until(lambda: clay(visitor.settled()) < 0.01)
    for label in ("SDF slice", "Samples outside"):
        visitor.tab.get_by_label(label).check()
        visitor.until(lambda: red(visitor.settled()) > 0.01)
        visitor.tab.get_by_label(label).uncheck()
        visitor.until(lambda: red(visitor.settled()) < 0.001)
    shape.check()
    visitor.until(lambda: difference(plain, visitor.settled()) < SAME)


def test_a_point_of_the_map_is_a_shape(visitor: Visitor) -> None:
    tab, page = visitor.tab, visitor.page
    plain = visitor.settled()
    visitor.open("Map")
    tab.get_by_label("Show the map").check()
    visitor.until(lambda: page.map.map is not None and page.map.worker.wait(0))
    np.testing.assert_allclose(page.map._ball.position, page.map.ball_position(page.map.map))
    assert len(page.map._thumbnails) > 1
    camera = page.client.camera
    visitor.settled(camera.image_width, camera.image_height)

    def pixels() -> np.ndarray:
        """Where the points are in the window, as the browser has last told of its camera."""
        eye, at = np.array(camera.position), np.array(camera.look_at)
        ahead = (at - eye) / np.linalg.norm(at - eye)
        right = np.cross(ahead, [0, 1, 0]) / np.linalg.norm(np.cross(ahead, [0, 1, 0]))
        off = page.map.points - eye
        flat = (off @ np.column_stack([right, -np.cross(right, ahead)])) / (off @ ahead)[:, None]
        middle = (camera.image_width / 2, camera.image_height / 2)
        return flat * camera.image_height / 2 / np.tan(camera.fov / 2) + middle

    lowest = int(pixels()[:, 1].argmax())  # not below viser's own messages, nor the ball
    chosen = page.map.map.entries[lowest]
    assert chosen is not page.entry

    def clicked() -> bool:
        if page.entry is not chosen:  # the camera may have come late, and a slow browser drops a click
            tab.mouse.click(*pixels()[lowest])
            tab.wait_for_timeout(1000)
        return page.entry is chosen

    visitor.until(clicked)
    assert page.choice.value == chosen.label
    visitor.until(lambda: np.allclose(page.map._ball.position, page.map.points[lowest], atol=0.04))
    page.pick("training", "b0")
    tab.get_by_label("Show the map").uncheck()
    visitor.until(lambda: page.map.map is None and page.map.worker.wait(0))
    visitor.until(lambda: difference(plain, visitor.settled()) < SAME)


def test_a_mesh_that_is_dropped_in_is_fitted_and_saved(visitor: Visitor, tmp_path: Path) -> None:
    cube = trimesh.creation.box((2, 2, 2))
    visitor.drop("my cube.obj", obj(cube))
    tab, page = visitor.tab, visitor.page
    playwright.expect(tab.get_by_text("Shape added")).to_be_visible()
    assert page.kind.value == "yours"
    assert page.choice.value == "my cube"
    visitor.settled()
    visitor.open("Metrics")
    playwright.expect(tab.get_by_text("Chamfer × 10³")).to_be_visible()
    visitor.open("Layers")
    tab.get_by_label("Error colours").check()
    visitor.until(lambda: red(visitor.settled()) > 0.03)
    playwright.expect(tab.get_by_text("Distance to the true mesh, unit frame")).to_be_visible()
    for kind in (".ply", ".glb"):
        path = visitor.saved(f"mesh ({kind})", tmp_path)
        assert path.name == f"my_cube{kind}"
        assert len(load_mesh(path).faces) == len(page.shown.mesh.faces)
    code = load_code(visitor.saved("code (.pth)", tmp_path), 4)
    torch.testing.assert_close(code, page.position.code)
    picture = np.asarray(Image.open(visitor.saved("picture (.png)", tmp_path)).convert("RGB")).astype(int)
    assert red(picture) > 0.03
    visitor.open("Layers")
    tab.get_by_label("Error colours").uncheck()


def test_a_broken_file_gives_a_message_and_the_page_goes_on(visitor: Visitor) -> None:
    before = visitor.settled()
    visitor.drop("../../<img src=x onerror=alert(1)>.ply", b"ply\nnonsense")
    playwright.expect(visitor.tab.get_by_text("cannot be read as ply")).to_be_visible()
    visitor.drop("notes.txt", b"words")
    playwright.expect(visitor.tab.get_by_text("has no known file type; use one of")).to_be_visible()
    assert difference(before, visitor.settled()) < SAME
    visitor.tab.get_by_role("button", name="›").click()
    visitor.until(lambda: visitor.page.choice.value == "b1")
    visitor.until(lambda: difference(before, visitor.settled()) > OTHER)


def test_two_browsers_do_not_disturb_one_another(browser: Any, server: Server, visitor: Visitor) -> None:
    other = Visitor(browser, server)
    other.until(lambda: clay(other.settled()) > 0.03)
    before, code = other.settled(), other.page.position.code.clone()
    visitor.tab.get_by_role("button", name="›").click()
    visitor.until(lambda: visitor.page.choice.value == "b1")
    visitor.drop("mine.pth", code_bytes(torch.zeros(4)))
    visitor.until(lambda: "mine" in visitor.page.catalogue.labels("yours"))
    assert torch.equal(other.page.position.code, code)
    assert other.page.choice.value == "b0"
    assert "mine" not in other.page.catalogue.labels("yours")
    assert difference(before, other.settled()) < SAME
    other.close()  # its work ends with it
    visitor.until(lambda: other.number not in server.pages)
    visitor.until(lambda: not other.page.mesher.worker._thread.is_alive() and not other.page.worker._thread.is_alive())
    assert other.page._change_space not in visitor.page.shared.watcher._subscribers
    assert visitor.number in server.pages


def test_the_blend_follows_the_ball(browser: Any, server: Server) -> None:
    """In a tab of its own: messages of earlier tests could lie over the ball."""
    visitor = Visitor(browser, server)
    tab, page = visitor.tab, visitor.page
    visitor.settled()
    tab.get_by_text("Blend of four").click()
    tab.get_by_role("button", name="Show the square").click()
    visitor.until(lambda: page.square.shown)
    camera = visitor.page.client.camera
    shown = visitor.settled(camera.image_width, camera.image_height)
    codes = page.position.space.codes[[0, 1, 3, 5]]  # of the names that the corners begin with
    torch.testing.assert_close(page.position.code, codes.mean(dim=0))
    rows, columns = np.nonzero((shown[..., 0] > 160) & (shown[..., 1] < 130) & (shown[..., 2] < 110))
    x, y = float(np.median(columns)), float(np.median(rows))
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x + 15, y, steps=3)
    tab.mouse.move(x + 60, y, steps=5)
    tab.mouse.up()
    visitor.until(lambda: page.square.position[0] > 0.6)
    visitor.settled()
    across, away = page.square.position
    weights = torch.tensor([(1 - across) * (1 - away), across * (1 - away), (1 - across) * away, across * away])
    torch.testing.assert_close(page.position.code, weights @ codes, rtol=1e-4, atol=1e-4)
    visitor.close()


def test_a_later_checkpoint_is_shown(visitor: Visitor, world: SharedSpace) -> None:
    before = visitor.settled()
    rewrite(world.watcher.experiment, 900, lambda codes: codes.flip(0))
    assert world.watcher.poll()
    playwright.expect(visitor.tab.get_by_text("6 training shapes, epoch 900.")).to_be_visible()
    assert torch.equal(visitor.page.position.code, world.watcher.space.codes[0])
    visitor.until(lambda: difference(before, visitor.settled()) > OTHER)


def test_files_and_data_sources(browser: Any, toys: Any, tmp_path: Path) -> None:
    trimesh.creation.box((4, 2, 2)).export(tmp_path / "box.stl")
    draw(ball(0.5), 8000).save(toys.data.samples_path(toys.shapes[0]))
    shapes = data_shapes(toys.data)
    makes: list[tuple[Callable[[Any], Any], str]] = [
        (lambda client: FilePage(client, preview_file(tmp_path / "box.stl"), "z"), "Watertight"),
        (lambda client: DataPage(client, toys.data, shapes, "y"), "6 shapes."),
    ]
    for make, said in makes:
        server = Server(make, port=free_port())
        visitor = Visitor(browser, server)
        playwright.expect(visitor.tab.get_by_text(said).first).to_be_visible()
        visitor.until(lambda visitor=visitor: clay(visitor.settled()) > 0.01)
        visitor.close()
        server.close()
