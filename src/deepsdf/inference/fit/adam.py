"""`adam`: the fit of the original DeepSDF."""

from __future__ import annotations

import torch
from torch import Tensor

from deepsdf.inference.fit.problem import frozen
from deepsdf.inference.fit.result import OptimizedCodes
from deepsdf.network.decoder import Decoder
from deepsdf.network.objective import clamped_l1, code_square_penalty
from deepsdf.progress import OnProgress, Progress
from deepsdf.samples.bank import Generators, SampleBank
from deepsdf.solvers.levenberg_marquardt import REASONS, STEPS_RAN_OUT

START_STD = 0.01
"""Standard deviation of the random starts; the original's."""

CHUNK = 131_072
"""Points per evaluation; bounds the memory of their activations."""


def fit_adam(
    decoder: Decoder,
    bank: SampleBank,
    *,
    generator: Generators,
    clamping_distance: float = 0.1,
    steps: int,
    samples: int,
    learning_rate: float = 5e-3,
    start: Tensor | None = None,
    on_progress: OnProgress | None = None,
) -> OptimizedCodes:
    """The original's fit: Adam from a random code, with a tenth of the learning rate in the second half.

    Adam scales every coordinate by itself, so the shapes of a batch do not influence each other.

    Args:
        bank: samples of b shapes.
        generator: draws starts and samples.
        clamping_distance: δ of the clamped L1 loss. The original has 0.1 as a literal, whatever δ the training used; so
            does this default, to reproduce its fits.
        steps: number of steps.
        samples: number of samples per shape and step.
        start: (b, L), starts instead of random ones.
        on_progress: receives one event per step.
    """
    device = bank.rows.device
    shapes = torch.arange(len(bank), device=device)
    if start is None:
        start = START_STD * _randn(len(bank), decoder.code_length, generator, device)
    codes = start.clone().requires_grad_()
    adam = torch.optim.Adam([codes], lr=learning_rate)
    with frozen(decoder):
        for step in range(steps):
            adam.param_groups[0]["lr"] = learning_rate * 0.1 ** (step // max(1, steps // 2))
            drawn = bank.draw(shapes, samples, generator)
            adam.zero_grad()
            for part in shapes.split(max(1, CHUNK // samples)):
                predicted = decoder(codes[part], drawn[part, :, :3])
                errors = clamped_l1(predicted, drawn[part, :, 3], clamping_distance).mean(dim=1)
                (errors + code_square_penalty(codes[part])).sum().backward()
            adam.step()
            if on_progress:
                on_progress(Progress(step + 1, steps, "fitting"))
    return OptimizedCodes(codes.detach(), torch.full_like(shapes, steps), (REASONS[STEPS_RAN_OUT],) * len(bank))


def _randn(count: int, length: int, generator: Generators, device: torch.device) -> Tensor:
    if isinstance(generator, torch.Generator):
        return torch.randn(count, length, generator=generator, device=device)
    return torch.stack([torch.randn(length, generator=own, device=device) for own in generator])
