"""What a split's metrics amount to: statistics of every metric, with bootstrap intervals."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

Direction = Literal["lower", "higher"]

METRICS: dict[str, Direction] = {
    "chamfer": "lower",
    "chamfer_to_reference": "lower",
    "chamfer_to_surface": "lower",
    "chamfer_l1": "lower",
    "earth_mover_distance": "lower",
    "mesh_accuracy": "lower",
    "mesh_completion": "higher",
    "cosine_to_reference": "higher",
    "cosine_to_surface": "higher",
    "f_score_half_percent": "higher",
    "f_score_one_percent": "higher",
    "f_score_two_percent": "higher",
    "hausdorff": "lower",
    "hausdorff_95": "lower",
    "volumetric_iou": "higher",
    "sdf_clamped_l1": "lower",
    "sdf_wrong_signs": "lower",
}
"""The columns of metrics.csv, and which figures are better: those of `SurfaceMetrics`, then those of `SDFError`."""

RESAMPLES = 2000
LEVEL = 0.95

_PERCENTILES = (5, 25, 75, 95)
_AT_ONCE = 4_000_000  # drawn values in memory


def statistics(values: np.ndarray, *, seed: int = 0) -> dict[str, Any]:
    """Mean, median, std (of the values, not estimated for more), min, max, percentiles, and bootstrap intervals.

    Args:
        values: (n,); of none, every figure is None.
        seed: of the bootstrap.
    """
    percentiles = [f"p{percent:02d}" for percent in _PERCENTILES]
    if not len(values):
        names = ["mean", "median", "std", "min", "max", *percentiles, "mean_interval", "median_interval"]
        return dict.fromkeys(names)
    mean_interval, median_interval = bootstrap(values, seed=seed)
    return {
        "mean": float(np.mean(values)),
        "median": float(np.median(values)),
        "std": float(np.std(values)),
        "min": float(np.min(values)),
        "max": float(np.max(values)),
        **dict(zip(percentiles, np.percentile(values, _PERCENTILES).tolist(), strict=True)),
        "mean_interval": mean_interval,
        "median_interval": median_interval,
    }


def bootstrap(
    values: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> tuple[list[float], list[float]]:
    """Percentile intervals [low, high] of the mean and of the median of values (n,), n at least 1.

    Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13. They tell how far the figures would move
    with other shapes of the same kind; of a handful of shapes they are too narrow.
    """
    rng = np.random.default_rng(seed)
    means, medians = np.empty(resamples), np.empty(resamples)
    block = max(1, _AT_ONCE // len(values))
    for start in range(0, resamples, block):
        rows = slice(start, min(start + block, resamples))
        drawn = values[rng.integers(len(values), size=(rows.stop - start, len(values)))]
        means[rows], medians[rows] = drawn.mean(axis=1), np.median(drawn, axis=1)
    ends = [(1 - level) / 2, (1 + level) / 2]
    return np.quantile(means, ends).tolist(), np.quantile(medians, ends).tolist()
