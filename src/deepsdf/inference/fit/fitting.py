"""Codes from observed signed distances.

Two optimizers: `lm` (`fit.schedule`), Levenberg-Marquardt from several starts; and `adam` (`fit.adam`), the original's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from deepsdf.devices import fast_bfloat16
from deepsdf.errors import InputError
from deepsdf.geometry.sdf.sampling import SDFSamples
from deepsdf.inference.fit.adam import fit_adam
from deepsdf.inference.fit.options import FitOptions
from deepsdf.inference.fit.posterior import code_posterior, surface_spread
from deepsdf.inference.fit.problem import CodeProblem, Draw, code_prior, frozen, prior_weight
from deepsdf.inference.fit.result import Fit, OptimizedCodes
from deepsdf.inference.fit.schedule import fit_lm
from deepsdf.inference.fit.warnings import Figures, contradicting, unexplained
from deepsdf.inference.shape import TrainedCodes
from deepsdf.network.objective import Loss
from deepsdf.progress import OnProgress, Progress
from deepsdf.samples.bank import SampleBank

MAX_CANDIDATES, RANDOM_CANDIDATES = 256, 32
"""Number of training codes, at most, and of draws from the prior among which the starts of a fit are chosen."""

BFLOAT16_SAMPLES = 16_000
"""Number of samples of a shape above which its fit computes in bfloat16, on a device that is fast at it. Such fits draw
new samples in each step, and bfloat16's rounding is less than the noise of that."""

ASSESSED_SAMPLES = 8000
"""Number of samples, at most, from which a fit's loss, uncertainty and warnings are computed."""

Observations = SDFSamples | np.ndarray | Tensor


def fit_codes(
    space: TrainedCodes,
    loss: Loss,
    observations: Observations | Sequence[Observations],
    options: FitOptions,
    on_progress: OnProgress | None,
) -> Fit:
    """See `ShapeSpace.fit`."""
    single = isinstance(observations, SDFSamples | np.ndarray | Tensor)
    listed = [observations] if single else list(observations)  # pyright: ignore[reportArgumentType]
    if not listed:
        raise InputError("no observations were given to fit")
    rows = [_sides(item, number) for number, item in enumerate(listed)]
    fast = fast_bfloat16(space.device)
    in_bfloat16 = [fast and sum(map(len, sides)) > BFLOAT16_SAMPLES for sides in rows]
    kinds = [kind for kind in (False, True) if kind in in_bfloat16]
    members = [[number for number, own in enumerate(in_bfloat16) if own == kind] for kind in kinds]
    fits: list[Fit] = []
    decoder = space.decoder.folded()
    for number, (kind, own) in enumerate(zip(kinds, members, strict=True)):
        problem = CodeProblem(decoder, space.prior, space.clamping_distance, kind, loss)
        bank = SampleBank.from_shapes([rows[shape] for shape in own]).to(space.device)
        part = on_progress and _part_of(on_progress, number, len(kinds))
        fits.append(_best_fit(space, problem, bank, options, part))
    return fits[0] if len(fits) == 1 else Fit.joined(fits, members)


def _best_fit(
    space: TrainedCodes, problem: CodeProblem, bank: SampleBank, options: FitOptions, on_progress: OnProgress | None
) -> Fit:
    """For each shape of a bank, the fit with the lowest loss among `options.best_of` fits."""
    judged: Draw | None = None
    fits: list[Fit] = []
    steps, samples = options.max_steps, options.max_samples
    for run in range(options.best_of):
        seed = options.seed + run
        # One generator per shape: a shape's code does not depend on which others are fitted with it.
        generator = [torch.Generator(space.device).manual_seed(seed) for _ in range(len(bank))]
        part = on_progress and _part_of(on_progress, run, options.best_of)
        drawn = Draw(*bank.spread(ASSESSED_SAMPLES, generator))
        judged = judged or drawn  # the losses of all runs are computed on the same samples
        if options.optimizer == "adam":
            codes = fit_adam(problem.decoder, bank, generator=generator, steps=steps, samples=samples, on_progress=part)
        else:
            stride = -(-len(space.trained_codes) // MAX_CANDIDATES)
            draws = space.prior.sample(RANDOM_CANDIDATES, torch.Generator().manual_seed(seed))
            candidates = space.trained_codes[::stride]
            codes = fit_lm(
                problem, bank, candidates=candidates, draws=draws, generator=generator, steps=steps,
                samples=samples, on_progress=part,
            )  # fmt: skip
        fits.append(assess(problem, bank, codes, judged))
    return Fit.best(fits)


def assess(problem: CodeProblem, bank: SampleBank, result: OptimizedCodes, draw: Draw) -> Fit:
    """Loss, uncertainty and warnings of fitted codes.

    Args:
        draw: samples of the bank on which they are computed.
    """
    counts = bank.sizes
    delta = problem.clamping_distance
    with frozen(problem.decoder):
        errors = problem.errors(result.codes, draw)
        losses = (errors.abs() * draw.weights).sum(dim=1)
        weight = prior_weight(losses, counts)
        hessian = result.hessian
        if hessian is None:
            whitened = problem.prior.whiten(result.codes)
            hessian = problem.linearise(whitened, draw, weight).curvature - code_prior(whitened, weight).curvature
        # Beyond δ on the right side: such an observation stays explained whatever the code does.
        idle = (errors == 0) & (draw.rows[..., 3].abs() >= delta)
        posterior = code_posterior(hessian, errors, Draw(draw.rows, draw.weights * ~idle), counts, weight)
        spread, prior_spread = surface_spread(problem, result.codes, posterior.covariance)
    figures = Figures(counts, spread, prior_spread, unexplained(losses, draw, delta), contradicting(draw, delta))
    return Fit(
        codes=result.codes,
        losses=losses,
        steps=result.steps,
        reasons=result.reasons,
        start_losses=losses.unsqueeze(1) if result.start_losses is None else result.start_losses,
        covariance=posterior.covariance,
        noise=posterior.noise,
        uncertainty=spread,
        warnings=figures.warnings(),
    )


def _part_of(on_progress: OnProgress, run: int, runs: int) -> OnProgress:
    """A callback for one of several runs of the same length that reports steps of all runs."""
    return lambda one: on_progress(Progress(run * one.total + one.done, runs * one.total, one.task))


def _sides(observation: Observations, number: int) -> tuple[Tensor, Tensor]:
    """Outside and inside rows of one observation."""
    if isinstance(observation, SDFSamples):
        outside, inside = torch.tensor(observation.pos), torch.tensor(observation.neg)
    else:
        rows = torch.as_tensor(observation, dtype=torch.float32)
        if rows.ndim != 2 or rows.shape[1] != 4:
            raise InputError(f"observation {number} has shape {tuple(rows.shape)}; expected rows x y z sdf (n, 4)")
        outside, inside = rows[rows[:, 3] > 0], rows[rows[:, 3] <= 0]
    if not len(outside) + len(inside) or not torch.isfinite(outside).all() or not torch.isfinite(inside).all():
        raise InputError(f"observation {number} is empty or has values that are not finite")
    return outside, inside
