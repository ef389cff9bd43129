"""Work ahead of a question: given to just the question it was done for, never beside an answer."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.background import Background, Stopped

PATIENCE_S = 30  # for what comes at once unless something is wrong


@pytest.fixture
def background():
    opened: Background[object] = Background()
    yield opened
    opened.stop()


def nothing() -> None:
    """The state of what rests on nothing."""


def asked(background: Background, key: object) -> object:
    with background.answering(key) as result:
        return result


def test_a_result_is_given_once_and_only_to_its_key(background):
    background.begin("a", lambda wait: ["result"], nothing)
    assert asked(background, "a") == "result"
    assert asked(background, "a") is None
    background.begin("a", lambda wait: ["result"], nothing)
    assert asked(background, "b") is None
    assert asked(background, "a") is None


def test_a_result_counts_only_in_the_state_that_the_work_began_in(background):
    state = [1]
    background.begin("a", lambda wait: ["result"], lambda: state[0])
    background.begin("b", lambda wait: ["result"], lambda: state[0])
    assert asked(background, "b") == "result"
    background.begin("c", lambda wait: [state.append(state.pop() + 1) or "result"], lambda: state[0])
    assert asked(background, "c") is None


def test_work_that_fails_leaves_nothing_behind(background):
    background.begin("a", lambda wait: [1 / 0], nothing)
    assert asked(background, "a") is None
    background.begin("a", lambda wait: ["result"], nothing)
    assert asked(background, "a") == "result"


def test_a_question_cuts_the_pause_of_its_work_short(background):
    def work(wait):
        wait(PATIENCE_S)
        yield "result"

    began = time.monotonic()
    background.begin("a", work, nothing)
    assert asked(background, "a") == "result"
    assert time.monotonic() - began < PATIENCE_S


def test_the_last_result_counts(background):
    done = threading.Event()

    def work(wait):
        yield "good"
        yield "better"
        done.set()

    background.begin("a", work, nothing)
    assert done.wait(PATIENCE_S)
    assert asked(background, "a") == "better"


def test_a_question_that_comes_before_the_better_result_takes_the_one_there_is(background):
    begun, ended = threading.Event(), []

    def work(wait):
        yield "good"
        begun.set()
        try:
            wait(2 * PATIENCE_S)
        except Stopped:
            ended.append("better")
            raise
        yield "better"

    background.begin("a", work, nothing)
    assert begun.wait(PATIENCE_S)
    assert asked(background, "a") == "good"
    assert ended == ["better"]


def test_work_that_fails_later_leaves_what_it_had(background):
    def work(wait):
        yield "good"
        raise ZeroDivisionError

    background.begin("a", work, nothing)
    assert asked(background, "a") == "good"


@pytest.mark.parametrize(
    "change",
    [
        lambda background: background.begin("b", lambda wait: [], nothing),
        lambda background: asked(background, "b"),
        lambda background: background.stop(),
    ],
    ids=["other work", "another question", "stop"],
)
def test_work_ends_when_something_else_is_wanted(background, change):
    begun, ended = threading.Event(), threading.Event()

    def work(wait):
        begun.set()
        try:
            wait(2 * PATIENCE_S)
        except Stopped:
            ended.set()
            raise
        yield "result"

    background.begin("a", work, nothing)
    assert begun.wait(PATIENCE_S)
    change(background)
    assert ended.wait(PATIENCE_S)
    assert asked(background, "a") is None


def test_the_same_work_is_not_begun_twice(background):
    done = []
    for _ in range(3):
        background.begin("a", lambda wait: [done.append("a")], nothing)
    asked(background, "a")
    assert done == ["a"]


def test_nothing_is_worked_on_beside_an_answer(background):
    answering, done = [False], threading.Event()
    seen = []

    def work(wait):
        seen.append(answering[0])
        done.set()
        yield "result"

    with background.answering("first"), background.answering("second"):
        answering[0] = True
        background.begin("third", work, nothing)
        assert asked(background, "fourth") is None  # what has not begun is not waited for
        background.begin("fifth", work, nothing)
        assert not done.wait(0.05)
        answering[0] = False
    assert done.wait(PATIENCE_S)
    assert seen == [False]


def test_an_answer_that_fails_lets_the_next_work_begin(background):
    with pytest.raises(ZeroDivisionError), background.answering("a"):
        background.begin("b", lambda wait: ["result"], nothing)
        raise ZeroDivisionError
    assert asked(background, "b") == "result"


KEYS = st.sampled_from("ab")
STEPS = st.lists(st.one_of(st.tuples(st.just("begin"), KEYS), st.tuples(st.just("ask"), KEYS), st.just(("change", ""))))


@settings(deadline=None)
@given(STEPS)
def test_whatever_happens_a_result_is_that_of_its_key_and_the_present_state(steps):
    background: Background[tuple[str, int]] = Background()
    state = [0]

    def work(key):
        return lambda wait: [(key, state[0])]

    for step, key in steps:
        if step == "begin":
            background.begin(key, work(key), lambda: state[0])
        elif step == "change":
            state[0] += 1
        else:
            assert asked(background, key) in (None, (key, state[0]))
    background.stop()
