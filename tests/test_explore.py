"""Interpolations and new shapes."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from helpers import TRAIN, World, is_picture, run
from PIL import Image

from deepsdf.checkpoints import load_code
from deepsdf.errors import InputError, NoSurfaceError
from deepsdf.geometry.isosurface.options import Meshing
from deepsdf.geometry.meshes import load_mesh
from deepsdf.geometry.sdf.sampling import SDFSamples, sample_surface
from deepsdf.inference.shape import Shape
from deepsdf.inference.space import ShapeSpace
from deepsdf.library.names import find_code, find_or_encode, known_shapes
from deepsdf.library.neighbours import TrainingSurfaces
from deepsdf.pipeline.interpolate import interpolate
from deepsdf.pipeline.options import InterpolationOptions, SampleOptions
from deepsdf.pipeline.sample import sample
from deepsdf.splits import ShapeName, write_split

pytest_plugins = ("helpers",)


def names(world: World, folder: str) -> list[str]:
    return sorted(path.name for path in (world.root / folder).iterdir())


def test_interpolation_goes_from_end_to_end(reconstructed: World) -> None:
    result = run("interpolate", "-e", "exp", "cube", "wide", "--steps", 3, "--resolution", 32, "--frames", 3)
    folder = "exp/Interpolations/cube-wide"
    assert f"Wrote 3 meshes and {folder}/strip.png and {folder}/loop.gif" in result.stdout
    with Image.open(reconstructed.root / folder / "loop.gif") as film:
        assert film.n_frames == 4  # 0 1 2 1  # pyright: ignore[reportAttributeAccessIssue]
    assert names(reconstructed, "exp/Interpolations/cube-wide") == [
        "loop.gif",
        "step_00.ply",
        "step_01.ply",
        "step_02.ply",
        "strip.png",
    ]
    assert is_picture(reconstructed.root / "exp/Interpolations/cube-wide/strip.png")
    space = ShapeSpace.load(reconstructed.experiment, device="cpu")
    first = space.codes[TRAIN.index(ShapeName("toys", "box", "cube"))]
    last = find_code(reconstructed.experiment, space, "wide")
    shapes = space.interpolate(first, last, 3)  # of the same bits: where to split a triangle is a threshold
    for number, (shape, code) in enumerate(zip(shapes, (first, (first + last) / 2, last), strict=True)):
        torch.testing.assert_close(shape.code, code, rtol=0, atol=1e-6)
        mesh = load_mesh(reconstructed.root / f"exp/Interpolations/cube-wide/step_{number:02d}.ply")
        np.testing.assert_allclose(mesh.vertices, shape.mesh(32).vertices, atol=1e-4)


def test_names_and_code_files(reconstructed: World) -> None:
    experiment = reconstructed.experiment
    space = ShapeSpace.load(experiment, device="cpu")
    tall = experiment.reconstructed_code_path(200, ShapeName("toys", "box", "tall"))
    code = torch.load(tall, weights_only=True).reshape(-1)
    for name in ("tall", "toys/box/tall", str(tall)):
        assert torch.equal(find_code(experiment, space, name), code)
    assert torch.equal(find_code(experiment, space, "toys/egg/long"), space.codes[3])
    with pytest.raises(InputError) as error:
        find_code(experiment, space, "sofa")
    assert "no shape 'sofa' has a code in" in str(error.value)
    for known in ("cube", "tall", "or pass a code file (.pth)"):
        assert known in str(error.value)


def test_wrong_code_files(world: World) -> None:
    for name, code, message in (
        ("long.pth", torch.zeros(1, 1, 5), r"long.pth holds a tensor of shape (1, 1, 5); expected a code of length 4"),
        ("nan.pth", torch.full((1, 1, 4), torch.nan), "nan.pth holds a code with numbers that are NaN or infinite"),
    ):
        torch.save(code, name)
        for verb in (["interpolate", "cube", name], ["edit", name, "--size", "x=1"]):
            assert message in run(verb[0], "-e", "exp", *verb[1:], status=2).stderr
    assert not (world.root / "exp" / "Interpolations").exists()


def test_a_name_of_several_shapes(world: World) -> None:
    both = [ShapeName("toys", "box", "one"), ShapeName("toys", "egg", "one")]
    write_split("train.json", [*both, *TRAIN[2:]])
    space = ShapeSpace.load(world.experiment, device="cpu")
    with pytest.raises(
        InputError, match=r"^'one' is ambiguous: toys/box/one, toys/egg/one; use dataset/class/instance"
    ):
        find_code(world.experiment, space, "one")
    assert torch.equal(find_code(world.experiment, space, "toys/egg/one"), space.codes[1])


def test_a_training_split_that_names_more_than_was_trained(reconstructed: World) -> None:
    """Its rows are not the codes' rows, so a training shape's name would give another's code."""
    write_split("train.json", [*TRAIN, ShapeName("toys", "box", "late")])
    space = ShapeSpace.load(reconstructed.experiment, device="cpu")
    for name in ("late", "round"):
        with pytest.raises(InputError, match=r"train\.json has 5 shapes, but the checkpoint has 4 codes"):
            find_code(reconstructed.experiment, space, name)
    find_code(reconstructed.experiment, space, "tall")  # a reconstructed one


