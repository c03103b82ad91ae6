"""`lm`, the fit of codes by default: a trial of several starts, damped Gauss-Newton steps on ever more samples, and
where the space is too rough for those, Adam among their directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from deepsdf.inference.fit.fitting import Found
from deepsdf.inference.fit.problem import LEAST_ERROR, CodeProblem, Draw, frozen, penalty, prior_weight
from deepsdf.progress import OnProgress, Progress
from deepsdf.samples.bank import Generators, SampleBank, mix
from deepsdf.solvers.levenberg_marquardt import (
    CONVERGED,
    DAMPING,
    REASONS,
    STEPS_RAN_OUT,
    Minimum,
    Quadratic,
    minimise,
)
from deepsdf.solvers.rotated_adam import descend

START_SAMPLES = 128
"""On which training codes and draws from the prior are compared, to find the nearest."""

NEAREST, DRAWN = 3, 2
"""So many training codes and draws from the prior are starts, beside the prior's mean."""

TRIAL_SAMPLES, TRIAL_STEPS = 500, (3, 2, 4)
"""Steps that starts are tried for; after each of these rounds the better half of them goes on, in the end the best."""

GROWTH = 4
"""Doublings of the samples, a step each, from the first after the trial to `NEARING` of all."""

NEARING, ENDING = 4, 8
"""A part of the samples until a step on them promises less than `NEARED`, then so many steps at most on all."""

SMOOTH = 8
"""So many steps on that part end at a promise of less than `NEARED`, or the space is rough there."""

ROUGH_DAMPING, DOUBTFUL = 0.03, 3
"""Steps that are damped more than this promise little in any space: what they ended with must come to its end on all
samples in so many more. In a smooth space the damping is a hundredth of that."""

FEW = 2000
"""Observations of a shape up to which there are no new samples to draw: Gauss-Newton steps go on, `MOST` in all."""

MOST = 265

ROUGH_SAMPLES, ROUGH_RATE = 250, 0.4
"""Of each of Adam's steps, and their rate in standard deviations of the training codes."""

LEAST_ROUGH = 100
"""Of Adam's steps; with fewer left, Gauss-Newton goes on."""

CHANCE = 0.15
"""Share by which an objective may rise because its samples are drawn anew: 3 standard deviations at 1000."""

ROUNDING = 5e-3
"""Share by which bfloat16 may raise an objective of the same samples."""

NEARED, ENDED = 5e-3, 5e-4
"""A fit ends when a step on all its samples promises to lower its objective by less than this share."""


def fit_lm(
    problem: CodeProblem,
    bank: SampleBank,
    *,
    candidates: Tensor,
    draws: Tensor,
    generator: Generators,
    steps: int,
    samples: int,
    on_progress: OnProgress | None = None,
) -> Found:
    """Damped Gauss-Newton on the clamped L1 (reweighted) and the prior, from several starts.

    Starts are tried on a few samples that stay the same, the hopeless ones dropped round by round. The best goes on
    with samples drawn anew, twice as many each time, then with a quarter of `samples` that stay the same, and in the
    end with all. Where the quarter does not come to an end, or by short steps alone, the field changes too much from
    code to code for long ones, and the rest are small ones by Adam (`rotated_adam`), whose new samples carry it over
    what is rough.

    Args:
        candidates: codes (n, L), the nearest of which are starts.
        draws: codes (m, L) from the prior, likewise.
        steps: at most, for each shape.
        samples: a step, at most.
        on_progress: receives one event per step.
    """
    counts = bank.sizes
    with frozen(problem.decoder):
        few = Draw(*bank.spread(TRIAL_SAMPLES, generator))
        starts = _starts(problem, candidates, draws, Draw(*bank.spread(START_SAMPLES, generator)))
        best, damping, start_losses, tried = _trial(
            problem, starts, few, counts, steps // 2, _counted(on_progress, 0, steps)
        )
        weight = prior_weight(problem.losses(problem.prior.colour(best), few), counts)
        rest = _Rest(problem, bank, generator, weight, steps, samples, on_progress)
        grown = rest.grow(best, damping, tried)
        # A shape far out for the prior says that the prior is too narrow, where observations enough have a say.
        excess = grown.place.square().mean(dim=1).clamp_min(1.0)
        rest = replace(rest, weight=torch.where(rest.many, weight / excess, weight))
        place, taken, reason, curvature = rest.settle(grown, grown.steps + tried)
    return Found(
        problem.prior.colour(place),
        taken,
        tuple(REASONS[each] for each in reason.tolist()),
        start_losses,
        curvature - penalty(place, rest.weight).curvature,
    )


