"""Two surfaces side by side: the quantities from which metrics are computed, each computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from deepsdf.metrics.options import MetricOptions
from deepsdf.metrics.overlap import volumetric_iou
from deepsdf.metrics.sides import Distances, Side
from deepsdf.metrics.transport import assign

ACCURACY_SHARE = 0.9
"""Share of the points within the mesh accuracy (DeepSDF, supplementary material)."""

F_SCORE_SHARES = (0.005, 0.01, 0.02)
"""F-score thresholds as shares of `f_score_side`: that of Tatarchenko et al., CVPR 2019, its half and double."""


class EarthMover(NamedTuple):
    """Earth mover's distance, how it was computed ("exact" or "approximate"), and between how many points."""

    distance: float | None
    method: str | None
    points: int


@dataclass(frozen=True, eq=False)
class SurfacePair:
    """A reference R, with points x, and a surface S that is compared with it, with points y, in one frame.

    Metrics are functions of this object (see `registry`). Every property is computed once, when first used.
    """

    reference: Side
    surface: Side
    options: MetricOptions

    @cached_property
    def to_reference(self) -> Distances:
        """d(y, R) for all y."""
        return self.surface.distances_to(self.reference)

    @cached_property
    def to_surface(self) -> Distances:
        """d(x, S) for all x."""
        return self.reference.distances_to(self.surface)

    @cached_property
    def squared_to_reference(self) -> float:
        """Mean over y of min over x of |x - y|²."""
        return self.surface.squared_sample_distance(self.reference)

    @cached_property
    def squared_to_surface(self) -> float:
        """Mean over x of min over y of |x - y|²."""
        return self.reference.squared_sample_distance(self.surface)

    @property
    def f_score_side(self) -> float:
        side = self.options.f_score_side
        return self.reference.longest_side if side is None else float(side)

    def f_score(self, share: float) -> float:
        """Harmonic mean of precision and recall within `share` of `f_score_side`; 0 where both are 0."""
        threshold = share * self.f_score_side
        precision, recall = self.to_reference.within(threshold), self.to_surface.within(threshold)
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    @cached_property
    def earth_mover(self) -> EarthMover:
        one, other = self.reference.points, self.surface.points
        count = min(self.options.emd_points, len(one), len(other))
        if not count:
            return EarthMover(None, None, 0)
        # Both subsets are drawn from equal seeds: points in the same order stay pairs, and swapping the sides
        # changes nothing.
        seed = self.options.seed
        rows = (np.random.default_rng([seed, 1]).choice(len(points), count, replace=False) for points in (one, other))
        found = assign(one[next(rows)], other[next(rows)], seed=seed)
        return EarthMover(found.distance, found.method, count)

    @cached_property
    def volumetric_iou(self) -> float | None:
        if not self.options.volume_points or self.reference.surface is None or self.surface.surface is None:
            return None
        first, second = self.reference.solid(), self.surface.solid()
        if first is None or second is None:
            return None
        return volumetric_iou(first, second, self.options.volume_points, self.options.seed)
