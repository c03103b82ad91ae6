"""The decoder against the original's own network, and its two ways to take codes."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from conftest import formula_state
from torch import nn

from deepsdf.errors import InputError
from deepsdf.network.decoder import Decoder
from deepsdf.network.networks import build_decoder, load_weights

VARIANTS = [
    "plain", "weight_norm_latent_in", "weight_norm_some_layers", "layer_norm", "layer_norm_latent_in_unused_last",
    "latent_in_several_uneven_dims", "xyz_in_all", "xyz_in_all_latent_in_weight_norm", "use_tanh", "latent_dropout",
    "dropout",
]  # fmt: skip
OTHERS = {"octaves": 3, "activation": "silu"}

Golden = Callable[[str], Any]


def original(golden: Golden, variant: str, arch: str = "deep_sdf_decoder") -> tuple[Decoder, dict[str, Any]]:
    """The golden variant's network with its parameters, in evaluation mode, and what the original computed."""
    content = golden("decoder")
    told = content["variants"][variant]
    decoder = build_decoder(arch, content["latent_size"], told["specs"]).eval()
    load_weights(decoder, formula_state(told["state_dict"]), "golden")
    return decoder, told


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Seven codes (7, 6) and points (7, 3)."""
    rows = torch.from_numpy(np.sin(0.11 * np.arange(63)).reshape(7, 9).astype(np.float32))
    return rows[:, :6], rows[:, 6:]


def renamed(state: dict[str, torch.Tensor], prefix: str, new_names: bool) -> dict[str, torch.Tensor]:
    def name_of(name: str) -> str:
        if new_names:
            name = name.replace("weight_g", "parametrizations.weight.original0")
            name = name.replace("weight_v", "parametrizations.weight.original1")
        return prefix + name

    return {name_of(name): value for name, value in state.items()}


def test_no_golden_variant_is_left_out(golden: Golden) -> None:
    assert sorted(golden("decoder")["variants"]) == sorted(VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("new_names", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_it_computes_what_the_original_computes(golden: Golden, variant: str, new_names: bool, prefix: str) -> None:
    content = golden("decoder")
    told = content["variants"][variant]
    decoder = build_decoder("deep_sdf_decoder", content["latent_size"], told["specs"]).eval()
    load_weights(decoder, renamed(formula_state(told["state_dict"]), prefix, new_names), "golden")
    codes, points = inputs()
    with torch.no_grad():
        found = decoder(codes[None], points[None])[0]  # a code for every point
    np.testing.assert_allclose(found.numpy(), told["output_float64"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.numpy(), told["output"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_have_the_originals_names_shapes_and_order(golden: Golden, variant: str) -> None:
    """Adam's state goes by the order of the parameters, so a training continues only if it is the original's."""
    decoder, told = original(golden, variant)
    assert [[name, list(value.shape)] for name, value in decoder.state_dict().items()] == told["state_dict"]
    assert [name for name, _ in decoder.named_parameters()] == [name for name, _ in told["state_dict"]]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_code_a_shape_is_a_code_a_point_repeated(golden: Golden, variant: str) -> None:
    decoder, _ = original(golden, variant)
    generator = torch.Generator().manual_seed(0)
    codes, points = torch.randn(3, 6, generator=generator), torch.rand(3, 5, 3, generator=generator) * 2 - 1
    with torch.no_grad():
        a_shape = decoder(codes, points)
        a_point = decoder(codes[:, None].expand(3, 5, 6), points)
        alone = torch.stack([decoder(codes[k : k + 1], points[k : k + 1])[0] for k in range(3)])
    torch.testing.assert_close(a_shape, a_point, rtol=0, atol=1e-6)
    torch.testing.assert_close(a_shape, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("count", [2, 300])  # fewer than rows of the layers that the code enters, and more
def test_derivatives_along_directions_are_the_codes_times_them(golden: Golden, variant: str, count: int) -> None:
    decoder, _ = original(golden, variant)
    generator = torch.Generator().manual_seed(0)
    codes, points = torch.randn(2, 6, generator=generator), torch.rand(2, count, 3, generator=generator) * 2 - 1
    basis = torch.randn(6, 4, generator=generator)
    found, along = decoder.jacobian(codes, points, basis)
    again, plain = decoder.jacobian(codes, points)
    assert torch.equal(found, again)
    torch.testing.assert_close(along, plain @ basis, rtol=1e-4, atol=1e-6)
    assert along.abs().max() > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_folded_it_says_the_same_and_is_apart(golden: Golden, variant: str) -> None:
    decoder, _ = original(golden, variant)
    codes, points = (part[None] for part in inputs())
    folded = decoder.train().folded()
    with torch.no_grad():
        assert torch.equal(folded(codes, points), decoder.eval()(codes, points))
    assert {type(layer) for layer in folded.children()} <= {nn.Linear, nn.LayerNorm}
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert all(parameter.requires_grad for parameter in decoder.parameters())
    assert not {id(value) for value in folded.state_dict().values()} & {id(value) for value in decoder.parameters()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_octaves_the_encoded_decoder_is_the_original(golden: Golden, variant: str) -> None:
    plain, _ = original(golden, variant)
    encoded, _ = original(golden, variant, "encoded_decoder")
    codes, points = inputs()
    assert torch.equal(plain(codes[None], points[None]), encoded(codes[None], points[None]))


def test_octaves_are_sines_and_cosines_of_doubling_frequency() -> None:
    decoder = build_decoder("encoded_decoder", 2, {"dims": [8], "octaves": 3})
    points = inputs()[1].double()
    features = decoder.point_features(points)
    assert features.shape == (7, 3 + 18)
    for axis in range(3):
        for k in range(3):
            angle = 2**k * np.pi * points[:, axis]
            for wave, first in ((angle.sin(), 3), (angle.cos(), 12)):
                torch.testing.assert_close(features[:, first + 3 * axis + k], wave)
    assert torch.equal(features[:, :3], points)


# A plain module: transforms, compilation, derivatives

SMOOTH = {"dims": [16, 16, 16], "latent_in": [2], "octaves": 1, "activation": "softplus"}
PLAIN_MODULES = {
    "smooth": SMOOTH,
    "weight norm": {**SMOOTH, "norm_layers": [0, 1, 2], "weight_norm": True},
    "layer norm": {**SMOOTH, "norm_layers": [0, 1]},
    "points in all layers": {**SMOOTH, "latent_in": [], "xyz_in_all": True},
    "entering the last": {**SMOOTH, "latent_in": [3]},
}
plain_modules = pytest.mark.parametrize("options", PLAIN_MODULES.values(), ids=PLAIN_MODULES)


def smooth(options: dict[str, Any], dtype: torch.dtype = torch.float64) -> tuple[Decoder, torch.Tensor, torch.Tensor]:
    """A decoder in evaluation mode, codes (2, 3) and points (2, 4, 3)."""
    torch.manual_seed(0)
    decoder = build_decoder("encoded_decoder", 3, options).eval().to(dtype)
    return decoder, torch.randn(2, 3, dtype=dtype), torch.rand(2, 4, 3, dtype=dtype) * 2 - 1


@plain_modules
def test_first_and_second_derivatives_by_codes_points_and_weights(options: dict[str, Any]) -> None:
    decoder, codes, points = smooth(options)
    names, weights = zip(*decoder.named_parameters(), strict=True)

    def distances(codes: torch.Tensor, points: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(decoder, dict(zip(names, weights, strict=True)), (codes, points))

    inputs = (codes.requires_grad_(), points.requires_grad_(), *weights)
    assert torch.autograd.gradcheck(distances, inputs)
    assert torch.autograd.gradgradcheck(lambda *first: distances(*first, *weights), (codes, points))


@plain_modules
def test_vmap_over_codes_is_the_batched_call(options: dict[str, Any]) -> None:
    decoder, codes, points = smooth(options)
    batched = decoder(codes, points)
    torch.testing.assert_close(torch.func.vmap(decoder)(codes, points), batched)
    shared = torch.func.vmap(decoder, in_dims=(0, None))(codes, points[0])
    torch.testing.assert_close(shared, decoder(codes, points[:1].expand(2, -1, -1)))


@plain_modules
def test_jacobians_by_code_agree(options: dict[str, Any]) -> None:
    decoder, codes, points = smooth(options)
    by_transform = torch.func.vmap(torch.func.jacrev(decoder))(codes, points)
    by_hand = torch.stack(
        [torch.autograd.functional.jacobian(lambda z, k=k: decoder(z, points[k]), codes[k]) for k in range(2)]
    )
    distances, by_method = decoder.jacobian(codes, points)
    torch.testing.assert_close(by_transform, by_hand)
    torch.testing.assert_close(by_method, by_hand)
    assert torch.equal(distances, decoder(codes, points))


@plain_modules
def test_gradients_by_weights_under_torch_func(options: dict[str, Any]) -> None:
    decoder, codes, points = smooth(options)
    weights = {name: value.detach() for name, value in decoder.named_parameters()}

    def loss(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(decoder, weights, (codes, points)).square().sum()

    decoder(codes, points).square().sum().backward()
    for name, gradient in torch.func.grad(loss)(weights).items():
        torch.testing.assert_close(gradient, decoder.get_parameter(name).grad)


@pytest.mark.parametrize("training", [False, True])
def test_it_compiles_to_one_graph(training: bool) -> None:
    """Forward and backward, with the backend that runs the traced operations as they are."""
    dropout = {"dims": [12, 12, 12], "latent_in": [2], "dropout": [0, 1], "dropout_prob": 0.2}
    decoder, codes, points = smooth(dropout if training else SMOOTH, torch.float32)
    decoder.train(training)
    compiled = torch.compile(decoder, backend="eager", fullgraph=True, dynamic=False)
    found = compiled(codes.requires_grad_(), points)
    found.sum().backward()
    assert codes.grad is not None
    if training:  # the compiled mask of torch differs from the fused one
        assert torch.isfinite(found).all()
        assert not torch.equal(found, compiled(codes, points))
    else:
        assert torch.equal(found, decoder(codes, points))


@pytest.mark.filterwarnings("ignore")  # of the compiler of torch
def test_the_default_compiler_gives_the_same() -> None:
    decoder, codes, points = smooth(SMOOTH, torch.float32)
    try:
        found = torch.compile(decoder, fullgraph=True, dynamic=False)(codes, points)
    except Exception as error:
        if "ompiler" not in str(error):
            raise
        pytest.skip(f"no compiler for torch.compile: {str(error).splitlines()[0][:100]}")
    torch.testing.assert_close(found, decoder(codes, points), rtol=1e-5, atol=1e-6)


def test_it_can_be_pickled() -> None:
    decoder, codes, points = smooth(SMOOTH)
    again = pickle.loads(pickle.dumps(decoder))
    assert torch.equal(again(codes, points), decoder(codes, points))


@pytest.mark.parametrize("options", [{}, {"weight_norm": True, "norm_layers": [0, 1, 2]}, {"octaves": 2}])
def test_gradients_with_respect_to_codes_and_points(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    decoder = build_decoder("encoded_decoder", 3, {"dims": [64] * 3, "latent_in": [1], "activation": "silu", **options})
    codes, points = torch.randn(2, 3, requires_grad=True), torch.rand(2, 40, 3, requires_grad=True)
    towards = [torch.randn_like(codes), torch.randn_like(points)]
    gradients = torch.autograd.grad(decoder(codes, points).sum(), (codes, points))
    slope = sum(float((a * b).sum()) for a, b in zip(gradients, towards, strict=True))
    step = 1e-2
    with torch.no_grad():
        ahead, behind = (
            decoder(codes + sign * step * towards[0], points + sign * step * towards[1]).sum() for sign in (1, -1)
        )
    assert float(ahead - behind) / (2 * step) == pytest.approx(slope, rel=0.01)


def test_dropout_acts_in_training_alone() -> None:
    decoder = build_decoder("deep_sdf_decoder", 6, {"dims": [32, 32], "dropout": [0], "dropout_prob": 0.5})
    codes, points = inputs()
    decoder.train()
    assert not torch.equal(decoder(codes[None], points[None]), decoder(codes[None], points[None]))
    decoder.eval()
    assert torch.equal(decoder(codes[None], points[None]), decoder(codes[None], points[None]))


def test_latent_dropout_drops_code_and_not_point() -> None:
    """The original's: a fifth of the code's numbers for each point, the others 1.25 times larger."""
    decoder = build_decoder("deep_sdf_decoder", 50, {"dims": [2], "latent_dropout": True}).train()
    layer = decoder.get_submodule("lin0")
    assert isinstance(layer, torch.nn.Linear)
    with torch.no_grad():
        layer.weight[:] = 1.0
        layer.bias[:] = 0.0
    codes, points = torch.ones(1, 1, 50), torch.full((1, 4000, 3), 7.0)
    torch.manual_seed(0)
    found = decoder._linear(0, layer, points, points, codes, points)[0, :, 0].detach()
    kept = (found - 21) / 1.25
    torch.testing.assert_close(kept, kept.round(), rtol=0, atol=1e-3)
    assert float(kept.mean()) == pytest.approx(40, abs=0.3)
    assert float(kept.std()) == pytest.approx((50 * 0.2 * 0.8) ** 0.5, rel=0.1)


def test_hidden_matrices_are_those_between_hidden_layers() -> None:
    decoder = build_decoder("deep_sdf_decoder", 6, {"dims": [32, 32, 32]})
    names = {id(value): name for name, value in decoder.named_parameters()}
    assert [names[id(value)] for value in decoder.hidden_matrices] == ["lin1.weight", "lin2.weight"]


def test_the_last_layer_is_in_float32_under_autocast() -> None:
    decoder = build_decoder("encoded_decoder", 6, {"dims": [32, 32], **OTHERS}).eval()
    codes, points = inputs()
    exact = decoder(codes[None], points[None])
    with torch.autocast("cpu", torch.bfloat16):
        found = decoder(codes[None], points[None])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0, atol=2e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "NetworkSpecs: the key 'dims' is missing"),
        ({"dims": []}, "NetworkSpecs: the key 'dims' is missing"),
        ({"dims": None}, "NetworkSpecs: the key 'dims' is missing"),
        ({"dims": [8], "latent": [4]}, "unknown key 'latent'; did you mean 'latent_in'?"),
        ({"dims": [8], "dropuot": [1]}, "unknown key 'dropuot'; did you mean 'dropout'?"),
        ({"dims": [8, 8.5]}, r"NetworkSpecs > dims is \[8, 8.5\]; expected a list of non-negative integers"),
        ({"dims": 8}, "NetworkSpecs > dims is 8; expected a list of non-negative integers"),
        ({"dims": [8], "weight_norm": 1}, "NetworkSpecs > weight_norm is 1; expected true or false"),
        ({"dims": [8], "dropout_prob": 1.0}, "dropout_prob is 1.0; expected a number from 0 to below 1"),
        ({"dims": [8], "dropout_prob": None}, "dropout_prob is None; expected a number"),
        ({"dims": [8], "octaves": 17}, "octaves is 17; expected an integer from 0 to 16"),
        ({"dims": [8], "octaves": None}, "octaves is None; expected an integer"),
        ({"dims": [8], "activation": "gelu"}, "activation is 'gelu'; expected one of relu, silu, softplus"),
        ({"dims": [8], "activation": 3}, "activation is 3; expected a text"),
        ({"dims": [8, 8], "latent_in": [3]}, "latent_in between 1 and 2"),
        ({"dims": [8, 8], "latent_in": [0]}, "latent_in between 1 and 2"),
        ({"dims": [9, 8], "latent_in": [1]}, "the width 9 of layer 0 includes 9 values of the code and the point"),
        ({"dims": [3, 8], "xyz_in_all": True}, "the width 3 of layer 0 includes 3 values of the point"),
    ],
)  # fmt: skip
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        build_decoder("encoded_decoder", 6, options)


def test_octaves_are_not_the_originals() -> None:
    expected = "NetworkArch is 'deep_sdf'; expected one of deep_sdf_decoder, encoded_decoder"
    with pytest.raises(InputError, match=expected):
        build_decoder("deep_sdf", 6, {"dims": [8]})


def test_a_descendants_option_is_noted_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "deepsdf"):
        build_decoder("deep_sdf_decoder", 6, {"dims": [8], "geom_dimension": 3})
    assert [record.getMessage() for record in caplog.records] == [
        "NetworkSpecs: 'geom_dimension' is no option of deep_sdf_decoder and is ignored"
    ]


def test_a_checkpoint_of_another_architecture_says_what_differs() -> None:
    small = build_decoder("deep_sdf_decoder", 6, {"dims": [8, 8]})
    wide = build_decoder("deep_sdf_decoder", 6, {"dims": [16, 8]})
    deep = build_decoder("deep_sdf_decoder", 6, {"dims": [8, 8, 8], "norm_layers": [0], "weight_norm": True})
    before = {name: value.clone() for name, value in small.state_dict().items()}
    start = "old.pth has another architecture than specs.json: "
    with pytest.raises(InputError) as caught:
        load_weights(small, wide.state_dict(), "old.pth")
    assert str(caught.value) == start + (
        "lin0.weight has shape (16, 9), not (8, 9); lin0.bias has shape (16,), not (8,); "
        "lin1.weight has shape (8, 16), not (8, 8)"
    )
    with pytest.raises(InputError) as caught:
        load_weights(small, deep.state_dict(), "old.pth")
    assert str(caught.value) == start + (
        "lin0.weight is missing; lin0.weight_g is not in this network; lin0.weight_v is not in this network; "
        "lin3.weight is not in this network; and 3 more"
    )
    for name, value in small.state_dict().items():
        assert torch.equal(value, before[name])
