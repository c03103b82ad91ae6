"""The viewer without a browser: positions in a space, meshing, checkpoints that change, uploaded files."""

from __future__ import annotations

import json
import pickle
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from conftest import FIELDS, ball, draw
from helpers import run

from deepsdf.checkpoints import codes_content, load_code, load_codes, load_decoder, model_content, pth_bytes
from deepsdf.errors import InputError
from deepsdf.geometry.fields import Field
from deepsdf.geometry.isosurface.options import Meshing
from deepsdf.geometry.meshes import load_mesh
from deepsdf.geometry.scanning.scan import Scan
from deepsdf.inference.complete.options import CompletionOptions
from deepsdf.inference.encode import EncodeOptions, encode
from deepsdf.inference.space import ShapeSpace
from deepsdf.jobs.worker import Cancelled, IsWanted, Worker
from deepsdf.journal import write_together
from deepsdf.metrics.fields import sdf_error
from deepsdf.progress import Progress
from deepsdf.splits import ShapeName
from deepsdf.viewer.content.catalogue import (
    COMPLETED,
    RECONSTRUCTED,
    TRAINING,
    Entry,
    catalogue_of,
    data_of,
    labels_of,
    load_shape_data,
)
from deepsdf.viewer.content.exports import code_bytes, file_stem, mesh_bytes, png_bytes
from deepsdf.viewer.content.position import LatentPosition, PrincipalDirections, blend, corner_weights, interpolate
from deepsdf.viewer.content.previews import data_shapes, preview_file
from deepsdf.viewer.content.uploads import encode_upload
from deepsdf.viewer.content.watcher import CheckpointWatcher
from deepsdf.viewer.html import escape, heading, note, table
from deepsdf.viewer.opening import open_page
from deepsdf.viewer.scene.blend_square import BALL_RADIUS, FORWARD, HALF_SIZE, floor_point
from deepsdf.viewer.scene.layers import cut, faded_slice
from deepsdf.viewer.scene.meshing import ProgressiveMesher, ShapeMesh
from deepsdf.viewer.scene.stage import FLOOR, upright
from deepsdf.viewer.serve import Server, check_port
from deepsdf.workspace import DataSource, Experiment

pytest_plugins = ["helpers"]


@pytest.fixture
def experiment(trained: Experiment, tmp_path: Path) -> Experiment:
    """A copy to write to."""
    shutil.copytree(trained.root, tmp_path / "exp")
    return Experiment.open(tmp_path / "exp")


# Positions


def test_a_slider_moves_the_code_along_its_direction_alone(space: ShapeSpace) -> None:
    position = LatentPosition(space)
    for row in range(len(space.codes)):
        position.set_code(space.codes[row])
        assert torch.equal(position.code, space.codes[row])  # nothing was moved: exactly what was picked
        for direction in range(len(position.directions)):
            position.set_code(space.codes[row])
            start = position.coordinates[direction]
            steps = 1.5 if start < 0 else -1.5
            position.set_coordinate(direction, start + steps)
            expected = space.codes[row] + steps * space.prior.std[direction] * space.prior.directions[:, direction]
            torch.testing.assert_close(position.code, expected, rtol=1e-6, atol=1e-6)
            # Seen from the prior, too: that coordinate alone has changed, by as many standard deviations.
            change = space.prior.whiten(position.code) - space.prior.whiten(space.codes[row])
            torch.testing.assert_close(change, steps * torch.eye(len(change))[direction], rtol=1e-4, atol=1e-4)


def test_sliders_stand_where_the_code_is(space: ShapeSpace) -> None:
    position = LatentPosition(space)
    position.set_code(space.codes[2])
    found = space.prior.whiten(space.codes[2])[: len(position.directions)]
    np.testing.assert_allclose(position.coordinates, found.numpy(), atol=0.0051)
    far = space.prior.colour(torch.tensor([50.0, 0.0, 0.0, 0.0]))
    position.set_code(far)  # beyond the sliders: they stop at their ends, the code does not
    assert position.coordinates[0] == position.directions.reach
    assert torch.equal(position.code, far)
    with pytest.raises(InputError, match="out of range"):
        position.set_coordinate(0, position.directions.reach + 1)


