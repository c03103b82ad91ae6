"""Errors of a field on samples of the true signed distance."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from deepsdf.errors import InputError
from deepsdf.geometry.fields import Field
from deepsdf.geometry.sdf.sampling import SDFSamples


@dataclass(frozen=True)
class SDFError:
    """Errors of a field on samples of known signed distance, in the samples' frame.

    Attributes:
        clamped_l1: mean of |clamp(f(p), ±clamp) - clamp(s, ±clamp)|, the paper's equation 4 without the prior. Length.
        wrong_signs: share of the samples off the surface (s ≠ 0) where the field has another sign; 0 has no sign.
        clamp: the clamping distance δ. Length.
        samples: number of samples.
    """

    clamped_l1: float
    wrong_signs: float
    clamp: float
    samples: int

    def as_dict(self) -> dict[str, float | int]:
        """The fields by name, in this order: a row of a table."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class FieldPair:
    """Values (n,) of a field beside the true signed distances (n,). Metrics are functions of this object."""

    values: np.ndarray
    truth: np.ndarray
    clamp: float

    def clamped_l1(self) -> float:
        low, high = -self.clamp, self.clamp
        return float(np.abs(np.clip(self.values, low, high) - np.clip(self.truth, low, high)).mean())

    def wrong_signs(self) -> float:
        off = self.truth != 0
        return float(np.mean(np.sign(self.values[off]) != np.sign(self.truth[off]))) if off.any() else 0.0


def field_pair(field: Field, samples: SDFSamples, clamp: float) -> FieldPair:
    """Evaluates a field at samples of the true signed distance.

    Args:
        field: maps points (n, 3) to signed distances (n,), negative inside, in the samples' frame.
        clamp: clamping distance δ, in the samples' frame.
    Raises:
        InputError: no samples, a clamp that is not positive, or a field that is not finite on the samples.
    """
    if not len(samples):
        raise InputError("there are no SDF samples to compare the field with; expected at least one")
    if not clamp > 0:
        raise InputError(f"clamp is {clamp}; expected a positive length in the samples' frame")
    truth = samples.distances.astype(np.float64)
    values = np.asarray(field(samples.points), np.float64)
    if values.shape != truth.shape:
        raise InputError(f"the field returned shape {values.shape} for {len(truth)} samples; expected ({len(truth)},)")
    invalid = int((~np.isfinite(values)).sum())
    if invalid:
        raise InputError(f"the field is NaN or infinite at {invalid} of {len(truth)} samples")
    return FieldPair(values, truth, float(clamp))


def sdf_error(field: Field, samples: SDFSamples, clamp: float = 0.1) -> SDFError:
    """Errors of a field on samples of the true signed distance, in their frame; see `SDFError`.

    Args:
        field: maps points (n, 3) to signed distances (n,), negative inside, in the samples' frame.
        clamp: clamping distance δ; the default is the paper's, in the unit frame.
    Raises:
        InputError: no samples, a clamp that is not positive, or a field that is not finite on the samples.
    """
    pair = field_pair(field, samples, clamp)
    return SDFError(pair.clamped_l1(), pair.wrong_signs(), pair.clamp, len(pair.truth))
