"""`lm`: the default fit of codes.

trial   several starts on a few samples; the worse half is dropped after each round
grow    the best start on new samples in every step, twice as many each time
settle  a quarter of the samples until a step predicts little reduction, then all of them
Adam    instead of the end of `settle`, where the field is too rough for Gauss-Newton steps (`rotated_adam`)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from deepsdf.inference.fit.problem import MIN_ERROR, CodeProblem, Draw, code_prior, frozen, prior_weight
from deepsdf.inference.fit.result import OptimizedCodes
from deepsdf.progress import OnProgress, Progress
from deepsdf.samples.bank import Generators, SampleBank, mix
from deepsdf.solvers.levenberg_marquardt import CONVERGED, DAMPING, REASONS, STEPS_RAN_OUT, Minimum, minimise
from deepsdf.solvers.quadratic import Quadratic
from deepsdf.solvers.rotated_adam import descend

# Trial

START_SAMPLES = 128
"""Samples on which training codes and draws from the prior are compared. Enough to rank shapes that differ in their
coarse proportions, which is what a start must have."""

NEAREST, DRAWN = 3, 2
"""Number of training codes and of draws from the prior that are starts, besides the mean code."""

TRIAL_SAMPLES, TRIAL_ROUNDS = 500, (3, 2, 4)
"""Samples of the trial, and steps of its rounds: of 6 starts, 3 are left after the first round, 2 after the second, and
1 after the third."""

# Growth

QUARTER = 4
"""Samples at the end of the growth and at the beginning of `settle`, as a fraction: `samples` / 4."""

GROWTH = 4
"""Number of doublings up to that quarter: from 500 samples, the number of the trial, to 8000 of 32000."""

NEW_SAMPLES_SLACK = 0.15
"""Relative increase at which a step is still accepted when samples are drawn anew: three standard deviations of the
mean error over 1000 samples."""

# Settling

STEPS_ON_QUARTER = 8
"""Steps on a quarter of the samples in which a smooth space converges; a space that does not is rough."""

STEPS_ON_ALL = 8
"""Steps on all samples."""

QUARTER_TOLERANCE, TOLERANCE = 5e-3, 5e-4
"""Predicted relative reduction at which a fit to a quarter of the samples has converged, and a fit to all of them."""

BFLOAT16_SLACK = 5e-3
"""Relative increase at which a step is still accepted on the same samples in bfloat16: its rounding."""

FEW_OBSERVATIONS = 2000
"""Number of observations up to which a shape is never fitted by Adam: new samples would be the same ones again."""

STEPS_OF_FEW = 265
"""Steps on a quarter of the samples where Adam does not follow. Gauss-Newton steps of such shapes creep in a rough
space until they converge; this only bounds their time."""

# Rough spaces

DAMPED, STEPS_IF_DAMPED = 0.03, 3
"""With a damping above the first, a small predicted reduction may be due to the damping: a fit must then converge on
all samples within the second number of steps, or the space is rough. In a smooth space the damping is a hundredth of
it."""

ADAM_SAMPLES, ADAM_RATE = 250, 0.4
"""Samples of each Adam step, and the first rate in standard deviations of the training codes."""

MIN_ADAM_STEPS = 100
"""With fewer steps left, Gauss-Newton goes on: Adam's means alone remember 50 steps."""


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
) -> OptimizedCodes:
    """Fit codes by Levenberg-Marquardt from several starts.

    Args:
        bank: samples of b shapes.
        candidates: (n, L), training codes; the nearest to each shape are starts.
        draws: (m, L), codes drawn from the prior; likewise.
        generator: draws samples.
        steps: maximum number of steps.
        samples: maximum number of samples per shape and step.
        on_progress: receives one event per step.
    """
    counts = bank.sizes
    with frozen(problem.decoder):
        few = Draw(*bank.spread(TRIAL_SAMPLES, generator))
        starts = _starts(problem, candidates, draws, Draw(*bank.spread(START_SAMPLES, generator)))
        trial = _trial(problem, starts, few, counts, steps // 2, _counted(on_progress, 0, steps))
        weight = prior_weight(problem.losses(problem.prior.colour(trial.best), few), counts)
        refinement = _Refinement(problem, bank, generator, weight, steps, samples, on_progress)
        grown = refinement.grow(trial)
        # If the whitened norm of a well observed shape is large, the prior is too tight: |w|² is L for a typical shape.
        # Its weight is divided by the excess, as if its standard deviations were larger by the root of that.
        excess = grown.state.square().mean(dim=1).clamp_min(1.0)
        refinement = replace(refinement, weight=torch.where(refinement.many, weight / excess, weight))
        end = refinement.settle(grown, grown.steps + trial.steps)
    return OptimizedCodes(
        problem.prior.colour(end.whitened),
        end.steps,
        tuple(REASONS[each] for each in end.reason.tolist()),
        trial.losses,
        end.curvature - code_prior(end.whitened, refinement.weight).curvature,
    )


@dataclass(frozen=True)
class _Trial:
    """Result of the trial of k starts for each of b shapes.

    Attributes:
        best: (b, L), whitened code of the best start.
        damping: (b,), its damping.
        losses: (b, k), objective of each start when it was dropped, or at the end.
        steps: number of steps of the trial.
    """

    best: Tensor
    damping: Tensor
    losses: Tensor
    steps: int


@dataclass(frozen=True)
class _End:
    """Result of `_Refinement.settle`: whitened codes (b, L), steps (b,), reasons (b,), curvatures (b, L, L)."""

    whitened: Tensor
    steps: Tensor
    reason: Tensor
    curvature: Tensor


@dataclass(frozen=True)
class _Refinement:
    """The part of a fit after the trial, for b shapes.

    Attributes:
        weight: (b,), λ of the prior.
        steps, samples: see `fit_lm`.
    """

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
        return self.bank.sizes > FEW_OBSERVATIONS

    @property
    def quarter(self) -> int:
        return max(2, self.samples // QUARTER)

    def draw(self, count: int) -> Draw:
        return Draw(*self.bank.spread(max(2, count), self.generator))

    def linearise(self, whitened: Tensor, draw: Draw, shapes: Tensor) -> Quadratic:
        """Models of the objectives of some shapes (k,) on their samples."""
        # With few observations, clamped predictions keep their gradient to the end: they are too few to be left out.
        return self.problem.linearise(whitened, draw, self.weight[shapes], ~self.many[shapes])

    def grow(self, trial: _Trial) -> Minimum[Tensor]:
        """Steps on samples drawn anew, twice as many each time."""
        steps = min(GROWTH, self.steps - trial.steps - 1)

        def linearise(whitened: Tensor, rows: Tensor, step: int) -> Quadratic:
            # A quarter at the last step, half of it at the one before, and so on.
            draw = self.draw(self.quarter >> (steps - step))[rows]
            return self.problem.linearise(whitened, draw, self.weight[rows])

        return minimise(
            linearise,
            trial.best,
            steps=steps,
            tolerance=0.0,  # an objective whose samples change says nothing about convergence
            # A shape with no more samples than the first draw has the same ones in every step: no slack.
            slack=torch.where(self.bank.sizes > self.quarter >> steps, NEW_SAMPLES_SLACK, 0.0),
            damping=trial.damping,
            units=self.problem.prior.std,
            on_step=_counted(self.on_progress, trial.steps, self.steps),
        )

    def settle(self, start: Minimum[Tensor], taken: Tensor) -> _End:
        """Steps on samples that stay the same, or by Adam; `taken` (b,) are the steps before."""
        # Both are drawn for all shapes, whether they need them or not, so that no shape's samples depend on the others.
        some, everything = self.draw(self.quarter), self.draw(self.samples)
        left = self.steps - int(taken.max()) - STEPS_ON_QUARTER - STEPS_ON_ALL
        adam_possible = self.many & (left >= MIN_ADAM_STEPS)
        every = torch.arange(len(taken), device=taken.device)
        most = torch.where(adam_possible, STEPS_ON_QUARTER, STEPS_OF_FEW)
        end = self._on(some, every, start.state, start.damping, taken, most, QUARTER_TOLERANCE)
        taken = taken + end.steps
        whitened, reason, curvature = end.state.clone(), end.reason.clone(), end.model.curvature.clone()
        # Rough, first sign: no convergence on a quarter.
        rough = (end.reason != CONVERGED) & adam_possible
        if len(at := (~rough).nonzero().squeeze(1)):
            most = torch.where(adam_possible[at] & (end.damping[at] > DAMPED), STEPS_IF_DAMPED, STEPS_ON_ALL)
            end = self._on(everything, at, end.state[at], end.damping[at], taken, most, TOLERANCE)
            whitened[at], reason[at], curvature[at] = end.state, end.reason, end.model.curvature
            taken = taken.index_add(0, at, end.steps)
            # Second sign: convergence on a quarter, but only by damped steps, and none on all samples.
            rough[at] = (end.reason != CONVERGED) & (end.damping > DAMPED) & adam_possible[at]
        if len(at := rough.nonzero().squeeze(1)):
            whitened[at], curvature[at] = self._by_adam(whitened[at], curvature[at], at, left)
            taken, reason[at] = taken.index_add(0, at, torch.full_like(at, left)), STEPS_RAN_OUT
        return _End(whitened, taken, reason, curvature)

    def _on(
        self, draw: Draw, at: Tensor, whitened: Tensor, damping: Tensor, taken: Tensor, most: Tensor, tolerance: float
    ) -> Minimum[Tensor]:
        """Gauss-Newton steps of the shapes `at` (k,) on samples that stay the same."""
        draw = draw[at]
        return minimise(
            lambda state, rows, step: self.linearise(state, draw[rows], at[rows]),
            whitened,
            steps=torch.minimum(self.steps - taken[at], most),
            tolerance=tolerance,
            slack=torch.full_like(damping, BFLOAT16_SLACK if self.problem.bfloat16 else 0.0),
            damping=damping,
            units=self.problem.prior.std,
            on_step=_counted(self.on_progress, int(taken[at].max()), self.steps),
        )

    def _by_adam(self, whitened: Tensor, curvature: Tensor, at: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Adam's steps of the shapes `at` (k,): whitened codes and curvatures."""
        std, colour = self.problem.prior.std, self.problem.prior.colour
        # One random key per shape and a hash of key and step draw the samples: 250 of them cost less than a generator
        # per shape would, and they still do not depend on the other shapes.
        keys = self.bank.keys(self.generator)[at]
        share = whitened.new_full((len(at), ADAM_SAMPLES), 1.0 / ADAM_SAMPLES)

        def linearise(state: Tensor, step: int) -> Quadratic:
            draw = Draw(self.bank.draw_keyed(at, ADAM_SAMPLES, mix(keys + step)), share)
            return self.linearise(state, draw, at)

        end, mean = descend(
            linearise,
            whitened,
            curvature,
            steps=steps,
            rate=ADAM_RATE * float(std.square().mean().sqrt()),
            units=std,
            on_step=_counted(self.on_progress, self.steps - steps, self.steps),
        )
        # Adam does not check its steps: a shape that it made worse goes back.
        judge = self.draw(self.quarter)[at]
        better = self.problem.losses(colour(end), judge) < self.problem.losses(colour(whitened), judge)
        return torch.where(better[:, None], end, whitened), torch.where(better[:, None, None], mean, curvature)


def _starts(problem: CodeProblem, candidates: Tensor, draws: Tensor, few: Draw) -> Tensor:
    """(b, k, L), whitened: the mean code, the nearest candidates and the nearest draws."""
    starts = [problem.prior.mean.expand(len(few.weights), 1, -1)]
    for codes, count in ((candidates, NEAREST), (draws, DRAWN)):
        losses = problem.losses_of_each(codes, few)
        starts.append(codes[losses.topk(min(count, len(codes)), dim=1, largest=False).indices])
    return problem.prior.whiten(torch.cat(starts, dim=1))


def _trial(
    problem: CodeProblem, starts: Tensor, few: Draw, counts: Tensor, steps: int, on_step: Callable[[int], None]
) -> _Trial:
    """Fit k starts (b, k, L) of each shape, and drop the worse half after each round."""
    # All starts of all shapes are one batch of problems: problem r is start r % k of shape r // k.
    shapes, count, length = starts.shape
    # The error of a good fit: with that of a bad start, the prior would outweigh the few samples.
    weight = prior_weight(few.weights.new_full((shapes,), MIN_ERROR), counts.clamp_max(TRIAL_SAMPLES))
    whitened, followed = starts, torch.arange(count, device=starts.device).expand(shapes, -1)
    reached = starts.new_empty(shapes, count)
    damping = starts.new_full((shapes, count), DAMPING)
    taken = 0
    for wanted in TRIAL_ROUNDS:
        count = followed.shape[1]
        shape = torch.arange(shapes, device=starts.device).repeat_interleave(count)

        def linearise(state: Tensor, rows: Tensor, step: int, shape: Tensor = shape) -> Quadratic:
            return problem.linearise(state, few[shape[rows]], weight[shape[rows]])

        more = min(wanted, steps - taken)
        end = minimise(
            linearise,
            whitened.flatten(0, 1),
            steps=more,
            tolerance=0.0,  # all starts take the same number of steps, so that they can be compared
            damping=damping.flatten(),
            units=problem.prior.std,
            on_step=lambda step, before=taken: on_step(before + step),
        )
        taken += more
        # `followed` (b, count) holds the numbers of the starts that are left; `reached` has a column for every start.
        reached = reached.scatter(1, followed, end.model.value.reshape(shapes, count))
        better = reached.gather(1, followed).topk((count + 1) // 2, dim=1, largest=False).indices
        followed = followed.gather(1, better)
        whitened = end.state.reshape(shapes, count, length).gather(1, better.unsqueeze(-1).expand(-1, -1, length))
        damping = end.damping.reshape(shapes, count).gather(1, better)
    return _Trial(whitened[:, 0], damping[:, 0], reached, taken)


def _counted(on_progress: OnProgress | None, before: int, steps: int) -> Callable[[int], None]:
    """A callback for one part of a fit, which starts after step `before`, that reports steps of the whole fit."""

    def on_step(step: int) -> None:
        if on_progress:
            on_progress(Progress(before + step, steps, "fitting"))

    return on_step
