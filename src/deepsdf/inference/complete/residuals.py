"""Residuals of a code and a pose that explain a scan, and their minimisation. All lengths are in the unit frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from deepsdf.inference.complete.alignment import Alignment, Freedom
from deepsdf.inference.complete.observation import Observed
from deepsdf.inference.complete.posed_field import PosedField, State
from deepsdf.network.decoder import Decoder
from deepsdf.network.priors import GaussianPrior
from deepsdf.solvers.levenberg_marquardt import Minimum, minimise
from deepsdf.solvers.losses import Cauchy
from deepsdf.solvers.quadratic import Quadratic, gauss_newton

VIOLATORS = 96
"""Number of free points that a linearisation uses, those deepest inside the shape: about a tenth of the free points of
a fit. The others are outside already, and cost the time of their derivatives."""

TOLERANCE = 1e-3
"""Predicted relative reduction of the objective at which a fit has converged."""

FIRST_DAMPING = 1e-3
"""Damping of the first step, a tenth of the solver's default: hypotheses are compared after a few steps, and with the
default their first steps along soft directions of the code are too short. Measured on the boxes of the tests:
objectives after the coarse stages are 2 to 5 % lower."""


@dataclass(frozen=True)
class ScanProblem:
    """½ |w|² + Σ ½ c² log(1 + (r / c)²) / σ²: whitened code w, and residuals r under Cauchy's loss of width c.

    A surface point p with normal n has two residuals, f(p ± η n) ∓ η, each with weight ½; if the sign of the normal is
    unknown, f(p) twice. A point of free space has min(f, 0).

    If the scale is free, residuals are measured in lengths of the scan, times `scale`: in the unit frame they would
    vanish as the scan is shrunk.

    Attributes:
        eta: η.
        noise: σ of a surface point, including the error of the field.
        free_weight: weight of a free point, where a surface point has 1.
        scale: unit-frame length per length of the scan at which residuals are those of the unit frame.
        fit_code: False: only the pose is fitted.
        bfloat16: hidden layers compute in bfloat16; for results that are refined later.
    """

    decoder: Decoder
    prior: GaussianPrior
    observed: Observed
    freedom: Freedom
    eta: float
    noise: float
    free_weight: float
    scale: float = 1.0
    fit_code: bool = True
    bfloat16: bool = False

    @cached_property
    def posed(self) -> PosedField:
        """The field. Poses rotate and scale about the mean of the surface points, where the derivatives by rotation,
        translation and scale are least correlated."""
        centre = self.observed.points.mean(dim=0)
        return PosedField(self.decoder, self.prior, self.freedom, centre, self.fit_code, self.bfloat16)

    def residuals(self, state: State) -> tuple[Tensor, Tensor]:
        """Residuals (b, m) of the surface points moved outward and inward, and of free points; derivatives (b, m,
        k)."""
        points = torch.cat([self._beside_surface(state.alignment), self._violators(state)], dim=1)
        values, jacobian = self.posed.jacobian(state, points)
        # Free points outside the shape have residual 0 but keep their derivatives: they add curvature without gradient,
        # which damps steps that would move the surface into free space.
        residuals = self._residuals(values)
        if self.freedom.pose == "similarity":
            ratio = self._ratio(state)
            residuals, jacobian = residuals / ratio, jacobian / ratio.unsqueeze(-1)
            jacobian[..., -1] -= residuals  # the derivative of 1 / ratio by the logarithm of the scale
        return residuals, jacobian

    def objective(self, state: State, width: float) -> Tensor:
        """(b,), the objective with Cauchy width c = `width`, without derivatives."""
        return self.data_cost(state, width) + 0.5 * state.whitened.square().sum(dim=1)

    @torch.no_grad()
    def data_cost(self, state: State, width: float) -> Tensor:
        """(b,), the objective without the prior."""
        points = torch.cat([self._beside_surface(state.alignment), self._violators(state)], dim=1)
        residuals = self._residuals(self.posed.values(state, points))
        if self.freedom.pose == "similarity":
            residuals = residuals / self._ratio(state)
        return (self._weights(residuals) * Cauchy(width).value(residuals)).sum(dim=1)

    def linearise(self, state: State, width: float) -> Quadratic:
        """Models of the objectives; without the code's prior if only the pose is fitted."""
        residuals, jacobian = self.residuals(state)
        model = gauss_newton(residuals, jacobian, self._weights(residuals), Cauchy(width))
        if not self.fit_code:
            return model
        prior = Quadratic.ridge(state.whitened, torch.ones_like(state.whitened[:, 0]))
        return model + prior.padded(self.freedom.size)

    def minimise(self, state: State, widths: Sequence[float], steps: int) -> Minimum[State]:
        """One step with each width but the last, then up to `steps` steps with the last.

        The objective of one width cannot be compared with that of another, so each width has a run of its own; the
        damping is passed on.
        """
        damping: float | Tensor = FIRST_DAMPING
        for width in widths[:-1]:
            end = self._run(state, width, 1, 0.0, damping)
            state, damping = end.state, end.damping
        return self._run(state, widths[-1], steps, TOLERANCE, damping)

    def _run(self, state: State, width: float, steps: int, tolerance: float, damping: float | Tensor) -> Minimum[State]:
        return minimise(
            lambda states, rows, step: self.linearise(states, width),
            state,
            steps=steps,
            tolerance=tolerance,
            damping=damping,
            units=self.posed.units,
            retract=self.posed.retract,
        )

    def _ratio(self, state: State) -> Tensor:
        """(b, 1), by which the scale of a state differs from `scale`."""
        return state.alignment.scale[:, None] / self.scale

    def _weights(self, residuals: Tensor) -> Tensor:
        """(b, m), weights of the residuals, 1 / σ² included."""
        weights = torch.full_like(residuals, 0.5)
        weights[:, 2 * len(self.observed.points) :] = self.free_weight
        return weights / self.noise**2

    def _beside_surface(self, alignment: Alignment) -> Tensor:
        """The surface points, moved by η outward and inward along their normals: (b, 2n, 3)."""
        observed = self.observed
        offsets = alignment.rotate(observed.normals) * (self.eta * observed.oriented[:, None])
        surface = alignment.apply(observed.points)
        return torch.cat([surface + offsets, surface - offsets], dim=1)

    def _residuals(self, values: Tensor) -> Tensor:
        count = len(self.observed.points)
        targets = torch.where(self.observed.oriented, self.eta, 0.0)
        outside, inside, free = values.split([count, count, values.shape[1] - 2 * count], dim=1)
        return torch.cat([outside - targets, inside + targets, free.clamp(max=0.0)], dim=1)

    @torch.no_grad()
    def _violators(self, state: State) -> Tensor:
        """(b, k, 3), the free points with the lowest signed distances."""
        free = state.alignment.apply(self.observed.free)
        if free.shape[1] <= 1:
            return free
        values = self.posed.values(state, free)
        lowest = values.topk(min(VIOLATORS, free.shape[1]), dim=1, largest=False).indices
        return free.gather(1, lowest.unsqueeze(-1).expand(-1, -1, 3))
