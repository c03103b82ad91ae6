"""The differentiable API of a space: `ShapeSpace.sdf`, `to` and `save`."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from deepsdf.errors import InputError
from deepsdf.inference.shape import CHUNK
from deepsdf.inference.space import ShapeSpace
from deepsdf.network.decoder import Decoder

NETWORKS = {
    "encoded": {"dims": [24, 24, 24], "latent_in": [2], "octaves": 1, "activation": "silu"},
    "original": {"dims": [12, 12], "norm_layers": [0, 1], "weight_norm": True, "use_tanh": True},
    "xyz in all": {"dims": [16, 16], "xyz_in_all": True, "activation": "softplus"},
}


@pytest.fixture(params=NETWORKS)
def space(request: pytest.FixtureRequest) -> ShapeSpace:
    torch.manual_seed(0)
    return ShapeSpace(Decoder(4, **NETWORKS[request.param]), torch.randn(5, 4), epoch=7, device="cpu")


def points_of(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_every_combination_of_shapes_is_the_shapes_own_field(space: ShapeSpace) -> None:
    shared, own = points_of(6), points_of(5, 6)
    fields = [space.shape(row) for row in range(5)]
    with torch.no_grad():
        of_shared = np.stack([field.sdf(shared.numpy()) for field in fields])
        of_own = np.stack([field.sdf(points.numpy()) for field, points in zip(fields, own, strict=True)])
        one_code = np.stack([fields[0].sdf(points.numpy()) for points in own])
        np.testing.assert_allclose(space.sdf(space.codes, shared), of_shared, atol=1e-6)
        np.testing.assert_allclose(space.sdf(space.codes, own), of_own, atol=1e-6)
        np.testing.assert_allclose(space.sdf(space.codes[0], own), one_code, atol=1e-6)
        assert space.sdf(space.codes[0], shared).shape == (6,)
        assert space.sdf(space.codes[:1], shared).shape == (1, 6)


def test_chunks_without_gradients_change_nothing(space: ShapeSpace) -> None:
    points = points_of(CHUNK + 3)
    with_gradients = space.sdf(space.codes[:2], points).detach()
    with torch.no_grad():
        np.testing.assert_allclose(space.sdf(space.codes[:2], points), with_gradients, atol=1e-6)


def test_gradients_by_codes_points_and_weights_are_right(space: ShapeSpace) -> None:
    space.decoder.double()
    codes = space.codes[:2].double().requires_grad_()
    points = points_of(2, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(space.sdf, (codes, points), eps=1e-7, atol=1e-5)

    names = [name for name, _ in space.decoder.named_parameters()]
    weights = tuple(value.detach().requires_grad_() for value in space.decoder.parameters())

    def of_weights(*values: torch.Tensor) -> torch.Tensor:
        arguments = (codes.detach(), points.detach())
        return torch.func.functional_call(space.decoder, dict(zip(names, values, strict=True)), arguments)

    assert torch.autograd.gradcheck(of_weights, weights, eps=1e-7, atol=1e-5)
    loss = space.sdf(codes, points).square().sum()
    expected = torch.autograd.grad(of_weights(*weights).square().sum(), weights)
    found = torch.autograd.grad(loss, list(space.decoder.parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_vmap_over_codes_is_the_batched_call(space: ShapeSpace) -> None:
    points = points_of(6)
    mapped = torch.func.vmap(space.sdf, in_dims=(0, None))(space.codes, points)
    torch.testing.assert_close(mapped, space.sdf(space.codes, points), atol=1e-6, rtol=0)
    jacobian = torch.func.jacrev(space.sdf)(space.codes[0], points)
    code = space.codes[0].clone().requires_grad_()
    rows = [torch.autograd.grad(value, code, retain_graph=True)[0] for value in space.sdf(code, points)]
    torch.testing.assert_close(jacobian, torch.stack(rows), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("codes", "points"), [((5, 3), (6, 3)), ((2, 4), (3, 6, 3)), ((4,), (6, 2)), ((4,), (3,))])
def test_other_shapes_are_refused(space: ShapeSpace, codes: tuple[int, ...], points: tuple[int, ...]) -> None:
    message = (
        f"codes have shape {codes} and points {points}; expected codes (b, 4) or (4,) and points (b, n, 3) or (n, 3)"
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        space.sdf(torch.zeros(codes), torch.zeros(points))


def test_a_saved_space_is_the_same_space(space: ShapeSpace, tmp_path: Path) -> None:
    space.save(tmp_path / "saved")
    loaded = ShapeSpace.load(tmp_path / "saved", device="cpu")
    assert (loaded.epoch, loaded.clamping_distance) == (space.epoch, space.clamping_distance)
    assert torch.equal(loaded.codes, space.codes)
    points = points_of(50).numpy()
    np.testing.assert_array_equal(loaded.shape(2).sdf(points), space.shape(2).sdf(points))
    with pytest.raises(InputError, match=r"contains an experiment already; pass a new folder$"):
        space.save(tmp_path / "saved")
    again = loaded.save(tmp_path / "again")
    assert again.specs == loaded.specs


def test_to_makes_a_copy(space: ShapeSpace) -> None:
    copied = space.to("cpu")
    assert copied.decoder is not space.decoder
    assert torch.equal(copied.codes, space.codes)
    points = points_of(20).numpy()
    np.testing.assert_array_equal(copied.shape(1).sdf(points), space.shape(1).sdf(points))
    with pytest.raises(InputError, match=r"cuda:99"):
        space.to("cuda:99")
