"""Codes from observations: fit shapes to signed distances with the decoder fixed.

Two ways: `adam`, the original's 800 steps from one random start, batched over shapes; and `lm` (`lm_fit`), a damped
Gauss-Newton fit (Levenberg-Marquardt) from several starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from deepsdf.inference.fit.posterior import posterior, surface_spread
from deepsdf.inference.fit.problem import CodeProblem, Draw, frozen, penalty, prior_weight
from deepsdf.inference.fit.warnings import Figures, contradicting, unexplained
from deepsdf.network.decoder import Decoder
from deepsdf.network.objective import clamped_l1, code_square_penalty
from deepsdf.progress import OnProgress, Progress
from deepsdf.samples.bank import Generators, SampleBank
from deepsdf.solvers.levenberg_marquardt import REASONS, STEPS_RAN_OUT

FINAL_SAMPLES = 8000
"""From which a fit's loss and its doubts are told."""

ADAM_CHUNK = 131_072
"""Points that Adam's fit evaluates at once."""


@dataclass(frozen=True)
class Fit:
    """Fitted codes of b shapes.

    Attributes:
        codes: (b, L).
        losses: (b,), mean clamped L1 over at most 8000 samples, half outside and half inside.
        steps: (b,), optimiser steps taken.
        reasons: why each fit ended: "converged", "stuck" (no step made it better), "steps ran out". Always the last
            for `adam`, which takes all its steps, as `lm` does where the space is rough.
        start_losses: (b, starts), the loss of each start when it was dropped, or of the best when it went on.
        covariance: (b, L, L), of the codes in units of the prior's standard deviations along its principal
            directions: how sure the fit is (see `deepsdf.inference.fit.posterior`).
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
    steps: int,
    samples: int,
    learning_rate: float = 5e-3,
    init_std: float = 0.01,
    start: Tensor | None = None,
    on_progress: OnProgress | None = None,
) -> Found:
    """The original's fit: Adam on codes from N(0, init_std²), the step ten times smaller from the middle on.

    Adam works on each number by itself, so a batch of shapes gives what each would give alone from the same start
    and the same samples.

    Args:
        start: codes (b, L) to start from instead of random ones.
        on_progress: receives one event per step.
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
            if on_progress:
                on_progress(Progress(step + 1, steps, "fitting"))
    return Found(codes.detach(), torch.full_like(shapes, steps), (REASONS[STEPS_RAN_OUT],) * len(bank))


def assess(problem: CodeProblem, bank: SampleBank, found: Found, draw: Draw) -> Fit:
    """How good and how sure codes are.

    Args:
        draw: of the bank, to take the loss of.
    """
    counts = bank.sizes
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


def _randn(count: int, length: int, generator: Generators, device: torch.device) -> Tensor:
    if isinstance(generator, torch.Generator):
        return torch.randn(count, length, generator=generator, device=device)
    return torch.stack([torch.randn(length, generator=own, device=device) for own in generator])
