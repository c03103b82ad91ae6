"""Adam among the principal directions of the curvature, for objectives too rough for Gauss-Newton steps.

Where a field's derivatives change from one code to the next nearby, steps to the bottom of the quadratic are refused or
creep, while many small ones over ever new samples get by. Adam (Kingma and Ba 2015) takes such steps, each number's
by itself; among the directions that the curvature keeps apart that is closest to the truth (SOAP, Vyas et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deepsdf.solvers.levenberg_marquardt import Quadratic
from deepsdf.specs import CosineSchedule

MOMENTS = 0.9, 0.98
"""Adam's, of the gradient and of its square: 50 steps are what there is to learn from."""

CURVATURE_KEPT = 0.99
"""Of the mean of the curvatures, each step."""

TURN = 100
"""Steps between new directions."""

LAST_RATE = 0.02
"""Of the first rate; between them a cosine."""


def descend(
    linearise: Callable[[Tensor, int], Quadratic],
    start: Tensor,
    curvature: Tensor,
    *,
    steps: int,
    rate: float,
    units: Tensor,
    on_step: Callable[[int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Lower b objectives, taken from samples drawn anew at each step, from places (b, p).

    Args:
        linearise: of places (b, p), at the step of this number: their objectives.
        curvature: (b, p, p), at the start.
        steps: all of them are taken.
        rate: about the most that a step moves along a direction, in units.
        units: (p,), how long a unit of each coordinate is.
    Returns:
        The places (b, p), and the mean curvatures (b, p, p) of the last steps.
    """
    place, metric = start, units[:, None] * units
    rates = CosineSchedule(initial=rate, final=LAST_RATE * rate, length=steps)
    mean, square = torch.zeros_like(start), torch.zeros_like(start)
    # The identity, so that the first turn has something to turn.
    directions = torch.diag_embed(torch.ones_like(start))
    for step in range(steps):
        if step % TURN == 0:
            turned = torch.linalg.eigh((curvature / metric).double()).eigenvectors.to(start.dtype)
            square = _times(square, (directions.mT @ turned).square())
            directions = turned
        near = linearise(place, step)
        curvature = torch.lerp(near.curvature, curvature, CURVATURE_KEPT)
        gradient = near.gradient / units
        mean = torch.lerp(gradient, mean, MOMENTS[0])
        square = torch.lerp(_times(gradient, directions).square(), square, MOMENTS[1])
        first, second = (1.0 - moment ** (step + 1) for moment in MOMENTS)
        moves = _times(mean, directions) / first / (square / second).sqrt().clamp_min(1e-30)
        place = place - rates.rate(step) * _times(moves, directions.mT) / units
        if on_step:
            on_step(step + 1)
    return place, curvature


def _times(rows: Tensor, matrices: Tensor) -> Tensor:
    """(b, p) by (b, p, q)."""
    return (rows.unsqueeze(1) @ matrices).squeeze(1)
