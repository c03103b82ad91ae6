"""Statistics of one metric over many shapes, with bootstrap intervals."""

from __future__ import annotations

from typing import Any

import numpy as np

RESAMPLES = 2000
"""Bootstrap resamples: the ends of 95 % intervals need 1 000 or more (Efron and Tibshirani, 1993, chapter 13)."""

LEVEL = 0.95
"""Coverage of the bootstrap intervals."""

_BLOCK_VALUES = 4_000_000  # resampled values in memory at once: 32 MB
_PERCENTILES = (5, 25, 75, 95)


def statistics(values: np.ndarray, *, seed: int = 0) -> dict[str, Any]:
    """Mean, median, standard deviation, extremes, percentiles, and bootstrap intervals of mean and median.

    Args:
        values: (n,); if n = 0, every statistic is None.
        seed: random seed of the bootstrap.
    Returns:
        "std" is that of the values (division by n); intervals are [low, high].
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
    """Percentile intervals [low, high] of the mean and of the median of values (n,), n > 0.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13. The intervals say how much the statistics
    would change for other shapes of the same kind; for fewer than about ten shapes they are too narrow.
    """
    rng = np.random.default_rng(seed)
    means, medians = np.empty(resamples), np.empty(resamples)
    block = max(1, _BLOCK_VALUES // len(values))
    for start in range(0, resamples, block):
        rows = slice(start, min(start + block, resamples))
        drawn = values[rng.integers(len(values), size=(rows.stop - start, len(values)))]
        means[rows], medians[rows] = drawn.mean(axis=1), np.median(drawn, axis=1)
    ends = [(1 - level) / 2, (1 + level) / 2]
    return np.quantile(means, ends).tolist(), np.quantile(medians, ends).tolist()
