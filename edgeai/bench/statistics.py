"""Percentiles and ratios of response times, with bootstrap confidence intervals.

Intervals are those of the percentile method (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter
13). They take answers for independent: a machine that slows down during a run, or repeated questions, make them too
narrow, and no interval reaches beyond the slowest answer seen.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Item = TypeVar("Item")

CONFIDENCE = 0.95
RESAMPLES = 2000  # the ends of a 95 % interval rest on 50 of them each
SEED = 0  # the same times always give the same interval
PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic of a sample, with the ends of its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, Any]:
        """{"value", "interval": [low, high]}, to 0.001."""
        return {"value": round(self.value, 3), "interval": [round(self.low, 3), round(self.high, 3)]}


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
    return Spread(len(values), mean(values), *estimates)


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean of at least one value."""
    return math.fsum(values) / len(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0..1) of at least one value lie, interpolated linearly.

    Type 7 of Hyndman and Fan, "Sample quantiles in statistical packages", The American Statistician 50(4), 1996;
    what NumPy does by default.
    """
    return _of_ordered(sorted(values), share)


def _of_ordered(ordered: Sequence[float], share: float) -> float:
    position = share * (len(ordered) - 1)
    low, high = ordered[math.floor(position)], ordered[math.ceil(position)]
    return low + (high - low) * (position - math.floor(position))


# the bootstrap --------------------------------------------------------------------------------------------------------


def estimate_percentiles(values: Sequence[float], shares: Sequence[float]) -> list[Estimate]:
    """One estimate for each share (0..1), of at least one value."""
    drawn = []
    for again in _resamples(values):
        ordered = sorted(again)
        drawn.append([_of_ordered(ordered, share) for share in shares])
    columns = zip(*drawn, strict=True)
    return [_estimate(percentile(values, share), column) for share, column in zip(shares, columns, strict=True)]


def percentile_ratio(new: Sequence[float], old: Sequence[float], share: float) -> Estimate:
    """How many times the percentile of `old` that of `new` is, for two independent samples of positive values."""
    drawn = [
        percentile(a, share) / percentile(b, share)
        for a, b in zip(_resamples(new), _resamples(old, SEED + 1), strict=True)
    ]
    return _estimate(percentile(new, share) / percentile(old, share), drawn)


def paired_percentile_ratio(pairs: Sequence[tuple[float, float]], share: float) -> Estimate:
    """The percentile of all first values over that of all second ones; pairs of positive values are drawn together."""

    def ratio(sample: Sequence[tuple[float, float]]) -> float:
        first, second = zip(*sample, strict=True)
        return percentile(first, share) / percentile(second, share)

    return _bootstrap(pairs, ratio)


def paired_ratio(pairs: Sequence[tuple[float, float]]) -> Estimate:
    """The geometric mean of first value over second value, for at least one pair of positive values."""
    logarithms = [math.log(first / second) for first, second in pairs]
    return _bootstrap(logarithms, lambda sample: math.exp(mean(sample)))


def verdict(ratio: Estimate) -> str:
    """ "faster" or "slower" when the whole interval of a ratio of times lies on one side of 1, else "no difference"."""
    if ratio.high < 1:
        return "faster"
    return "slower" if ratio.low > 1 else "no difference"


def _bootstrap(sample: Sequence[Item], statistic: Callable[[Sequence[Item]], float]) -> Estimate:
    return _estimate(statistic(sample), [statistic(again) for again in _resamples(sample)])


def _resamples(sample: Sequence[Item], seed: int = SEED) -> Iterator[list[Item]]:
    """Samples of the same size, drawn with replacement."""
    generator = random.Random(seed)
    return (generator.choices(sample, k=len(sample)) for _ in range(RESAMPLES))


def _estimate(value: float, drawn: Sequence[float]) -> Estimate:
    ordered = sorted(drawn)
    tail = (1 - CONFIDENCE) / 2
    return Estimate(value, _of_ordered(ordered, tail), _of_ordered(ordered, 1 - tail))


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