def test_directions_are_named_by_their_share_of_the_variance(space: ShapeSpace) -> None:
    directions = PrincipalDirections.of(space, 4)
    codes = space.codes.double()
    values = torch.linalg.svdvals(codes - codes.mean(dim=0)).square()
    np.testing.assert_allclose(directions.shares.numpy(), (values / values.sum())[:4].numpy(), rtol=1e-3, atol=1e-5)
    first = round(100 * float(values[0] / values.sum()))
    assert directions.names()[0] == f"1 · {first} %"
    assert len(PrincipalDirections.of(space, 2)) == 2


def test_between_and_blend() -> None:
    a, b, c, d = torch.eye(4)
    assert torch.equal(interpolate(a, b, 0.0), a)
    assert torch.equal(interpolate(a, b, 1.0), b)
    torch.testing.assert_close(interpolate(a, b, 0.25), torch.tensor([0.75, 0.25, 0.0, 0.0]))
    assert corner_weights(0, 0) == (1, 0, 0, 0)
    assert corner_weights(1, 1) == (0, 0, 0, 1)
    assert corner_weights(2, -1) == (0, 1, 0, 0)
    weights = corner_weights(0.3, 0.8)
    assert sum(weights) == pytest.approx(1)
    torch.testing.assert_close(blend([a, b, c, d], weights), torch.tensor(weights))
    torch.testing.assert_close(blend([a, b], [2, 6]), torch.tensor([0.25, 0.75, 0, 0]))
    for wrong in ([1.0], [-1.0, 2.0], [0.0, 0.0]):
        with pytest.raises(InputError, match="cannot be blended"):
            blend([a, b], wrong)


def test_the_nearest_training_shape_is_itself(space: ShapeSpace) -> None:
    position = LatentPosition(space)
    position.set_code(space.codes[4])
    near = position.nearest(6)
    assert near[0] == (4, 0.0)
    away = torch.linalg.vector_norm(space.codes - space.codes[4], dim=1)
    assert [row for row, _ in near] == away.argsort().tolist()
    torch.testing.assert_close(torch.tensor([distance for _, distance in near]), away.sort().values)


def test_two_places_of_one_space_are_independent(space: ShapeSpace) -> None:
    one, other = LatentPosition(space), LatentPosition(space)
    one.set_code(space.codes[0])
    other.set_code(space.codes[0])
    one.set_coordinate(0, 0.0)
    assert torch.equal(other.code, space.codes[0])
    assert not torch.equal(one.code, other.code)


# Meshing


@dataclass(frozen=True)
class Solid:
    """Stands in for a Shape: a field, and where its code would lie."""

    field: Field
    code: torch.Tensor = torch.zeros(1)  # noqa: RUF009

    def sdf(self, points: np.ndarray) -> np.ndarray:
        return self.field(points).astype(np.float32)


def test_coarse_first_then_finer() -> None:
    shown: list[ShapeMesh] = []
    mesher = ProgressiveMesher(shown.append)
    mesher.request(Solid(ball(0.5)), (12, 24, 48))  # pyright: ignore[reportArgumentType]
    assert mesher.wait(30)
    mesher.close()
    assert [mesh.resolution for mesh in shown] == [12, 24, 48]
    assert [mesh.last for mesh in shown] == [False, False, True]
    volumes = [abs(mesh.mesh.volume - 4 / 3 * np.pi / 8) for mesh in shown if mesh.mesh is not None]
    assert volumes == sorted(volumes, reverse=True)
    assert volumes[-1] < 0.003


def test_the_next_move_gives_up_what_is_not_finished() -> None:
    shown: list[tuple[str, int]] = []
    reached, go_on = threading.Event(), threading.Event()

    def slow(points: np.ndarray) -> np.ndarray:
        if len(shown) == 1:  # its coarse mesh is there: the finer one is being made
            reached.set()
            go_on.wait(30)
        return ball(0.5)(points)

    first, second = Solid(slow), Solid(ball(0.3))
    names = {id(first): "first", id(second): "second"}
    mesher = ProgressiveMesher(lambda mesh: shown.append((names[id(mesh.shape)], mesh.resolution)))
    mesher.request(first, (12, 100))  # pyright: ignore[reportArgumentType]
    assert reached.wait(30)
    mesher.request(second, (12, 30))  # pyright: ignore[reportArgumentType]
    go_on.set()
    assert mesher.wait(30)
    mesher.close()
    assert shown == [("first", 12), ("second", 12), ("second", 30)]


