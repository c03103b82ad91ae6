"""Fitting codes: the original's numbers, and a Gauss-Newton fit that is as good in few steps."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import FIELDS, SPECS, ball, draw
from torch.nn import functional

from deepsdf.errors import InputError
from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.inference.fit import adam
from deepsdf.inference.fit.adam import fit_adam
from deepsdf.inference.fit.options import FitOptions
from deepsdf.inference.fit.problem import ROBUST_WIDTH, CodeProblem, Draw
from deepsdf.inference.fit.result import OptimizedCodes
from deepsdf.inference.space import ShapeSpace
from deepsdf.network.decoder import Decoder
from deepsdf.network.networks import build_decoder, load_weights
from deepsdf.network.objective import LOSSES, clamped_l1, code_square_penalty
from deepsdf.progress import Progress
from deepsdf.samples.bank import SampleBank
from deepsdf.specs import Specs

Golden = Callable[[str], Any]


# The original's numbers


def golden_decoder(content: dict[str, Any]) -> Decoder:
    decoder = build_decoder("deep_sdf_decoder", content["code_length"], content["network_specs"])
    load_weights(decoder, {name: torch.tensor(value) for name, value in content["decoder"].items()}, "golden")
    return decoder.eval()


def golden_bank(*tolds: dict[str, Any]) -> SampleBank:
    """One outside and one inside row of each shape: every draw is the same."""
    samples = [told["samples"] for told in tolds]
    return SampleBank.from_shapes([(torch.tensor(sides["pos"]), torch.tensor(sides["neg"])) for sides in samples])


def fit_golden(decoder: Decoder, *tolds: dict[str, Any]) -> OptimizedCodes:
    arguments = tolds[0]["arguments"]
    return fit_adam(
        decoder,
        golden_bank(*tolds),
        generator=torch.Generator().manual_seed(0),
        clamping_distance=arguments["clamp_dist"],
        steps=arguments["num_iterations"],
        samples=arguments["num_samples"],
        learning_rate=arguments["lr"],
        start=torch.tensor([told["initial_code"] for told in tolds]),
    )


@pytest.mark.parametrize("name", ["zeros", "vector", "no_l2_odd_iterations", "clamp_0.1"])
def test_adam_is_the_originals(golden: Golden, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = golden("fit")
    told = content["fits"][name]
    with_penalty = told["arguments"]["l2reg"]
    if not with_penalty:
        monkeypatch.setattr(adam, "code_square_penalty", lambda codes: torch.zeros(len(codes)))
    decoder = golden_decoder(content)
    seen: list[torch.Tensor] = []
    decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()[0]))
    fit = fit_golden(decoder, told)
    np.testing.assert_allclose(fit.codes[0], told["code"], rtol=0, atol=1e-6)
    after_each = torch.stack([*seen[1:], fit.codes[0]]).numpy()
    np.testing.assert_allclose(after_each, told["codes"], rtol=0, atol=1e-6)
    # The original tells the loss before its last step, with the penalty.
    rows = golden_bank(told).rows[None]
    delta = told["arguments"]["clamp_dist"]

    @torch.no_grad()
    def loss(code: torch.Tensor) -> float:
        return float(clamped_l1(decoder(code, rows[..., :3]), rows[..., 3], delta).mean())

    before_last = seen[-1][None]
    penalty = float(code_square_penalty(before_last)) if with_penalty else 0.0
    assert loss(before_last) + penalty == pytest.approx(told["loss"], abs=1e-6)


def test_adam_fits_a_batch_as_it_fits_each_alone(golden: Golden) -> None:
    content = golden("fit")
    decoder = golden_decoder(content)
    tolds = [content["fits"]["zeros"], content["fits"]["vector"]]
    nearer = {side: [[*row[:3], row[3] / 2] for row in rows] for side, rows in tolds[1]["samples"].items()}
    tolds.append({**tolds[1], "initial_code": [0.3, 0.1, -0.2, 0.0], "samples": nearer})
    together = fit_golden(decoder, *tolds)
    for k, told in enumerate(tolds):
        alone = fit_golden(decoder, told)
        torch.testing.assert_close(together.codes[k], alone.codes[0], rtol=0, atol=1e-6)
    assert together.steps.tolist() == [20] * 3
    assert together.reasons == ("steps ran out",) * 3


# Both ways


def known(space: ShapeSpace, code: torch.Tensor, count: int = 4000) -> SDFSamples:
    """Samples of the decoder's own field: of these a perfect fit exists."""
    points = np.random.default_rng(1).uniform(-1, 1, (count, 3)).astype(np.float32)
    return SDFSamples.of(points, space.shape(code).sdf(points))


