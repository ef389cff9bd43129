"""Questions for what an acronym stands for."""

from __future__ import annotations

import pytest

from edgeai.grounding import definitions
from edgeai.records import Passage

TEXT = "Watches change at noon. Hours are entered in the RHB, the Rest Hours Book, after each watch. It is blue."


@pytest.mark.parametrize(
    ("question", "acronym"),
    [
        ("What does RHB stand for?", "RHB"),
        ("What is the RHB?", "RHB"),
        ("what's a hwp", "HWP"),
        ("What does the abbreviation TOW mean?", "TOW"),
        ("What is RHB short for?", "RHB"),
        ("What is the colour of the RHB?", ""),
        ("What is rent?", ""),
        ("What is it?", ""),
        ("Who keeps the RHB?", ""),
    ],
)
def test_only_a_question_for_the_meaning_counts(question, acronym):
    assert definitions.asked(question) == acronym


def test_the_words_are_given_with_the_sentence_that_says_so():
    other = Passage(1, "The RHB is kept on the bridge.", "/bridge.md", 0, 30)
    passage = Passage(2, TEXT, "/watches.md", 100, 100 + len(TEXT))
    text, quote = definitions.find("What is the RHB?", [other, passage])
    assert text == "Rest Hours Book [2]"
    assert quote.quote == "Hours are entered in the RHB, the Rest Hours Book, after each watch."
    assert TEXT[quote.start - 100 : quote.end - 100] == quote.quote
    assert definitions.find("What is the RHB?", [other]) is None
    assert definitions.find("Who keeps the RHB?", [passage]) is None