def test_a_hand_that_never_rests_sees_every_coarse_mesh() -> None:
    shown: list[int] = []
    mesher = ProgressiveMesher(lambda mesh: shown.append(mesh.resolution))

    def restless(points: np.ndarray) -> np.ndarray:
        if len(shown) < 4:  # the next move comes while this one is being meshed
            mesher.request(Solid(restless), (12, 90))  # pyright: ignore[reportArgumentType]
        return ball(0.5)(points)

    mesher.request(Solid(restless), (12, 90))  # pyright: ignore[reportArgumentType]
    deadline = time.monotonic() + 30
    while 90 not in shown and time.monotonic() < deadline:
        time.sleep(0.01)
    mesher.close()
    assert shown[:4] == [12, 12, 12, 12]
    assert shown[-1] == 90


def test_a_closed_page_stops_its_work() -> None:
    begun, go_on = threading.Event(), threading.Event()
    asked: list[int] = []

    def slow(points: np.ndarray) -> np.ndarray:
        asked.append(len(points))
        begun.set()
        go_on.wait(30)
        return ball(0.5)(points)

    shown: list[ShapeMesh] = []
    mesher, worker = ProgressiveMesher(shown.append, "of a test"), Worker("of a test")
    mesher.request(Solid(slow), (100,))  # pyright: ignore[reportArgumentType]
    started, stopped = threading.Event(), threading.Event()

    def job(is_wanted: IsWanted) -> None:
        started.set()
        while is_wanted():
            time.sleep(0.005)
        stopped.set()

    worker.submit("one", job)
    assert begun.wait(30)
    assert started.wait(30)
    worker.close()
    threading.Timer(0.05, go_on.set).start()
    mesher.close()
    assert stopped.wait(30)
    assert len(asked) == 1  # one piece of points, and no more
    assert not shown
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any("of a test" in thread.name for thread in threading.enumerate()):
        time.sleep(0.01)
    assert not [thread.name for thread in threading.enumerate() if "of a test" in thread.name]


def test_a_shape_without_a_surface_says_so_and_work_goes_on() -> None:
    shown: list[ShapeMesh] = []
    mesher = ProgressiveMesher(shown.append)
    mesher.request(Solid(lambda points: np.ones(len(points))), (12, 24))  # pyright: ignore[reportArgumentType]
    assert mesher.wait(30)
    mesher.request(Solid(ball(0.5)), (12,))  # pyright: ignore[reportArgumentType]
    assert mesher.wait(30)
    mesher.close()
    assert [mesh.mesh is None for mesh in shown] == [True, False]
    assert "no surface" in shown[0].reason
    assert shown[0].last


def test_a_job_takes_the_place_of_one_that_waits() -> None:
    done: list[str] = []
    worker, go_on = Worker("test"), threading.Event()
    worker.submit("first", lambda is_wanted: go_on.wait(30) and None)  # pyright: ignore[reportArgumentType]
    for name in ("old", "new"):
        worker.submit("same", lambda is_wanted, name=name: done.append(name))
    worker.submit("broken", lambda is_wanted: 1 / 0)  # pyright: ignore[reportArgumentType]
    worker.submit("last", lambda is_wanted: done.append("last"))
    go_on.set()
    assert worker.wait(30)
    worker.close()
    assert done == ["new", "last"]


# A training goes on


