"""Codes from observations: fit shapes to signed distances with the decoder fixed.

Two ways: `adam`, the original's 800 steps from one random start, batched over shapes; and `lm`, a damped
Gauss-Newton fit (Levenberg-Marquardt) from several starts, which takes a few dozen steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from deepsdf.network.bank import Generators, SampleBank
from deepsdf.network.codes import CodePrior
from deepsdf.network.decoder import Decoder
from deepsdf.network.objective import clamped_l1, code_square_penalty

Optimizer = Literal["lm", "adam"]

SAMPLES = 8000
"""Samples of a shape a step, as the original's; the Gauss-Newton fit takes a quarter of them."""

ADAM_STEPS = 800
LM_STEPS = 40

PRIOR_WEIGHT = 5e-7
"""Of the squared, whitened code against the mean clamped error, in the Gauss-Newton fit."""

ROBUST_WIDTH = 2e-3
"""Below it an error counts squared, above it by its size: the clamped L1, made smooth at 0."""

CONVERGED = 1e-3
"""The fit of a shape ends when a step lowers its objective by less than this share."""

BATCH = 131_072
"""Decoder evaluations at once."""

OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Fit:
    """Fitted codes of b shapes.

    Attributes:
        codes: (b, L).
        losses: (b,), mean clamped L1 over `SAMPLES` samples, half outside and half inside.
        steps: (b,), optimiser steps taken.
        converged: (b,), false where the steps ran out first. Always true for `adam`, which takes them all.
        start_losses: (b, starts), losses of the starts when all but the best were dropped.
    """

    codes: Tensor
    losses: Tensor
    steps: Tensor
    converged: Tensor
    start_losses: Tensor


