"""When observations do not tell a shape, and when they are not of one: in words, with the figures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepsdf.inference.fit.problem import Draw

OPEN = 0.25
"""A surface known to more than this share of what the prior alone says is a warning."""

UNEXPLAINED = 0.5
"""More of the distances' spread left over than this is a warning."""

CONTRADICTION = 0.01
"""Unit frame: what a field must miss an observation by before it counts as contradicting another."""

CONTRADICTING = 0.1
"""More observations that contradict others than this is a warning."""

WITNESSES = 2048
"""Observations that are compared with each other."""


@dataclass(frozen=True)
class Figures:
    """What a fit's observations tell, (b,) each.

    Attributes:
        counts: observations.
        spread: standard deviation of the surface's place, unit frame.
        prior_spread: the same before anything was observed.
        unexplained: the fit's mean error over that of one and the same distance everywhere.
        contradicting: share of observations that contradict others.
    """

    counts: Tensor
    spread: Tensor
    prior_spread: Tensor
    unexplained: Tensor
    contradicting: Tensor

    def warnings(self) -> tuple[tuple[str, ...], ...]:
        """Of each shape, none where all is well."""
        columns = (self.spread, self.prior_spread, self.unexplained, self.contradicting)
        figures = zip(*(column.tolist() for column in columns), strict=True)
        return tuple(_in_words(count, *row) for count, row in zip(self.counts.tolist(), figures, strict=True))


def _in_words(
    count: int, spread: float, prior_spread: float, unexplained: float, contradicting: float
) -> tuple[str, ...]:
    found = []
    if spread > OPEN * prior_spread:
        found.append(
            f"too few observations: {count} of them leave the surface uncertain by ±{spread:.3f}, where shapes of this "
            f"space differ by ±{prior_spread:.3f}"
        )
    if contradicting > CONTRADICTING:
        found.append(
            f"contradictory observations: {contradicting:.0%} of them differ from a neighbour by more than the way "
            "there; no shape has such distances"
        )
    if unexplained > UNEXPLAINED:
        found.append(
            f"no shape of this space is like the observations: the best leaves {unexplained:.0%} of their distances' "
            "spread unexplained"
        )
    return tuple(found)


def unexplained(losses: Tensor, draw: Draw, clamping_distance: float) -> Tensor:
    """(b,), the loss over the mean deviation of the clamped distances from their median (or δ / 4 if that is more)."""
    targets = draw.rows[..., 3].clamp(-clamping_distance, clamping_distance)
    known = torch.where(draw.weights > 0, targets, torch.nan)
    middle = known.nanmedian(dim=1, keepdim=True).values
    spread = ((targets - middle).abs() * draw.weights).sum(dim=1)
    return losses / spread.clamp_min(0.25 * clamping_distance)


def contradicting(draw: Draw, clamping_distance: float) -> Tensor:
    """(b,), the share of observations that no field fits within `CONTRADICTION` together with another.

    A signed distance changes by no more than the way between two points. Where two observations differ by more, any
    field misses one of them by half of the excess.
    """
    every = -(-draw.weights.shape[1] // WITNESSES)
    shares = []
    for rows, weights in zip(draw.rows[:, ::every], draw.weights[:, ::every], strict=True):
        points, distances = rows[:, :3], rows[:, 3].clamp(-clamping_distance, clamping_distance)
        away = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
        excess = 0.5 * ((distances[:, None] - distances).abs() - away)
        real = weights > 0
        excess = torch.where(real, excess, 0.0).amax(dim=1)
        shares.append((real & (excess > CONTRADICTION)).sum() / real.sum().clamp_min(1))
    return torch.stack(shares)
