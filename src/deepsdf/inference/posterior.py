"""Gaussian approximation of a posterior."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GaussianPosterior:
    """Laplace approximations of posteriors: Gaussians about estimated parameters, for one problem or a batch.

    Attributes:
        precision: (..., k, k), the inverse covariance.
    """

    precision: Tensor

    @classmethod
    def of(cls, prior: Tensor, data: Tensor, weight: float | Tensor = 1.0) -> GaussianPosterior:
        """The posterior of a prior and of data.

        Args:
            prior: (k, k) or (..., k, k), precision of the prior.
            data: (..., k, k), Gauss-Newton matrix of the data alone.
            weight: factor of the data, one or (..., 1, 1): the number of independent observations over the number that
                `data` counts.
        """
        return cls(prior + weight * data)

    @property
    def covariance(self) -> Tensor:
        """(..., k, k), float64."""
        return torch.cholesky_inverse(self._factor())

    def std(self, jacobian: Tensor) -> Tensor:
        """Standard deviations (n,) of quantities with derivatives (n, k) by the parameters; one problem."""
        # With P = F Fᵀ, the variance j P⁻¹ jᵀ is |F⁻¹ jᵀ|².
        solved = torch.linalg.solve_triangular(self._factor(), jacobian.double().T, upper=False)
        return torch.linalg.vector_norm(solved, dim=0)

    def draw(self, count: int, *, seed: int) -> Tensor:
        """Deviations (count, k) from the estimate, float64; one problem. Drawn on the CPU."""
        generator = torch.Generator().manual_seed(seed)
        white = torch.randn(count, self.precision.shape[-1], generator=generator, dtype=torch.float64)
        # F⁻ᵀ x has the covariance F⁻ᵀ F⁻¹ = P⁻¹.
        return torch.linalg.solve_triangular(self._factor().cpu().T, white.T, upper=True).T

    def _factor(self) -> Tensor:
        """Lower Cholesky factor; not finite where the precision is not, instead of an error."""
        return torch.linalg.cholesky_ex(self.precision.double()).L
