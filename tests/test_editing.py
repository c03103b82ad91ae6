"""Shapes changed by constraints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import World, is_picture, run

from deepsdf.checkpoints import load_code
from deepsdf.errors import InputError, NoSurfaceError
from deepsdf.geometry.meshes import load_mesh
from deepsdf.inference.edit.constraints import Constraint, Region, Size, Through, extreme_points, region_points
from deepsdf.inference.edit.editing import TOLERANCE, distortion
from deepsdf.inference.space import ShapeSpace
from deepsdf.network.decoder import Decoder
from deepsdf.workspace import Experiment

pytest_plugins = ("helpers",)


class Balls(Decoder):
    """f = |x - (c0, 0, 0)| - (0.5 + 0.1 c1): balls whose place and size are the code's two numbers."""

    def __init__(self) -> None:
        super().__init__(2, [4])

    def _evaluate(self, codes, points, shares):  # pyright: ignore[reportIncompatibleMethodOverride]
        if shares is not None:
            codes = shares.setdefault(0, codes.detach().expand(*points.shape[:-1], -1).clone().requires_grad_())
        centre = torch.nn.functional.pad(0.1 * codes[..., :1], (0, 2))
        return (points - centre).norm(dim=-1) - (0.5 + 0.1 * codes[..., 1])

    def _code_weight(self, layer: int) -> torch.Tensor:
        return torch.eye(2)


@pytest.fixture
def balls() -> ShapeSpace:
    codes = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    codes = (codes - codes.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(codes.T)).T)
    return ShapeSpace(Balls(), codes, device="cpu")


def radius_and_place(space: ShapeSpace, *constraints: Constraint) -> tuple[float, float]:
    found = space.edit(torch.zeros(2), constraints)
    assert found.met
    assert found.doubt is None
    place, radius = found.shape.code.tolist()
    return 0.5 + 0.1 * radius, 0.1 * place


def test_a_size_is_reached(balls: ShapeSpace) -> None:
    radius, place = radius_and_place(balls, Size("y", 1.2))
    assert radius == pytest.approx(0.6, abs=2e-3)
    assert place == pytest.approx(0, abs=6e-3)  # the end that was found is not quite the pole


def test_the_nearest_shape_is_taken(balls: ShapeSpace) -> None:
    """A point 0.2 beyond the ball: place and radius, equally likely to change, each give half."""
    radius, place = radius_and_place(balls, Through((0.7, 0, 0)))
    assert radius == pytest.approx(0.6, abs=3e-3)
    assert place == pytest.approx(0.1, abs=3e-3)


def test_two_constraints_are_met_together(balls: ShapeSpace) -> None:
    radius, place = radius_and_place(balls, Through((0.7, 0, 0)), Size("z", 1.0))
    assert radius == pytest.approx(0.5, abs=3e-3)
    assert place == pytest.approx(0.2, abs=3e-3)


def test_boxes(balls: ShapeSpace) -> None:
    """Empty from x = 0.4 on: -0.1 for the end, shared again. A full box to x = 0.6 likewise."""
    radius, place = radius_and_place(balls, Region((0.4, -0.9, -0.9), (0.9, 0.9, 0.9)))
    assert radius + place == pytest.approx(0.4, abs=TOLERANCE)
    assert radius == pytest.approx(0.45, abs=TOLERANCE)
    radius, place = radius_and_place(balls, Region((0.55, -0.01, -0.01), (0.6, 0.01, 0.01), "full"))
    assert radius + place == pytest.approx(0.6, abs=TOLERANCE)


def test_what_is_kept_already_changes_nothing(balls: ShapeSpace) -> None:
    code = torch.tensor([0.3, 0.7])
    found = balls.edit(
        code, [Region((0.8, 0.8, 0.8), (0.9, 0.9, 0.9)), Region((-0.1, -0.1, -0.1), (0.1, 0.1, 0.1), "full")]
    )
    assert torch.equal(found.shape.code, code)
    assert found.moved == 0
    assert [(one.before, one.after) for one in found.results] == [(0, 0), (0, 0)]


def test_what_cannot_be_together_is_said(balls: ShapeSpace) -> None:
    """Balls with their middle on the x axis are as wide as they are high."""
    found = balls.edit(torch.zeros(2), [Size("y", 1.2), Size("z", 0.9)])
    assert not found.met
    assert [one.met for one in found.results] == [False, False]
    assert found.alone == (True, True)
    assert found.doubt is not None
    assert "no shape near the given one meets all constraints: size y = 1.2 is missed by 0." in found.doubt
    assert "(it can be met alone)" in found.doubt


def test_what_the_space_cannot_do_is_said(balls: ShapeSpace) -> None:
    found = balls.edit(torch.zeros(2), [Through((0, 0, 0.0)), Size("y", 1.0)])
    assert found.doubt is not None
    far = balls.edit(torch.zeros(2), [Size("y", 1.9)])  # 4.5 standard deviations
    assert far.met
    assert far.doubt is not None
    assert "standard deviations from the training shapes (expected at most 2.5)" in far.doubt


