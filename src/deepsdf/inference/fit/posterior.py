"""How sure a fit is, from the Gauss-Newton matrix at its end and the noise that its errors tell of.

With w the code in units of the prior's standard deviations, and errors r_i of weight w_i at N observations:

    pull of an error             ψ_i = r_i / max(|r_i|, h),  h the width of Huber's loss
    information an observation   A = H / Σ w_i / max(|r_i|, h),  H the Gauss-Newton matrix without the prior's part
    noise                        τ² = Σ w_i ψ_i² / f0² · N / (N - p),  f0 twice the density of errors about 0
    independent observations     M = N / (1 + (m - 1) ρ)
    covariance of w              C = (I + M A / τ²)⁻¹

Σ w_i ψ_i² / f0² is the asymptotic variance of Huber's M-estimator, whatever the errors' distribution (Huber 1964);
p is the number of directions that the observations decide, the trace of H (H + prior)⁻¹. What a space cannot say
about a shape is wrong over whole regions, so that neighbouring errors are no independent witnesses: ρ is their
correlation within cells of 1/8, and m the observations of a cell (the design effect of a cluster sample, Kish 1965).
Observations beyond the clamping distance on the right side pull nothing and do not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepsdf.inference.fit.problem import ROBUST_WIDTH, CodeProblem, Draw

CELLS = 16
"""Of the cube of the unit frame, along an axis."""

PROBES, SURFACE_PROBES = 4096, 64
"""Points of the cube, and of them those nearest to a shape's surface."""

LEAST_NOISE = 1e-3
"""Unit frame: no decoder is taken to be more exact."""


@dataclass(frozen=True)
class Posterior:
    """Of b codes, in units of the prior's standard deviations along its principal directions.

    Attributes:
        covariance: (b, L, L).
        noise: (b,), τ, unit frame.
        independent: (b,), M.
    """

    covariance: Tensor
    noise: Tensor
    independent: Tensor

    @property
    def std(self) -> Tensor:
        """(b, L); 1 where the observations say nothing, 0 where they leave no doubt."""
        return self.covariance.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()


def posterior(hessian: Tensor, errors: Tensor, draw: Draw, counts: Tensor, prior_weight: Tensor) -> Posterior:
    """From the Gauss-Newton matrices (b, L, L) of the data alone, and errors (b, n) of a draw.

    Args:
        draw: with weights 0 where an observation pulls nothing.
        counts: (b,), N, of which the draw shows some.
        prior_weight: (b,), λ of the fit: it tells how many directions were free to follow the observations.
    """
    share = draw.weights.sum(dim=1, keepdim=True)
    weights = draw.weights / share.clamp_min(1e-30)
    counts = (counts * share.squeeze(1)).double()
    size = errors.abs()
    pulls = weights * errors / size.clamp_min(ROBUST_WIDTH)
    band = _weighted_median(size, weights).clamp_min(ROBUST_WIDTH)
    density = (weights * (size <= band[:, None])).sum(dim=1) / band
    identity = torch.eye(hessian.shape[1], dtype=torch.float64, device=hessian.device)
    whole = hessian.double() + 2.0 * prior_weight.double()[:, None, None] * identity
    free = torch.cholesky_solve(hessian.double(), _factor(whole)).diagonal(dim1=1, dim2=2).sum(dim=1)
    spare = counts / (counts - free).clamp_min(1.0)
    squares = (pulls.square() / weights.clamp_min(1e-30)).sum(dim=1)
    variance = (squares / density.square().clamp_min(1e-30)).double() * spare
    variance = variance.clamp_min(LEAST_NOISE**2)
    independent = counts / design_effect(pulls, draw.rows, weights, counts)
    steepness = (weights / size.clamp_min(ROBUST_WIDTH)).sum(dim=1) * share.squeeze(1)
    information = hessian.double() / steepness.double().clamp_min(1e-30)[:, None, None]
    covariance = torch.cholesky_inverse(_factor(identity + (independent / variance)[:, None, None] * information))
    return Posterior(covariance.float(), variance.sqrt().float(), independent.float())


def surface_spread(problem: CodeProblem, codes: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """How far the surface may lie from where it is, unit frame: by a posterior (b, L, L), and by the prior; (b,) each.

    The root of the field's mean variance, Jᵀ C J, at points on the surface of each shape.
    """
    generator = torch.Generator().manual_seed(0)  # the same points for every shape
    points = (2.0 * torch.rand(PROBES, 3, generator=generator) - 1.0).to(codes.device).expand(len(codes), -1, -1)
    nearest = problem.distances(codes, points).abs().topk(SURFACE_PROBES, dim=1, largest=False).indices
    _, jacobian = problem.jacobian(codes, points.gather(1, nearest.unsqueeze(-1).expand(-1, -1, 3)))
    by_posterior = ((jacobian @ covariance) * jacobian).sum(dim=2).mean(dim=1)
    return by_posterior.sqrt(), jacobian.square().sum(dim=2).mean(dim=1).sqrt()


def design_effect(pulls: Tensor, rows: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
    """1 + (m - 1) ρ, (b,): how many times fewer the observations are than they seem.

    Args:
        pulls: (b, n), weighted.
        rows: (b, n, 4), x y z sdf, unit frame, and their weights (b, n).
        counts: (b,), observations, of which the rows are some.
    """
    at = ((rows[..., :3] + 1.0) * (CELLS / 2)).long().clamp(0, CELLS - 1)
    cell = (at[..., 0] * CELLS + at[..., 1]) * CELLS + at[..., 2]

    def together(values: Tensor) -> Tensor:
        """Σ over cells of (Σ in the cell)², in units of Σ of squares: 1 if no two are in one cell."""
        values = values.double()
        sums = torch.zeros(len(values), CELLS**3, dtype=torch.float64, device=values.device)
        sums.scatter_add_(1, cell, values)
        return sums.square().sum(dim=1) / values.square().sum(dim=1).clamp_min(1e-300)

    shown = together(weights)
    correlation = ((together(pulls) - 1.0) / (shown - 1.0).clamp_min(1e-6)).clamp(0.0, 1.0)
    in_all = shown * counts / (weights > 0).sum(dim=1).clamp_min(1)
    return 1.0 + (in_all - 1.0).clamp_min(0.0) * correlation


def _factor(matrices: Tensor) -> Tensor:
    return torch.linalg.cholesky_ex(matrices).L


def _weighted_median(values: Tensor, weights: Tensor) -> Tensor:
    """(b,) of values (b, n)."""
    ordered, order = values.sort(dim=1)
    reached = weights.gather(1, order).cumsum(dim=1)
    middle = (reached < 0.5 * reached[:, -1:]).sum(dim=1, keepdim=True)
    return ordered.gather(1, middle.clamp_max(values.shape[1] - 1)).squeeze(1)