def test_samples_are_those_of_the_seed(world: World) -> None:
    result = run("sample", "-e", "exp", "-n", 3, "--resolution", 24, "--seed", 3, "-o", "new")
    assert "Wrote 3 shapes and new/samples.png" in result.stdout
    written = [f"sample_{number:02d}.ply" for number in range(3)]
    codes = [f"sample_{number:02d}.pth" for number in range(3)]
    assert names(world, "new") == sorted([*written, *codes, "samples.csv", "samples.png"])
    assert is_picture(world.root / "new/samples.png")
    space = ShapeSpace.load(world.experiment, device="cpu")
    for number, shape in enumerate(space.sample(3, seed=3)):
        mesh = load_mesh(world.root / "new" / written[number])
        np.testing.assert_allclose(mesh.vertices, shape.mesh(24).vertices, atol=1e-4)
        assert torch.equal(load_code(world.root / "new" / codes[number]), shape.code)


def test_a_file_where_a_folder_is_to_be_is_told_before_the_work(world: World) -> None:
    (world.root / "note").write_text("mine")
    for verb in (("interpolate", "cube", "flat"), ("sample",)):
        said = run(*verb, "-e", "exp", "-o", "note", status=2).stderr
        assert "note is a file, but a folder is needed" in said
    assert (world.root / "note").read_text() == "mine"


def test_shapes_of_all_priors_are_counted(world: World) -> None:
    result = run("sample", "-e", "exp", "-n", 1, "--prior", "all", "--resolution", 24, "-o", "new")
    assert "Wrote 3 shapes and new/gaussian/samples.png, new/mixture/samples.png" in result.stdout


