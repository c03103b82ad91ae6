"""Warnings about observations: too few, contradictory, or unlike any shape of the space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepsdf.inference.fit.problem import Draw

MAX_SPREAD = 0.25
"""Posterior over prior standard deviation of the surface, above which there are too few observations."""

MAX_UNEXPLAINED = 0.5
"""Largest share of the spread of the observed distances that a fit may leave unexplained."""

CONTRADICTION = 0.01
"""Error of an observation, unit frame, that counts as a contradiction: several times the error of a good fit."""

MAX_CONTRADICTING = 0.1
"""Largest share of observations that contradict others. Rounding and doubtful signs of a few samples stay below."""

COMPARED = 2048
"""Number of observations that are compared with each other, at least: 4 million pairs."""


@dataclass(frozen=True)
class Figures:
    """What warnings depend on, (b,) each.

    Attributes:
        counts: observations.
        spread: posterior standard deviation of the surface, unit frame.
        prior_spread: prior standard deviation of the surface, unit frame.
        unexplained: see `unexplained`.
        contradicting: see `contradicting`.
    """

    counts: Tensor
    spread: Tensor
    prior_spread: Tensor
    unexplained: Tensor
    contradicting: Tensor

    def warnings(self) -> tuple[tuple[str, ...], ...]:
        """The warnings about each shape."""
        columns = (self.spread, self.prior_spread, self.unexplained, self.contradicting)
        figures = zip(*(column.tolist() for column in columns), strict=True)
        return tuple(_warnings(count, *row) for count, row in zip(self.counts.tolist(), figures, strict=True))


def _warnings(
    count: int, spread: float, prior_spread: float, unexplained: float, contradicting: float
) -> tuple[str, ...]:
    texts = []
    if spread > MAX_SPREAD * prior_spread:
        texts.append(
            f"too few observations: {count} of them leave the surface uncertain by ±{spread:.3f}, where shapes of this "
            f"space differ by ±{prior_spread:.3f}"
        )
    if contradicting > MAX_CONTRADICTING:
        texts.append(
            f"contradictory observations: {contradicting:.0%} of them differ from a neighbour's by more than the "
            "distance between the points, which no signed distance does"
        )
    if unexplained > MAX_UNEXPLAINED:
        texts.append(
            f"no shape of this space is similar to the observations: the best fit leaves {unexplained:.0%} of the "
            "spread of their distances unexplained"
        )
    return tuple(texts)


def unexplained(losses: Tensor, draw: Draw, clamping_distance: float) -> Tensor:
    """(b,), the mean error of a fit over that of a constant: the mean deviation of the clamped distances from their
    median, or δ / 4 if that is more, since observations of one distance have no spread."""
    targets = draw.rows[..., 3].clamp(-clamping_distance, clamping_distance)
    known = torch.where(draw.weights > 0, targets, torch.nan)
    middle = known.nanmedian(dim=1, keepdim=True).values
    spread = ((targets - middle).abs() * draw.weights).sum(dim=1)
    return losses / spread.clamp_min(0.25 * clamping_distance)


def contradicting(draw: Draw, clamping_distance: float) -> Tensor:
    """(b,), the share of observations that no field fits within `CONTRADICTION` together with another.

    A signed distance has slope 1, so two distances differ by at most the distance between their points. If they differ
    by more, every field misses one of them by at least half of the excess.
    """
    stride = -(-draw.weights.shape[1] // COMPARED)
    shares = []
    for rows, weights in zip(draw.rows[:, ::stride], draw.weights[:, ::stride], strict=True):
        points, distances = rows[:, :3], rows[:, 3].clamp(-clamping_distance, clamping_distance)
        # Not by matrix products, whose rounding is large for points that nearly coincide.
        apart = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
        excess = 0.5 * ((distances[:, None] - distances).abs() - apart)
        real = weights > 0
        excess = torch.where(real, excess, 0.0).amax(dim=1)
        shares.append((real & (excess > CONTRADICTION)).sum() / real.sum().clamp_min(1))
    return torch.stack(shares)
