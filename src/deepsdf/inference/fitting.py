"""Codes from observations: fit shapes to signed distances with the decoder fixed.

Two ways: `adam`, the original's 800 steps from one random start, batched over shapes; and `lm`, a damped
Gauss-Newton fit (Levenberg-Marquardt) from several starts, which takes a dozen steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor

from deepsdf.inference.code_problem import CodeProblem, Draw, frozen, penalty
from deepsdf.inference.doubts import Figures, contradicting, unexplained
from deepsdf.inference.gauss_newton import DAMPING, REASONS, STEPS_RAN_OUT, OnStep, Quadratic, minimise
from deepsdf.inference.posterior import posterior, surface_spread
from deepsdf.network.bank import Generators, SampleBank
from deepsdf.network.decoder import Decoder
from deepsdf.network.objective import clamped_l1, code_square_penalty

Optimizer = Literal["lm", "adam"]

ADAM_STEPS, ADAM_SAMPLES = 800, 8000
"""The original's, samples a step."""

LM_STEPS, LM_SAMPLES = 60, 32_000
"""At most; the first steps look at fewer samples. With 16 000 the codes of 256 numbers fitted those, and all samples by
some percent worse."""

FINAL_SAMPLES = 8000
"""From which a fit's loss and its doubts are told."""

START_SAMPLES = 128
"""On which training codes and draws from the prior are compared, to find the nearest."""

NEAREST, DRAWN = 3, 2
"""So many training codes and draws from the prior are starts, beside the prior's mean."""

TRIAL_SAMPLES, TRIAL_STEPS = 500, (3, 2, 4)
"""Steps that starts are tried for; after each of these rounds the better half of them goes on, in the end the best."""

GROWTH = 4
"""Doublings of the samples, a step each, from the first after the trial to `NEARING` of `LM_SAMPLES`."""

NEARING, ENDING = 4, 8
"""A part of the samples until a step on them promises less than `NEARED`, then so many steps at most on all."""

CHANCE = 0.15
"""Share by which an objective may rise because its samples are drawn anew: 3 standard deviations at 1000."""

ROUNDING = 5e-3
"""Share by which bfloat16 may raise an objective of the same samples."""

NEARED, CONVERGED = 5e-3, 5e-4
"""A fit ends when a step on all its samples promises to lower its objective by less than this share."""

ADAM_CHUNK = 131_072
"""Points that Adam's fit evaluates at once."""

INDEPENDENT = 160_000
"""At most so many observations count as independent: with a tenth of it unseen fish and spleens were fitted worse than
by Adam, in loss and in chamfer distance."""

LEAST_ERROR = 2e-3
"""Unit frame; the mean error that the prior's weight supposes at least: no space has none on an unseen shape."""


@dataclass(frozen=True)
class Fit:
    """Fitted codes of b shapes.

    Attributes:
        codes: (b, L).
        losses: (b,), mean clamped L1 over at most 8000 samples, half outside and half inside.
        steps: (b,), optimiser steps taken.
        reasons: why each fit ended: "converged", "stuck" (no step made it better), "steps ran out". Always the last
            for `adam`, which takes all its steps.
        start_losses: (b, starts), the loss of each start when it was dropped, or of the best when it went on.
        covariance: (b, L, L), of the codes in units of the prior's standard deviations along its principal
            directions: how sure the fit is (see `deepsdf.inference.posterior`).
        noise: (b,), standard deviation of the observations about the fitted field, unit frame.
        uncertainty: (b,), standard deviation of the surface's place, unit frame, that the covariance amounts to.
        warnings: of each shape, in words, where its observations are too few, contradict each other or are like no
            shape of the space.
    """

    codes: Tensor
    losses: Tensor
    steps: Tensor
    reasons: tuple[str, ...]
    start_losses: Tensor
    covariance: Tensor
    noise: Tensor
    uncertainty: Tensor
    warnings: tuple[tuple[str, ...], ...]

    @classmethod
    def best(cls, fits: Sequence[Fit]) -> Fit:
        """Of several fits of the same shapes, for each shape the one of the lowest loss, the first of equals."""
        first = torch.stack([fit.losses for fit in fits]).argmin(dim=0).tolist()
        return cls._of([(fits[fit], shape) for shape, fit in enumerate(first)])

    @classmethod
    def joined(cls, fits: Sequence[Fit], members: Sequence[Sequence[int]]) -> Fit:
        """Several fits as one; `members` are the places of each one's shapes in it."""
        rows = {place: (fit, row) for fit, own in zip(fits, members, strict=True) for row, place in enumerate(own)}
        return cls._of([rows[place] for place in range(len(rows))])

    @classmethod
    def _of(cls, rows: Sequence[tuple[Fit, int]]) -> Fit:
        """For each shape a fit and the shape's row in it."""

        def pick(name: str) -> Any:
            values = [getattr(fit, name)[row] for fit, row in rows]
            return torch.stack(values) if isinstance(values[0], Tensor) else tuple(values)

        return cls(**{field.name: pick(field.name) for field in fields(cls)})

    @property
    def converged(self) -> Tensor:
        """(b,)."""
        return torch.tensor([reason == "converged" for reason in self.reasons], device=self.codes.device)

    @property
    def std(self) -> Tensor:
        """(b, L), posterior standard deviations along the prior's principal directions, in units of the prior's."""
        return self.covariance.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()