def rewrite(experiment: Experiment, epoch: int, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """A later checkpoint, with other codes."""
    decoder, _ = load_decoder(experiment)
    codes, _ = load_codes(experiment)
    contents = {
        experiment.model_path("latest"): model_content(decoder, epoch),
        experiment.codes_path("latest"): codes_content(change(codes), epoch),
    }
    write_together(
        experiment.root, {path: lambda content=content: pth_bytes(content) for path, content in contents.items()}
    )


def test_the_latest_checkpoint_is_followed(experiment: Experiment) -> None:
    watcher = CheckpointWatcher(experiment, device="cpu")
    before = watcher.space
    told: list[ShapeSpace] = []
    end = watcher.subscribe(told.append)
    watcher.subscribe(lambda space: 1 / 0)  # pyright: ignore[reportArgumentType] # another browser's trouble
    assert not watcher.poll()
    rewrite(experiment, 900, lambda codes: codes + 0.5)
    assert watcher.poll()
    assert not watcher.poll()
    assert [space.epoch for space in told] == [900]
    torch.testing.assert_close(told[0].codes, before.codes + 0.5)
    experiment.model_path("latest").write_bytes(b"half")
    assert not watcher.poll()
    assert watcher.space is told[0]
    end()
    experiment.model_path("latest").unlink()
    assert not watcher.poll()
    assert len(told) == 1


def test_a_place_follows_as_far_moved_as_it_was(space: ShapeSpace) -> None:
    position = LatentPosition(space)
    position.set_code(space.codes[1])
    steps = 0.75 if position.coordinates[0] < 0 else -0.75
    position.set_coordinate(0, position.coordinates[0] + steps)
    later = ShapeSpace(space.decoder, 2.0 * space.codes + 1.0, device="cpu")
    position.set_space(later, later.codes[1])
    moved = (position.code - later.codes[1]) @ later.prior.directions / later.prior.std
    torch.testing.assert_close(moved[0], torch.tensor(steps), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(moved[1:], torch.zeros(len(moved) - 1), atol=1e-3, rtol=0)


# The list of shapes


def test_the_list_holds_training_reconstructed_and_completed_shapes(experiment: Experiment) -> None:
    space = ShapeSpace.load(experiment, device="cpu")
    shape = ShapeName("toys", "ball", "b9")
    path = experiment.reconstructed_code_path(space.epoch, shape)
    path.parent.mkdir(parents=True)
    path.write_bytes(code_bytes(space.codes[3]))
    folder = experiment.root / "Completions"
    folder.mkdir()
    figures = {"scan_to_unit": np.eye(4).tolist(), "code": space.codes[2].tolist()}
    (folder / "whole.json").write_text(json.dumps(figures))
    for name, content in (
        ("short", {**figures, "code": [1.0]}),
        ("endless", {**figures, "code": [float("nan")] * 4}),
        ("words", {**figures, "code": "abcd"}),
        ("list", [1, 2]),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "noise.json").write_bytes(b"\xff\xfe" * 100)
    (experiment.root / "mine.pth").write_bytes(code_bytes(space.codes[1]))
    found = catalogue_of(experiment, space, [experiment.root / "mine.pth"])
    assert found.labels(TRAINING) == ["b0", "b1", "b2", "q0", "q1", "q2"]
    assert found.labels(RECONSTRUCTED) == ["b9"]
    assert found.labels(COMPLETED) == ["whole", "mine"]
    for kind, label, row in (
        (TRAINING, "q0", 3), (RECONSTRUCTED, "b9", 3), (COMPLETED, "whole", 2), (COMPLETED, "mine", 1),
    ):  # fmt: skip
        torch.testing.assert_close(found.get(kind, label).code(space), space.codes[row])
    assert found.training(5) is found.get(TRAINING, "q2")
    known = load_shape_data(found.get(TRAINING, "q1"), data_of(experiment))
    assert known.samples is not None
    assert known.truth is None  # no meshes are registered there
    with pytest.raises(InputError, match=r"the list has no training shape '\.\./\.\./etc"):
        found.get(TRAINING, "../../etc/passwd")
    with pytest.raises(InputError, match=r"short.json is not a shape of this space"):
        catalogue_of(experiment, space, [folder / "short.json"])


def test_a_copy_of_the_list_is_ones_own(experiment: Experiment) -> None:
    space = ShapeSpace.load(experiment, device="cpu")
    shared = catalogue_of(experiment, space)
    own = shared.copy()
    entry = Entry(TRAINING, "b0", lambda space: space.codes[0])
    assert own.add(entry).label == "b0 (2)"
    assert own.add(entry).label == "b0 (3)"
    assert "b0 (2)" not in shared.labels(TRAINING)


def test_without_its_split_training_shapes_have_numbers(experiment: Experiment) -> None:
    specs = json.loads((experiment.root / "specs.json").read_text())
    (experiment.root / "specs.json").write_text(json.dumps({**specs, "TrainSplit": "gone.json", "DataSource": "gone"}))
    again = Experiment.open(experiment.root)
    found = catalogue_of(again, ShapeSpace.load(again, device="cpu"))
    assert found.labels(TRAINING)[:2] == ["training shape 0", "training shape 1"]
    assert data_of(again) is None


def test_names_are_as_short_as_can_be() -> None:
    shapes = [ShapeName("a", "x", "1"), ShapeName("a", "y", "1"), ShapeName("b", "y", "1"), ShapeName("a", "x", "2")]
    assert list(labels_of(shapes).values()) != []
    assert labels_of(shapes) == {
        shapes[0]: "x/1", shapes[1]: "a/y/1", shapes[2]: "b/y/1", shapes[3]: "2",
    }  # fmt: skip


# Files that come and go


def obj(mesh: trimesh.Trimesh) -> bytes:
    return str(mesh.export(file_type="obj")).encode()


def test_a_mesh_is_sampled_and_fitted(space: ShapeSpace) -> None:
    events: list[Progress] = []
    cube = trimesh.creation.box((6, 6, 6)).apply_translation((30, 0, 1))
    upload = encode_upload(
        space, "C:\\x\\my cube.obj", obj(cube), EncodeOptions(samples=8000), on_progress=events.append
    )
    assert upload.label == "my cube"
    found = upload.encoding
    assert found.kind == "mesh"
    assert found.samples is not None
    assert len(found.samples) == 8000
    assert found.mesh is not None
    assert found.to_unit is not None
    np.testing.assert_allclose(found.mesh.bounds, np.array([[-1] * 3, [1] * 3]) / np.sqrt(3) / 1.03, atol=1e-6)
    np.testing.assert_allclose(trimesh.transform_points(cube.vertices, found.to_unit), found.mesh.vertices, atol=1e-12)
    assert [task for task, _ in groupby(event.task for event in events)] == ["reading", "sampling", "fitting"]
    shares = [event.done / event.total for event in events if event.task == "fitting"]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert upload.summary.startswith("fitted to 8 000 samples; mean error 0.")
    # A cube of that size is none of the toys; no training shape is as near.
    codes = [found.code, *space.codes]
    errors = [sdf_error(space.shape(code), found.samples).clamped_l1 for code in codes]
    assert errors[0] < 0.9 * min(errors[1:])


def test_points_are_a_scan_and_completed(space: ShapeSpace) -> None:
    points = draw(ball(0.5), 4000).points
    points = 0.5 * points[points[:, 2] > 0.1] / np.linalg.norm(points[points[:, 2] > 0.1], axis=1, keepdims=True)
    lines = "\n".join(" ".join(map(str, point)) for point in points)
    upload = encode_upload(space, "half.xyz", lines.encode(), EncodeOptions(pose="none"))
    found = upload.encoding
    assert found.kind == "scan"
    assert upload.scan_points is not None
    np.testing.assert_allclose(np.linalg.norm(upload.scan_points, axis=1), 0.5, atol=1e-6)
    radius = np.linalg.norm(space.shape(found.code).mesh(40).vertices, axis=1)
    assert radius.mean() == pytest.approx(0.5, abs=0.04)
    with pytest.raises(InputError, match=r"^half\.xyz holds surface points, from which inside and outside cannot"):
        encode_upload(space, "half.xyz", lines.encode(), EncodeOptions(treat="whole"))


def test_the_pose_of_a_scan_is_estimated_unless_it_is_given(space: ShapeSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points inside the unit sphere are not taken for points of the unit frame."""
    poses: list[str] = []
    complete = ShapeSpace.complete

    def recorded(self: ShapeSpace, scan: Scan, options: CompletionOptions) -> Any:
        poses.append(options.pose)
        return complete(self, scan, replace(options, pose="none"))

    monkeypatch.setattr(ShapeSpace, "complete", recorded)
    points = draw(ball(0.5), 4000).points
    scan = Scan.from_points(0.5 * points / np.linalg.norm(points, axis=1, keepdims=True))
    encode(space, scan)
    encode(space, scan, EncodeOptions(pose="none"))
    assert poses == ["similarity", "none"]


def test_samples_and_codes_are_taken_as_they_are(space: ShapeSpace, tmp_path: Path) -> None:
    shape, field = next(iter(FIELDS.items()))
    content = draw(field, 4000).save(tmp_path / "samples.npz").read_bytes()
    found = encode_upload(space, "b0.npz", content).encoding
    assert found.kind == "samples"
    error = np.abs(space.shape(found.code).sdf(found.samples.points) - found.samples.distances)  # pyright: ignore
    near = np.abs(found.samples.distances) < 0.1  # pyright: ignore
    assert error[near].mean() < 0.02, shape
    upload = encode_upload(space, "code.pth", code_bytes(space.codes[5]))
    assert upload.encoding.kind == "code"
    assert upload.summary == "code read from the file"
    assert torch.equal(upload.encoding.code, space.codes[5])


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (sys.exit, ("run from a file",))


def test_broken_and_hostile_files_are_refused(space: ShapeSpace, tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", pos=np.array([Evil()], object), neg=np.zeros((1, 4)))
    for name, content, message in (
        ("../../../etc/passwd", b"x", "has no known file type; use one of"),
        ("a.exe", b"x", "has no known file type; use one of"),
        ("empty.ply", b"", "0 bytes"),
        ("broken.ply", b"ply\nnonsense", r"^broken\.ply: cannot be read"),
        ("../up.obj", b"v 1 2", r"^up\.obj: "),
        ("evil.pth", pickle.dumps(Evil()), r"^evil\.pth is not a code"),
        ("short.pth", code_bytes(torch.zeros(3)), "a code of length 4"),
        ("nan.pth", code_bytes(torch.full((4,), torch.nan)), "numbers that are NaN or infinite"),
        ("evil.npz", (tmp_path / "evil.npz").read_bytes(), r"^evil\.npz: .*allow_pickle"),
        ("list.npy", b"\x93NUMPY", "cannot be read"),
        (
            "reads.gltf",
            b'{"asset": {"version": "2.0"}, "buffers": [{"uri": "/etc/hostname", "byteLength": 4}]}',
            "gltf",
        ),
    ):
        with pytest.raises(InputError, match=message) as caught:
            encode_upload(space, name, content)
        assert "deepsdf-view-" not in str(caught.value), "where it was kept is nobody's business"


def test_a_fit_that_nobody_wants_any_more_stops(space: ShapeSpace) -> None:
    tasks: list[str] = []

    def cancel(event: Progress) -> None:
        tasks.append(event.task)
        if event.done:
            raise Cancelled

    with pytest.raises(Cancelled):
        encode_upload(space, "cube.obj", obj(trimesh.creation.box()), EncodeOptions(samples=2000), on_progress=cancel)
    assert tasks.count("fitting") == 2  # before the first step and after it


def test_what_is_saved_loads_again(tmp_path: Path, space: ShapeSpace) -> None:
    mesh = space.shape(4).mesh(Meshing(resolution=32, vertices="linear"))
    colours = np.full((len(mesh.vertices), 3), (200, 30, 10), np.uint8)
    for kind in (".ply", ".glb"):
        for given in (None, colours):
            path = tmp_path / f"saved{kind}"
            path.write_bytes(mesh_bytes(mesh, kind, given))
            again = load_mesh(path)
            assert len(again.faces) == len(mesh.faces)
            np.testing.assert_allclose(again.bounds, mesh.bounds, atol=1e-6)
    painted: Any = trimesh.load(tmp_path / "saved.ply")
    assert tuple(painted.visual.vertex_colors[0][:3]) == (200, 30, 10)
    path = tmp_path / "code.pth"
    path.write_bytes(code_bytes(space.codes[0]))
    assert torch.load(path, weights_only=True).shape == (1, 1, 4)
    assert torch.equal(load_code(path, 4), space.codes[0])
    assert png_bytes(np.zeros((4, 4, 4), np.uint8))[:4] == b"\x89PNG"
    with pytest.raises(InputError, match=r"\.ply or \.glb"):
        mesh_bytes(mesh, ".exe")
    assert file_stem("../../a b/<c>") == "a_b_c"
    assert file_stem("...") == "shape"


# Drawing


def test_cutting_keeps_what_lies_behind() -> None:
    sphere = trimesh.creation.icosphere(3)
    assert cut(sphere, "x", 0.2).bounds[1][0] == pytest.approx(0.2)
    assert cut(sphere, "x", 0.2).bounds[0][0] == pytest.approx(sphere.bounds[0][0])
    assert cut(sphere, "y", -0.3, -1.0).bounds[0][1] == pytest.approx(-0.3)
    assert len(cut(sphere, "z", -2.0).faces) == 0


def test_a_slice_fades_far_outside() -> None:
    picture = faded_slice(ball(0.5), "z", 0.0)
    side = len(picture)
    assert picture.shape == (side, side, 4)
    assert picture[side // 2, side // 2, 3] == 255
    assert picture[0, 0, 3] < 50
    inside, outside = picture[side // 2, side // 2, :3].astype(int), picture[0, 0, :3].astype(int)
    assert inside[2] > inside[0]  # blue
    assert outside[0] > outside[2]  # red


@pytest.mark.parametrize("up", ["x", "y", "z"])
def test_the_ball_is_where_the_pointer_is(up: Any) -> None:
    frame = upright(up)
    np.testing.assert_allclose(frame.T @ frame, np.eye(3))
    assert np.linalg.det(frame) == pytest.approx(1)
    assert frame[:, 1].tolist() == [float(axis == up) for axis in "xyz"]
    eye = frame @ np.array([0.4, 2.0, 6.0])
    at = frame @ np.array([HALF_SIZE / 2, FLOOR + BALL_RADIUS, FORWARD - HALF_SIZE / 2])
    np.testing.assert_allclose(floor_point(eye, (eye + at) / 2, frame), (0.75, 0.75))  # pyright: ignore
    assert floor_point(eye, eye + frame[:, 1], frame) is None  # to the sky
    assert floor_point(eye, eye + frame[:, 0], frame) is None  # along the floor
    far = frame @ np.array([9.0, FLOOR + BALL_RADIUS, FORWARD])
    np.testing.assert_allclose(floor_point(eye, far, frame), (1.0, 0.5))  # pyright: ignore


def test_words_of_files_are_no_html() -> None:
    evil = "<img src=x onerror=alert(1)>&"
    assert escape(evil) == "&lt;img src=x onerror=alert(1)&gt;&amp;"
    for made in (heading(evil), table([(evil, evil)])):
        assert "<img" not in made
    assert note("<b>ours</b>").count("<b>") == 1


# Previews of files and data sources


def test_looks_of_files(tmp_path: Path) -> None:
    box = trimesh.creation.box((4, 2, 2)).apply_translation((9, 9, 9))
    box.export(tmp_path / "box.stl")
    preview = preview_file(tmp_path / "box.stl")
    assert preview.mesh is not None
    assert np.linalg.norm(preview.mesh.vertices, axis=1).max() == pytest.approx(1 / 1.03)
    assert ("Triangles", "12") in preview.properties
    assert ("Watertight", "yes") in preview.properties
    assert preview.field is not None
    assert float(preview.field()(np.zeros((1, 3)))[0]) < 0
    draw(ball(0.5)).save(tmp_path / "ball.npz")
    preview = preview_file(tmp_path / "ball.npz")
    assert preview.samples is not None
    assert dict(preview.properties)["Samples inside"] == str(len(preview.samples.neg))
    rng = np.random.default_rng(0)
    trimesh.PointCloud(100 + rng.normal(size=(500, 3))).export(tmp_path / "cloud.ply")
    preview = preview_file(tmp_path / "cloud.ply")
    assert preview.points is not None
    assert np.linalg.norm(preview.points, axis=1).max() == pytest.approx(1)
    for name, content, message in (
        ("no.ply", None, "there is no file or folder"),
        ("a.txt", b"words", r"cannot be shown; expected one of \.obj"),
        ("bad.npz", b"PK\x03\x04", "expected an .npz"),
        ("bad.obj", b"f 1 2 3", "bad.obj"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            preview_file(tmp_path / name)


def test_shapes_of_a_data_source(toys: Any) -> None:
    found = data_shapes(toys.data)
    assert list(found) == sorted(FIELDS)
    assert set(found.values()) == {None}
    toys.data.quality_path.write_text(
        "shape,verdict,reason,uncertain,inside,closed,faces,dropped,flipped,sheets,holes,capped,caps,seconds\n"
        "toys/ball/b0,doubtful,thin,0.02,0.3,False,10,0,0,0,1,0,0,1\n"
        "toys/ball/gone,rejected,no inside,1,0,False,0,0,0,0,0,0,0,1\n"
        "../../etc,ok,,0,0,True,0,0,0,0,0,0,0,1\n"
        "toys/../secret,ok,,0,0,True,0,0,0,0,0,0,0,1\n"
    )
    found = data_shapes(toys.data)
    assert len(found) == len(FIELDS) + 1
    assert found[ShapeName("toys", "ball", "b0")].verdict == "doubtful"  # pyright: ignore
    assert found[ShapeName("toys", "ball", "gone")].verdict == "rejected"  # pyright: ignore
    with pytest.raises(InputError, match="there are no samples in"):
        data_shapes(DataSource(toys.root))


# The command


def test_wrong_commands_say_what_to_do(tmp_path: Path, experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, message in (
        ((), "0 files or folders were given; expected one"),
        (("a", "b"), "2 files or folders were given"),
        ((tmp_path / "nothing",), "there is no file or folder"),
        (("-e", tmp_path / "nothing"), "there is no experiment folder"),
        (("-e", experiment.root, "-c", "7"), "has no checkpoint '7'"),
        (("-e", experiment.root, tmp_path / "x.pth"), "there is no code at"),
    ):
        assert message in run("view", *arguments, status=2).output
    with pytest.raises(InputError, match=r"cannot be used.*--host must be an address of this machine"):
        check_port("no.such.host.invalid", 8080)
    with pytest.raises(InputError, match=r"is not a host; use 127\.0\.0\.1"):
        check_port("a" * 80, 8080)
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(InputError, match=r"pip install deepsdf\[viewer\]"):
        Server(lambda client: None, port=8080)  # pyright: ignore


def test_a_port_in_use_is_named_with_a_free_one(experiment: Experiment) -> None:
    pytest.importorskip("viser", reason="needs viser: pip install deepsdf[viewer]")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = run("view", "-e", experiment.root, "--device", "cpu", "--port", port, status=2).output
    assert f"127.0.0.1:{port} cannot be used" in said
    assert f"--port {port + 1 if port < 65535 else 8080}" in said


@pytest.mark.parametrize(
    ("host", "headers", "foreign"),
    [
        ("127.0.0.1", {"Origin": "http://127.0.0.1:8080", "Host": "127.0.0.1:8080"}, False),
        ("127.0.0.1", {"Origin": "http://localhost:9000", "Host": "localhost:9000"}, False),  # forwarded by ssh
        ("127.0.0.1", {"Host": "127.0.0.1:8080"}, False),  # no browser
        ("127.0.0.1", {"Origin": "https://evil.example", "Host": "127.0.0.1:8080"}, True),
        ("127.0.0.1", {"Origin": "http://127.0.0.1:8081", "Host": "127.0.0.1:8080"}, True),
        ("127.0.0.1", {"Origin": "null", "Host": "127.0.0.1:8080"}, True),
        ("127.0.0.1", {"Origin": "http://evil.example:8080", "Host": "evil.example:8080"}, True),  # points to us
        ("127.0.0.1", {"Origin": "http://[evil", "Host": "[evil"}, True),
        ("::1", {"Origin": "http://[::1]:8080", "Host": "[::1]:8080"}, False),
        ("0.0.0.0", {"Origin": "https://hub.example", "Host": "127.0.0.1:8080"}, False),  # a proxy, perhaps
    ],
)
def test_pages_of_other_sites_are_given_nothing(host: str, headers: dict[str, str], foreign: bool) -> None:
    server = Server.__new__(Server)
    connection = SimpleNamespace(request=SimpleNamespace(headers=headers))
    server._server = SimpleNamespace(_websock_server=SimpleNamespace(_live_connections={7: connection}))
    server.host, server.port, server.pages, server._lock = host, 8080, {}, threading.Lock()
    made: list[Any] = []
    server._make = lambda client: made.append(client) or SimpleNamespace(close=lambda: None)  # pyright: ignore[reportAttributeAccessIssue]
    client = SimpleNamespace(client_id=7)
    server._server.get_clients = lambda: {7: client}
    server._connect(client)
    assert (made == []) is foreign
    assert (server.pages == {}) is foreign


def test_an_experiment_needs_no_flag(experiment: Experiment) -> None:
    opened = open_page([experiment.root], device="cpu")
    opened.close()
    assert opened.title == f"Shape space of {experiment.root}"
