"""The viewer's pages on a real viser server, without a browser: a stand-in client receives what a browser would."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from conftest import ball, draw
from test_viewer import obj, rewrite

from deepsdf.checkpoints import load_code
from deepsdf.errors import NoSurfaceError
from deepsdf.geometry.meshes import load_mesh
from deepsdf.inference.encode import EncodeOptions
from deepsdf.metrics.registry import METRICS
from deepsdf.viewer.content.catalogue import COMPLETED, OWN, catalogue_of
from deepsdf.viewer.content.previews import data_shapes, preview_file
from deepsdf.viewer.content.watcher import CheckpointWatcher
from deepsdf.viewer.pages.preview_pages import DataPage, FilePage
from deepsdf.viewer.pages.space_page import SharedSpace, SpacePage
from deepsdf.workspace import Experiment

viser = pytest.importorskip("viser", reason="needs viser: pip install deepsdf[viewer]")

pytest_plugins = ["helpers"]


class Client(SimpleNamespace):
    """A browser's handle: the server's controls and scene, and a record of messages and downloads."""

    def add_notification(self, title: str, body: str, **_: Any) -> None:
        self.messages.append((title, body))

    def send_file_download(self, name: str, content: bytes, **_: Any) -> None:
        self.downloads[name] = content

    def get_render(self, height: int, width: int, **_: Any) -> np.ndarray:
        raise TimeoutError


@pytest.fixture
def client() -> Iterator[Client]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    server = viser.ViserServer(host="127.0.0.1", port=port, verbose=False)
    camera = SimpleNamespace(aspect=1.0, image_width=64, image_height=64, up_direction=None)
    yield Client(client_id=1, gui=server.gui, scene=server.scene, camera=camera, messages=[], downloads={})
    server.stop()


@pytest.fixture
def page(trained: Experiment, tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[SpacePage]:
    monkeypatch.setattr("deepsdf.viewer.pages.space_page.FINEST", ("64",))
    shutil.copytree(trained.root, tmp_path / "exp")
    watcher = CheckpointWatcher(Experiment.open(tmp_path / "exp"), device="cpu")
    catalogue = catalogue_of(watcher.experiment, watcher.space)
    page = SpacePage(client, SharedSpace(watcher, catalogue, finest=64, encoding=EncodeOptions(samples=4000)))
    yield page
    page.close()


def settle(page: SpacePage) -> None:
    for worker in (page.files.worker, page.mesher, page.worker, page.map.worker):
        assert worker.wait(60)


def test_the_first_training_shape_is_shown(page: SpacePage) -> None:
    settle(page)
    assert page.shown is not None
    assert page.shown.resolution == 64
    assert torch.equal(page.shown.shape.code, page.position.space.codes[0])
    assert "6 training shapes, epoch 700." in page.header.content
    assert "64³ samples" in page.status.content
    assert "refining" not in page.status.content
    assert page.metrics.buttons[0].label == "0.00 · b0"
    assert "true mesh of this shape is not known" in page.metrics.metrics.content
    assert "Not available for this shape: true mesh." in page.layers.missing.content


def test_sliders_and_blends_change_the_code(page: SpacePage) -> None:
    codes = page.position.space.codes
    page._set_coordinate(0, page.position.directions.reach)
    settle(page)
    assert page.position.moved
    assert ", moved" in page.status.content
    page._step("reset")
    assert torch.equal(page.position.code, codes[0])
    page.interpolation.share.value = 0.5
    page.interpolation._update()
    torch.testing.assert_close(page.position.code, (codes[0] + codes[5]) / 2)
    page.blend._toggle()
    page.blend.move(1.0, 0.0)
    assert torch.equal(page.position.code, codes[1])  # the corner B
    settle(page)
    assert page.square.position == (1.0, 0.0)
    page.blend._toggle()
    assert not page.square.shown


def test_a_point_of_the_map_is_picked(page: SpacePage) -> None:
    page.map.on.value = True
    page.map._switched()
    settle(page)
    assert page.map.map is not None
    assert len(page.map.points) == 6
    page.map.click(page.map.points[3] + [0, 0, 5], [0, 0, -1])
    assert page.choice.value == "q0"
    np.testing.assert_allclose(page.map._ball.position[:2], page.map.points[3][:2], atol=1e-6)


def test_an_upload_is_added_measured_and_saved(page: SpacePage, client: Client, tmp_path: Path) -> None:
    upload = SimpleNamespace(name="my cube.obj", content=obj(trimesh.creation.box((2, 2, 2))))
    page.files.worker.submit("upload", lambda is_wanted: page.files._encode(upload.name, upload.content, is_wanted))
    settle(page)
    assert (page.kind.value, page.choice.value) == (OWN, "my cube")
    assert client.messages[-1][0] == "Shape added"
    assert client.messages[-1][1].startswith("my cube: fitted to 4 000 samples; mean error 0.")
    settle(page)
    assert METRICS["chamfer"].heading in page.metrics.metrics.content
    page.layers.errors.value = True
    page.layers.update()
    assert "Distance to the true mesh" in page.layers.bar.content
    for suffix in (".ply", ".glb", ".png", ".pth"):
        page.save(suffix)
    assert list(client.downloads) == ["my_cube.ply", "my_cube.glb", "my_cube.png", "my_cube.pth"]
    for name, content in client.downloads.items():
        (tmp_path / name).write_bytes(content)
    assert page.shown is not None
    assert page.shown.mesh is not None
    assert len(load_mesh(tmp_path / "my_cube.ply").faces) == len(page.shown.mesh.faces)
    assert torch.equal(load_code(tmp_path / "my_cube.pth", 4), page.position.code)
    page.shown = None
    with pytest.raises(NoSurfaceError, match="no shape to save"):
        page.save(".ply")


def test_an_uploaded_scan_is_completed(page: SpacePage, client: Client) -> None:
    points = draw(ball(0.5), 2000).points
    points = 0.5 * points / np.linalg.norm(points, axis=1, keepdims=True)
    lines = "\n".join(" ".join(map(str, point)) for point in points)
    page.files.pose.value = "none"
    page.files._encode("ball.xyz", lines.encode(), lambda: True)
    settle(page)
    assert (page.kind.value, page.choice.value) == (COMPLETED, "ball")
    assert not page.layers.scan.disabled


def test_a_later_checkpoint_keeps_the_shape(page: SpacePage) -> None:
    settle(page)
    rewrite(page.shared.watcher.experiment, 900, lambda codes: codes.flip(0))
    assert page.shared.watcher.poll()
    assert "epoch 900." in page.header.content
    assert torch.equal(page.position.code, page.shared.watcher.space.codes[0])


def test_a_closed_page_is_no_subscriber(page: SpacePage) -> None:
    page.close()
    assert page.shared.watcher._subscribers == []
    assert not page.mesher.worker._thread.is_alive()


def test_previews_of_a_file_and_a_data_source(toys: Any, tmp_path: Path, client: Client) -> None:
    trimesh.creation.box((4, 2, 2)).export(tmp_path / "box.stl")
    file_page = FilePage(client, preview_file(tmp_path / "box.stl"), "z")
    file_page.layers.slice.on.value = True
    file_page.layers.draw()
    assert file_page.worker.wait(60)
    assert {"/mesh", "/slice"} <= set(file_page.stage._handles)
    file_page.close()
    data_page = DataPage(client, toys.data, data_shapes(toys.data), "y")
    data_page.step = SimpleNamespace(value="›")
    data_page._step()
    assert data_page.worker.wait(60)
    assert data_page.choice.value == "b1"
    assert "No verdict" in data_page.about.content
    assert "/inside" in data_page.stage._handles
    data_page.close()
