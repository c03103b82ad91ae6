"""The parts of a step: draws, dropout, losses, what each learning rate moves, and a field that collapses."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from conftest import Toys

from deepsdf.devices import fast_bfloat16
from deepsdf.network.dropout import keep_mask, relu_dropout
from deepsdf.network.networks import build_decoder
from deepsdf.network.objective import LOSSES, clamped_l1, code_penalty, ease, eikonal, pulling_l1
from deepsdf.samples.bank import SampleBank, mix
from deepsdf.specs import Specs
from deepsdf.training.checkpoint import TrainingState
from deepsdf.training.faults import SignWatch
from deepsdf.training.samples import SplitSamples
from deepsdf.training.step import EpochPlan, Stepper
from deepsdf.training.train import train
from deepsdf.workspace import Experiment

# Draws


def splitmix64(seed: int) -> int:
    """Steele, Lea, Flood 2014, with Python's own integers."""
    mask = 2**64 - 1
    z = seed * 0x9E3779B97F4A7C15 & mask
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
    z ^= z >> 31
    return z - 2**64 if z >= 2**63 else z


def test_mix_is_splitmix64() -> None:
    numbers = [0, 1, 2, -1, 12345, 2**63 - 1, -(2**63), 987654321987654321]
    assert mix(torch.tensor(numbers)).tolist() == [splitmix64(number) for number in numbers]


def bank() -> SampleBank:
    shapes = []
    for shape, (outside, inside) in enumerate([(1000, 10), (3, 500), (0, 7)]):
        sides = [torch.arange(count)[:, None] * torch.tensor([1.0, 0, 0, 0]) for count in (outside, inside)]
        for side, rows in zip((1.0, -1.0), sides, strict=True):
            rows[:, 1], rows[:, 3] = shape, side
        shapes.append((sides[0], sides[1]))
    return SampleBank.from_shapes(shapes)


def test_keyed_draws_are_uniform_and_a_shapes_own() -> None:
    keys = mix(torch.arange(3) + 17)
    drawn = bank().draw_keyed(torch.tensor([0, 1, 2]), 20_001, keys)
    assert drawn.shape == (3, 20_000, 4)
    for shape, (outside, inside) in enumerate([(1000, 10), (3, 500), (7, 7)]):
        assert (drawn[shape, :, 1] == shape).all()
        assert (drawn[shape, :10_000, 3] == (1.0 if shape < 2 else -1.0)).all()
        assert (drawn[shape, 10_000:, 3] == -1.0).all()
        for half, count in ((drawn[shape, :10_000, 0], outside), (drawn[shape, 10_000:, 0], inside)):
            found = torch.bincount(half.long(), minlength=count)
            assert len(found) == count
            # Chi squared of count - 1 degrees of freedom, within 5 of its deviations.
            expected = 10_000 / count
            chi2 = float(((found - expected) ** 2 / expected).sum())
            assert abs(chi2 - (count - 1)) < 5 * (2 * count) ** 0.5
    for order in ([2, 0], [1], [1, 0, 2]):
        at = torch.tensor(order)
        assert torch.equal(bank().draw_keyed(at, 20_001, keys[at]), drawn[at])
    assert not torch.equal(bank().draw_keyed(torch.tensor([0]), 20_000, keys[:1] + 20_000), drawn[:1])


# Dropout


@pytest.mark.parametrize("probability", [0.2, 0.5, 0.003, 0.999, 1e-9])
def test_a_mask_drops_as_many_as_asked(probability: float) -> None:
    torch.manual_seed(0)
    shares, scaled = [], []
    for _ in range(200):
        mask, scale = keep_mask(5001, probability, torch.int16)
        assert set(mask.unique().tolist()) <= {-1, 0}
        shares.append(float((mask == -1).float().mean()))
        scaled.append(shares[-1] * scale)
    deviation = (probability * (1 - probability) / 1e6) ** 0.5 + (1 / 128) / 2 / 200**0.5
    assert abs(sum(shares) / 200 - (1 - probability)) < 5 * deviation
    if probability < 0.9:
        assert sum(scaled) / 200 == pytest.approx(1.0, abs=5e-3)


