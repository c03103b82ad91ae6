"""Adam along the principal directions of the curvature, for objectives that are too rough for Gauss-Newton steps.

Where the derivatives of a field change from one code to the next, Gauss-Newton steps are rejected or tiny, whereas many
small steps, each on new samples, average the roughness out. Adam (Kingma and Ba 2015) takes such steps, but scales each
coordinate by itself, which is right only if the coordinates are uncorrelated: so it runs in the eigenbasis of the
curvature (SOAP, Vyas et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deepsdf.solvers.quadratic import Quadratic
from deepsdf.specs import CosineSchedule

MOMENTS = 0.9, 0.98
"""Decay of Adam's means of the gradient and of its square. 0.98 instead of Adam's 0.999, because it remembers 50 steps
and a run has a few hundred to a thousand."""

CURVATURE_DECAY = 0.99
"""Decay of the mean curvature: 100 steps, the interval at which the basis is renewed."""

BASIS_INTERVAL = 100
"""Steps between eigendecompositions."""

FINAL_RATE = 0.02
"""Last rate, relative to the first; the rates follow a cosine in between."""


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
    """Lower b objectives that are estimated from samples drawn anew in each step.

    Args:
        linearise: (states (b, p), number of the step) -> models (b) at these states.
        start: (b, p).
        curvature: (b, p, p), at the start.
        steps: number of steps; all are taken.
        rate: approximate maximum length of a step along each direction, in units.
        units: (p,), scale of each coordinate.
        on_step: receives the number of each step.
    Returns:
        The final states (b, p), and the exponential mean of the curvatures (b, p, p).
    """
    state, metric = start, units[:, None] * units
    rates = CosineSchedule(initial=rate, final=FINAL_RATE * rate, length=steps)
    mean, square = torch.zeros_like(start), torch.zeros_like(start)
    basis = torch.diag_embed(torch.ones_like(start))
    for step in range(steps):
        if step % BASIS_INTERVAL == 0:
            turned = torch.linalg.eigh((curvature / metric).double()).eigenvectors.to(start.dtype)
            # The squares are kept in the old basis. The square of a sum of uncorrelated components is the sum of their
            # squares times the squared cosines between old and new directions.
            square = _times(square, (basis.mT @ turned).square())
            basis = turned
        model = linearise(state, step)
        curvature = torch.lerp(model.curvature, curvature, CURVATURE_DECAY)
        gradient = model.gradient / units
        # The mean of the gradients is kept in the coordinates, so that it need not be turned.
        mean = torch.lerp(gradient, mean, MOMENTS[0])
        square = torch.lerp(_times(gradient, basis).square(), square, MOMENTS[1])
        # Adam's correction: both means start at 0.
        first, second = (1.0 - moment ** (step + 1) for moment in MOMENTS)
        moves = _times(mean, basis) / first / (square / second).sqrt().clamp_min(1e-30)
        state = state - rates.rate(step) * _times(moves, basis.mT) / units
        if on_step:
            on_step(step + 1)
    return state, curvature


def _times(rows: Tensor, matrices: Tensor) -> Tensor:
    """Rows (b, p) times matrices (b, p, q)."""
    return (rows.unsqueeze(1) @ matrices).squeeze(1)
