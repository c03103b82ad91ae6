"""Signed distances as residuals of a code: what a decoder says at points, and how that changes with the code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add

import torch
from torch import Tensor

from deepsdf.network.decoder import Decoder
from deepsdf.network.objective import clamped_l1
from deepsdf.network.priors import GaussianPrior
from deepsdf.solvers.levenberg_marquardt import Quadratic, quadratic

ROBUST_WIDTH = 2e-3
"""Unit frame; below it an error counts squared, above it by its size: the clamped L1, made smooth at 0."""

LEAST_ERROR = 2e-3
"""Unit frame; the mean error that the prior's weight supposes at least: no space has none on an unseen shape."""

CHUNK = {"cpu": 4096, "cuda": 131_072}
"""Points evaluated at once: on a CPU their activations stay in its cache."""


@dataclass(frozen=True)
class Draw:
    """Samples of b shapes: rows (b, n, 4), x y z sdf, unit frame, and their weights (b, n), which add up to 1."""

    rows: Tensor
    weights: Tensor

    def __getitem__(self, at: Tensor | tuple[slice, slice]) -> Draw:
        """Of some shapes; of some samples of some shapes."""
        return Draw(self.rows[at], self.weights[at])


@dataclass(frozen=True)
class CodeProblem:
    """Σ weight · huber(clamp(f) - clamp(s)) + λ |w|²: codes in units w of the prior's standard deviations.

    Attributes:
        bfloat16: the decoder's hidden layers compute in it.
    """

    decoder: Decoder
    prior: GaussianPrior
    clamping_distance: float
    bfloat16: bool = False

    @cached_property
    def basis(self) -> Tensor:
        """(L, L), the code's change with each of w."""
        return self.prior.directions * self.prior.std

    def linearise(self, place: Tensor, draw: Draw, prior_weight: Tensor, pull: Tensor | None = None) -> Quadratic:
        """The objectives of b shapes near w (b, L), with λ (b,).

        Args:
            pull: (b,), whether predictions that are clamped pull where their targets are not. They do not change the
                loss, so that a shape far from its observations would stay there; nearby such a pull leads off the
                way. None: everywhere.
        """
        codes = self.prior.colour(place)
        pull = torch.ones_like(prior_weight, dtype=torch.bool) if pull is None else pull
        found = [
            reduce(add, [self._linearise(codes[own], draw[own, part], pull[own]) for part in _chunks(draw.rows)])
            for own in _together(draw.rows)
        ]
        return Quadratic.joined(found) + penalty(place, prior_weight)

    def _linearise(self, codes: Tensor, draw: Draw, pull: Tensor) -> Quadratic:
        delta = self.clamping_distance
        found, jacobian = self.jacobian(codes, draw.rows[..., :3])
        error = found.clamp(-delta, delta) - draw.rows[..., 3].clamp(-delta, delta)
        idle = (found.abs() >= delta) & ((error == 0) | ~pull.unsqueeze(1))
        return quadratic(error, jacobian, draw.weights, ROBUST_WIDTH, ~idle)

    def jacobian(self, codes: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """f (b, n) of codes (b, L) at points (b, n, 3), and its derivatives by w (b, n, L)."""
        with torch.autocast(codes.device.type, torch.bfloat16, enabled=self.bfloat16):
            found, jacobian = self.decoder.jacobian(codes, points, self.basis)
        return found, jacobian.float()

    @torch.no_grad()
    def distances(self, codes: Tensor, points: Tensor) -> Tensor:
        """clamp(f), (b, n), of codes (b, L) at points (b, n, 3); always in float32."""
        found = points.new_empty(points.shape[:2])
        for shapes in _together(points):
            for part in _chunks(points):
                found[shapes, part] = self.decoder(codes[shapes], points[shapes, part])
        return found.clamp(-self.clamping_distance, self.clamping_distance)

    def errors(self, codes: Tensor, draw: Draw) -> Tensor:
        """clamp(f) - clamp(s), (b, n), of codes (b, L)."""
        targets = draw.rows[..., 3].clamp(-self.clamping_distance, self.clamping_distance)
        return self.distances(codes, draw.rows[..., :3]) - targets

    def losses(self, codes: Tensor, draw: Draw) -> Tensor:
        """(b,), the clamped L1 of codes (b, L)."""
        return (self.errors(codes, draw).abs() * draw.weights).sum(dim=1)

    @torch.no_grad()
    def losses_of_each(self, codes: Tensor, draw: Draw) -> Tensor:
        """(b, c), the clamped L1 of every code (c, L) on the samples of each of b shapes."""
        found = []
        for rows, weights in zip(draw.rows, draw.weights, strict=True):
            several = codes.split(max(1, CHUNK[codes.device.type] // len(rows)))
            with torch.autocast(codes.device.type, torch.bfloat16, enabled=self.bfloat16):
                distances = [self.decoder(some, rows[:, :3].expand(len(some), -1, -1)) for some in several]
            found.append((clamped_l1(torch.cat(distances), rows[:, 3], self.clamping_distance) * weights).sum(dim=1))
        return torch.stack(found)


def _together(points: Tensor) -> list[slice]:
    """Shapes of points (b, n, ...) to evaluate at once.

    On a CPU one at a time: as quick there, and what comes out does not depend on the other shapes.
    """
    size = 1 if points.device.type == "cpu" else max(1, CHUNK["cuda"] // points.shape[1])
    return [slice(start, start + size) for start in range(0, len(points), size)]


def _chunks(points: Tensor) -> list[slice]:
    """Points (b, n, ...) of each shape to evaluate at once."""
    size = CHUNK[points.device.type]
    return [slice(start, start + size) for start in range(0, points.shape[1], size)]


def penalty(place: Tensor, weight: Tensor) -> Quadratic:
    """λ |w|²."""
    identity = torch.eye(place.shape[1], device=place.device)
    return Quadratic(
        weight * place.square().sum(dim=1), 2.0 * weight[:, None] * place, 2.0 * weight[:, None, None] * identity
    )


def prior_weight(errors: Tensor, counts: Tensor) -> Tensor:
    """λ of λ |w|² beside the mean error, (b,).

    Errors of mean size e at N independent observations have the negative log-likelihood Σ |r| / e, and the prior has
    ½ |w|²: divided by N / e, that is the mean error and e / (2 N) |w|².
    """
    return errors.clamp_min(LEAST_ERROR) / (2.0 * counts)


@contextmanager
def frozen(decoder: Decoder) -> Iterator[None]:
    """The decoder evaluating, its parameters without gradients, for the length of a fit."""
    parameters = [parameter for parameter in decoder.parameters() if parameter.requires_grad]
    training = decoder.training
    decoder.eval()
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
        decoder.train(training)
