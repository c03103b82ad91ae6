"""Uncertainty of fitted codes, from the Gauss-Newton matrix and the errors of a fit.

With w the whitened code, and errors r_i with weights w_i (sum 1) at N observations:

    influence of an error             ψ_i = r_i / max(|r_i|, h),  h the width of Huber's loss
    information of one observation    A = H / Σ w_i / max(|r_i|, h),  H the Gauss-Newton matrix of the data
    noise                             τ² = Σ w_i ψ_i² / f0² · N / (N - p),  f0 twice the density of errors at 0
    independent observations          M = N / (1 + (m - 1) ρ)
    covariance of w                   C = (I + M A / τ²)⁻¹

Σ w_i ψ_i² / f0² is the asymptotic variance of Huber's M-estimator for any distribution of errors (Huber 1964). p is the
number of directions that the observations determine, the trace of H (H + prior)⁻¹. Where a space cannot represent a
shape, whole regions are wrong, so neighbouring errors are not independent: ρ is their correlation within cells of 1/8,
and m the number of observations in a cell (the design effect of a cluster sample, Kish 1965). Observations beyond the
clamping distance that are predicted on the right side have no influence and are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepsdf.inference.fit.problem import ROBUST_WIDTH, CodeProblem, Draw
from deepsdf.inference.posterior import GaussianPosterior

CELLS = 16
"""Cells of the unit cube along each axis: of size 1/8, about the size of the parts that a decoder gets wrong as a
whole."""

PROBES, SURFACE_PROBES = 4096, 64
"""Random points of the cube, and number of those nearest to the surface at which its uncertainty is averaged."""

MIN_NOISE = 1e-3
"""Least noise, unit frame: a decoder is never assumed to be more accurate."""


@dataclass(frozen=True)
class CodePosterior:
    """Posteriors of b whitened codes.

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
        """(b, L); 1 where the observations say nothing."""
        return self.covariance.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()


def code_posterior(hessian: Tensor, errors: Tensor, draw: Draw, counts: Tensor, prior_weight: Tensor) -> CodePosterior:
    """The posteriors of b codes.

    Args:
        hessian: (b, L, L), Gauss-Newton matrices of the data alone.
        errors: (b, n), of a draw.
        draw: with weight 0 where an observation has no influence.
        counts: (b,), N; the draw is a part of the observations.
        prior_weight: (b,), λ of the fit; determines p.
    """
    share = draw.weights.sum(dim=1, keepdim=True)
    weights = draw.weights / share.clamp_min(1e-30)
    counts = (counts * share.squeeze(1)).double()
    size = errors.abs()
    influence = weights * errors / size.clamp_min(ROBUST_WIDTH)
    # f0: the share of errors within their median, over the median; at least the width, below which ψ is not constant.
    band = _weighted_median(size, weights).clamp_min(ROBUST_WIDTH)
    density = (weights * (size <= band[:, None])).sum(dim=1) / band
    identity = torch.eye(hessian.shape[1], dtype=torch.float64, device=hessian.device)
    whole = hessian.double() + 2.0 * prior_weight.double()[:, None, None] * identity
    factor = torch.linalg.cholesky_ex(whole).L
    determined = torch.cholesky_solve(hessian.double(), factor).diagonal(dim1=1, dim2=2).sum(dim=1)
    spare = counts / (counts - determined).clamp_min(1.0)
    squares = (influence.square() / weights.clamp_min(1e-30)).sum(dim=1)
    variance = (squares / density.square().clamp_min(1e-30)).double() * spare
    variance = variance.clamp_min(MIN_NOISE**2)
    independent = counts / design_effect(influence, draw.rows, weights, counts)
    steepness = (weights / size.clamp_min(ROBUST_WIDTH)).sum(dim=1) * share.squeeze(1)
    information = hessian.double() / steepness.double().clamp_min(1e-30)[:, None, None]
    posterior = GaussianPosterior.of(identity, information, (independent / variance)[:, None, None])
    return CodePosterior(posterior.covariance.float(), variance.sqrt().float(), independent.float())


def surface_spread(problem: CodeProblem, codes: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviation of the surface along its normal, unit frame: (b,) by a posterior (b, L, L), (b,) by the prior.

    The root of the mean variance of the field, J C Jᵀ, over points near the surface.
    """
    generator = torch.Generator().manual_seed(0)  # the same points for every shape
    points = (2.0 * torch.rand(PROBES, 3, generator=generator) - 1.0).to(codes.device).expand(len(codes), -1, -1)
    nearest = problem.distances(codes, points).abs().topk(SURFACE_PROBES, dim=1, largest=False).indices
    _, jacobian = problem.jacobian(codes, points.gather(1, nearest.unsqueeze(-1).expand(-1, -1, 3)))
    by_posterior = ((jacobian @ covariance) * jacobian).sum(dim=2).mean(dim=1)
    return by_posterior.sqrt(), jacobian.square().sum(dim=2).mean(dim=1).sqrt()


def design_effect(influence: Tensor, rows: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
    """1 + (m - 1) ρ, (b,): the number of observations over the number of independent ones.

    Args:
        influence: (b, n), weighted.
        rows: (b, n, 4), x y z sdf, unit frame.
        weights: (b, n).
        counts: (b,), number of observations; the rows are a part of them.
    """
    at = ((rows[..., :3] + 1.0) * (CELLS / 2)).long().clamp(0, CELLS - 1)
    cell = (at[..., 0] * CELLS + at[..., 1]) * CELLS + at[..., 2]

    def clustering(values: Tensor) -> Tensor:
        """Σ over cells of (sum in the cell)², over the sum of squares: 1 if every cell has one value at most, and the
        number of values per cell if they are equal."""
        values = values.double()
        sums = torch.zeros(len(values), CELLS**3, dtype=torch.float64, device=values.device)
        sums.scatter_add_(1, cell, values)
        return sums.square().sum(dim=1) / values.square().sum(dim=1).clamp_min(1e-300)

    in_draw = clustering(weights)
    # With correlation ρ within cells, the clustering of the influences is 1 + (m - 1) ρ.
    correlation = ((clustering(influence) - 1.0) / (in_draw - 1.0).clamp_min(1e-6)).clamp(0.0, 1.0)
    in_all = in_draw * counts / (weights > 0).sum(dim=1).clamp_min(1)
    return 1.0 + (in_all - 1.0).clamp_min(0.0) * correlation


def _weighted_median(values: Tensor, weights: Tensor) -> Tensor:
    """(b,), the medians of values (b, n) with weights (b, n)."""
    ordered, order = values.sort(dim=1)
    reached = weights.gather(1, order).cumsum(dim=1)
    middle = (reached < 0.5 * reached[:, -1:]).sum(dim=1, keepdim=True)
    return ordered.gather(1, middle.clamp_max(values.shape[1] - 1)).squeeze(1)
