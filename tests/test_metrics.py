"""The figures are what their definitions say, and their intervals behave as intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.bootstrap import LEVEL, resample
from edgeai.evaluation import metrics

ranks = st.lists(st.none() | st.integers(1, 30), min_size=1, max_size=8)
shares = st.lists(st.floats(0, 1), min_size=1, max_size=40)


def pairs(answers):
    confidences, correct = zip(*answers, strict=True)
    return np.array(confidences, dtype=float), np.array(correct, dtype=float)


answers = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60).map(pairs)


# ranking


@given(st.integers(1, 12), st.integers(1, 12))
def test_a_perfect_ranking_has_an_ndcg_of_one(wanted, depth):
    assert metrics.ndcg_at(range(1, wanted + 1), depth) == pytest.approx(1)


@given(st.sets(st.integers(1, 20), min_size=1, max_size=6), st.integers(0, 3), st.integers(1, 12))
def test_ndcg_is_the_textbook_sum_over_a_list_of_hits(found, missing, depth):
    relevant = [rank in found for rank in range(1, depth + 1)]
    gain = sum(flag / math.log2(rank + 1) for rank, flag in enumerate(relevant, 1))
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(found) + missing, depth) + 1))
    assert metrics.ndcg_at([*found, *[None] * missing], depth) == pytest.approx(gain / ideal)


@given(st.sets(st.integers(1, 30), min_size=1, max_size=8))
def test_moving_a_passage_up_never_lowers_a_ranking_metric(given_ranks):
    given_ranks = sorted(given_ranks)
    better = list(given_ranks)
    place = next((i for i, rank in enumerate(better) if rank > 1 and rank - 1 not in better), None)
    if place is None:
        return
    better[place] -= 1
    for metric in (metrics.recall_at, metrics.reciprocal_rank, metrics.ndcg_at):
        assert metric(better, 10) >= metric(given_ranks, 10) - 1e-12


@given(ranks)
def test_ranking_metrics_lie_between_0_and_1_and_recall_grows_with_depth(given_ranks):
    recalls = [metrics.recall_at(given_ranks, depth) for depth in (1, 5, 10, 30)]
    assert recalls == sorted(recalls)
    assert 0 <= metrics.ndcg_at(given_ranks, 10) <= 1 + 1e-12
    assert metrics.reciprocal_rank(given_ranks, 10) in {0.0, *(1 / rank for rank in range(1, 11))}


def test_two_passages_in_one_hit_are_both_recalled_and_count_once_in_ndcg():
    assert metrics.recall_at([1, 1], 1) == 1
    assert metrics.ndcg_at([1, 1], 10) == 1


# calibration


def test_a_calibrated_sample_has_an_error_near_0_and_a_boastful_one_has_not():
    random = np.random.default_rng(1)
    confidences = random.uniform(size=20_000)
    correct = (random.uniform(size=20_000) < confidences).astype(float)
    assert metrics.expected_calibration_error(confidences, correct) < 0.02
    assert metrics.expected_calibration_error(np.full(100, 0.9), np.zeros(100)) == pytest.approx(0.9)


@given(answers)
def test_every_answer_is_in_one_bin(sample):
    bins = metrics.reliability(*sample)
    assert sum(one.count for one in bins) == len(sample[0])
    assert sum(one.count * one.accuracy for one in bins) == pytest.approx(sample[1].sum())


@given(answers)
def test_at_full_coverage_the_risk_is_the_share_of_wrong_answers(sample):
    coverage, risk = metrics.risk_coverage(*sample)
    assert coverage[-1] == 1
    assert risk[-1] == pytest.approx(1 - sample[1].mean())


def test_confidence_that_ranks_well_has_less_risk_than_confidence_that_says_nothing_or_the_opposite():
    correct = np.array([1.0] * 6 + [0.0] * 4)
    ranked = np.linspace(1, 0, 10)
    good, bad = (metrics.area_under_risk_coverage(order, correct) for order in (ranked, ranked[::-1]))
    assert good < metrics.area_under_risk_coverage(np.full(10, 0.5), correct) < bad
    assert metrics.area_under_risk_coverage(np.full(10, 0.5), correct) == pytest.approx(0.4)


@given(answers, st.randoms())
def test_the_order_of_the_questions_does_not_matter(sample, random):
    order = list(range(len(sample[0])))
    random.shuffle(order)
    shuffled = [column[order] for column in sample]
    for metric in (metrics.area_under_risk_coverage, metrics.expected_calibration_error):
        assert metric(*sample) == pytest.approx(metric(*shuffled))


def test_without_answers_calibration_is_not_a_number():
    empty = np.array([])
    assert math.isnan(metrics.expected_calibration_error(empty, empty))
    assert math.isnan(metrics.area_under_risk_coverage(empty, empty))


# intervals


@given(shares)
@settings(max_examples=25, deadline=None)
def test_a_mean_lies_in_its_interval_and_the_same_seed_gives_the_same_one(values):
    column = np.array(values)
    draws = resample(len(column))
    first = metrics.estimate_mean(column, draws)
    assert first.low - 1e-9 <= first.value <= first.high + 1e-9
    assert first == metrics.estimate_mean(column, resample(len(column)))


def test_intervals_hold_the_true_mean_about_as_often_as_they_say():
    random = np.random.default_rng(2)
    draws = resample(100)[:1000]
    held = 0
    for _ in range(200):
        found = metrics.estimate_mean((random.uniform(size=100) < 0.3).astype(float), draws)
        held += found.low <= 0.3 <= found.high
    assert held / 200 == pytest.approx(LEVEL, abs=0.05)


def test_what_never_happened_in_a_few_questions_may_still_happen():
    few, many = (metrics.estimate_mean(np.zeros(n), resample(n)) for n in (5, 500))
    assert (few.value, few.low) == (0, 0)
    assert few.high == pytest.approx(0.522, abs=0.001)  # tables of Clopper and Pearson
    assert many.high < 0.01
    certain = metrics.estimate_mean(np.ones(5), resample(5))
    assert (certain.low, certain.high) == (pytest.approx(0.478, abs=0.001), 1)


def test_values_that_do_not_apply_are_left_out():
    values = np.array([1.0, math.nan, 0.0, math.nan])
    assert metrics.estimate_mean(values, resample(4)).count == 2
    confidence = np.array([0.9, math.nan, 0.2])
    found = metrics.estimate(metrics.expected_calibration_error, (confidence, np.ones(3)), resample(3))
    assert found.count == 2
    assert found.value == pytest.approx(0.45)


@given(shares)
@settings(max_examples=25, deadline=None)
def test_a_run_compared_with_itself_has_not_moved(values):
    column = np.array(values)
    moved = metrics.paired_difference(column, column, resample(len(column)))
    assert (moved.value, moved.low, moved.high) == (0, 0, 0)


def test_chance_alone_seldom_passes_for_a_regression():
    random = np.random.default_rng(4)
    draws, level = resample(40), 1 - 0.05 / 13  # as the gate has it
    alarms = 0
    for _ in range(200):
        before, after = ((random.uniform(size=40) < 0.8).astype(float) for _ in range(2))
        moved = metrics.paired_difference(after, before, draws, level)
        alarms += not moved.low <= 0 <= moved.high
    assert alarms <= 4


def test_a_paired_difference_sees_what_the_spread_of_the_questions_would_hide():
    random = np.random.default_rng(3)
    hardness = random.uniform(size=60)
    moved = metrics.paired_difference(hardness * 0.95, hardness, resample(60))
    assert moved.high < 0
    chance = metrics.paired_difference(random.uniform(size=60), random.uniform(size=60), resample(60))
    assert chance.low < 0 < chance.high
