"""What a confidence is worth, recovered from records made with a known curve."""

from __future__ import annotations

import numpy as np
import pytest

from edgeai.grounding import read
from edgeai.records import Reading
from tools.fit_policy import worth


def record(answerable: float, kind: str, right: bool) -> dict:
    reading = {"relevance": 0.5, "answerable": answerable, "start": 0, "end": 3, "span": 0.5}
    return {"kind": kind, "readings": [reading], "said": "", "reader": {"contains": right, "f1": 0.0}}


@pytest.mark.parametrize(("slope", "offset"), [(0.8, -0.5), (1.2, 0.3)])
def test_the_curve_that_records_were_made_with_is_found(slope, offset):
    random = np.random.default_rng(4)
    records = []
    for answerable in random.uniform(0.3, 0.99, 6_000):
        raw = read.verdict(Reading(0.5, answerable, 0, 3, 0.5), read.UNHEARD).confidence
        chance = 1 / (1 + np.exp(-slope * read.log_odds(raw) - offset))
        records.append(record(answerable, "answerable", bool(random.random() < chance)))
    records.append(record(0.001, "absent", False))  # below the floor
    assert worth(records) == pytest.approx((slope, offset), abs=0.15)


def test_answers_to_questions_without_one_are_wrong_however_often_they_are_in_the_records():
    good = [record(answerable, "answerable", True) for answerable in (0.6, 0.7, 0.8, 0.9)]
    bad = [record(answerable, "absent", True) for answerable in (0.6, 0.7, 0.8, 0.9)]
    assert worth(good + bad) == pytest.approx(worth(good + 5 * bad), abs=1e-3)
