"""Interpolations and new shapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import TRAIN, World, is_picture, run

from deepsdf.errors import InputError, NoSurfaceError
from deepsdf.geometry.meshes import load_mesh
from deepsdf.inference.shapespace import Shape, ShapeSpace
from deepsdf.pipeline.explore import find_code, interpolate, sample
from deepsdf.splits import ShapeName, write_split

pytest_plugins = ("helpers",)


def names(world: World, folder: str) -> list[str]:
    return sorted(path.name for path in (world.root / folder).iterdir())


def test_interpolation_goes_from_end_to_end(reconstructed: World) -> None:
    result = run("interpolate", "-e", "exp", "cube", "wide", "--steps", 3, "--resolution", 32)
    assert "Wrote 3 meshes and exp/Interpolations/cube-wide/strip.png" in result.stdout
    assert names(reconstructed, "exp/Interpolations/cube-wide") == [
        "step_00.ply",
        "step_01.ply",
        "step_02.ply",
        "strip.png",
    ]
    assert is_picture(reconstructed.root / "exp/Interpolations/cube-wide/strip.png")
    space = ShapeSpace.load(reconstructed.experiment, device="cpu")
    first = space.codes[TRAIN.index(ShapeName("toys", "box", "cube"))]
    last = find_code(reconstructed.experiment, space, "wide")
    for number, code in enumerate((first, (first + last) / 2, last)):
        mesh = load_mesh(reconstructed.root / f"exp/Interpolations/cube-wide/step_{number:02d}.ply")
        np.testing.assert_allclose(mesh.vertices, space.shape(code).mesh(32).vertices, atol=1e-4)


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
    for known in ("cube", "tall", "or give a code file (.pth)"):
        assert known in str(error.value)


def test_a_name_of_several_shapes(world: World) -> None:
    both = [ShapeName("toys", "box", "one"), ShapeName("toys", "egg", "one")]
    write_split("train.json", [*both, *TRAIN[2:]])
    space = ShapeSpace.load(world.experiment, device="cpu")
    with pytest.raises(InputError, match=r"^'one' is the name of toys/box/one, toys/egg/one; give dataset/class/inst"):
        find_code(world.experiment, space, "one")
    assert torch.equal(find_code(world.experiment, space, "toys/egg/one"), space.codes[1])


def test_a_training_split_that_names_more_than_was_trained(reconstructed: World) -> None:
    """Its rows are not the codes' rows, so a training shape's name would give another's code."""
    write_split("train.json", [*TRAIN, ShapeName("toys", "box", "late")])
    space = ShapeSpace.load(reconstructed.experiment, device="cpu")
    for name in ("late", "round"):
        with pytest.raises(InputError, match=r"train\.json names 5 shapes, but the checkpoint holds 4 codes"):
            find_code(reconstructed.experiment, space, name)
    find_code(reconstructed.experiment, space, "tall")  # a reconstructed one


def test_samples_are_those_of_the_seed(world: World) -> None:
    result = run("sample", "-e", "exp", "-n", 5, "--resolution", 24, "--seed", 3, "-o", "new")
    assert "Wrote 5 shapes and new/samples.png" in result.stdout
    written = [f"sample_{number:02d}.ply" for number in range(5)]
    assert names(world, "new") == [*written, "samples.png"]
    assert is_picture(world.root / "new/samples.png")
    space = ShapeSpace.load(world.experiment, device="cpu")
    for number, shape in enumerate(space.sample(5, seed=3)):
        mesh = load_mesh(world.root / "new" / written[number])
        np.testing.assert_allclose(mesh.vertices, shape.mesh(24).vertices, atol=1e-4)


def test_a_shape_without_surface_is_a_gap(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = Shape.mesh
    calls: list[Shape] = []

    def mostly(shape: Shape, resolution: int):
        calls.append(shape)
        if len(calls) == 2:
            raise NoSurfaceError("empty")
        return mesh(shape, resolution)

    monkeypatch.setattr(Shape, "mesh", mostly)
    sample(world.experiment, 3, world.root / "new", resolution=24, device="cpu")
    assert names(world, "new") == ["sample_00.ply", "sample_02.ply", "samples.png"]


def test_no_surface_anywhere(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(shape: Shape, resolution: int):
        raise NoSurfaceError("empty")

    monkeypatch.setattr(Shape, "mesh", never)
    with pytest.raises(NoSurfaceError, match="none of the shapes has a surface; is the network trained"):
        interpolate(world.experiment, "cube", "flat", world.root / "new", steps=2, device="cpu")
    result = run("sample", "-e", "exp", "-n", 2, status=2)
    assert "error: none of the shapes has a surface" in result.stderr
