"""A trained space: its shapes are fields, and they are those that were trained on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import FIELDS, Toys

from deepsdf.errors import InputError
from deepsdf.geometry.isosurface.active_cells import Grid, find_dense
from deepsdf.geometry.isosurface.options import Meshing, Method
from deepsdf.geometry.isosurface.search import find_sparse
from deepsdf.inference.shape import CHUNK, Shape
from deepsdf.inference.space import ShapeSpace
from deepsdf.network.decoder import Decoder
from deepsdf.network.networks import build_decoder
from deepsdf.network.priors import GaussianPrior
from deepsdf.training.train import train


def small_decoder() -> Decoder:
    torch.manual_seed(0)
    return build_decoder("deep_sdf_decoder", 4, {"dims": [16, 16]})


def test_training_codes_give_the_training_shapes(space: ShapeSpace) -> None:
    points = np.random.default_rng(0).uniform(-0.9, 0.9, (3000, 3))
    assert space.epoch == 700
    for k, field in enumerate(FIELDS.values()):
        exact = field(points)
        found = space.shape(k).sdf(points)
        assert found.dtype == np.float32
        assert np.abs(found.clip(-0.1, 0.1) - exact.clip(-0.1, 0.1)).mean() < 0.02
        clear = np.abs(exact) > 0.05
        assert (np.sign(found) == np.sign(exact))[clear].mean() > 0.97


def test_a_shape_is_the_decoder_whatever_the_number_of_points() -> None:
    decoder = small_decoder().eval()
    code = torch.randn(4, generator=torch.Generator().manual_seed(0))
    points = np.random.default_rng(0).uniform(-1, 1, (2 * CHUNK + 5, 3))
    shape = Shape(decoder, code)
    with torch.no_grad():
        whole = decoder(code[None], torch.from_numpy(points.astype(np.float32))[None])[0].numpy()
    np.testing.assert_allclose(shape.sdf(points), whole, atol=1e-6)
    np.testing.assert_array_equal(shape(points), shape.sdf(points))
    assert shape.sdf(np.zeros((0, 3))).shape == (0,)
    with pytest.raises(InputError, match=r"points have shape \(3,\); expected \(n, 3\)"):
        shape.sdf(np.zeros(3))


@pytest.mark.parametrize("method", ["sparse", "dense"])
def test_a_mesh_is_closed_outward_and_lies_on_the_surface(space: ShapeSpace, method: Method) -> None:
    for number, volume in ((1, 4 / 3 * np.pi * 0.5**3), (4, 8 * 0.5 * 0.3 * 0.2)):
        shape = space.shape(number)
        mesh = shape.mesh(Meshing(resolution=48, method=method))
        assert mesh.is_watertight
        assert mesh.volume == pytest.approx(volume, rel=0.15)
        cell = 2 / 47
        off = np.abs(shape.sdf(mesh.vertices))
        assert off.max() < cell / 2
        assert np.quantile(off, 0.99) < cell / 50
        linear = shape.mesh(Meshing(resolution=48, method=method, vertices="linear"))
        assert off.mean() < np.abs(shape.sdf(linear.vertices)).mean() / 5
        assert np.abs(shape.sdf(linear.vertices)).max() < cell / 4


def test_the_mesh_tolerance_of_a_shape_defaults_to_a_64th_of_a_cell(space: ShapeSpace) -> None:
    shape = space.shape(1)
    short, full, fine = (
        shape.mesh(meshing)
        for meshing in (24, Meshing(resolution=24, tolerance=1 / 64), Meshing(resolution=24, tolerance=1 / 400))
    )
    np.testing.assert_array_equal(short.vertices, full.vertices)
    np.testing.assert_array_equal(short.faces, full.faces)
    assert len(full.faces) < len(fine.faces)


def test_the_search_misses_nothing_of_a_decoder(space: ShapeSpace) -> None:
    """Training codes, blends and draws from the prior: active cells and signs are those of the dense grid."""
    blends = [space.shape(0.5 * (space.codes[k] + space.codes[k + 1])) for k in range(3)]
    for shape in [*(space.shape(k) for k in range(6)), *blends, *space.sample(3)]:
        for resolution in (33, 60):
            grid = Grid(resolution, 1.0)
            sparse, dense = find_sparse(shape, grid), find_dense(shape, grid)
            np.testing.assert_array_equal(sparse.cells, dense.cells)
            np.testing.assert_array_equal(sparse.values > 0, dense.values > 0)
            np.testing.assert_allclose(sparse.values, dense.values, atol=1e-6)
            assert sparse.evaluations < dense.evaluations / 2 or resolution < 60


def test_gradients_are_differences(space: ShapeSpace) -> None:
    shape, points = space.shape(1), np.random.default_rng(0).uniform(-0.9, 0.9, (100, 3)).astype(np.float32)
    sdf, gradients = shape.sdf_and_gradient(points)
    np.testing.assert_allclose(sdf, shape.sdf(points), atol=1e-6)
    ends = np.eye(3, dtype=np.float32) * np.float32(2e-3)
    differences = np.stack([shape.sdf(points + end) - shape.sdf(points - end) for end in ends], -1) / 4e-3
    assert np.median(np.abs(gradients - differences)) < 1e-3


def test_ways_to_name_a_shape(space: ShapeSpace) -> None:
    code = space.codes[2]
    for way in (2, -4, code, code.numpy(), code.tolist(), code.reshape(1, 1, -1)):
        assert torch.equal(space.shape(way).code, code)
    with pytest.raises(InputError, match=r"there is no training code 6; there are 6"):
        space.shape(6)
    with pytest.raises(InputError, match=r"the code has length 3; expected 4"):
        space.shape([1.0, 2.0, 3.0])


def test_an_interpolation_is_a_straight_line_with_both_ends(space: ShapeSpace) -> None:
    shapes = space.interpolate(space.codes[0], space.codes[2], 5)
    assert len(shapes) == 5
    assert torch.equal(shapes[0].code, space.codes[0])
    torch.testing.assert_close(shapes[4].code, space.codes[2])
    torch.testing.assert_close(shapes[1].code, 0.75 * space.codes[0] + 0.25 * space.codes[2])
    with pytest.raises(InputError, match=r"steps is 1; expected at least 2, the ends"):
        space.interpolate(space.codes[0], space.codes[1], 1)


def test_between_a_small_and_a_large_ball_lies_one_in_the_middle(space: ShapeSpace) -> None:
    def volume(shape: Shape) -> float:
        points = np.random.default_rng(0).uniform(-1, 1, (20_000, 3))
        return float((shape.sdf(points) < 0).mean())

    volumes = [volume(shape) for shape in space.interpolate(space.codes[0], space.codes[2], 5)]
    assert volumes == sorted(volumes)


def test_samples_are_drawn_from_the_prior_by_a_seed(space: ShapeSpace) -> None:
    one, two, other = space.sample(3, seed=1), space.sample(3, seed=1), space.sample(3, seed=2)
    for a, b, c in zip(one, two, other, strict=True):
        assert torch.equal(a.code, b.code)
        assert not torch.equal(a.code, c.code)
    white = torch.stack([space.prior.whiten(shape.code) for shape in space.sample(2000)])
    torch.testing.assert_close(white.std(0), torch.ones(4), rtol=0, atol=0.1)


def test_codes_of_shapes_that_could_not_be_trained_on_are_no_part_of_the_prior() -> None:
    codes = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    holed = torch.cat([codes[:2], torch.zeros(3, 4), codes[2:]])
    prior = ShapeSpace(small_decoder(), holed, device="cpu").prior
    torch.testing.assert_close(prior.mean, GaussianPrior.fit(codes).mean)
    torch.testing.assert_close(prior.std, GaussianPrior.fit(codes).std)
    with pytest.raises(InputError, match=r"a prior needs at least 2 training codes; this space has 1"):
        _ = ShapeSpace(small_decoder(), holed[1:5], device="cpu").prior


def test_codes_that_do_not_fit_the_decoder() -> None:
    with pytest.raises(InputError, match=r"codes have shape \(3, 5\); the decoder takes \(n, 4\)"):
        ShapeSpace(small_decoder(), torch.zeros(3, 5), device="cpu")
    with pytest.raises(InputError, match=r"codes have shape \(4,\); the decoder takes \(n, 4\)"):
        ShapeSpace(small_decoder(), torch.zeros(4), device="cpu")


def test_every_checkpoint_can_be_loaded(toys: Toys) -> None:
    experiment = train(toys.experiment(), device="cpu")
    spaces = {name: ShapeSpace.load(experiment.root, name, device="cpu") for name in ("1", 3, "latest")}
    assert [space.epoch for space in spaces.values()] == [1, 3, 6]
    points = np.random.default_rng(0).uniform(-1, 1, (50, 3))
    fields = [space.shape(0).sdf(points) for space in spaces.values()]
    assert not np.array_equal(fields[0], fields[1])
    assert spaces[3].clamping_distance == 0.1
    assert not spaces[3].decoder.training
    assert spaces[3].code_length == 4
