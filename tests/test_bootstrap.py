"""Resamples and intervals are what their definitions say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.bootstrap import RESAMPLES, SEED, interval, resample
from edgeai.errors import UsageProblem


@given(st.integers(1, 50))
@settings(max_examples=10, deadline=None)
def test_every_resample_draws_as_many_observations_as_there_are_from_all_of_them(count):
    draws = resample(count)
    assert draws.shape == (RESAMPLES, count)
    assert set(np.unique(draws)) == set(range(count))


def test_the_same_seed_draws_the_same():
    assert (resample(9) == resample(9)).all()
    assert (resample(9) != resample(9, SEED + 1)).any()


def test_nothing_to_resample_is_refused():
    with pytest.raises(UsageProblem, match="no questions"):
        resample(0)


def test_an_interval_is_the_middle_of_what_could_be_computed():
    samples = np.append(np.arange(101.0), math.nan)
    assert interval(samples) == pytest.approx((2.5, 97.5))
    assert interval(samples, 0.5) == pytest.approx((25, 75))
    assert np.isnan(interval(np.array([math.nan]))).all()