def test_masks_follow_from_the_seed_and_differ_in_each_place() -> None:
    torch.manual_seed(1)
    first, second = (keep_mask(10_000, 0.5, torch.int32)[0].float() for _ in range(2))
    torch.manual_seed(1)
    assert torch.equal(keep_mask(10_000, 0.5, torch.int32)[0].float(), first)
    for one, other in ((first, second), (first[1:], first[:-1]), (first[8:], first[:-8]), (first[64:], first[:-64])):
        assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_and_its_gradient(dtype: torch.dtype) -> None:
    values = torch.randn(64, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    leaf = values.clone().requires_grad_()
    torch.manual_seed(2)
    result, scale = relu_dropout(leaf * 2, 0.3)
    torch.manual_seed(2)
    mask, same = keep_mask(values.numel(), 0.3, torch.int16 if dtype is torch.bfloat16 else torch.int32)
    assert scale == same
    kept = (mask.view(values.shape) == -1) & (values > 0)
    assert torch.equal(result, torch.where(kept, values * 2, 0))
    result.sum().backward()
    assert leaf.grad is not None
    assert torch.equal(leaf.grad, torch.where(kept, 2.0, 0.0).to(dtype))


LAYERS = {
    "plain": {},
    "entering again": {"latent_in": [2]},
    "points in all": {"xyz_in_all": True},
    "weight norm": {"norm_layers": [0, 1, 2], "weight_norm": True},
    "layer norm": {"norm_layers": [0, 1, 2]},
    "entering the last": {"latent_in": [3]},
}


@pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)
def test_the_scale_that_dropout_leaves_to_the_next_layer(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a mask that keeps everything, a scale of 1 / k must divide what dropout multiplied by k."""
    torch.manual_seed(0)
    widths = {"dims": [24, 24, 24], "dropout": [0, 1, 2], "dropout_prob": 0.5}
    decoder = build_decoder("deep_sdf_decoder", 4, {**widths, **options}).train()
    codes, points = torch.randn(3, 4), torch.randn(3, 7, 3)
    expected = decoder.eval()(codes, points)

    def doubled(x: torch.Tensor, probability: float) -> tuple[torch.Tensor, float]:
        assert probability == 0.5
        return torch.relu(x) * 4.0, 0.25

    monkeypatch.setattr("deepsdf.network.decoder.relu_dropout", doubled)
    torch.testing.assert_close(decoder.train()(codes, points), expected, rtol=1e-5, atol=1e-6)


def test_the_mean_over_dropout_masks_is_the_output_without_dropout() -> None:
    """With one hidden layer, the value before the last tanh is linear in the dropped units."""
    torch.manual_seed(0)
    decoder = build_decoder("deep_sdf_decoder", 4, {"dims": [64], "dropout": [0], "dropout_prob": 0.2})
    codes, points = torch.randn(1, 4), torch.randn(1, 5, 3)
    expected = decoder.eval()(codes, points).atanh()
    with torch.no_grad():
        runs = torch.stack([decoder.train()(codes, points).atanh() for _ in range(4000)])
    # Each of the 64 units is kept with probability 0.8 and divided by it: its share w x of the output varies by
    # (w x)² p / (1 - p). The scale of a mask adds noise below 1 % (its levels are 1/128 apart).
    with torch.no_grad():
        first, last = decoder.get_submodule("lin0"), decoder.get_submodule("lin1").get_parameter("weight")[0]
        units = torch.relu(first(torch.cat([codes[:, None].expand(1, 5, 4), points], dim=-1)))
        std = ((units * last).square().sum(dim=-1) * 0.2 / 0.8).sqrt()
    torch.testing.assert_close(runs.std(0), std, rtol=0.1, atol=0.0)
    # 4000 runs: the mean lies within 5 standard errors of the expectation, at each of 5 points.
    assert ((runs.mean(0) - expected).abs() < 5 * std / 4000**0.5).all()


# Losses

DELTA = 0.1


def test_the_pulling_loss_is_the_originals_within_the_clamp() -> None:
    predicted, target = torch.rand(1000) * 0.2 - 0.1, torch.rand(1000) * 2 - 1
    torch.testing.assert_close(pulling_l1(predicted, target, DELTA), clamped_l1(predicted, target, DELTA))


@pytest.mark.parametrize(
    ("predicted", "target", "original", "pull"),
    [
        (0.3, -0.05, 0.0, 1.0),  # on the wrong side, beyond the clamp
        (-0.3, 0.5, 0.0, -1.0),  # both clamped, on opposite sides
        (0.3, 0.05, 0.0, 1.0),  # too far, on the right side
        (0.3, 0.5, 0.0, 0.0),  # beyond the clamp, as it should be
        (0.05, 0.5, -1.0, -1.0),
        (0.05, 0.02, 1.0, 1.0),
        (0.3, 0.0, 0.0, 1.0),
    ],
)
def test_who_is_pulled(predicted: float, target: float, original: float, pull: float) -> None:
    for loss, expected in ((clamped_l1, original), (pulling_l1, pull)):
        value = torch.tensor([predicted], requires_grad=True)
        loss(value, torch.tensor([target]), DELTA).sum().backward()
        assert value.grad is not None
        assert float(value.grad) == expected, loss


@pytest.mark.parametrize("name", LOSSES)
def test_the_parts_of_a_loss_agree(name: str) -> None:
    """The value is the size of the residual, and the residual moves with the prediction exactly where it responds."""
    loss = LOSSES[name]
    steps = torch.linspace(-0.3, 0.3, 62)  # avoids ±δ and 0
    predicted, target = (part.flatten() for part in torch.meshgrid(steps, steps, indexing="ij"))
    predicted = predicted.clone().requires_grad_()
    residual = loss.residual(predicted, target, DELTA)
    assert torch.equal(residual.abs(), loss.value(predicted, target, DELTA))
    responds = loss.responds(predicted, target, DELTA)
    (slope,) = torch.autograd.grad(residual.sum(), predicted, retain_graph=True)
    assert torch.equal(slope, responds.float())
    (pull,) = torch.autograd.grad(loss.value(predicted, target, DELTA).sum(), predicted)
    assert torch.equal(pull, torch.where(responds, residual.sign(), 0.0))


def test_a_curriculum_counts_hard_samples_more() -> None:
    predicted = torch.tensor([-0.02, 0.02, 0.08, 0.05, 0.02])
    target = torch.tensor([0.05, 0.05, 0.05, 0.05, -0.05])
    errors = (predicted - target).abs()
    found = ease(errors, predicted, target, 0.01, 0.2)
    # Wrong sign; right sign but too near; too far; exact; wrong sign the other way.
    assert found.tolist() == pytest.approx([0.06 * 1.2, 0.02 * 1.2, 0.02 * 0.8, 0.0, 0.06 * 1.2])
    assert ease(errors, predicted, target, 0.0, 0.0) is errors


def test_eikonal_of_a_distance_is_zero() -> None:
    class Ball(torch.nn.Module):
        def forward(self, codes: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
            return codes[:, :1] * points.norm(dim=-1) - 0.5

    points = torch.randn(2, 50, 3)
    found = eikonal(Ball(), torch.tensor([[1.0], [3.0]]), points)
    torch.testing.assert_close(found, torch.tensor([[0.0], [4.0]]).expand(2, 50), atol=1e-5, rtol=1e-5)


def test_both_code_penalties() -> None:
    codes = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    assert code_penalty(codes, 0.1, "norm").tolist() == pytest.approx([0.5, 0.1])
    assert code_penalty(codes, 0.1, "square").tolist() == pytest.approx([2.5, 0.1])


# Steps


def stepper(experiment: Experiment, toys: Toys, batch_size: int = 6, **options: Any) -> tuple[Stepper, TrainingState]:
    specs = experiment.specs
    state = TrainingState.create(specs, 6, 0, torch.device("cpu"))
    samples = SplitSamples.load(toys.data, toys.shapes, on_failure=lambda failure: pytest.fail(str(failure)))
    return Stepper(state, specs, samples, batch_size=batch_size, **options), state


def plan(state: TrainingState, batch: list[int], epoch: int = 1, rates: list[float] | None = None) -> EpochPlan:
    return EpochPlan(epoch, rates or [0.0] * len(state.groups), 5, [torch.tensor(batch)])


MUON = {
    "NetworkArch": "encoded_decoder",
    "NetworkSpecs": {"dims": [16, 16, 16], "octaves": 1},
    "Optimizer": "muon",
}


@pytest.mark.parametrize("settings", [{}, MUON], ids=["adam", "muon"])
def test_each_learning_rate_moves_its_own(toys: Toys, settings: dict[str, Any]) -> None:
    """Of the decoder, of the codes, of the hidden matrices, in this order: swapping two would be seen."""
    count = 3 if settings else 2
    still, moving = {"Type": "Constant", "Value": 0.0}, {"Type": "Constant", "Value": 0.01}
    for alone in range(count):
        schedules = [moving if group == alone else still for group in range(count)]
        experiment = toys.experiment(
            f"{alone}", **{**settings, "LearningRateSchedule": schedules, "CodeBound": None, "Loss": "pulling_l1"}
        )
        run, state = stepper(experiment, toys)
        hidden = {id(parameter) for parameter in (state.decoder.hidden_matrices if settings else [])}
        before = [parameter.detach().clone() for parameter in state.decoder.parameters()]
        codes = state.codes.weight.detach().clone()
        rates = [schedule.rate(1) for schedule in experiment.specs.learning_rate_schedule]
        run.step(plan(state, [0, 1, 2, 3, 4, 5], rates=rates), 0)
        assert torch.equal(state.codes.weight.detach(), codes) == (alone != 1)
        for parameter, old in zip(state.decoder.parameters(), before, strict=True):
            group = 2 if id(parameter) in hidden else 0
            assert torch.equal(parameter.detach(), old) == (alone != group)


def gradients(run: Stepper, state: TrainingState) -> tuple[float, list[torch.Tensor]]:
    loss = float(run.step(plan(state, [4, 0, 2, 5, 1, 3], epoch=150), 0).loss)
    found = [*state.decoder.parameters(), state.codes.weight]
    return loss, [parameter.grad for parameter in found if parameter.grad is not None]


EVERYTHING = {
    "CodeRegularizationLambda": 0.1, "Loss": "pulling_l1", "CodePrior": "square", "EikonalWeight": 0.05,
    "Curriculum": [{"FromEpoch": 100, "Tolerance": 0.001, "HardWeight": 0.3}],
}  # fmt: skip


@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["original", "everything"])
def test_parts_of_a_batch_have_the_gradients_of_the_whole(toys: Toys, settings: dict[str, Any]) -> None:
    experiment = toys.experiment(**settings)
    loss, whole = gradients(*stepper(experiment, toys))
    assert (
        len(whole) == len(list(build_decoder("deep_sdf_decoder", 4, experiment.specs.network_specs).parameters())) + 1
    )
    for rows in (5 * 32, 32, 8, 1):
        part_loss, parts = gradients(*stepper(experiment, toys, part_rows=rows))
        if not settings or rows >= 8:  # below, the eikonal term looks at other samples
            assert part_loss == pytest.approx(loss, rel=1e-5)
            for one, other in zip(parts, whole, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_loss_is_the_formula(toys: Toys) -> None:
    experiment = toys.experiment(**{**EVERYTHING, "EikonalWeight": 0.0})
    run, state = stepper(experiment, toys)
    parts: list[torch.Tensor] = []
    draw = run._draw
    run._draw = lambda *arguments: parts.append(draw(*arguments)) or parts[-1]  # type: ignore[method-assign]
    codes = state.codes.weight.detach().clone()[[4, 0, 2, 5, 1, 3]]
    decoder = {name: value.clone() for name, value in state.decoder.state_dict().items()}
    loss, _ = gradients(run, state)
    fresh = build_decoder("deep_sdf_decoder", 4, experiment.specs.network_specs)
    fresh.load_state_dict(decoder)
    codes = codes * (1 / codes.norm(dim=1, keepdim=True)).clamp(max=1)
    (samples,) = parts
    predicted, target = fresh(codes, samples[..., :3]), samples[..., 3]
    errors = ease(pulling_l1(predicted, target, 0.1), predicted, target, 0.001, 0.3)
    assert loss == pytest.approx(float((errors.mean() + 0.1 * codes.square().sum(1).mean()).detach()), rel=1e-5)


def test_bfloat16_is_used_only_by_processors_that_have_it(toys: Toys, caplog: pytest.LogCaptureFixture) -> None:
    losses = {}
    for precision in ("float32", "bfloat16"):
        experiment = toys.experiment(precision, Precision=precision, NumEpochs=2)
        with caplog.at_level(logging.INFO, "deepsdf"):
            train(experiment, device="cpu")
        losses[precision] = torch.load(experiment.logs_path, weights_only=True)["loss"]
    said = "this cpu has no bfloat16 instructions, without which bfloat16 is slow; training in float32"
    if fast_bfloat16(torch.device("cpu")):
        assert losses["bfloat16"] != losses["float32"]
        assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.1)
        assert said not in caplog.messages
    else:
        assert losses["bfloat16"] == losses["float32"]
        assert caplog.messages.count(said) == 1


def test_every_option_learns(toys: Toys) -> None:
    steady = {"Type": "Constant", "Value": 0.01}
    few = {"NumEpochs": 25, "SnapshotFrequency": 25, "LogFrequency": 25, "LearningRateSchedule": [steady, steady]}
    for name, value in {**EVERYTHING, "CodeRegularizationLambda": 1e-4, "Precision": "bfloat16"}.items():
        experiment = train(toys.experiment(name, **{**few, "Loss": "pulling_l1", name: value}), device="cpu")
        losses = torch.load(experiment.logs_path, weights_only=True)["loss"]
        assert sum(losses[-9:]) < 0.8 * sum(losses[:9]), name


@pytest.mark.filterwarnings("ignore")  # of torch's own compiler
def test_a_compiled_decoder_needs_no_help_of_the_host(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one graph: `fullgraph` refuses whatever would leave it."""
    compile_, graphs = torch.compile, []

    def traced(module: Any, **options: Any) -> Any:
        graphs.append(options)
        return compile_(module, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", traced)
    plain = gradients(*stepper(toys.experiment(), toys))
    compiled = gradients(*stepper(toys.experiment(), toys, compiled=True))
    assert graphs == [{"fullgraph": True, "dynamic": False}]
    assert compiled[0] == pytest.approx(plain[0], rel=1e-6)
    torch.testing.assert_close(compiled[1], plain[1])


# A field that collapses


def test_a_collapse_is_noticed_once() -> None:
    watch = SignWatch()
    assert [bool(watch.update(0.0, 100)) for _ in range(6)] == [False, False, True, False, False, False]
    watch = SignWatch()
    assert not any(watch.update(share, 100) for share in [0.0, 0.0, 0.3] * 5)
    watch = SignWatch()  # 3 epochs are enough only with 200 steps
    assert [bool(watch.update(1.0, 10)) for _ in range(25)].index(True) == 19
    watch = SignWatch()  # 200 steps are enough only in 3 epochs
    assert [bool(watch.update(1.0, 300)) for _ in range(4)] == [False, False, True, False]
    watch = SignWatch()
    told = [watch.update(1.0, 1) for _ in range(250)]
    assert [bool(sentence) for sentence in told].index(True) == 199
    assert "nearly all predictions have been negative (inside)" in str(told[199])


def test_a_collapsed_training_says_so(toys: Toys, caplog: pytest.LogCaptureFixture) -> None:
    """So small a network begins beyond the clamp, on one side: the original's loss has no gradient there."""
    calm = {"Type": "Constant", "Value": 0.01}
    few = {"NumEpochs": 70, "SnapshotFrequency": 70, "LogFrequency": 70, "LearningRateSchedule": [calm, calm]}
    train(toys.experiment(**few), device="cpu")
    assert "for 67 epochs (201 steps) nearly all predictions have been positive (outside)" in caplog.text
    assert "the field has collapsed to one sign and has no surface. Try lower learning rates" in caplog.text
    caplog.clear()
    train(toys.experiment("pulled", **few, Loss="pulling_l1"), device="cpu")
    assert "collapsed" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"Loss": "l1"}, "Loss is 'l1'; expected 'clamped_l1' or 'pulling_l1'"),
        ({"CodePrior": "none"}, "CodePrior is 'none'; expected 'norm' or 'square'"),
        ({"EikonalWeight": -1.0}, "EikonalWeight is -1.0"),
        ({"Curriculum": [{"FromEpoch": 5}, {"FromEpoch": 5}]}, r"the stages of Curriculum begin at epochs \[5, 5\]"),
        ({"Curriculum": [{"FromEpoc": 5}]}, "unknown key 'FromEpoc'; did you mean 'FromEpoch'"),
        ({"Curriculum": [{"FromEpoch": 5, "HardWeight": 1.0}]}, "HardWeight is 1.0"),
    ],
)
def test_settings_that_are_refused(toys: Toys, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        assert isinstance(toys.experiment(**settings).specs, Specs)