def between(space: ShapeSpace) -> list[torch.Tensor]:
    """Codes that are no training codes, but like them."""
    return [
        0.5 * (space.codes[0] + space.codes[1]),
        0.6 * space.codes[3] + 0.4 * space.codes[2],
        (space.codes[3] + space.codes[4] + space.codes[5]) / 3,
    ]


@pytest.mark.parametrize(
    ("way", "loss"), [({"optimizer": "lm"}, 1e-3), ({"optimizer": "adam", "samples": 500}, 5e-3)], ids=["lm", "adam"]
)
def test_a_shape_of_the_space_is_found_again(space: ShapeSpace, way: dict[str, Any], loss: float) -> None:
    """How near Adam comes in its 800 steps depends on the space, and that on the processor's rounding."""
    codes = between(space)
    fit = space.fit([known(space, code) for code in codes], FitOptions(**way))
    points = np.random.default_rng(2).uniform(-1, 1, (4000, 3))
    for k, code in enumerate(codes):
        truth = space.shape(code).sdf(points).clip(-0.1, 0.1)
        found = space.shape(fit.codes[k]).sdf(points).clip(-0.1, 0.1)
        assert np.abs(found - truth).mean() < loss / 2
        assert float(fit.losses[k]) < loss


def test_the_gradient_is_that_of_the_loss(space: ShapeSpace) -> None:
    """Or, through the clamp, that of the predictions that are clamped although their targets are not."""
    generator, delta = torch.Generator().manual_seed(0), 0.1
    problem = CodeProblem(space.decoder, space.prior, delta)
    whitened = torch.randn(2, space.code_length, generator=generator).requires_grad_()
    rows = torch.rand(2, 500, 4, generator=generator) * 2 - 1
    rows[..., 3] *= 2 * delta
    weights, prior_weight = torch.rand(2, 500, generator=generator) / 500, torch.tensor([1e-3, 2e-3])
    found = space.decoder(problem.prior.colour(whitened), rows[..., :3])
    targets = rows[..., 3].clamp(-delta, delta)

    def objective(errors: torch.Tensor) -> torch.Tensor:
        huber = functional.huber_loss(errors, torch.zeros_like(errors), reduction="none", delta=ROBUST_WIDTH)
        return (weights * huber / ROBUST_WIDTH).sum(dim=1) + prior_weight * whitened.square().sum(dim=1)

    clamped = found.clamp(-delta, delta)
    alike = clamped == targets
    through = clamped.detach() + torch.where(alike, 0.0, found - found.detach())  # the value clamped, the gradient not
    for through_clamp, errors in (([False, False], clamped - targets), ([True, True], through - targets)):
        value = objective(errors)
        (gradient,) = torch.autograd.grad(value.sum(), whitened, retain_graph=True)
        near = problem.linearise(whitened.detach(), Draw(rows, weights), prior_weight, torch.tensor(through_clamp))
        torch.testing.assert_close(near.value, value.detach())
        torch.testing.assert_close(near.gradient, gradient, rtol=1e-3, atol=1e-5)
    assert (found.abs() > delta).any()
    assert not torch.allclose(clamped[~alike], found[~alike])


