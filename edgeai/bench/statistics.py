"""Percentiles and ratios of response times, each with its bootstrap confidence interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from edgeai.bootstrap import SEED, Draws, Estimate, interval, resample

PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds of one stage, over the `count` answers in which it ran."""

    count: int
    mean: float
    p50: Estimate
    p90: Estimate
    p95: Estimate
    p99: Estimate

    def as_dict(self) -> dict[str, Any]:
        """The numbers, and "intervals" with [low, high] of every percentile; milliseconds to 0.01."""
        estimates: dict[str, Estimate] = {name: getattr(self, name) for name in PERCENTILES}
        return {
            "count": self.count,
            "mean": round(self.mean, 2),
            **{name: round(estimate.value, 2) for name, estimate in estimates.items()},
            "intervals": {name: [round(one.low, 2), round(one.high, 2)] for name, one in estimates.items()},
        }


@dataclass(frozen=True, slots=True)
class Bin:
    """How many values lie in [low, high)."""

    low: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Count, mean and percentiles of at least one value."""
    estimates = estimate_percentiles(values, list(PERCENTILES.values()))
    return Spread(len(values), fmean(values), *estimates)


def estimate_percentiles(values: Sequence[float], shares: Sequence[float]) -> list[Estimate]:
    """For each share (0..1) the value below which so many of at least one value lie, interpolated linearly.

    Type 7 of Hyndman and Fan, "Sample quantiles in statistical packages", The American Statistician 50(4), 1996;
    what NumPy does by default.
    """
    sample = np.asarray(values, dtype=np.float64)
    drawn = np.quantile(sample[resample(len(sample))], shares, axis=1)
    found = zip(np.quantile(sample, shares), drawn, strict=True)
    return [Estimate(float(value), *interval(samples), len(sample)) for value, samples in found]


# ratios ---------------------------------------------------------------------------------------------------------------


def percentile_ratio(new: Sequence[float], old: Sequence[float], share: float) -> Estimate:
    """How many times the percentile of `old` that of `new` is, for two independent samples of positive values.

    The estimate counts those of `new`.
    """
    return _percentile_ratio(new, old, share, resample(len(new)), resample(len(old), SEED + 1))


def paired_percentile_ratio(first: Sequence[float], second: Sequence[float], share: float) -> Estimate:
    """The percentile of `first` over that of `second`; positive values of the same place are drawn together."""
    draws = resample(len(first))
    return _percentile_ratio(first, second, share, draws, draws)


def _percentile_ratio(
    first: Sequence[float], second: Sequence[float], share: float, draws: Draws, other_draws: Draws
) -> Estimate:
    above, below = np.asarray(first), np.asarray(second)
    value = np.quantile(above, share) / np.quantile(below, share)
    samples = np.quantile(above[draws], share, axis=1) / np.quantile(below[other_draws], share, axis=1)
    return Estimate(float(value), *interval(samples), len(first))


def paired_ratio(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """The geometric mean of first value over second value, for at least one pair of positive values."""
    logarithms = np.log(np.asarray(first) / np.asarray(second))
    samples = np.exp(logarithms[resample(len(logarithms))].mean(axis=1))
    return Estimate(math.exp(logarithms.mean()), *interval(samples), len(logarithms))


def ratio_as_dict(ratio: Estimate) -> dict[str, Any]:
    """{"value", "interval": [low, high]}, to 0.001."""
    return {"value": round(ratio.value, 3), "interval": [round(ratio.low, 3), round(ratio.high, 3)]}


def verdict(ratio: Estimate) -> str:
    """ "faster" or "slower" when the whole interval of a ratio of times lies on one side of 1, else "no difference"."""
    if ratio.high < 1:
        return "faster"
    return "slower" if ratio.low > 1 else "no difference"


# for drawing ----------------------------------------------------------------------------------------------------------


def round_step(width: float, parts: int) -> float:
    """The smallest step of 1, 2 or 5 times a power of ten that covers a positive width in at most `parts` steps."""
    least = width / parts
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def histogram(values: Sequence[float], most: int) -> list[Bin]:
    """Bins of equal width with round edges, about `most` of them, that hold all of at least one value."""
    low, high = min(values), max(values)
    step = round_step(max(high - low, high / 100, 1e-3), most)
    first, last = math.floor(low / step), math.floor(high / step)
    counts = [0] * (last - first + 1)
    for value in values:
        counts[math.floor(value / step) - first] += 1
    return [Bin((first + i) * step, (first + i + 1) * step, count) for i, count in enumerate(counts)]