@dataclass(frozen=True)
class Found:
    """Codes of b shapes as an optimiser leaves them; see `Fit`.

    Attributes:
        hessian: (b, L, L), the Gauss-Newton matrix of the data there, where the optimiser has it.
    """

    codes: Tensor
    steps: Tensor
    reasons: tuple[str, ...]
    start_losses: Tensor | None = None
    hessian: Tensor | None = None


def fit_adam(
    decoder: Decoder,
    bank: SampleBank,
    *,
    generator: Generators,
    clamping_distance: float = 0.1,
    steps: int = ADAM_STEPS,
    samples: int = ADAM_SAMPLES,
    learning_rate: float = 5e-3,
    init_std: float = 0.01,
    start: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Found:
    """The original's fit: Adam on codes from N(0, init_std²), the step ten times smaller from the middle on.

    Adam works on each number by itself, so a batch of shapes gives what each would give alone from the same start
    and the same samples.

    Args:
        start: codes (b, L) to start from instead of random ones.
        on_step: told the step and the number of steps.
    """
    device = bank.rows.device
    shapes = torch.arange(len(bank), device=device)
    if start is None:
        start = init_std * _randn(len(bank), decoder.code_length, generator, device)
    codes = start.clone().requires_grad_()
    adam = torch.optim.Adam([codes], lr=learning_rate)
    with frozen(decoder):
        for step in range(steps):
            adam.param_groups[0]["lr"] = learning_rate * 0.1 ** (step // max(1, steps // 2))
            drawn = bank.draw(shapes, samples, generator)
            adam.zero_grad()
            for part in shapes.split(max(1, ADAM_CHUNK // samples)):
                predicted = decoder(codes[part], drawn[part, :, :3])
                errors = clamped_l1(predicted, drawn[part, :, 3], clamping_distance).mean(dim=1)
                (errors + code_square_penalty(codes[part])).sum().backward()
            adam.step()
            if on_step:
                on_step(step + 1, steps)
    return Found(codes.detach(), torch.full_like(shapes, steps), (REASONS[STEPS_RAN_OUT],) * len(bank))


def fit_lm(
    problem: CodeProblem,
    bank: SampleBank,
    *,
    candidates: Tensor,
    draws: Tensor,
    generator: Generators,
    steps: int = LM_STEPS,
    samples: int = LM_SAMPLES,
    on_step: OnStep | None = None,
) -> Found:
    """Damped Gauss-Newton on the clamped L1 (reweighted) and the prior, from several starts.

    Starts are tried on a few samples that stay the same, the hopeless ones dropped round by round. The best goes on
    with samples drawn anew, twice as many each time, then with a quarter of `samples` that stay the same, and in the
    end with all: with new ones each time chance hides whether a step helps, and fits of a space whose field is rough
    wandered off.

    Args:
        candidates: codes (n, L), the nearest of which are starts.
        draws: codes (m, L) from the prior, likewise.
        steps: at most, for each shape.
        samples: a step, at most.
        on_step: told the step and the number of steps.
    """
    counts = bank.counts.sum(dim=1)
    with frozen(problem.decoder):
        few = Draw(*bank.spread(TRIAL_SAMPLES, generator))
        starts = _starts(problem, candidates, draws, Draw(*bank.spread(START_SAMPLES, generator)))
        best, damping, start_losses, tried = _trial(
            problem, starts, few, counts, steps // 2, _counted(on_step, 0, steps)
        )
        weight = prior_weight(problem.losses(problem.prior.colour(best), few), counts)
        few_steps = min(GROWTH, steps - tried - 1)
        part = max(2, samples // NEARING)

        def on_more(place: Tensor, rows: Tensor, step: int) -> Quadratic:
            drawn = Draw(*bank.spread(max(2, part >> (few_steps - step)), generator))
            return problem.linearise(place, drawn[rows], weight[rows])

        end = minimise(
            on_more,
            best,
            steps=few_steps,
            tolerance=0.0,
            slack=torch.where(counts > part >> few_steps, CHANCE, 0.0),
            damping=damping,
            units=problem.prior.std,
            on_step=_counted(on_step, tried, steps),
        )
        taken = end.steps + tried
        for count, most, tolerance in ((part, steps, NEARED), (samples, ENDING, CONVERGED)):
            drawn = Draw(*bank.spread(count, generator))
            end = minimise(
                lambda place, rows, step, drawn=drawn: problem.linearise(place, drawn[rows], weight[rows]),
                end.place,
                steps=(steps - taken).clamp_max(most),
                tolerance=tolerance,
                slack=torch.full_like(weight, ROUNDING if problem.bfloat16 else 0.0),
                damping=end.damping,
                units=problem.prior.std,
                on_step=_counted(on_step, int(taken.max()), steps),
            )
            taken = taken + end.steps
    return Found(
        problem.prior.colour(end.place),
        taken,
        tuple(REASONS[reason] for reason in end.reason.tolist()),
        start_losses,
        end.near.curvature - penalty(end.place, weight).curvature,
    )


def _starts(problem: CodeProblem, candidates: Tensor, draws: Tensor, few: Draw) -> Tensor:
    """(b, k, L), in the prior's coordinates: its mean, the nearest candidates and the nearest draws."""
    starts = [problem.prior.mean.expand(len(few.weights), 1, -1)]
    for codes, count in ((candidates, NEAREST), (draws, DRAWN)):
        losses = problem.losses_of_each(codes, few)
        starts.append(codes[losses.topk(min(count, len(codes)), dim=1, largest=False).indices])
    return problem.prior.whiten(torch.cat(starts, dim=1))


def _trial(
    problem: CodeProblem, starts: Tensor, few: Draw, counts: Tensor, steps: int, on_step: Callable[[int], None]
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Of k starts for each of b shapes: the best (b, L), its damping (b,), what each came to (b, k), and how many steps
    that took."""
    shapes, count, length = starts.shape
    weight = prior_weight(few.weights.new_full((shapes,), LEAST_ERROR), counts.clamp_max(TRIAL_SAMPLES))
    place, followed = starts, torch.arange(count, device=starts.device).expand(shapes, -1)
    reached = starts.new_empty(shapes, count)
    damping = starts.new_full((shapes, count), DAMPING)
    taken = 0
    for wanted in TRIAL_STEPS:
        count = followed.shape[1]
        shape = torch.arange(shapes, device=starts.device).repeat_interleave(count)

        def linearise(place: Tensor, rows: Tensor, step: int, shape: Tensor = shape) -> Quadratic:
            return problem.linearise(place, few[shape[rows]], weight[shape[rows]])

        more = min(wanted, steps - taken)
        end = minimise(
            linearise,
            place.flatten(0, 1),
            steps=more,
            tolerance=0.0,
            damping=damping.flatten(),
            units=problem.prior.std,
            on_step=lambda step, before=taken: on_step(before + step),
        )
        taken += more
        reached = reached.scatter(1, followed, end.near.value.reshape(shapes, count))
        better = reached.gather(1, followed).topk((count + 1) // 2, dim=1, largest=False).indices
        followed = followed.gather(1, better)
        place = end.place.reshape(shapes, count, length).gather(1, better.unsqueeze(-1).expand(-1, -1, length))
        damping = end.damping.reshape(shapes, count).gather(1, better)
    return place[:, 0], damping[:, 0], reached, taken


def prior_weight(errors: Tensor, counts: Tensor) -> Tensor:
    """λ of λ |w|² beside the mean error, (b,).

    Errors of mean size e at N independent observations have the negative log-likelihood Σ |r| / e, and the prior has
    ½ |w|²: divided by N / e, that is the mean error and e / (2 N) |w|².
    """
    return errors.clamp_min(LEAST_ERROR) / (2.0 * counts.clamp_max(INDEPENDENT))


def assess(problem: CodeProblem, bank: SampleBank, found: Found, draw: Draw) -> Fit:
    """How good and how sure codes are.

    Args:
        draw: of the bank, to take the loss of.
    """
    counts = bank.counts.sum(dim=1)
    delta = problem.clamping_distance
    with frozen(problem.decoder):
        errors = problem.errors(found.codes, draw)
        losses = (errors.abs() * draw.weights).sum(dim=1)
        weight = prior_weight(losses, counts)
        hessian = found.hessian
        if hessian is None:
            place = problem.prior.whiten(found.codes)
            hessian = (problem.linearise(place, draw, weight)).curvature - penalty(place, weight).curvature
        idle = (errors == 0) & (draw.rows[..., 3].abs() >= delta)
        sure = posterior(hessian, errors, Draw(draw.rows, draw.weights * ~idle), counts, weight)
        spread, prior_spread = surface_spread(problem, found.codes, sure.covariance)
    figures = Figures(counts, spread, prior_spread, unexplained(losses, draw, delta), contradicting(draw, delta))
    return Fit(
        codes=found.codes,
        losses=losses,
        steps=found.steps,
        reasons=found.reasons,
        start_losses=losses.unsqueeze(1) if found.start_losses is None else found.start_losses,
        covariance=sure.covariance,
        noise=sure.noise,
        uncertainty=spread,
        warnings=figures.warnings(),
    )


def _counted(on_step: OnStep | None, before: int, steps: int) -> Callable[[int], None]:
    """Steps of a part of a fit, told as steps of the whole."""

    def told(step: int) -> None:
        if on_step:
            on_step(before + step, steps)

    return told


def _randn(count: int, length: int, generator: Generators, device: torch.device) -> Tensor:
    if isinstance(generator, torch.Generator):
        return torch.randn(count, length, generator=generator, device=device)
    return torch.stack([torch.randn(length, generator=own, device=device) for own in generator])