def fit_adam(
    decoder: Decoder,
    bank: SampleBank,
    *,
    generator: Generators,
    clamping_distance: float = 0.1,
    steps: int = ADAM_STEPS,
    samples: int = SAMPLES,
    learning_rate: float = 5e-3,
    init_std: float = 0.01,
    start: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Fit:
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
    with _frozen(decoder):
        for step in range(steps):
            adam.param_groups[0]["lr"] = learning_rate * 0.1 ** (step // max(1, steps // 2))
            drawn = bank.draw(shapes, samples, generator)
            adam.zero_grad()
            for part in shapes.split(max(1, BATCH // samples)):
                predicted = decoder(codes[part], drawn[part, :, :3])
                errors = clamped_l1(predicted, drawn[part, :, 3], clamping_distance).mean(dim=1)
                (errors + code_square_penalty(codes[part])).sum().backward()
            adam.step()
            if on_step:
                on_step(step + 1, steps)
        codes = codes.detach()
        losses = _losses(decoder, codes, bank.draw(shapes, SAMPLES, generator), clamping_distance)
    taken = torch.full((len(bank),), steps, device=device)
    return Fit(codes, losses, taken, torch.ones_like(taken, dtype=torch.bool), losses.unsqueeze(1))


def fit_lm(
    decoder: Decoder,
    bank: SampleBank,
    *,
    prior: CodePrior,
    candidates: Tensor,
    generator: Generators,
    clamping_distance: float = 0.1,
    steps: int = LM_STEPS,
    samples: int = SAMPLES // 4,
    on_step: OnStep | None = None,
) -> Fit:
    """Damped Gauss-Newton on the clamped L1 (reweighted) and the training codes' Gaussian prior.

    With a copy of the code for every sample one backward pass gives the whole Jacobian. A shape starts from the
    mean code and from the training code that explains it best; a quarter of the steps on a quarter of the
    samples tells which start goes on.

    Args:
        prior: of the training codes; also the coordinates of the fit.
        candidates: codes (n, L) to look for a start among.
        steps: at most, for each shape.
        on_step: told the step and the number of steps.
    """
    shapes = torch.arange(len(bank), device=bank.rows.device)
    problem = _Problem(decoder, prior, clamping_distance)
    early = max(1, steps // 4)
    with _frozen(decoder):
        few = bank.draw(shapes, max(2, samples // 4), generator)
        starts = problem.starts(candidates, few)  # (b, k, L)
        count = starts.shape[1]
        tried = problem.minimise(starts.flatten(0, 1), few.repeat_interleave(count, dim=0), early, 0, steps, on_step)
        objectives = tried.objective.reshape(-1, count)
        best = objectives.argmin(dim=1)
        codes = tried.codes.reshape(-1, count, starts.shape[2])[shapes, best]
        final = problem.minimise(codes, bank.draw(shapes, samples, generator), steps - early, early, steps, on_step)
        losses = _losses(decoder, final.codes, bank.draw(shapes, SAMPLES, generator), clamping_distance)
    taken = tried.steps.reshape(-1, count).amax(dim=1) + final.steps
    return Fit(final.codes, losses, taken, final.converged, objectives)


@dataclass(frozen=True)
class _Minimum:
    codes: Tensor
    objective: Tensor
    steps: Tensor
    converged: Tensor


@dataclass(frozen=True)
class _Problem:
    """mean huber(f - s) + weight · |whitened code|², for a batch of shapes with their samples (b, n, 4)."""

    decoder: Decoder
    prior: CodePrior
    clamping_distance: float

    def starts(self, candidates: Tensor, samples: Tensor) -> Tensor:
        """(b, 2, L): the mean code, and the candidate with the least error on a few samples."""
        few = samples[:, :: max(1, samples.shape[1] // 128)]
        errors = torch.stack(
            [_losses(self.decoder, code.expand(len(few), -1), few, self.clamping_distance) for code in candidates]
        )
        best = candidates[errors.argmin(dim=0)]
        return torch.stack([self.prior.mean.expand_as(best), best], dim=1)

    def minimise(
        self, codes: Tensor, samples: Tensor, steps: int, first: int, total: int, on_step: OnStep | None
    ) -> _Minimum:
        """Levenberg-Marquardt in whitened coordinates; each shape has its own damping and its own end."""
        place = self.prior.whiten(codes)
        objective, gradient, hessian = self._linearise(place, samples)
        damping = torch.full_like(objective, 1e-2)
        taken = torch.zeros(len(place), dtype=torch.long, device=place.device)
        active = torch.ones(len(place), dtype=torch.bool, device=place.device)
        for step in range(steps):
            at = active.nonzero().squeeze(1)
            if not len(at):
                break
            diagonal = hessian[at].diagonal(dim1=1, dim2=2)
            scale = damping[at, None] * (diagonal + diagonal.mean(dim=1, keepdim=True))
            move = torch.linalg.solve(hessian[at] + torch.diag_embed(scale), gradient[at])
            moved = place[at] - move
            new_objective, new_gradient, new_hessian = self._linearise(moved, samples[at])
            better = new_objective < objective[at]
            gain = (objective[at] - new_objective) / objective[at]
            good = at[better]
            place[good], objective[good] = moved[better], new_objective[better]
            gradient[good], hessian[good] = new_gradient[better], new_hessian[better]
            damping[at] = torch.where(better, damping[at] * 0.3, damping[at] * 5.0).clamp(1e-7, 1e6)
            taken[at] += 1
            active[at[better & (gain < CONVERGED)]] = False
            active[at[~better & (damping[at] > 1e3)]] = False
            if on_step:
                on_step(first + step + 1, total)
        return _Minimum(self.prior.colour(place), objective, taken, ~active)

    def _linearise(self, place: Tensor, samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Objective (b,), gradient (b, L) and Gauss-Newton matrix (b, L, L), in whitened coordinates."""
        size = max(1, BATCH // samples.shape[1])
        parts = [
            self._linearise_part(place[start : start + size], samples[start : start + size])
            for start in range(0, len(place), size)
        ]
        objective, gradient, hessian = (torch.cat(values) for values in zip(*parts, strict=True))
        return objective, gradient, hessian

    def _linearise_part(self, place: Tensor, samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        delta, count = self.clamping_distance, samples.shape[1]
        copies = self.prior.colour(place).unsqueeze(1).expand(-1, count, -1).contiguous().requires_grad_()
        with torch.enable_grad():
            predicted = self.decoder(copies, samples[..., :3])
            (jacobian,) = torch.autograd.grad(predicted.sum(), copies)
        error = predicted.detach().clamp(-delta, delta) - samples[..., 3].clamp(-delta, delta)
        size = error.abs()
        # Where both are clamped on one side the error is 0 and nothing pulls; elsewhere a clamped prediction
        # still pulls, unlike in the clamped loss, whose gradient there is 0.
        weight = 1.0 / size.clamp_min(ROBUST_WIDTH) / count
        weight = weight * ~((size == 0) & (predicted.detach().abs() >= delta))
        jacobian = jacobian @ (self.prior.directions * self.prior.std)
        weighted = jacobian * weight.unsqueeze(-1)
        huber = torch.where(size < ROBUST_WIDTH, 0.5 * (size.square() / ROBUST_WIDTH + ROBUST_WIDTH), size).mean(dim=1)
        objective = huber + PRIOR_WEIGHT * place.square().sum(dim=1)
        gradient = (weighted * error.unsqueeze(-1)).sum(dim=1) + 2 * PRIOR_WEIGHT * place
        identity = torch.eye(place.shape[1], device=place.device)
        return objective, gradient, weighted.transpose(1, 2) @ jacobian + 2 * PRIOR_WEIGHT * identity


def _randn(count: int, length: int, generator: Generators, device: torch.device) -> Tensor:
    if isinstance(generator, torch.Generator):
        return torch.randn(count, length, generator=generator, device=device)
    return torch.stack([torch.randn(length, generator=own, device=device) for own in generator])


@contextmanager
def _frozen(decoder: Decoder) -> Iterator[None]:
    """The decoder evaluating, its parameters without gradients, for the length of a fit."""
    parameters = [parameter for parameter in decoder.parameters() if parameter.requires_grad]
    training = decoder.training
    decoder.eval()
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
        decoder.train(training)


@torch.no_grad()
def _losses(decoder: Decoder, codes: Tensor, samples: Tensor, clamping_distance: float) -> Tensor:
    size = max(1, BATCH // samples.shape[1])
    return torch.cat(
        [
            clamped_l1(
                decoder(codes[start : start + size], samples[start : start + size, :, :3]),
                samples[start : start + size, :, 3],
                clamping_distance,
            ).mean(dim=1)
            for start in range(0, len(codes), size)
        ]
    )
