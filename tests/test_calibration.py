"""What a calibration promises of any answers, and of answers whose truth is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.errors import UsageProblem
from edgeai.evaluation import calibration
from edgeai.evaluation.calibration import Trial, apply, fit, fit_curve, lowest_floor
from edgeai.evaluation.metrics import expected_calibration_error
from edgeai.grounding.calibrated import Calibration
from edgeai.grounding.read import FLOOR

GENERAL = Calibration(floor=FLOOR)

ANSWERS = st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), min_size=1, max_size=60)
RISK = st.floats(0.0, 1.0)


def columns(answers):
    raw, right = zip(*answers, strict=True)
    return np.array(raw), np.array(right, dtype=float)


def world(count: int, slope: float, offset: float, seed: int = 0) -> list[Trial]:
    """Trials whose share right is logistic(slope * log-odds + offset)."""
    random = np.random.default_rng(seed)
    raw = random.uniform(0.02, 0.98, count)
    right = random.uniform(size=count) < apply(raw, slope, offset)
    return [Trial(str(n), float(one), bool(truth)) for n, (one, truth) in enumerate(zip(raw, right, strict=True))]


@settings(deadline=None)
@given(ANSWERS)
def test_the_curve_keeps_the_order_and_its_values_are_probabilities(answers):
    raw, right = columns(answers)
    slope, offset = fit_curve(raw, right)
    grid = np.linspace(0, 1, 50)
    mapped = apply(grid, slope, offset)
    assert slope > 0
    assert np.isfinite(offset)
    assert (np.diff(mapped) >= 0).all()
    assert mapped.min() >= 0
    assert mapped.max() <= 1


@settings(deadline=None)
@given(ANSWERS)
def test_the_curve_never_raises_the_calibration_error_of_its_own_data(answers):
    raw, right = columns(answers)
    after = expected_calibration_error(apply(raw, *fit_curve(raw, right)), right)
    assert after <= expected_calibration_error(raw, right) + 1e-12


@settings(deadline=None)
@given(ANSWERS, RISK)
def test_the_floor_keeps_to_the_risk_and_no_lower_one_does(answers, risk):
    raw, right = columns(answers)
    floor = lowest_floor(raw, right, risk)
    wrong = {one: 1 - right[raw >= one].mean() for one in raw}
    if floor is None:
        assert min(wrong.values()) > risk
    else:
        shown = raw >= floor
        assert shown.any()
        assert 1 - right[shown].mean() <= risk + 1e-6
        assert all(share > risk for one, share in wrong.items() if one < raw[shown].min())


def test_a_curve_that_was_bent_is_found_again():
    slope, offset = fit_curve(*calibration.columns(world(6_000, 0.5, -1.0)))
    assert slope == pytest.approx(0.5, abs=0.05)
    assert offset == pytest.approx(-1.0, abs=0.1)


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_answers_that_are_all_alike_give_no_certainty(right):
    raw = np.linspace(0.1, 0.9, 30)
    mapped = apply(raw, *fit_curve(raw, np.full(30, right)))
    assert abs(mapped.mean() - right) == pytest.approx(1 / 32, abs=0.01)


def test_the_error_reported_comes_from_questions_not_fitted_on_and_falls():
    fitted = fit(world(600, 0.5, -1.5), GENERAL)
    assert fitted.before.ece > 0.2
    assert fitted.after.ece < 0.07
    assert fitted.after.wrong <= fitted.before.wrong + 0.05


def test_without_a_risk_an_answer_has_to_be_as_likely_right_as_the_general_floor_says():
    fitted = fit(world(1_000, 0.5, -0.8), GENERAL)
    at_floor = apply(np.array([fitted.floor]), fitted.slope, fitted.offset)[0]
    assert at_floor == pytest.approx(FLOOR)
    assert fitted.after.wrong < fitted.before.wrong
    assert fit(world(1_000, 1.0, 0.0), GENERAL).floor == pytest.approx(FLOOR, abs=0.05)


def test_a_wanted_risk_moves_the_floor():
    trials = world(400, 1.0, 0.0)
    assert fit(trials, GENERAL, 0.05).floor > fit(trials, GENERAL, 0.3).floor


def test_twins_of_a_question_are_never_fitted_and_judged_at_once(monkeypatch):
    trials = world(80, 1.0, 0.0)
    twins = [*trials, *(Trial(one.group, 1 - one.raw, not one.right) for one in trials)]
    seen = []
    fit_all = calibration.fit_curve
    monkeypatch.setattr(calibration, "fit_curve", lambda raw, right: seen.append(set(raw)) or fit_all(raw, right))
    calibration.cross_validate(twins, 0.5)
    for confidences in seen:
        assert all((one.raw in confidences) == (1 - one.raw in confidences) for one in trials)


def test_questions_with_nothing_to_show_count_as_refused():
    trials = world(60, 1.0, 0.0)
    silent = [Trial(f"silent {n}", 0.9, False, shown=False) for n in range(60)]
    alone, beside = fit(trials, GENERAL), fit([*trials, *silent], GENERAL)
    assert beside.before.answered == alone.before.answered / 2
    assert (beside.slope, beside.offset, beside.floor) == (alone.slope, alone.offset, alone.floor)
    assert beside.curve[-1][0] == pytest.approx(0.5)


def test_the_curve_of_risk_and_coverage_is_part_of_the_record():
    record = json.loads(json.dumps(fit(world(400, 1.0, 0.0), GENERAL).as_dict()))
    points = record["curve"]
    assert list(points[0]) == ["coverage", "risk", "confidence"]
    assert len(points) <= calibration.CURVE_POINTS
    assert [one["coverage"] for one in points] == sorted(one["coverage"] for one in points)
    assert points[-1]["coverage"] == 1.0


def test_what_cannot_be_fitted_is_said_with_the_mend():
    with pytest.raises(UsageProblem, match="add questions"):
        fit(world(calibration.LEAST - 1, 1.0, 0.0), GENERAL)
    wrong = [Trial(str(n), n / 40, False) for n in range(40)]
    with pytest.raises(UsageProblem, match="--risk"):
        fit(wrong, GENERAL, 0.1)