@dataclass(frozen=True)
class _Rest:
    """What comes after the trial, for b shapes with the prior's weight (b,)."""

    problem: CodeProblem
    bank: SampleBank
    generator: Generators
    weight: Tensor
    steps: int
    samples: int
    on_progress: OnProgress | None

    @cached_property
    def many(self) -> Tensor:
        """(b,), which shapes have many observations."""
        return self.bank.sizes > FEW

    @property
    def part(self) -> int:
        return max(2, self.samples // NEARING)

    def draw(self, count: int) -> Draw:
        return Draw(*self.bank.spread(max(2, count), self.generator))

    def near(self, place: Tensor, draw: Draw, at: Tensor) -> Quadratic:
        """The objectives of the shapes `at` (k,), on a draw of theirs; of few observations all pull (`linearise`)."""
        return self.problem.linearise(place, draw, self.weight[at], ~self.many[at])

    def grow(self, place: Tensor, damping: Tensor, taken: int) -> Minimum:
        """Steps on samples drawn anew, twice as many each time."""
        steps = min(GROWTH, self.steps - taken - 1)

        def linearise(place: Tensor, rows: Tensor, step: int) -> Quadratic:
            return self.problem.linearise(place, self.draw(self.part >> (steps - step))[rows], self.weight[rows])

        return minimise(
            linearise,
            place,
            steps=steps,
            tolerance=0.0,
            slack=torch.where(self.bank.sizes > self.part >> steps, CHANCE, 0.0),
            damping=damping,
            units=self.problem.prior.std,
            on_step=_counted(self.on_progress, taken, self.steps),
        )

    def settle(self, start: Minimum, taken: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Places (b, L), steps (b,) until there, why they ended (b,), and curvatures (b, L, L)."""
        # Drawn for all shapes, whichever way they go: none's samples depend on the others.
        some, many = self.draw(self.part), self.draw(self.samples)
        left = self.steps - int(taken.max()) - SMOOTH - ENDING
        by_adam = self.many & (left >= LEAST_ROUGH)
        every = torch.arange(len(taken), device=taken.device)
        most = torch.where(by_adam, SMOOTH, MOST)
        end = self._on(some, every, start.place, start.damping, taken, most, NEARED)
        taken = taken + end.steps
        place, reason, curvature = end.place.clone(), end.reason.clone(), end.near.curvature.clone()
        rough = (end.reason != CONVERGED) & by_adam
        if len(at := (~rough).nonzero().squeeze(1)):
            most = torch.where(by_adam[at] & (end.damping[at] > ROUGH_DAMPING), DOUBTFUL, ENDING)
            end = self._on(many, at, end.place[at], end.damping[at], taken, most, ENDED)
            place[at], reason[at], curvature[at] = end.place, end.reason, end.near.curvature
            taken = taken.index_add(0, at, end.steps)
            rough[at] = (end.reason != CONVERGED) & (end.damping > ROUGH_DAMPING) & by_adam[at]
        if len(at := rough.nonzero().squeeze(1)):
            place[at], curvature[at] = self._by_adam(place[at], curvature[at], at, left)
            taken, reason[at] = taken.index_add(0, at, torch.full_like(at, left)), STEPS_RAN_OUT
        return place, taken, reason, curvature

    def _on(
        self, draw: Draw, at: Tensor, place: Tensor, damping: Tensor, taken: Tensor, most: Tensor, tolerance: float
    ) -> Minimum:
        """Gauss-Newton steps of the shapes `at` (k,) on samples that stay the same."""
        draw = draw[at]
        return minimise(
            lambda place, rows, step: self.near(place, draw[rows], at[rows]),
            place,
            steps=torch.minimum(self.steps - taken[at], most),
            tolerance=tolerance,
            slack=torch.full_like(damping, ROUNDING if self.problem.bfloat16 else 0.0),
            damping=damping,
            units=self.problem.prior.std,
            on_step=_counted(self.on_progress, int(taken[at].max()), self.steps),
        )

    def _by_adam(self, place: Tensor, curvature: Tensor, at: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Adam's steps of the shapes `at` (k,): places and curvatures; those before where the steps led astray."""
        std, colour = self.problem.prior.std, self.problem.prior.colour
        keys = self.bank.keys(self.generator)[at]
        share = place.new_full((len(at), ROUGH_SAMPLES), 1.0 / ROUGH_SAMPLES)

        def linearise(place: Tensor, step: int) -> Quadratic:
            drawn = Draw(self.bank.draw_keyed(at, ROUGH_SAMPLES, mix(keys + step)), share)
            return self.near(place, drawn, at)

        end, mean = descend(
            linearise,
            place,
            curvature,
            steps=steps,
            rate=ROUGH_RATE * float(std.square().mean().sqrt()),
            units=std,
            on_step=_counted(self.on_progress, self.steps - steps, self.steps),
        )
        judge = self.draw(self.part)[at]
        better = self.problem.losses(colour(end), judge) < self.problem.losses(colour(place), judge)
        return torch.where(better[:, None], end, place), torch.where(better[:, None, None], mean, curvature)


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


def _counted(on_progress: OnProgress | None, before: int, steps: int) -> Callable[[int], None]:
    """A callback for one part of a fit, which starts after step `before`, that reports steps of the whole fit."""

    def on_step(step: int) -> None:
        if on_progress:
            on_progress(Progress(before + step, steps, "fitting"))

    return on_step