def test_a_fit_uses_the_loss_of_the_experiment(space: ShapeSpace) -> None:
    """Of `pulling_l1`, whose residuals and gradients differ from the default's beyond δ."""
    generator, delta, loss = torch.Generator().manual_seed(0), 0.1, LOSSES["pulling_l1"]
    problem = CodeProblem(space.decoder, space.prior, delta, loss=loss)
    whitened = torch.randn(2, space.code_length, generator=generator).requires_grad_()
    rows = torch.rand(2, 500, 4, generator=generator) * 2 - 1
    rows[..., 3] *= 2 * delta
    weights, prior_weight = torch.full((2, 500), 1 / 500), torch.tensor([1e-3, 2e-3])
    residuals = loss.residual(space.decoder(problem.prior.colour(whitened), rows[..., :3]), rows[..., 3], delta)
    huber = functional.huber_loss(residuals, torch.zeros_like(residuals), reduction="none", delta=ROBUST_WIDTH)
    value = (weights * huber / ROBUST_WIDTH).sum(dim=1) + prior_weight * whitened.square().sum(dim=1)
    (gradient,) = torch.autograd.grad(value.sum(), whitened)
    model = problem.linearise(whitened.detach(), Draw(rows, weights), prior_weight, torch.tensor([False, False]))
    torch.testing.assert_close(model.value, value.detach())
    torch.testing.assert_close(model.gradient, gradient, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(
        problem.losses(problem.prior.colour(whitened.detach()), Draw(rows, weights)), residuals.detach().abs().mean(1)
    )
    specs = Specs.model_validate(SPECS | {"DataSource": "", "TrainSplit": "", "Loss": "pulling_l1"})
    assert space.loss is LOSSES["clamped_l1"]
    assert ShapeSpace(space.decoder, space.codes, device="cpu", specs=specs).loss is loss


def test_many_observations_widen_a_prior_that_is_too_narrow(space: ShapeSpace) -> None:
    observed = draw(ball(0.42), 4000, seed=9)
    wide = space.fit(observed)
    narrow = ShapeSpace(space.decoder, space.codes, device="cpu")
    narrow.prior = replace(space.prior, std=space.prior.std / 30)
    far = narrow.prior.whiten(wide.codes).square().mean()
    assert far > 100
    found = narrow.fit(observed)
    assert found.losses[0] <= 1.02 * wide.losses[0] + 1e-5
    few = narrow.fit(draw(ball(0.42), 400, seed=9))
    assert narrow.prior.whiten(few.codes).square().mean() < far, "few observations leave the prior its say"


def test_lm_is_as_good_as_adam_in_few_steps(space: ShapeSpace) -> None:
    observed = [draw(field, 4000, seed=9) for field in [*FIELDS.values(), ball(0.42), ball(0.58)]]
    lm, adam = space.fit(observed), space.fit(observed, FitOptions(optimizer="adam", samples=500))
    assert (lm.losses <= adam.losses * 1.02 + 1e-4).all()
    assert (lm.steps <= 60).all()
    assert (adam.steps == 800).all()
    assert lm.converged.all()
    assert lm.start_losses.shape == (8, 6)
    assert adam.start_losses.shape == (8, 1)


def test_a_training_shape_is_fitted_as_well_as_it_was_learned(space: ShapeSpace) -> None:
    observed = [draw(field, 8000, seed=11) for field in FIELDS.values()]
    fit = space.fit(observed)
    for k, samples in enumerate(observed):
        rows = torch.from_numpy(np.concatenate([samples.pos, samples.neg]))[None]
        with torch.no_grad():
            learned = clamped_l1(space.decoder(space.codes[k : k + 1], rows[..., :3]), rows[..., 3], 0.1).mean()
        assert float(fit.losses[k]) < 1.5 * float(learned) + 1e-3


def test_best_of_keeps_the_better_fit_of_each_shape(space: ShapeSpace) -> None:
    """Where all samples are judged, the losses told by fits of different seeds compare exactly."""
    observed = [draw(field, 400, seed=9) for field in FIELDS.values()]
    how: dict[str, Any] = {"optimizer": "adam", "steps": 30, "samples": 100}
    first, second = (space.fit(observed, FitOptions(seed=seed, **how)) for seed in (5, 6))
    events: list[Progress] = []
    best = space.fit(observed, FitOptions(seed=5, best_of=2, **how), on_progress=events.append)
    better = first.losses <= second.losses
    assert 0 < int(better.sum()) < len(better), "a fit of each seed is in it"
    assert torch.equal(best.codes, torch.where(better[:, None], first.codes, second.codes))
    assert torch.allclose(best.losses, torch.minimum(first.losses, second.losses))
    assert best.std.shape == first.std.shape
    assert events == [Progress(step, 60, "fitting") for step in range(1, 61)]


def test_the_told_loss_is_that_of_the_told_code(space: ShapeSpace) -> None:
    samples = draw(ball(0.45), 8000, seed=4)
    for optimizer in ("lm", "adam"):
        fit = space.fit(samples, FitOptions(optimizer=optimizer, steps=5))
        sides = []
        for rows in (samples.pos, samples.neg):
            rows = torch.from_numpy(rows)[None]
            with torch.no_grad():
                sides.append(float(clamped_l1(space.decoder(fit.codes, rows[..., :3]), rows[..., 3], 0.1).mean()))
        assert float(fit.losses) == pytest.approx(sum(sides) / 2, rel=0.1)


@pytest.mark.parametrize("optimizer", ["lm", "adam"])
def test_a_seed_repeats_a_fit_and_the_decoder_is_left_as_it_was(space: ShapeSpace, optimizer: Any) -> None:
    samples = draw(ball(0.45))
    before = {name: value.clone() for name, value in space.decoder.state_dict().items()}
    torch.manual_seed(0)
    one = space.fit(samples, FitOptions(optimizer=optimizer, steps=8, samples=100, seed=3))
    torch.manual_seed(1)
    two = space.fit(samples, FitOptions(optimizer=optimizer, steps=8, samples=100, seed=3))
    other = space.fit(samples, FitOptions(optimizer=optimizer, steps=8, samples=100, seed=4))
    assert torch.equal(one.codes, two.codes)
    assert torch.equal(one.losses, two.losses)
    assert not torch.equal(one.codes, other.codes)
    assert not one.codes.requires_grad
    assert all(parameter.requires_grad and parameter.grad is None for parameter in space.decoder.parameters())
    for name, value in space.decoder.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("optimizer", ["lm", "adam"])
def test_the_decoder_can_learn_again_after_a_fit_was_interrupted(space: ShapeSpace, optimizer: Any) -> None:
    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        space.fit(draw(ball(0.45)), FitOptions(optimizer=optimizer), on_progress=stop)
    assert all(parameter.requires_grad for parameter in space.decoder.parameters())


def test_the_forms_of_observations_are_one(space: ShapeSpace) -> None:
    samples = draw(ball(0.45))
    rows = np.concatenate([samples.pos, samples.neg])
    shuffled = rows[np.argsort(np.random.default_rng(0).random(len(rows)), kind="stable")]
    forms = (samples, rows, torch.from_numpy(rows), rows.astype(np.float64), [samples])
    fits = [space.fit(item, FitOptions(steps=8)) for item in forms]
    for fit in fits[1:]:
        assert torch.equal(fit.codes, fits[0].codes)
    other_order = space.fit([samples, shuffled])
    assert float(other_order.losses[1]) == pytest.approx(float(other_order.losses[0]), rel=0.3)


@pytest.mark.parametrize("optimizer", ["lm", "adam"])
def test_outside_samples_alone_are_enough(space: ShapeSpace, optimizer: Any) -> None:
    samples = draw(ball(0.5), 4000)
    outside = samples.pos[samples.pos[:, 3] < 0.2]
    fit = space.fit(outside, FitOptions(optimizer=optimizer, samples=500))
    points = np.random.default_rng(2).uniform(-1, 1, (4000, 3))
    points = points[ball(0.5)(points) > 0]
    error = np.abs(space.shape(fit.codes[0]).sdf(points).clip(-0.1, 0.1) - ball(0.5)(points).clip(-0.1, 0.1))
    assert error.mean() < 0.01
    assert float(fit.losses) < 0.01


def test_each_step_is_one_progress_event(space: ShapeSpace) -> None:
    events: list[Progress] = []
    space.fit(
        draw(ball(0.45)),
        FitOptions(optimizer="adam", steps=3),
        on_progress=events.append,
    )
    assert events == [Progress(step, 3, "fitting") for step in (1, 2, 3)]
    events.clear()
    fit = space.fit(draw(ball(0.45)), FitOptions(steps=12), on_progress=events.append)
    assert events == [Progress(step, 12, "fitting") for step in range(1, int(fit.steps) + 1)]
    assert int(fit.steps) <= 12


def test_lm_never_ends_worse_than_its_starts(space: ShapeSpace) -> None:
    samples = draw(ball(0.45))
    losses = [float(space.fit(samples, FitOptions(steps=steps)).losses) for steps in (1, 4, 40)]
    assert losses[2] <= losses[1] * 1.05 <= losses[0] * 1.1


@pytest.mark.parametrize(
    ("observed", "message"),
    [
        ([], "no observations were given to fit"),
        (np.zeros((5, 3)), r"observation 0 has shape \(5, 3\); expected rows x y z sdf \(n, 4\)"),
        (np.zeros((0, 4)), "observation 0 is empty or has values that are not finite"),
        ([np.zeros((3, 4)), np.full((3, 4), np.nan)], "observation 1 is empty or has values that are not finite"),
        (np.array([[0, 0, 0, np.inf]]), "observation 0 is empty or has values that are not finite"),
        (SDFSamples(np.zeros((0, 4)), np.zeros((0, 4))), "observation 0 is empty"),
    ],
)
def test_observations_that_are_none(space: ShapeSpace, observed: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        space.fit(observed)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer": "sgd"}, "optimizer is 'sgd'; expected 'lm' or 'adam'"),
        ({"best_of": 0}, "best_of is 0; it must be at least 1"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"samples": 1}, "samples is 1; it must be at least 2"),
        ({"samples": -3, "optimizer": "adam"}, "samples is -3; it must be at least 2"),
    ],
)
def test_invalid_options(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        FitOptions(**values)


def test_defaults_depend_on_the_optimizer() -> None:
    assert (FitOptions().max_steps, FitOptions().max_samples) == (1000, 32_000)
    assert (FitOptions(optimizer="adam").max_steps, FitOptions(optimizer="adam").max_samples) == (800, 8000)
    assert (FitOptions(steps=3, samples=9).max_steps, FitOptions(steps=3, samples=9).max_samples) == (3, 9)


@pytest.mark.parametrize("optimizer", ["lm", "adam"])
def test_the_fewest_steps_and_samples(space: ShapeSpace, optimizer: Any) -> None:
    fit = space.fit(draw(ball(0.45)), FitOptions(optimizer=optimizer, steps=1, samples=2))
    assert torch.isfinite(fit.codes).all()
    assert torch.isfinite(fit.losses).all()


# Doubts


def test_few_observations_are_said_to_be_few(space: ShapeSpace) -> None:
    samples = draw(ball(0.45), 4000)
    enough = space.fit(samples)
    assert enough.warnings == ((),)
    few = space.fit(np.concatenate([samples.pos[:2], samples.neg[:1]]))
    (text,) = few.warnings[0]
    assert re.fullmatch(
        r"too few observations: 3 of them leave the surface uncertain by ±0\.\d{3}, where shapes of this space differ "
        r"by ±0\.\d{3}",
        text,
    )
    assert float(few.uncertainty) > 5 * float(enough.uncertainty)
    assert few.std.shape == (1, space.code_length)
    assert (few.std > enough.std).all()
    assert (few.std <= 1).all()
    torch.testing.assert_close(few.covariance, few.covariance.transpose(1, 2))


def test_observations_of_two_shapes_at_once_contradict(space: ShapeSpace) -> None:
    one, two = draw(ball(0.3), 2000), draw(ball(0.6), 2000)
    fit = space.fit(np.concatenate([one.pos, one.neg, two.pos, two.neg]))
    assert any(
        re.match(r"contradictory observations: \d+% of them differ from a neighbour", w) for w in fit.warnings[0]
    )
    assert not any("contradictory" in warning for warning in space.fit(one).warnings[0])


def test_a_shape_of_another_kind_is_said_to_be_one(space: ShapeSpace) -> None:
    def plates(points: np.ndarray) -> np.ndarray:
        """Inside of slabs, 0.1 thick and as far apart."""
        return (0.05 - np.abs((points[:, 0] % 0.2) - 0.1)).astype(np.float32)

    fit = space.fit(draw(plates, 4000))
    assert any(
        re.match(
            r"no shape of this space is similar to the observations: the best fit leaves \d+% of the spread", warning
        )
        for warning in fit.warnings[0]
    )


# Together and alone


def alike(count: int, radius: float) -> np.ndarray:
    """`count` samples on each side of a ball."""
    samples = draw(ball(radius), 20_000)
    return np.concatenate([samples.pos[:count], samples.neg[:count]])


@pytest.mark.parametrize("optimizer", ["lm", "adam"])
def test_a_fit_does_not_depend_on_what_is_fitted_beside_it(space: ShapeSpace, optimizer: Any) -> None:
    observed = [alike(700, radius) for radius in (0.45, 0.55, 0.6)]
    together = space.fit(observed, FitOptions(optimizer=optimizer, steps=20, samples=500))
    for k, samples in enumerate(observed):
        alone = space.fit(samples, FitOptions(optimizer=optimizer, steps=20, samples=500))
        assert together.reasons[k] == alone.reasons[0]
        torch.testing.assert_close(together.codes[k], alone.codes[0], rtol=0, atol=1e-4)


def test_shapes_with_many_and_few_samples_are_fitted_together_as_alone(space: ShapeSpace) -> None:
    """To rounding, which a fit that ends at 0.2 % of its objective enlarges."""
    observed = [alike(1500, 0.45), alike(200, 0.55), alike(10, 0.6)]
    together = space.fit(observed)
    for k, samples in enumerate(observed):
        alone = space.fit(samples)
        torch.testing.assert_close(together.losses[k], alone.losses[0], rtol=0.05, atol=1e-5)
        assert together.warnings[k] == alone.warnings[0]
