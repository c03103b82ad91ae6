"""Where one visitor stands in a space of shapes: a code, and every way to move it. Knows no page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deepsdf.errors import InputError
from deepsdf.inference.space import Shape, ShapeSpace

DIRECTIONS = 8
"""Principal directions that have a slider."""

REACH = 3.0
"""Standard deviations that a slider goes to, at least."""


@dataclass(frozen=True)
class Directions:
    """The leading principal directions of a space's codes.

    Attributes:
        steps: (k, L), one standard deviation along each.
        shares: (k,), of the training codes' variance, most first.
        reach: standard deviations to either side that hold every training code.
    """

    space: ShapeSpace
    steps: Tensor
    shares: Tensor
    reach: float

    @classmethod
    def of(cls, space: ShapeSpace, count: int = DIRECTIONS) -> Directions:
        """Raises InputError: fewer than two training codes."""
        prior = space.prior
        count = min(count, len(prior.std), max(1, len(space.trained_codes) - 1))
        along = (space.trained_codes - prior.mean) @ prior.directions
        variance = along.square().sum(dim=0)
        shares = variance[:count] / variance.sum().clamp_min(1e-30)
        farthest = float((along[:, :count] / prior.std[:count]).abs().max())
        reach = max(REACH, -(-farthest // 0.5) * 0.5)
        return cls(space, (prior.directions[:, :count] * prior.std[:count]).T.contiguous(), shares, reach)

    def __len__(self) -> int:
        return len(self.steps)

    def names(self) -> list[str]:
        """`1 · 34 %`: number, and share of the variance."""
        return [f"{number + 1} · {_percent(float(share))}" for number, share in enumerate(self.shares)]

    def coordinates(self, code: Tensor) -> Tensor:
        """(k,), standard deviations from the mean of the training codes."""
        return self.space.prior.whiten(code)[: len(self)]


def _percent(share: float) -> str:
    percent = 100.0 * share
    return f"{percent:.0f} %" if percent >= 1 else f"{percent:.1f} %"


class Place:
    """A code that was picked, and how far it was moved from there along the principal directions."""

    def __init__(self, space: ShapeSpace) -> None:
        self.space = space
        self.directions = Directions.of(space)
        self.pick(space.prior.mean)

    @property
    def code(self) -> Tensor:
        """(L,). What was not moved is exactly what was picked."""
        return self.base + (self._at - self._start) @ self.directions.steps

    @property
    def shape(self) -> Shape:
        return self.space.shape(self.code)

    @property
    def sliders(self) -> list[float]:
        """Standard deviations along each direction, within the sliders' reach."""
        return [round(value, 4) for value in self._at.tolist()]

    @property
    def moved(self) -> bool:
        return bool((self._at != self._start).any())

    @property
    def unlikeliness(self) -> float:
        """Distance from the mean of the training codes, standard deviations a direction: 1 is usual."""
        return float(self.space.prior.whiten(self.code).square().mean().sqrt())

    def pick(self, code: Tensor) -> None:
        """Go to a code (L,)."""
        self.base = self.space.shape(code).code.clone()
        reach = self.directions.reach
        # Rounded as sliders are, so that one that was not touched moves nothing.
        at = (self.directions.coordinates(self.base).double() * 100).round() / 100
        self._start = at.clamp(-reach, reach).to(self.base)
        self._at = self._start.clone()

    def move(self, direction: int, value: float) -> None:
        """Put a direction's slider at `value` standard deviations."""
        if not -self.directions.reach <= value <= self.directions.reach:
            raise InputError(f"{value} lies beyond a slider's reach of {self.directions.reach}")
        self._at[direction] = value

    def follow(self, space: ShapeSpace, code: Tensor | None) -> None:
        """The same place in the space of a later checkpoint: from `code`, or the old one, moved as far as before."""
        steps, base = self._at - self._start, self.base if code is None else code
        self.space, self.directions = space, Directions.of(space)
        self.pick(base.to(space.device))
        if len(steps) == len(self._at):
            reach = self.directions.reach
            self._at = (self._start + steps.to(self._start)).clamp(-reach, reach)

    def nearest(self, count: int = 5) -> list[tuple[int, float]]:
        """Training shapes by their codes' distance from here, nearest first: row and distance.

        The distance is the codes' own; 0 is the shape itself.
        """
        trained = self.space.is_trained
        away = torch.linalg.vector_norm(self.space.codes - self.code, dim=1)
        away = torch.where(trained, away, torch.full_like(away, torch.inf))
        order = away.argsort()[: min(count, int(trained.sum()))]
        return [(int(row), float(away[row])) for row in order]


def between(first: Tensor, second: Tensor, share: float) -> Tensor:
    """The code at a share of the straight way from one to another."""
    return first + share * (second - first)


def corner_weights(x: float, y: float) -> tuple[float, float, float, float]:
    """Weights of the corners (0, 0), (1, 0), (0, 1), (1, 1) of a square at a point of it; beyond it, of its edge."""
    x, y = min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)
    return (1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y


def blend(codes: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted mean of codes.

    Raises:
        InputError: weights that are not as many, negative, or all zero.
    """
    if len(codes) != len(weights) or not codes or min(weights) < 0 or sum(weights) <= 0:
        raise InputError(f"{len(codes)} codes cannot be blended by the weights {list(weights)}")
    total = sum(weights)
    return torch.stack([code * (weight / total) for code, weight in zip(codes, weights, strict=True)]).sum(dim=0)
