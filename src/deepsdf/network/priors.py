"""Priors: distributions over latent codes, estimated from training codes. `PRIORS` registers them by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from deepsdf.errors import InputError

VARIANCE_FLOOR = 1e-2
"""Default of the floor in `GaussianPrior.fit`: variance added to every direction, relative to the mean variance.

A hand-set compromise, not an optimum. n codes span at most n - 1 of L directions; without a floor, a code outside that
span has probability zero. With floor α the covariance S + α μ I (μ the mean variance) shrinks S towards a sphere with
intensity α / (1 + α), as in Ledoit and Wolf (2004). The likelihood of held-out training codes (60 bodies, 33 fish,
L = 128, ten folds) is highest near α = 1 and falls below it, since codes of unseen shapes leave the span. A small α
keeps samples near the span of the training codes. Fits depend on it, so published figures hold for this value only.
"""


class Prior(Protocol):
    """A distribution over latent codes."""

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw codes (count, L). Random numbers are drawn on the CPU, so results do not depend on the device."""
        ...


@dataclass(frozen=True)
class GaussianPrior:
    """Gaussian with the mean and covariance of the training codes.

    Attributes:
        mean: (L,).
        directions: (L, L), principal directions as columns, by decreasing variance.
        std: (L,), standard deviation along each direction, positive.
    """

    mean: Tensor
    directions: Tensor
    std: Tensor

    @classmethod
    def fit(cls, codes: Tensor, floor: float = VARIANCE_FLOOR) -> GaussianPrior:
        """Estimate the prior from codes (n, L).

        Args:
            floor: variance added to every direction, as a fraction of the mean variance over directions, so that the
                covariance is positive definite for any number of codes.
        """
        codes = codes.detach().double()
        mean = codes.mean(0)
        centred = codes - mean
        covariance = centred.T @ centred / max(1, len(codes) - 1)
        variance, directions = torch.linalg.eigh(covariance)
        variance = variance.clamp_min(0)  # rounding leaves tiny negative values in directions without variance
        added = floor * variance.mean() + 1e-12  # the constant keeps std positive where all codes are equal
        descending = torch.arange(len(mean) - 1, -1, -1, device=codes.device)
        std = (variance + added).sqrt()[descending]
        return cls(mean.float(), directions[:, descending].float(), std.float())

    def whiten(self, codes: Tensor) -> Tensor:
        """Whitened codes: codes (..., L) in standard deviations along the principal directions."""
        return (codes - self.mean) @ self.directions / self.std

    def colour(self, whitened: Tensor) -> Tensor:
        """Codes (..., L) of whitened codes: the inverse of `whiten`."""
        return (whitened * self.std) @ self.directions.T + self.mean

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """See `Prior.sample`."""
        return self.colour(torch.randn(count, len(self.mean), generator=generator).to(self.mean.device))


@dataclass(frozen=True)
class MixturePrior:
    """Mixture with one Gaussian kernel per training code, each with the covariance of the Gaussian prior scaled down.

    Kernel centres are the training codes drawn towards the mean by 1 / sqrt(1 + width²), so that the mixture has the
    mean and covariance of the Gaussian prior for every width (Silverman, Density Estimation, 1986, section 6.4). Width
    0 gives the training codes themselves; an infinite width gives the Gaussian prior.

    Attributes:
        gaussian: Gaussian prior of the same codes.
        centres: (n, L), kernel centres, whitened.
        std: standard deviation of a kernel along each whitened direction.
    """

    gaussian: GaussianPrior
    centres: Tensor
    std: float

    @classmethod
    def fit(cls, codes: Tensor, width: float = 0.5) -> MixturePrior:
        """Estimate the prior from codes (n, L).

        Args:
            width: standard deviation of a kernel before shrinking, relative to that of the Gaussian prior.
                docs/space.md compares samples.
        """
        gaussian = GaussianPrior.fit(codes)
        shrink = 1.0 / math.sqrt(1.0 + width**2)
        return cls(gaussian, gaussian.whiten(codes) * shrink, width * shrink)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """See `Prior.sample`."""
        kernel = torch.randint(len(self.centres), (count,), generator=generator)
        noise = torch.randn(count, self.centres.shape[1], generator=generator)
        whitened = self.centres[kernel.to(self.centres.device)] + self.std * noise.to(self.centres.device)
        return self.gaussian.colour(whitened)


@dataclass(frozen=True)
class NearestPrior:
    """Random convex combinations of a training code and its nearest neighbours.

    Weights are uniform on the simplex, so a sample lies between its `neighbours` codes, never beyond them.

    Attributes:
        codes: (n, L), training codes.
        neighbours: number of codes in a combination, including the first.
    """

    codes: Tensor
    neighbours: int = 3

    @classmethod
    def fit(cls, codes: Tensor) -> NearestPrior:
        """Prior of codes (n, L)."""
        return cls(codes)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """See `Prior.sample`."""
        codes, neighbours = self.codes, min(self.neighbours, len(self.codes))
        first = torch.randint(len(codes), (count,), generator=generator).to(codes.device)
        # Normalised exponential variables are uniform on the simplex (Devroye 1986, chapter V).
        weights = torch.empty(count, neighbours).exponential_(generator=generator)
        weights = (weights / weights.sum(dim=1, keepdim=True)).to(codes.device)
        nearest = torch.cdist(codes[first], codes).topk(neighbours, dim=1, largest=False).indices
        return (codes[nearest] * weights.unsqueeze(-1)).sum(dim=1)


@dataclass(frozen=True)
class PriorKind:
    """Registration of a prior.

    Attributes:
        help: description for help texts, as a noun phrase.
        fit: estimates the prior from training codes (n, L).
        minimum: least number of training codes.
    """

    help: str
    fit: Callable[[Tensor], Prior]
    minimum: int = 1


PRIORS: dict[str, PriorKind] = {
    "gaussian": PriorKind("Gaussian with the mean and covariance of the training codes", GaussianPrior.fit, minimum=2),
    "mixture": PriorKind("Gaussian kernels around the training codes", MixturePrior.fit, minimum=2),
    "nearest": PriorKind(
        "random convex combinations of a training code and its 2 nearest neighbours", NearestPrior.fit
    ),
}
"""Names that `ShapeSpace.sample` and `deepsdf sample --prior` accept."""


def fit_prior(name: str, codes: Tensor) -> Prior:
    """Estimate the prior with a registered name from training codes (n, L).

    Raises:
        InputError: unknown name, or too few codes.
    """
    if name not in PRIORS:
        raise InputError(f"prior is {name!r}; expected one of {', '.join(map(repr, PRIORS))}")
    kind = PRIORS[name]
    if len(codes) < kind.minimum:
        raise InputError(
            f"the prior {name!r} needs at least {kind.minimum} training codes; this shape space has {len(codes)}"
        )
    return kind.fit(codes)
