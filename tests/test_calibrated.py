"""A calibration as it is applied, kept and read back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.grounding.calibrated import ALL_SHOWN, Calibration, identity, usable

PROBABILITY = st.floats(0.0, 1.0)


@settings(deadline=None)
@given(PROBABILITY, PROBABILITY, st.floats(0.05, 5.0), st.floats(-40.0, 40.0))
def test_what_was_surer_stays_at_least_as_sure_and_a_probability(one, other, slope, offset):
    calibration = Calibration(slope, offset)
    low, high = sorted((one, other))
    assert 0.0 <= calibration.probability(low) <= calibration.probability(high) <= 1.0


@settings(deadline=None)
@given(PROBABILITY)
def test_without_a_fit_the_confidence_is_the_raw_one(raw):
    assert ALL_SHOWN.probability(raw) == raw


def test_it_survives_being_kept():
    calibration = Calibration(0.7, -0.2, 0.41, "reader", "minilm 0123", "reader-6 4567", "none", 120, "2026-01-01")
    assert usable(json.loads(json.dumps(calibration.as_dict())), "minilm 0123", "reader-6 4567") == calibration


GOOD = Calibration(basis="search").as_dict()


@pytest.mark.parametrize("change", [{"slope": 0.0}, {"slope": "x"}, {"floor": float("nan")}, {"basis": ""}, {"new": 1}])
def test_what_cannot_be_applied_is_none(change):
    assert usable(GOOD, "", "") is not None
    assert usable(GOOD | change, "", "") is None


def test_it_is_not_used_with_other_models():
    assert usable(GOOD, "another 0123", "") is None
    assert usable(GOOD, "", "another 0123") is None
    assert identity(None) == "none"


def test_it_applies_to_the_signals_it_was_fitted_on():
    assert [Calibration(basis="reader").applies(read=read) for read in (True, False)] == [True, False]
    assert [Calibration(basis="search").applies(read=read) for read in (True, False)] == [False, True]
