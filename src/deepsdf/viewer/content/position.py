"""The latent code that a visitor looks at, and the ways to change it. Independent of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deepsdf.errors import InputError
from deepsdf.inference.shape import Shape, unlikeliness
from deepsdf.inference.space import ShapeSpace

MIN_REACH = 3.0
"""Smallest range of a slider to either side, in standard deviations: 99.7 % of a Gaussian."""


@dataclass(frozen=True)
class PrincipalDirections:
    """The leading principal directions of a space's training codes.

    Attributes:
        steps: (k, L), one standard deviation along each direction.
        shares: (k,), share of the training codes' variance along each direction, in descending order.
        reach: range of the sliders to either side, in standard deviations; it contains every training code.
    """

    space: ShapeSpace
    steps: Tensor
    shares: Tensor
    reach: float

    @classmethod
    def of(cls, space: ShapeSpace, count: int = 8) -> PrincipalDirections:
        """At most `count` directions. Raises InputError if there are fewer than two training codes."""
        prior = space.prior
        count = min(count, len(prior.std), max(1, len(space.trained_codes) - 1))
        along = (space.trained_codes - prior.mean) @ prior.directions
        variance = along.square().sum(dim=0)
        shares = variance[:count] / variance.sum().clamp_min(1e-30)
        farthest = float((along[:, :count] / prior.std[:count]).abs().max())
        reach = max(MIN_REACH, -(-farthest // 0.5) * 0.5)  # rounded up to a half
        return cls(space, (prior.directions[:, :count] * prior.std[:count]).T.contiguous(), shares, reach)

    def __len__(self) -> int:
        return len(self.steps)

    def names(self) -> list[str]:
        """Labels such as `1 · 34 %`: the number of a direction, and its share of the variance."""
        return [f"{number + 1} · {_percent(float(share))}" for number, share in enumerate(self.shares)]

    def coordinates(self, code: Tensor) -> Tensor:
        """Coordinates (k,) of a code (L,), in standard deviations from the mean of the training codes."""
        return self.space.prior.whiten(code)[: len(self)]


def _percent(share: float) -> str:
    percent = 100.0 * share
    return f"{percent:.0f} %" if percent >= 1 else f"{percent:.1f} %"


class LatentPosition:
    """A base code, and an offset from it along the principal directions.

    Attributes:
        space: the space of the code.
        directions: its principal directions, which have sliders.
        base: (L,) code of the shape that was chosen.
    """

    def __init__(self, space: ShapeSpace) -> None:
        self.space = space
        self.directions = PrincipalDirections.of(space)
        self.set_code(space.prior.mean)

    @property
    def code(self) -> Tensor:
        """The current code (L,); exactly the base code if no slider was moved."""
        return self.base + (self._values - self._start) @ self.directions.steps

    @property
    def shape(self) -> Shape:
        """The shape of the current code."""
        return self.space.shape(self.code)

    @property
    def coordinates(self) -> list[float]:
        """Slider values: standard deviations along each direction, clipped to the sliders' range."""
        return [round(value, 4) for value in self._values.tolist()]

    @property
    def moved(self) -> bool:
        """Whether a slider was moved since the base code was set."""
        return bool((self._values != self._start).any())

    @property
    def unlikeliness(self) -> float:
        """Root mean square of the whitened code: 1 for a typical draw from the prior, 0 for the mean shape."""
        return unlikeliness(self.space.prior, self.code)

    def set_code(self, code: Tensor) -> None:
        """Make a code (L,) the base, with no offset."""
        self.base = self.space.shape(code).code.clone()
        reach = self.directions.reach
        # Rounded to the sliders' precision, so that a slider that was not moved adds no offset.
        values = (self.directions.coordinates(self.base).double() * 100).round() / 100
        self._start = values.clamp(-reach, reach).to(self.base)
        self._values = self._start.clone()

    def set_coordinate(self, direction: int, value: float) -> None:
        """Set the slider of a direction to `value` standard deviations."""
        if not -self.directions.reach <= value <= self.directions.reach:
            raise InputError(f"slider value {value} is out of range; expected at most ±{self.directions.reach}")
        self._values[direction] = value

    def set_space(self, space: ShapeSpace, code: Tensor | None) -> None:
        """Switch to the space of a later checkpoint and keep the offset.

        Args:
            code: new base code (L,); None keeps the old one.
        """
        offset, base = self._values - self._start, self.base if code is None else code
        self.space, self.directions = space, PrincipalDirections.of(space)
        self.set_code(base.to(space.device))
        if len(offset) == len(self._values):
            reach = self.directions.reach
            self._values = (self._start + offset.to(self._start)).clamp(-reach, reach)

    def nearest(self, count: int = 5) -> list[tuple[int, float]]:
        """The nearest training shapes: row, and Euclidean distance between the codes, nearest first."""
        trained = self.space.is_trained
        distances = torch.linalg.vector_norm(self.space.codes - self.code, dim=1)
        distances = torch.where(trained, distances, torch.full_like(distances, torch.inf))
        order = distances.argsort()[: min(count, int(trained.sum()))]
        return [(int(row), float(distances[row])) for row in order]


def interpolate(first: Tensor, second: Tensor, share: float) -> Tensor:
    """The code at a share (0 to 1) of the straight line between two codes."""
    return first + share * (second - first)


def corner_weights(x: float, y: float) -> tuple[float, float, float, float]:
    """Bilinear weights of the corners (0, 0), (1, 0), (0, 1), (1, 1) of the unit square; x and y are clipped to it."""
    x, y = min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)
    return (1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y


def blend(codes: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted mean of codes (L,). Weights need not sum to 1.

    Raises:
        InputError: the numbers of codes and weights differ, or weights are negative or all zero.
    """
    if len(codes) != len(weights) or not codes or min(weights) < 0 or sum(weights) <= 0:
        raise InputError(f"{len(codes)} codes cannot be blended with the weights {list(weights)}")
    total = sum(weights)
    return torch.stack([code * (weight / total) for code, weight in zip(codes, weights, strict=True)]).sum(dim=0)
