"""Two samples of questions: chance, or a difference."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.errors import UsageProblem
from edgeai.evaluation import drift
from edgeai.evaluation.calibration import Trial
from edgeai.evaluation.questions import Case
from edgeai.evaluation.trials import Asked, Asking
from edgeai.grounding.calibrated import Calibration
from edgeai.questionlog import Logged

ABOUT_LEAVE = [f"How many {what} of leave does {who} have?" for what in ("days", "weeks") for who in "abcdefghijklm"]
ABOUT_FOOD = [f"Which {what} goes well with {food}?" for what in ("wine", "cheese") for food in "abcdefghijklm"]


def sample(count: int, shift: float, seed: int, dimensions: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (count, dimensions))


def asked(questions, confidence=0.8, held_out=False):
    return [
        Asked(Asking(Case(question, question), held_out=held_out), Trial(question, confidence, True), "reader")
        for question in questions
    ]


def logged(questions, confidence=0.8):
    return [Logged(question, confidence < 0.4, confidence) for question in questions]


def test_samples_of_one_kind_are_told_apart_as_seldom_as_promised():
    values = [drift.two_sample_p(sample(25, 0, 2 * n), sample(30, 0, 2 * n + 1), 99) for n in range(100)]
    assert np.mean(np.array(values) <= 0.05) <= 0.12
    assert 0.3 < np.mean(values) < 0.7


def test_samples_of_two_kinds_are_told_apart():
    assert drift.two_sample_p(sample(25, 0, 1), sample(30, 1, 2)) <= 0.001


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_the_chance_is_one_and_does_not_depend_on_the_order_inside_a_sample(one, other):
    first, second = np.array(one)[:, None], np.array(other)[:, None]
    chance = drift.two_sample_p(first, second, 99)
    assert 0 < chance <= 1
    assert drift.two_sample_p(first, first, 99) == 1
    assert drift.two_sample_p(first[::-1], second, 99) == pytest.approx(chance, abs=0.25)


def test_questions_like_those_of_the_calibration_are_no_drift(embedder):
    kept = drift.evidence(asked(ABOUT_LEAVE), Calibration(basis="reader"), embedder)
    found = drift.compare(json.loads(json.dumps(kept)), logged(ABOUT_LEAVE[::-1]), embedder)
    assert not found.due
    assert "still holds" in found.sentence


def test_other_topics_and_less_confidence_are_each_named(embedder):
    kept = drift.evidence(asked(ABOUT_LEAVE), Calibration(floor=0.4, basis="reader"), embedder)
    other = drift.compare(kept, logged(ABOUT_FOOD), embedder)
    assert other.due
    assert other.sentence.endswith("are about other things.")
    unsure = drift.compare(kept, logged(ABOUT_LEAVE, 0.2), embedder)
    assert unsure.sentence.endswith("are answered with less confidence.")
    assert unsure.as_dict()["refused"] == {"before": 0.0, "now": 1.0}
    assert json.loads(json.dumps(unsure.as_dict()))["due"] is True


def test_what_is_kept_is_small_without_text_and_without_questions_held_out(embedder):
    many = asked([f"{question} {n}" for question in ABOUT_LEAVE for n in range(10)])
    kept = drift.evidence([*many, *asked(ABOUT_FOOD, held_out=True)], Calibration(basis="reader"), embedder)
    assert len(kept["confidences"]) == len(kept["refused"]) == drift.SAMPLE
    text = json.dumps(kept)
    assert len(text) < 250_000
    assert "leave" not in text


def test_too_few_questions_are_said_to_be_too_few(embedder):
    kept = drift.evidence(asked(ABOUT_LEAVE), Calibration(basis="reader"), embedder)
    with pytest.raises(UsageProblem, match="log_questions"):
        drift.compare(kept, logged(ABOUT_LEAVE[:5]), embedder)
