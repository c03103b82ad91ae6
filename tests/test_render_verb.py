"""`deepsdf render` on the command line: what the files show, and error messages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from helpers import World, chdir, copy_world, is_picture, run
from PIL import Image, ImageSequence

from deepsdf.checkpoints import save_code
from deepsdf.geometry.meshes import Normalization, load_mesh
from deepsdf.geometry.sdf.mesh_sdf import MeshSDF
from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.inference.space import ShapeSpace
from deepsdf.rendering.camera import PictureOptions
from deepsdf.rendering.render import error_picture, render_mesh, render_points

pytest_plugins = ("helpers",)

SIZE = 64
SMALL = ("--size", SIZE, "--device", "cpu")
SHAPES = ("render", "-e", "exp", *SMALL, "--resolution", 24)
CUBE, TALL, ROUND = "meshes/box/cube.obj", "meshes/box/tall.obj", "meshes/egg/round.obj"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A copy of the world for tests that only add pictures."""
    return copy_world(tmp_path_factory.mktemp("shared"))


@pytest.fixture
def place(shared: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for pictures, while the world's root is the current folder."""
    monkeypatch.chdir(shared.root)
    return tmp_path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def film(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """Frames, and their durations in ms."""
    with Image.open(path) as opened:
        shown = [(np.asarray(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(opened)]
    return [frame for frame, _ in shown], [duration for _, duration in shown]


# Pictures


def test_a_mesh_is_drawn_by_render_mesh(place: Path) -> None:
    result = run("render", CUBE, "-o", place / "new" / "cube.png", *SMALL)
    assert result.stdout == f"Wrote {place / 'new' / 'cube.png'}\n"
    assert [path.name for path in (place / "new").iterdir()] == ["cube.png"]
    shown = pixels(place / "new" / "cube.png")
    assert shown.shape == (SIZE, SIZE, 3)
    assert np.array_equal(shown, render_mesh(load_mesh(Path(CUBE)), PictureOptions(size=SIZE), device="cpu"))


def test_options_of_the_picture(place: Path) -> None:
    view = ("--azimuth", -20, "--elevation", 5, "--up", "z", "--color", "teal", "--no-ground", "--bound", 60)
    run("render", TALL, "-o", place / "a.png", *view, "--background", "10,20,30", *SMALL)
    options = PictureOptions(
        SIZE, azimuth=-20, elevation=5, up="z", color=(0, 128, 128), bound=60, ground=False, background=(10, 20, 30)
    )
    expected = render_mesh(load_mesh(Path(TALL)), options, device="cpu")
    assert np.array_equal(pixels(place / "a.png"), expected)
    assert tuple(expected[0, 0]) == (10, 20, 30)
    run("render", TALL, "-o", place / "b.png", "--background", "transparent", *SMALL)
    clear = pixels(place / "b.png")
    assert clear.shape == (SIZE, SIZE, 4)
    assert clear[0, 0, 3] == 0
    assert clear[SIZE // 2, SIZE // 2, 3] == 255


def test_points_and_samples_and_several_side_by_side(place: Path) -> None:
    points = load_mesh(Path(ROUND)).vertices
    trimesh.PointCloud(points).export(place / "points.ply")
    run("render", place / "points.ply", "-o", place / "points.png", *SMALL)
    written = trimesh.load(place / "points.ply").vertices  # pyright: ignore[reportAttributeAccessIssue]
    assert np.array_equal(pixels(place / "points.png"), render_points(written, PictureOptions(size=SIZE)))
    samples = "data/SdfSamples/toys/egg/round.npz"
    run("render", samples, "-o", place / "samples.png", *SMALL)
    inside = SDFSamples.load(samples).neg[:, :3]
    assert np.array_equal(pixels(place / "samples.png"), render_points(inside, PictureOptions(size=SIZE, bound=1.0)))
    run("render", CUBE, place / "points.ply", samples, TALL, CUBE, ROUND, "-o", place / "all.png", *SMALL)
    shown = pixels(place / "all.png")
    assert shown.shape[1] > 5 * SIZE  # five, then one below
    assert 2 * SIZE < shown.shape[0] < 3 * SIZE
    assert is_picture(place / "all.png")


def test_shapes_by_name_by_code_and_by_file(place: Path) -> None:
    from deepsdf.workspace import Experiment

    space = ShapeSpace.load(Experiment.open(Path("exp")), device="cpu")
    run(*SHAPES, "cube", "-o", place / "name.png")
    mesh = space.shape(space.codes[[path.stem for path in trained()].index("cube")]).mesh(24)
    assert np.array_equal(
        pixels(place / "name.png"), render_mesh(mesh, PictureOptions(size=SIZE, bound=1.0), device="cpu")
    )
    for name in ("box/cube", "toys/box/cube"):
        run(*SHAPES, name, "-o", place / "again.png")
        assert np.array_equal(pixels(place / "again.png"), pixels(place / "name.png"))
    save_code(place / "code.pth", space.codes[[path.stem for path in trained()].index("cube")])
    run(*SHAPES, place / "code.pth", "-o", place / "code.png")
    assert np.array_equal(pixels(place / "code.png"), pixels(place / "name.png"))
    # A file beside shapes is moved to their frame.
    run(*SHAPES, CUBE, "-o", place / "file.png")
    given = load_mesh(Path(CUBE))
    unit = Normalization.fit(given).apply_mesh(given)
    assert np.array_equal(
        pixels(place / "file.png"), render_mesh(unit, PictureOptions(size=SIZE, bound=1.0), device="cpu")
    )


def trained() -> list[Path]:
    from deepsdf.splits import read_split

    return [Path(str(shape)) for shape in read_split("train.json")]


@pytest.mark.parametrize("plane", ["z", "x=0.3"])
@pytest.mark.parametrize("given", [ROUND, "data/SdfSamples/toys/egg/round.npz"])
def test_a_slice_of_a_ball(place: Path, plane: str, given: str) -> None:
    """The slice beside the ball shows its signed distance in closed form."""
    run("render", given, "-o", place / "slice.png", "--slice", plane, "--size", 128, "--device", "cpu")
    shown = pixels(place / "slice.png")
    mesh = load_mesh(Path(ROUND))
    radius = np.linalg.norm(Normalization.fit(mesh).apply(mesh.vertices), axis=1).mean()
    offset = plane.partition("=")[2]
    pad = 8
    section = shown[-pad - 128 : -pad, 2 * pad + 128 : 2 * pad + 256].astype(int)
    right, above = np.meshgrid((np.arange(128) - 63.5) / 64, (63.5 - np.arange(128)) / 64)
    distance = np.hypot(np.hypot(right, above), float(offset or 0)) - radius
    blue = section[..., 2] - section[..., 0]
    margin, right_colours = (0.04, 1.0) if given == ROUND else (0.08, 0.99)  # few samples, and holes between them
    assert (blue[distance < -margin] > 0).mean() >= right_colours
    assert (blue[distance > margin] < -5).mean() >= right_colours
    across = section[64].sum(axis=1)
    middle = np.sqrt(radius**2 - float(offset or 0) ** 2)
    dark = np.flatnonzero(across[64:] < 300)
    assert (np.median(dark) + 0.5) / 64 == pytest.approx(middle, abs=0.03)


def test_the_line_of_a_slice_is_drawn_on_the_mesh(place: Path) -> None:
    run("render", ROUND, "-o", place / "slice.png", "--slice", "y=0.2", *SMALL)
    mesh = load_mesh(Path(ROUND))
    unit = Normalization.fit(mesh).apply_mesh(mesh)
    expected = render_mesh(unit, PictureOptions(size=SIZE, bound=1.0), cut=("y", 0.2), device="cpu")
    assert np.array_equal(pixels(place / "slice.png")[-8 - SIZE : -8, 8 : 8 + SIZE], expected)


def test_errors_of_a_mesh_are_drawn_by_error_picture(place: Path) -> None:
    mesh, truth = load_mesh(Path(TALL)), load_mesh(Path(CUBE))
    distance = MeshSDF(truth, device="cpu").distance
    small = PictureOptions(size=SIZE)
    common: dict[str, Any] = {"title": "distance (file's unit)", "device": "cpu"}
    run("render", TALL, "-o", place / "error.png", "--error", CUBE, *SMALL)
    assert np.array_equal(pixels(place / "error.png"), error_picture(mesh, distance, small, **common))
    run("render", TALL, "-o", place / "error.png", "--error", CUBE, "--error-max", 2.5, *SMALL)
    assert np.array_equal(pixels(place / "error.png"), error_picture(mesh, distance, small, maximum=2.5, **common))


def test_errors_of_a_shape_are_in_the_unit_frame(place: Path) -> None:
    """The truth is far away in its file and is moved to the unit frame: the errors of a trained shape are small."""
    run(*SHAPES, "round", "-o", place / "error.png", "--error", ROUND, "--error-max", 0.3)
    run(*SHAPES, "round", "-o", place / "other.png", "--error", CUBE, "--error-max", 0.3)
    small, great = (pixels(place / name)[:, :SIZE].astype(int).sum(axis=2) for name in ("error.png", "other.png"))
    ball = slice(24, 40)
    assert small[ball, ball].mean() > great[ball, ball].mean() + 10
    result = run("render", ROUND, "-o", place / "far.png", "--error", CUBE, *SMALL)
    assert "differ in size" not in result.stderr
    load_mesh(Path(CUBE)).apply_scale(0.1).export(place / "small.obj")
    result = run("render", place / "small.obj", "-o", place / "far.png", "--error", CUBE, *SMALL)
    assert re.search(r"small and the true mesh differ in size or position \(extents 1 and 10\)", result.stderr)


# Films


def test_a_turntable_turns_once(place: Path) -> None:
    run("render", CUBE, "-o", place / "cube.gif", "--turntable", 3, "--fps", 10, *SMALL)
    frames, durations = film(place / "cube.gif")
    assert durations == [100] * 3
    for k, frame in enumerate(frames):
        still = render_mesh(load_mesh(Path(CUBE)), PictureOptions(size=SIZE, azimuth=35 + 120 * k), device="cpu")
        assert np.abs(frame.astype(int) - still).mean() < 1
    assert not np.array_equal(frames[0], frames[1])


def test_an_interpolation_is_a_strip_or_a_film_forth_and_back(place: Path) -> None:
    run(*SHAPES, "cube", "round", "flat", "-o", place / "strip.png", "--interpolate", 3)
    strip = pixels(place / "strip.png")
    assert 5 * SIZE < strip.shape[1] < 6 * SIZE
    assert SIZE < strip.shape[0] < 2 * SIZE
    run(*SHAPES, "cube", "round", "-o", place / "film.gif", "--interpolate", 4)
    frames, durations = film(place / "film.gif")
    assert durations == [50] * 6
    assert np.array_equal(frames[1], frames[5])
    assert np.array_equal(frames[2], frames[4])
    for frame, name in ((frames[0], "cube"), (frames[3], "round")):
        run(*SHAPES, name, "-o", place / "end.png")
        assert np.abs(frame.astype(int) - pixels(place / "end.png")).mean() < 1


def test_an_mp4(place: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs imageio-ffmpeg: pip install deepsdf[video]")
    run("render", CUBE, TALL, "-o", place / "two.mp4", "--turntable", 4, "--slice", "z", *SMALL)
    frames, seconds = ffmpeg.count_frames_and_secs(str(place / "two.mp4"))
    assert (frames, seconds) == (4, pytest.approx(0.2))


# What has no surface, and what is refused


def test_a_shape_without_a_surface_leaves_its_place_empty(place: Path) -> None:
    """A code far from all training codes."""
    save_code(place / "none.pth", torch.full((4,), 100.0))
    result = run(*SHAPES, place / "none.pth", "cube", "-o", place / "two.png", status=1)
    assert "error: no surface, so their places in the picture are empty: none" in result.stderr
    shown = pixels(place / "two.png")
    assert (shown[40:, : SIZE + 4] == 255).all()
    assert (shown[40:, SIZE + 8 :] < 255).any()
    result = run(*SHAPES, place / "none.pth", "-o", place / "one.png", status=2)
    assert "none of the shapes has a surface" in result.stderr
    assert not (place / "one.png").exists()


INTERPOLATION = "an interpolation needs an experiment, at least 2 of its shapes and at least 2 steps"
WRONG = [
    ((CUBE, "-o", "a.jpg"), "a.jpg: unknown format; pictures are written as .png, .gif or .mp4"),
    ((CUBE, "-o", "a.gif"), "a.gif: a film needs --turntable or --interpolate; a picture needs a name in .png"),
    ((CUBE, "-o", "a.png", "--turntable", 8), "a.png: a turntable is a film; end the file name in .gif or .mp4"),
    ((CUBE, "-o", "a.gif", "--turntable", 1), "a turntable needs at least 2 frames; 1 were given"),
    ((CUBE, TALL, "-o", "a.gif", "--interpolate", 4), INTERPOLATION),
    (("-e", "exp", "cube", "-o", "a.gif", "--interpolate", 4), INTERPOLATION),
    (("-e", "exp", "cube", "flat", "-o", "a.gif", "--interpolate", 1), INTERPOLATION),
    (
        ("-e", "exp", "cube", "flat", "-o", "a.gif", "--interpolate", 4, "--turntable", 4),
        "--turntable and --interpolate cannot be combined; choose one of them",
    ),
    (
        (CUBE, "-o", "a.gif", "--turntable", 4, "--background", "transparent"),
        "a.gif: a film cannot be transparent; pass a background colour, or write a .png",
    ),
    (
        (CUBE, "-o", "a.png", "--color", "tael"),
        "'tael' is not a colour; expected R,G,B (0 to 255), #a4bed8 or a CSS name",
    ),
    ((CUBE, "-o", "a.png", "--background", "1,2"), "'1,2' is not a colour"),
    (
        (CUBE, "-o", "a.png", "--error-max", 1),
        "error_max is 1.0; expected a positive length, together",
    ),
    ((CUBE, "-o", "a.png", "--error", TALL, "--error-max", -1), "error_max is -1.0; expected a positive length"),
    ((CUBE, "-o", "a.png", "--error", "absent.obj"), "absent.obj"),
    ((CUBE, "-o", "a.png", "--slice", "w"), "'w' is not a plane; expected x, y, z or z=0.1"),
    ((CUBE, "-o", "a.png", "--slice", "z=nan"), "'z=nan' is not a plane"),
    ((CUBE, "-o", "a.png", "--slice", "z=a"), "'z=a' is not a plane"),
    ((CUBE, "-o", "a.png", "--bound", 0), "bound is 0.0; it must be greater than 0"),
    ((CUBE, "-o", "a.png", "--azimuth", "nan"), "azimuth is nan; expected a finite number"),
    ((CUBE, "-o", "a.png", "--size", 5000), "5000 is not in the range 16<=x<=4096"),
    ((CUBE,), "Missing option '--out'"),
    (("-o", "a.png"), "Missing argument 'WHAT...'"),
    (("absent.obj", "-o", "a.png"), "absent.obj"),
    (("cube", "-o", "a.png"), "cannot draw cube; expected a file (.obj, .ply,"),
    (("train.json", "-o", "a.png"), "cannot draw train.json; expected a file (.obj, .ply,"),
    (("broken.obj", "-o", "a.png"), "broken.obj"),
    (("broken.npz", "-o", "a.png"), "broken.npz"),
    (
        ("points.ply", "-o", "a.png", "--slice", "z"),
        "cannot slice the point cloud points; expected a mesh or SDF samples",
    ),
    (("points.ply", "-o", "a.png", "--error", CUBE), "points is a point cloud; error colours need a mesh"),
    (("-e", "exp", "cub", "-o", "a.png"), "no shape 'cub' has a code in exp (checkpoint 200); known shapes: "),
    (("-e", "exp", "cube", "-c", 77, "-o", "a.png"), "77"),
    (("-e", "absent", "cube", "-o", "a.png"), "absent"),
    (
        ("-e", "exp", "long.pth", "-o", "a.png"),
        "long.pth holds a tensor of shape (1, 1, 9); expected a code of",
    ),
]


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = copy_world(tmp_path_factory.mktemp("spoiled"))
    with chdir(world.root):
        Path("broken.obj").write_text("no mesh\n")
        Path("broken.npz").write_bytes(b"no samples")
        trimesh.PointCloud(np.eye(3)).export("points.ply")
        save_code(Path("long.pth"), torch.zeros(9))
    return world


@pytest.mark.parametrize(("typed", "message"), WRONG)
def test_wrong_input_is_an_error_and_nothing_is_written(
    spoiled: World, monkeypatch: pytest.MonkeyPatch, typed: tuple[object, ...], message: str
) -> None:
    monkeypatch.chdir(spoiled.root)
    before = spoiled.hashes()
    result = run("render", *typed, status=2)
    printed = " ".join(result.stderr.replace("│", " ").split())
    assert message in printed
    assert "Traceback" not in printed
    assert result.stdout == ""
    assert spoiled.hashes() == before
