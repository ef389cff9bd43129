"""What an evaluation measures, as formulas: ranking, calibration, and how sure a figure is.

Pure. Ranking metrics take the rank of every passage wanted (1 is the best, None when it was not found). Intervals come
from resampling questions: they are too narrow where questions are about the same few passages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeai.bootstrap import LEVEL, Draws, Estimate, Values, interval

Statistic = Callable[..., float]
Ranks = Sequence[int | None]

SLOW_RESAMPLES = 1_000  # for statistics that are computed anew for each of them
BINS = 10  # of the reliability diagram, as in Guo et al. (below)


# ranking --------------------------------------------------------------------------------------------------------------


def recall_at(ranks: Ranks, depth: int) -> float:
    """Share (0..1) of the passages wanted that are among the first `depth`."""
    return sum(rank is not None and rank <= depth for rank in ranks) / len(ranks)


def reciprocal_rank(ranks: Ranks, depth: int) -> float:
    """1 / rank of the first passage wanted, 0 when none is among the first `depth`."""
    return max((1 / rank for rank in ranks if rank is not None and rank <= depth), default=0.0)


def ndcg_at(ranks: Ranks, depth: int) -> float:
    """Normalised discounted cumulative gain at `depth`, 0..1, where a passage is wanted or not.

    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20(4), 2002, with the discount
    1 / log2(1 + rank). Two wanted passages of one rank are held by the same hit and count as one.
    """
    found = {rank for rank in ranks if rank is not None}
    wanted = len(found) + sum(rank is None for rank in ranks)
    gain = sum(_discount(rank) for rank in found if rank <= depth)
    return gain / sum(_discount(rank) for rank in range(1, min(wanted, depth) + 1))


def _discount(rank: int) -> float:
    return 1 / math.log2(1 + rank)


# calibration ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of similar confidence: how sure they were on average, and which share was right."""

    confidence: float
    accuracy: float
    count: int


def reliability(confidences: Values, correct: Values, bins: int = BINS) -> list[Bin]:
    """The bins, of equal width, that hold an answer; `correct` is 0 or 1 each."""
    numbers = np.minimum((confidences * bins).astype(int), bins - 1)
    chosen = [numbers == number for number in range(bins)]
    return [
        Bin(float(confidences[one].mean()), float(correct[one].mean()), int(one.sum())) for one in chosen if one.any()
    ]


def expected_calibration_error(confidences: Values, correct: Values) -> float:
    """Mean distance of confidence and accuracy over the bins, weighted by their answers; NaN without answers.

    Guo et al., "On calibration of modern neural networks", ICML 2017 (arXiv:1706.04599).
    """
    if not len(confidences):
        return math.nan
    return sum(one.count * abs(one.confidence - one.accuracy) for one in reliability(confidences, correct)) / len(
        correct
    )


def risk_coverage(confidences: Values, correct: Values) -> tuple[Values, Values]:
    """Coverage (share answered, rising to 1) and risk (share wrong of those), when the surest answers come first.

    Answers of the same confidence cannot be told apart: each counts with the mean error of all of them.
    """
    order = np.argsort(-confidences, kind="stable")
    _, groups, counts = np.unique(-confidences[order], return_inverse=True, return_counts=True)
    errors = np.bincount(groups, weights=1 - correct[order]) / counts
    answered = np.arange(1, len(order) + 1)
    return answered / len(order), np.cumsum(errors[groups]) / answered


def area_under_risk_coverage(confidences: Values, correct: Values) -> float:
    """Mean risk over all coverages (AURC), lower is better; NaN without answers.

    Geifman and El-Yaniv, "Selective classification for deep neural networks", NeurIPS 2017 (arXiv:1705.08500).
    """
    return float(risk_coverage(confidences, correct)[1].mean()) if len(confidences) else math.nan


# how sure a figure is -------------------------------------------------------------------------------------------------


def mean_samples(values: Values, draws: Draws) -> Values:
    """The mean in each resample; `values` that are NaN do not count, and a resample of nothing else gives NaN."""
    drawn = values[draws]
    counts = (~np.isnan(drawn)).sum(axis=1)
    means: Values = np.divide(np.nansum(drawn, axis=1), counts, out=np.full(len(draws), math.nan), where=counts > 0)
    return means


def statistic_samples(statistic: Statistic, columns: Sequence[Values], draws: Draws) -> Values:
    """`statistic(*columns)` in each resample; questions with NaN in a column do not count."""
    counted = ~np.isnan(np.stack(columns).sum(axis=0))
    kept = (draw[counted[draw]] for draw in draws)
    return np.array([statistic(*(column[rows] for column in columns)) for rows in kept])


def estimate_mean(values: Values, draws: Draws) -> Estimate:
    """The mean of the values (0..1) that are not NaN, at least one."""
    counted = values[~np.isnan(values)]
    low, high = interval(mean_samples(values, draws))
    if counted.min() == counted.max() and low in (0.0, 1.0):
        # No resample shows what never happened: the exact interval of a share does (Clopper and Pearson, 1934).
        unseen = 1 - ((1 - LEVEL) / 2) ** (1 / len(counted))
        low, high = (0.0, unseen) if low == 0.0 else (1 - unseen, 1.0)
    return Estimate(float(counted.mean()), low, high, len(counted))


def estimate(statistic: Statistic, columns: Sequence[Values], draws: Draws) -> Estimate:
    """A statistic of the questions that have a value in all columns, at least one."""
    counted = ~np.isnan(np.stack(columns).sum(axis=0))
    value = statistic(*(column[counted] for column in columns))
    samples = statistic_samples(statistic, columns, draws[:SLOW_RESAMPLES])
    return Estimate(value, *interval(samples), int(counted.sum()))


def paired_difference(new: Values, old: Values, draws: Draws, level: float = LEVEL) -> Estimate:
    """How far the mean moved from `old` to `new`, both of the same questions in the same order.

    Every resample draws the same questions for both (paired bootstrap: Koehn, "Statistical significance tests for
    machine translation evaluation", EMNLP 2004), so what makes a question hard cancels out.
    """
    samples = mean_samples(new, draws) - mean_samples(old, draws)
    counted = int((~np.isnan(new) & ~np.isnan(old)).sum())
    return Estimate(float(np.nanmean(new) - np.nanmean(old)), *interval(samples, level), counted)
