"""Follow-up questions get their topic; others stay as they are."""

import pytest

from edgeai.followup import rewrite_question
from edgeai.records import Turn

HISTORY = (
    Turn("Who founded the chess club?", "Ada Park founded it [1]."),
    Turn("How long is parental leave for employees?", "Employees get 12 weeks, says the Remote Handbook [1]."),
)


@pytest.mark.parametrize(
    "question",
    [
        "and for part-timers?",
        "what about the second one?",
        "Is it paid?",
        "Why?",
        "When do they have to request it?",
        "Und für Teilzeit?",
        "那兼职员工呢？",
    ],
)
def test_a_follow_up_gets_the_previous_topic_and_no_numbers(question):
    rewritten = rewrite_question(question, HISTORY)
    assert rewritten.startswith(question)
    assert "parental" in rewritten
    assert "leave" in rewritten
    assert "remote" in rewritten
    assert "12" not in rewritten
    assert "chess" not in rewritten


@pytest.mark.parametrize(
    "question",
    [
        "How are laptops replaced after four years?",
        "Wer genehmigt den Umzug in ein anderes Büro?",
        "年假可以累积到下一年使用吗？",
    ],
)
def test_a_question_with_its_own_topic_stays_as_it_is(question):
    assert rewrite_question(question, HISTORY) == question


def test_without_history_nothing_changes():
    assert rewrite_question("and for part-timers?", ()) == "and for part-timers?"


def test_words_are_not_repeated():
    assert rewrite_question("Is leave paid?", HISTORY[1:]).count("leave") == 1
