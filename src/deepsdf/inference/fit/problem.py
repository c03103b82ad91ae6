"""Signed distances as residuals of codes: the field at sample points, and its derivatives by the whitened code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add

import torch
from torch import Tensor

from deepsdf.network.decoder import Decoder
from deepsdf.network.objective import LOSSES, Loss
from deepsdf.network.priors import GaussianPrior
from deepsdf.solvers.losses import Huber
from deepsdf.solvers.quadratic import Quadratic, gauss_newton

ROBUST_WIDTH = 2e-3
"""Width of Huber's loss, unit frame: the L1 loss, but smooth at 0, so that it has a curvature. Of the order
of a good fit's mean error, so that only the smaller errors count squared."""

MIN_ERROR = ROBUST_WIDTH
"""Least mean error that the prior's weight assumes, unit frame. Fits of few samples can reach 0, but no space
represents an unseen shape without error."""

CHUNK = {"cpu": 4096, "cuda": 131_072}
"""Points per evaluation. On a CPU their activations fit into its cache."""


@dataclass(frozen=True)
class Draw:
    """Samples of b shapes.

    Attributes:
        rows: (b, n, 4), x y z sdf, unit frame.
        weights: (b, n), with sum 1 per shape.
    """

    rows: Tensor
    weights: Tensor

    def __getitem__(self, at: Tensor | tuple[slice, slice]) -> Draw:
        """Samples of some shapes, or some samples of some shapes."""
        return Draw(self.rows[at], self.weights[at])


@dataclass(frozen=True)
class CodeProblem:
    """Σ weight · huber(residual(f, s)) + λ |w|² of whitened codes w, with the residual of the space's loss.

    Attributes:
        clamping_distance: δ of the loss.
        bfloat16: the decoder's hidden layers compute in bfloat16.
        loss: loss between predicted and observed distances.
    """

    decoder: Decoder
    prior: GaussianPrior
    clamping_distance: float
    bfloat16: bool = False
    loss: Loss = LOSSES["clamped_l1"]

    @cached_property
    def basis(self) -> Tensor:
        """(L, L), derivative of the code by the whitened code."""
        return self.prior.directions * self.prior.std

    def linearise(
        self, whitened: Tensor, draw: Draw, prior_weight: Tensor, through_clamp: Tensor | None = None
    ) -> Quadratic:
        """Models of the objectives of b shapes.

        Args:
            whitened: (b, L).
            prior_weight: (b,), λ.
            through_clamp: (b,), whether clamped predictions with wrong values get the gradient of the unclamped field.
                Their loss is constant, so without it a shape far from its observations would stay there. Near the
                minimum it leads astray. None: all shapes.
        """
        codes = self.prior.colour(whitened)
        if through_clamp is None:
            through_clamp = torch.ones_like(prior_weight, dtype=torch.bool)
        models = [
            reduce(
                add, [self._linearise(codes[own], draw[own, part], through_clamp[own]) for part in _chunks(draw.rows)]
            )
            for own in _batches(draw.rows)
        ]
        return Quadratic.concatenate(models) + code_prior(whitened, prior_weight)

    def _linearise(self, codes: Tensor, draw: Draw, through_clamp: Tensor) -> Quadratic:
        predicted, jacobian = self.jacobian(codes, draw.rows[..., :3])
        target, delta = draw.rows[..., 3], self.clamping_distance
        residual = self.loss.residual(predicted, target, delta)
        active = self.loss.responds(predicted, target, delta) | ((residual != 0) & through_clamp.unsqueeze(1))
        return gauss_newton(residual, jacobian, draw.weights, Huber(ROBUST_WIDTH), active)

    def jacobian(self, codes: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Signed distances (b, n) of codes (b, L) at points (b, n, 3), and derivatives (b, n, L) by the whitened
        code."""
        with torch.autocast(codes.device.type, torch.bfloat16, enabled=self.bfloat16):
            values, jacobian = self.decoder.jacobian(codes, points, self.basis)
        return values, jacobian.float()

    @torch.no_grad()
    def distances(self, codes: Tensor, points: Tensor) -> Tensor:
        """Signed distances (b, n) of codes (b, L) at points (b, n, 3); always in float32."""
        values = points.new_empty(points.shape[:2])
        for shapes in _batches(points):
            for part in _chunks(points):
                values[shapes, part] = self.decoder(codes[shapes], points[shapes, part])
        return values

    def errors(self, codes: Tensor, draw: Draw) -> Tensor:
        """Residuals (b, n) of codes (b, L)."""
        predicted = self.distances(codes, draw.rows[..., :3])
        return self.loss.residual(predicted, draw.rows[..., 3], self.clamping_distance)

    def losses(self, codes: Tensor, draw: Draw) -> Tensor:
        """(b,), the mean loss of codes (b, L)."""
        return (self.errors(codes, draw).abs() * draw.weights).sum(dim=1)

    @torch.no_grad()
    def losses_of_each(self, codes: Tensor, draw: Draw) -> Tensor:
        """(b, c), the mean loss of every code (c, L) on the samples of each of b shapes."""
        losses = []
        for rows, weights in zip(draw.rows, draw.weights, strict=True):
            several = codes.split(max(1, CHUNK[codes.device.type] // len(rows)))
            with torch.autocast(codes.device.type, torch.bfloat16, enabled=self.bfloat16):
                distances = [self.decoder(some, rows[:, :3].expand(len(some), -1, -1)) for some in several]
            values = self.loss.value(torch.cat(distances), rows[:, 3], self.clamping_distance)
            losses.append((values * weights).sum(dim=1))
        return torch.stack(losses)


def _batches(points: Tensor) -> list[slice]:
    """Shapes of points (b, n, ...) that are evaluated together.

    On a CPU one at a time: it is not slower, and the result does not depend on the other shapes.
    """
    size = 1 if points.device.type == "cpu" else max(1, CHUNK["cuda"] // points.shape[1])
    return [slice(start, start + size) for start in range(0, len(points), size)]


def _chunks(points: Tensor) -> list[slice]:
    """Points (b, n, ...) of each shape that are evaluated together."""
    size = CHUNK[points.device.type]
    return [slice(start, start + size) for start in range(0, points.shape[1], size)]


def code_prior(whitened: Tensor, weight: Tensor) -> Quadratic:
    """The prior term λ |w|² for whitened codes (b, L) and λ (b,)."""
    return Quadratic.ridge(whitened, 2.0 * weight)


def prior_weight(errors: Tensor, counts: Tensor) -> Tensor:
    """λ of λ |w|² beside the mean error, (b,).

    Errors of mean size e at N independent observations have the negative log-likelihood Σ |r| / e, and the prior has
    ½ |w|². Divided by N / e, the first is the mean error, and the second e / (2 N) |w|².
    """
    return errors.clamp_min(MIN_ERROR) / (2.0 * counts)


@contextmanager
def frozen(decoder: Decoder) -> Iterator[None]:
    """The decoder in evaluation mode and its parameters without gradients, inside the `with` block."""
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
