"""How sure a figure is: a sample is drawn again and again from itself, which shows how much chance can move the figure.

Observations are taken for independent. An error that all share stays unseen, such as wrong expected answers or a
machine that slows down; repeated or very similar ones make intervals too narrow; none reaches beyond what was observed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeai.errors import UsageProblem

Values = npt.NDArray[np.float64]
Draws = npt.NDArray[np.int64]

LEVEL = 0.95  # of every interval that is shown
RESAMPLES = 4_000  # the ends of a 95 % interval rest on 100 of them each
SEED = 20_240_601  # the same observations always give the same interval


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with the interval that holds it at `LEVEL` (or at the level asked for), from `count` observations."""

    value: float
    low: float
    high: float
    count: int


def resample(count: int, seed: int = SEED) -> Draws:
    """Which of `count` observations each resample draws, with replacement; shape (RESAMPLES, count).

    Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7(1), 1979.
    """
    if not count:
        raise UsageProblem("There are no questions to measure; give at least one.")
    return np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))


def interval(samples: Values, level: float = LEVEL) -> tuple[float, float]:
    """The middle `level` of a figure's values in the resamples; NaN twice when it could be computed in none.

    The percentile method of Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    known = samples[~np.isnan(samples)]
    if not len(known):
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