def test_a_shape_that_is_gone_is_said(balls: ShapeSpace) -> None:
    """A ball of radius -0.5, and one whose field is a distance."""
    assert distortion(balls.shape([0.0, -10.0])) == np.inf
    assert distortion(balls.shape([0.0, 0.0])) == pytest.approx(0, abs=1e-5)
    found = balls.edit(torch.zeros(2), [Region((0.8, 0.8, 0.8), (0.9, 0.9, 0.9))])
    assert found.doubt is None
    assert replace(found, distortion=3.0).doubt == (
        "the constraints are met, but the shape has fallen apart: its field deviates from a distance 3.0 times more "
        "than the worst training shape's; relax them"
    )
    gone = "the constraints are met, but the surface has nearly vanished; relax them"
    assert replace(found, distortion=np.inf).doubt == gone


def test_extent_and_grid(balls: ShapeSpace) -> None:
    ends = extreme_points(balls.shape([1.0, 0.0]), "x")
    assert ends is not None
    np.testing.assert_allclose(ends[:, 0], [-0.4, 0.6], atol=1e-3)
    points = region_points(Region((0, 0, 0), (1, 0.5, 0.1)), 1000)
    assert 500 < len(points) < 2500
    np.testing.assert_allclose([points.min(0), points.max(0)], [[0, 0, 0], [1, 0.5, 0.1]])
    with pytest.raises(NoSurfaceError, match="the shape has no surface, so it has no size to change"):
        balls.edit([0.0, -9.0], [Size("x", 1.0)])


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ([], "no constraints were given"),
        ([Through((0, float("nan"), 0))], "expected finite numbers"),
        (
            [Through((0, 1.5, 0))],
            r"through \(0, 1.5, 0\): expected numbers from -1 to 1, since shapes lie in the unit sphere",
        ),
        ([Size("y", 0)], "size y = 0: expected a length above 0 and at most 2"),
        ([Size("up", 1)], "expected the axis x, y or z"),  # pyright: ignore[reportArgumentType]
        (
            [Region((0, 0, 0), (0.1, 0.0, 0.1))],
            "expected every number of the second corner to be greater than of the first",
        ),
        ([Region((0, 0, 0), (0.1, 0.1, 0.1), "half")], "the kind of a region is 'half'; expected 'empty' or 'full'"),  # pyright: ignore[reportArgumentType]
        ([Size("y", 1), Size("y", 1.1)], "'size y = 1.1' contradicts 'size y = 1'"),
        (
            [Through((0.1, 0.1, 0.1)), Region((0, 0, 0), (0.2, 0.2, 0.2))],
            r"'through \(0.1, 0.1, 0.1\)' contradicts 'empty from \(0, 0, 0\) to \(0.2, 0.2, 0.2\)'",
        ),
        ([Region((0, 0, 0), (1, 1, 1)), Region((0.5, 0.5, 0.5), (0.9, 0.9, 0.9), "full")], "the boxes overlap"),
    ],
)
def test_constraints_that_are_none(balls: ShapeSpace, constraints: list[Constraint], message: str) -> None:
    with pytest.raises(InputError, match=message):
        balls.edit(torch.zeros(2), constraints)


def test_the_verb(world: World) -> None:
    """From the flat box, 2 wide and 1 high, towards the cube."""
    space = ShapeSpace.load(Experiment.open("exp"), device="cpu")
    flat = space.shape(1)
    result = run("edit", "-e", "exp", "flat", "--size", "x=90%", "-o", "out/narrow.ply", "--resolution", 32)
    assert "Wrote out/narrow.ply and out/narrow.pth" in result.stdout
    assert is_picture(world.root / "out/narrow.png")
    before, after = extreme_points(flat, "x"), extreme_points(space.shape(load_code("out/narrow.pth")), "x")
    assert before is not None
    assert after is not None
    assert np.ptp(after[:, 0]) == pytest.approx(0.9 * np.ptp(before[:, 0]), abs=TOLERANCE)
    assert np.ptp(load_mesh("out/narrow.ply").vertices[:, 0]) == pytest.approx(np.ptp(after[:, 0]), abs=0.02)


def test_the_verb_says_what_it_cannot_do(world: World) -> None:
    common = ("edit", "-e", "exp", "flat", "-o", "no.ply", "--resolution", 24, "--no-picture")
    result = run(*common, "--size", "x=0.3", "--size", "z=1.6", status=1)
    assert "no shape near the given one meets all constraints" in result.stderr
    assert "no.ply was not written (pass --anyway to write it)" in result.stderr
    assert not (world.root / "no.ply").exists()
    for wrong, message in (
        ([], "The shape spans x from"),
        (["--size", "y=big"], "'y=big' is not a size; expected y=1.2 or y=120%"),
        (["--through", "1,2"], "'1,2' is not 3 numbers; expected X,Y,Z"),
        (["--empty", "0,0,0,1"], "is not 6 numbers; expected two corners"),
        (["--size", "x=1", "-o", "no.png"], "meshes are written as .obj, .ply, .stl"),
        (
            ["--size", "x=1", "--picture", "-o", "no.xyz"],
            "meshes are written as .obj, .ply, .stl",
        ),
        (["--size", "x=1", "-o", "exp/specs.json/no.ply"], "specs.json is a file, but a folder is needed"),
        (["--through", "exp/specs.json"], "specs.json contains no readable points; expected a point cloud (.ply)"),
    ):
        assert message in run(*common, *wrong, status=2).stderr
    assert not list(world.root.glob("no.*"))