def test_a_shape_without_surface_is_a_gap(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = Shape.mesh
    calls: list[Shape] = []

    def mostly(shape: Shape, meshing: Meshing):
        calls.append(shape)
        if len(calls) == 2:
            raise NoSurfaceError("empty")
        return mesh(shape, meshing)

    monkeypatch.setattr(Shape, "mesh", mostly)
    made = sample(world.experiment, world.root / "new", SampleOptions(count=3), Meshing(24), device="cpu")
    assert made.empty == ["gaussian 1"]
    assert made.rows[0].shapes == 2
    assert [name for name in names(world, "new") if name.endswith(".ply")] == ["sample_00.ply", "sample_02.ply"]
    rows = (world.root / "new" / "samples.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["sample", "sample_00", "sample_02"]


def test_no_surface_anywhere(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(shape: Shape, meshing: Meshing):
        raise NoSurfaceError("empty")

    monkeypatch.setattr(Shape, "mesh", never)
    with pytest.raises(NoSurfaceError, match="none of the shapes has a surface; is the network trained"):
        interpolate(
            world.experiment,
            ["cube", "flat"],
            world.root / "new",
            InterpolationOptions(steps=2, film="none"),
            device="cpu",
        )
    result = run("sample", "-e", "exp", "-n", 2, status=2)
    assert "error: none of the shapes has a surface" in result.stderr


def test_through_several_shapes(world: World) -> None:
    run("interpolate", "-e", "exp", "cube", "flat", "long", "--steps", 2, "--resolution", 24, "--film", "none")
    folder = "exp/Interpolations/cube-flat-long"
    assert names(world, folder) == ["step_00.ply", "step_01.ply", "step_02.ply", "strip.png"]
    space = ShapeSpace.load(world.experiment, device="cpu")
    for number, row in enumerate((0, 1, 3)):
        mesh = load_mesh(world.root / folder / f"step_{number:02d}.ply")
        np.testing.assert_allclose(mesh.vertices, space.shape(row).mesh(24).vertices, atol=1e-4)
    result = run("interpolate", "-e", "exp", "cube", status=2)
    assert "an interpolation needs at least 2 shapes; 1 was given" in result.stderr


def test_a_doubtful_fit_on_the_way_is_said(world: World, caplog: pytest.LogCaptureFixture) -> None:
    points = np.random.default_rng(0).uniform(-0.7, 0.7, (400, 3))
    noise = SDFSamples.of(points, np.random.default_rng(1).normal(0, 0.1, 400))
    noise.save(world.root / "noise.npz")
    find_or_encode(world.experiment, ShapeSpace.load(world.experiment, device="cpu"), "noise.npz")
    assert "noise.npz: " in caplog.text


def test_files_are_fitted_on_the_way(world: World) -> None:
    """A mesh in its own frame, its samples, and its code give the code of the shape that was trained on."""
    space = ShapeSpace.load(world.experiment, device="cpu")
    trained = space.shape(TRAIN.index(ShapeName("toys", "box", "flat")))
    points = np.random.default_rng(0).uniform(-0.7, 0.7, (2000, 3)).astype(np.float32)
    for name in ("meshes/box/flat.obj", "data/SdfSamples/toys/box/flat.npz"):
        found = space.shape(find_or_encode(world.experiment, space, name))
        assert np.abs(found.sdf(points) - trained.sdf(points)).mean() < 0.03, name
    with pytest.raises(InputError, match=r"there is no file gone\.obj; pass a mesh, a scan, a code file"):
        find_or_encode(world.experiment, space, "gone.obj")


def test_known_shapes_are_the_trained_and_the_reconstructed(reconstructed: World) -> None:
    space = ShapeSpace.load(reconstructed.experiment, device="cpu")
    known = known_shapes(reconstructed.experiment, space)
    assert [one.shape.instance for one in known] == ["cube", "flat", "round", "long", "tall", "wide"]
    assert [one.trained for one in known] == [True] * 4 + [False] * 2
    assert torch.equal(torch.stack([one.code for one in known[:4]]), space.codes)
    assert torch.equal(known[4].code, find_code(reconstructed.experiment, space, "tall"))


def test_samples_are_measured_against_held_out_shapes(world: World) -> None:
    common = ("sample", "-e", "exp", "-n", 2, "--resolution", 24, "--points", 200)
    result = run(*common, "--prior", "all", "--reference", "test.json", "-d", "data", "-o", "new")
    for prior in ("gaussian", "mixture", "nearest"):
        assert is_picture(world.root / "new" / prior / "samples.png")
    assert "1-NNA" in result.stdout
    with (world.root / "new" / "generation.csv").open(newline="") as file:
        rows = {row["source"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["gaussian", "mixture", "nearest", "training shapes", "held-out shapes"]
    for row in list(rows.values())[:4]:
        assert row["references"] == "2"
        assert float(row["coverage"]) in (0.5, 1.0)
        assert float(row["one_nn_accuracy"]) in (0.0, 0.25, 0.5, 0.75, 1.0)
    assert float(rows["held-out shapes"]["median_chamfer_to_training"]) > 0
    wrong = run(*common, "--reference", "test.json", status=2)
    assert "--reference SPLIT and --data DATA go together" in wrong.stderr
    many = run(*common[:-1], 10**6, "--reference", "test.json", "-d", "data", status=2)
    assert "surface samples; 1000000 are needed (--points)" in many.stderr


def test_the_nearest_training_shape_of_a_training_shape_is_itself(world: World) -> None:
    space = ShapeSpace.load(world.experiment, device="cpu")
    training = TrainingSurfaces(space, points=1000)
    for row in range(len(space.codes)):
        surface = sample_surface(space.shape(row).mesh(64), 1000, seed=1)
        found = training.nearest(surface)
        assert found is not None
        assert found.row == row
        assert found.chamfer < 0.012  # two samplings of a unit sphere by 1000 points: 0.008
