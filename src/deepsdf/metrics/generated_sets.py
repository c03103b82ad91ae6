"""Metrics of a set of generated shapes against a set of real ones: coverage, minimum matching distance, 1-NN accuracy.

Shapes are given as points drawn uniformly by area from their surfaces, all in one frame. Their distance D is

    "chamfer"   mean_x min_y |x - y|² + mean_y min_x |x - y|², squared length, see `surfaces.chamfer`
    "emd"       mean length of the pairs of the best bijection, see `transport.assign`

Sources: Achlioptas et al., Learning Representations and Generative Models for 3D Point Clouds, ICML 2018 (coverage,
minimum matching distance); Lopez-Paz and Oquab, Revisiting Classifier Two-Sample Tests, ICLR 2017, and Yang et al.,
PointFlow, ICCV 2019 (1-nearest-neighbour accuracy of generated shapes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
from scipy.spatial import KDTree

from deepsdf.errors import InputError
from deepsdf.metrics.sides import checked_points
from deepsdf.metrics.transport import assign

ShapeDistance = Literal["chamfer", "emd"]


@dataclass(frozen=True)
class GenerationMetrics:
    """Metrics of a set G of generated shapes and a set R of references.

    Attributes:
        coverage: share of R that is the nearest reference of some shape of G. Higher is better. It ignores how near
            they are, and a set of real shapes does not reach 1 either.
        minimum_matching_distance: mean over R of min over G of D. Lower is better. It ignores bad shapes in G if others
            are good.
        one_nn_accuracy: share of G and R whose nearest other shape belongs to the same set, for equally many of both.
            ½ is best: the sets are indistinguishable. 1: they are separate. Below ½: shapes of G are near copies of R.
        generated, references: number of shapes.
        compared: number of shapes of each set used for `one_nn_accuracy`: the first ones of the larger set.
        distance: "chamfer" or "emd".
    """

    coverage: float
    minimum_matching_distance: float
    one_nn_accuracy: float
    generated: int
    references: int
    compared: int
    distance: str

    def as_dict(self) -> dict[str, float | int | str]:
        """The fields by name, in this order: a row of a table."""
        return asdict(self)


def generation_metrics(
    generated: Sequence[np.ndarray], references: Sequence[np.ndarray], *, distance: ShapeDistance = "chamfer"
) -> GenerationMetrics:
    """Metrics of shapes given as surface points (n, 3); "emd" needs the same n for all.

    Raises:
        InputError: an empty set, points that are not finite (n, 3), or an unknown distance.
    """
    between = shape_distances(generated, references, distance=distance)
    count = min(between.shape)
    own = shape_distances(generated[:count], distance=distance)
    theirs = shape_distances(references[:count], distance=distance)
    return GenerationMetrics(
        coverage=len(np.unique(between.argmin(axis=1))) / len(references),
        minimum_matching_distance=float(between.min(axis=0).mean()),
        one_nn_accuracy=one_nn_accuracy(own, between[:count, :count], theirs),
        generated=len(generated),
        references=len(references),
        compared=count,
        distance=distance,
    )


def one_nn_accuracy(own: np.ndarray, between: np.ndarray, theirs: np.ndarray) -> float:
    """Share of 2 n shapes whose nearest other shape belongs to the same set; ties between the sets count half.

    Args:
        own, between, theirs: (n, n) distances within the first set, from it to the second, within the second.
    """
    itself = np.where(np.eye(len(own), dtype=bool), np.inf, 0.0)
    right = 0.0
    for inner, outer in ((own + itself, between), (theirs + itself, between.T)):
        nearest, other = inner.min(axis=1), outer.min(axis=1)
        right += float((nearest < other).sum() + 0.5 * (nearest == other).sum())
    return right / (2 * len(own))


def shape_distances(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray] | None = None, *, distance: ShapeDistance = "chamfer"
) -> np.ndarray:
    """D of all pairs of shapes (n, m); with one set (n, n), 0 on the diagonal.

    Raises:
        InputError: see `generation_metrics`.
    """
    if distance not in get_args(ShapeDistance):
        raise InputError(f"distance is {distance!r}; expected 'chamfer' or 'emd'")
    measure = _chamfer if distance == "chamfer" else _earth_mover
    one = [_Cloud(points, number) for number, points in enumerate(first)]
    other = one if second is None else [_Cloud(points, number) for number, points in enumerate(second)]
    if not one or not other:
        raise InputError("cannot compare an empty set of shapes; expected at least one shape in each set")
    found = np.zeros((len(one), len(other)))
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            if second is None and j <= i:
                found[i, j] = found[j, i]
            else:
                found[i, j] = measure(a, b)
    return found


class _Cloud:
    """Points of a surface and their search tree."""

    def __init__(self, points: np.ndarray, number: int) -> None:
        self.points = checked_points(points, f"shape {number}")
        self.tree = KDTree(self.points)


def _chamfer(a: _Cloud, b: _Cloud) -> float:
    return float(np.square(b.tree.query(a.points)[0]).mean() + np.square(a.tree.query(b.points)[0]).mean())


def _earth_mover(a: _Cloud, b: _Cloud) -> float:
    return assign(a.points, b.points).distance
