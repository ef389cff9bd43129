"""Time budgets: what is learnt about a machine, and what is planned with it."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeai import pace
from edgeai.budget import (
    CHECKED_TOKENS,
    FINISH_MS,
    FORWARD_OVERHEAD,
    LEAST_READ,
    QUESTION_TOKENS,
    SENTENCE_TOKENS,
    SPARE_FORWARDS,
    SPARE_TOKENS,
    WORDY_FORWARDS,
    Budget,
    Costs,
    Rate,
    Rates,
)

LENGTHS = st.lists(st.integers(0, 2_000), min_size=1, max_size=12)
MS = st.floats(0, 2_000)


def budget(ms: float | None, rates: Rates | None = None) -> Budget:
    return Budget(ms, time.perf_counter(), Costs(rates))


@given(LENGTHS)
def test_without_a_limit_everything_fits(lengths):
    unlimited = budget(None)
    assert unlimited.pairs(lengths) == len(lengths)
    assert not unlimited.leaves_no_answer(lengths)
    assert unlimited.room(100) == unlimited.left() == math.inf
    assert unlimited.deadline is None


@given(LENGTHS, MS, st.floats(1, 2_000))
def test_more_time_never_means_reading_less(lengths, some, more):
    counts = [budget(some + extra).pairs(lengths) for extra in (0, more)]
    assert min(LEAST_READ, len(lengths)) <= counts[0] <= counts[1] <= len(lengths)


def test_what_fits_is_what_the_rates_say():
    rates = Rates(read=Rate(0.1, 0), prefill=Rate(2, 0), forward=Rate(10, 0))
    answer = 2 * (QUESTION_TOKENS + SENTENCE_TOKENS + CHECKED_TOKENS + FORWARD_OVERHEAD) + 10 * SPARE_FORWARDS
    assert budget(FINISH_MS + 160, rates).pairs([380] * 5) == 3  # 50 ms each, the clock has started
    for spare, lost in (
        (-9, False),
        (40, True),
        (100 - 9, True),
        (100 + 9, False),
    ):  # without time there is none to lose
        assert budget(FINISH_MS + answer + spare, rates).leaves_no_answer([380] * 2) == lost
    needed = 2 * (60 + 20 + CHECKED_TOKENS + FORWARD_OVERHEAD) + 10 * SPARE_FORWARDS
    assert 0 < 60 - budget(FINISH_MS + needed, rates).room(20) < 5
    assert budget(50, rates).room(100) < 0
    more = SPARE_FORWARDS + 10
    assert budget(1_000, rates).room(20, forwards=more) == pytest.approx(budget(1_000, rates).room(20) - 50, abs=3)


def test_a_budget_that_is_spent_leaves_nothing():
    late = Budget(100, time.perf_counter() - 1, Costs())
    assert late.left() == 0
    assert late.room(0) < 0
    assert late.pairs([500] * 5) == LEAST_READ


@given(st.integers(1, 5), st.floats(0, 0.2))
def test_a_part_ends_when_its_share_of_the_time_left_is_over(parts, gone):
    whole = Budget(400, time.perf_counter() - gone, Costs())
    part = whole.part(parts)
    assert part.left() == pytest.approx(whole.left() / parts, abs=5)
    assert part.deadline <= whole.deadline + 0.005


def test_a_step_needs_time_for_a_search_and_the_first_passages():
    assert budget(None).part(3).leaves_step()
    assert budget(300).leaves_step()
    assert not budget(300).part(9).leaves_step()
    assert not budget(30).leaves_step()


@given(st.lists(st.floats(0.5, 8), min_size=60, max_size=80))
def test_rates_follow_what_is_observed(values):
    rate = Rate(2.0, 0.5)
    for value in values:
        rate = rate.updated(value)
    assert min(2.0, *values) <= rate.mean <= max(2.0, *values)
    assert rate.careful >= rate.mean


def test_rates_settle_and_one_stalled_answer_does_not_unsettle_them():
    costs = Costs()
    for _ in range(80):
        costs.note(prefill=(100, 300.0), forward=(0, 50.0))
    assert costs.rates.prefill.mean == pytest.approx(3.0, rel=0.01)
    assert costs.rates.prefill.deviation < 0.05
    assert costs.rates.forward == Rates().forward  # nothing was computed, so nothing is learnt
    costs.note(prefill=(100, 60_000.0))
    assert costs.rates.prefill.mean < 4.0


def test_a_missed_deadline_weighs_more_than_a_chance_not_taken():
    costs = Costs()
    before = costs.rates.prefill.mean
    costs.missed(100, 10.0)  # stopped early: it says little about the rate
    assert costs.rates.prefill.mean == pytest.approx(before * 1.25)
    costs.missed(100, 100 * before * 3)
    assert costs.rates.prefill.mean == pytest.approx(before * 3)
    for _ in range(100):
        costs.untried()
    assert costs.rates.prefill.mean < before  # sooner or later it is tried again
    assert costs.rates.forward.mean < Rates().forward.mean


def test_a_slow_hour_of_forwards_does_not_keep_the_next_answers_from_being_tried():
    usual, slow = (Rates(prefill=Rate(1.5, 0.0), forward=Rate(mean, mean)) for mean in (8.0, 90.0))
    assert budget(300, usual).room(40) - budget(300, slow).room(40) < SPARE_TOKENS
    assert budget(900, usual).room(40, WORDY_FORWARDS) - budget(900, slow).room(40, WORDY_FORWARDS) > 1_000


def test_costs_are_kept_by_what_they_depend_on(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEAI_HOME", str(tmp_path))
    costs = Costs()
    costs.note(prefill=(10, 90.0))
    pace.save("small", costs)
    for number in range(pace.KEPT - 1):
        pace.save(f"other {number}", Costs())
    assert pace.load("small").rates == costs.rates
    pace.save("one more", Costs())
    assert pace.load("small").rates == Rates()  # the oldest goes


@pytest.mark.parametrize("text", ["", "[]", "{", '{"small": 3}'])
def test_a_damaged_file_of_costs_is_as_good_as_none(tmp_path, monkeypatch, text):
    monkeypatch.setenv("EDGEAI_HOME", str(tmp_path))
    (tmp_path / pace.FILE).write_text(text)
    assert pace.load("small").rates == Rates()
    pace.save("small", Costs())
    assert pace.load("small").rates == Rates()


def test_costs_can_be_kept():
    costs = Costs()
    costs.note(read=(1000, 40.0))
    assert Costs.from_dict(costs.as_dict()).rates == costs.rates


@pytest.mark.parametrize("values", [{}, {"read": 3}, Costs().as_dict() | {"read": {"mean": -1, "deviation": 0}}])
def test_what_is_not_costs_is_refused(values):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Costs.from_dict(values)
