"""How far an answer goes: enumerations, hours, and "the end of" something."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.grounding import extent
from edgeai.records import Passage, Reading

LINE = "You can speak English, Polish or Tagalog with the outside line."
WARDENS = "In the terminal they are Nell Abara (ticket hall), Joost Prins (café) and Edda Storm\n(first floor)."
BRING = "Bring a medical certificate, your basic safety certificate and two photographs. The desk opens at nine."


def said(text: str, words: str, question: str) -> str:
    start = text.index(words)
    passage = Passage(1, text, "/notes.md", 0, len(text))
    found = extent.whole([question], passage, Reading(0.9, 0.8, start, start + len(words), 0.5))
    assert (found.relevance, found.answerable, found.span) == (0.9, 0.8, 0.5)
    return text[found.start : found.end]


@pytest.mark.parametrize(
    ("text", "words", "question", "wanted"),
    [
        (LINE, "Polish", "In which languages can I speak to the line?", "English, Polish or Tagalog"),
        (LINE, "Tagalog", "Which languages do they speak?", "English, Polish or Tagalog"),
        (WARDENS, "Nell Abara", "Who are the wardens?", "Nell Abara (ticket hall), Joost Prins (café) and Edda Storm"),
        (
            BRING,
            "a medical certificate",
            "What do I have to bring?",
            "a medical certificate, your basic safety certificate and two photographs",
        ),
        ("Closed in May and June.", "June", "In which months are you closed?", "May and June"),
    ],
)
def test_a_question_for_several_things_gets_the_whole_enumeration(text, words, question, wanted):
    assert said(text, words, question) == wanted


@pytest.mark.parametrize(
    ("text", "words", "question"),
    [
        (LINE, "Polish", "Which language is spoken best?"),
        (LINE, "English, Polish or Tagalog", "Which languages are spoken?"),
        ("The shop is red, and nobody knows why.", "red", "Which colours are used?"),
        ("| English | Polish and Tagalog |", "Polish", "Which languages are spoken?"),
        ("The keys are with Ada, the purser.", "Ada", "Who are the people with keys?"),
    ],
)
def test_one_thing_stays_one(text, words, question):
    assert said(text, words, question) == words


@pytest.mark.parametrize(
    ("text", "words", "wanted"),
    [
        ("Open 07:15 to 18:30, on Sundays until 17:00.", "18:30", "07:15 to 18:30"),
        ("Open 9.00 – 17.30 daily.", "9.00", "9.00 – 17.30"),
        ("The train leaves at 07:15.", "07:15", "07:15"),
        ("Use them by the end of April.", "April", "the end of April"),
        ("It is held on the second weekend of June.", "June", "the second weekend of June"),
        ("It is held in June.", "June", "June"),
    ],
)
def test_hours_and_parts_of_a_month_are_not_cut(text, words, wanted):
    assert said(text, words, "When is it?") == wanted


@settings(deadline=None)
@given(st.text("aB1,.:() |-\n", max_size=60), st.sampled_from([" and ", " or ", ", ", " to ", "end of "]), st.data())
def test_an_answer_only_ever_grows(text, joint, data):
    text = text.replace("1", joint)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    passage = Passage(1, text, "/notes.md", 0, len(text))
    found = extent.whole(["Which things are there?"], passage, Reading(0.9, 0.8, start, end, 0.5))
    assert 0 <= found.start <= start <= end <= found.end <= len(text)
