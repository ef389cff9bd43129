"""Sentence boundaries: a law for every text, and the cases that matter."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.text.sentences import is_complete, sentences, trim_to_sentences

prose = st.text(alphabet="abAB1 2.!?。…,\n\t|-#[]\"'”é日Ü", max_size=120)


def split(text):
    return [text[start:end] for start, end in sentences(text)]


@given(prose | st.text())
@settings(deadline=None)
def test_spans_are_ordered_disjoint_stripped_and_leave_only_white_space(text):
    position = 0
    for start, end in sentences(text):
        assert text[position:start].strip() == ""
        assert start < end
        assert text[start:end] == text[start:end].strip()
        position = end
    assert text[position:].strip() == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        (
            "It costs 3.50 euros. Ask Dr. Smith, e.g. on Monday.",
            ["It costs 3.50 euros.", "Ask Dr. Smith, e.g. on Monday."],
        ),
        ("Version 4.2.1 is out. See Fig. 3 and No. 7.", ["Version 4.2.1 is out.", "See Fig. 3 and No. 7."]),
        ("The answer is no. The rest is known.", ["The answer is no.", "The rest is known."]),
        (
            "Am 3. März ist frei. Das gilt z.B. auch für Aushilfen.",
            ["Am 3. März ist frei.", "Das gilt z.B. auch für Aushilfen."],
        ),
        ("It began in 2019. Then it grew.", ["It began in 2019.", "Then it grew."]),
        ("产假为十二周。兼职员工为六周！真的吗？", ["产假为十二周。", "兼职员工为六周！", "真的吗？"]),
        ("「はい。」と言った。終わり。", ["「はい。」", "と言った。", "終わり。"]),
        ("Leave is 12 weeks. [1] It is paid [2]. Ok", ["Leave is 12 weeks. [1]", "It is paid [2].", "Ok"]),
        ('He said "stop." Then he left.', ['He said "stop."', "Then he left."]),
        ("- one\n- two\n1. three\n2. four", ["- one", "- two", "1. three", "2. four"]),
        ("| a | b |\n|---|---|\n| 1 | 2 |", ["| a | b |", "|---|---|", "| 1 | 2 |"]),
        ("# Leave\nAll staff.\n\nMore", ["# Leave", "All staff.", "More"]),
        ("Name: Ada\nRole: chair", ["Name: Ada", "Role: chair"]),
        ("a\tb\nc\td", ["a\tb", "c\td"]),
        (
            "name: Ada | role: chair of the board of trustees here\nname: Bo",
            ["name: Ada | role: chair of the board of trustees here", "name: Bo"],
        ),
        (
            "Address: 12 Harbour Street, third floor on the left\nValid from: May",
            ["Address: 12 Harbour Street, third floor on the left", "Valid from: May"],
        ),
        (
            "This line of a plain text file is wrapped at\nsome width and goes on here. Next.",
            ["This line of a plain text file is wrapped at\nsome width and goes on here.", "Next."],
        ),
        ("", []),
        (" \n ", []),
    ],
)
def test_boundaries(text, expected):
    assert split(text) == expected


@pytest.mark.parametrize("text", ["One.", "Two [1].", "Three. [2]", 'Four."', "五。", "Six?", "Seven…", "Eight!)"])
def test_a_finished_sentence_is_complete(text):
    assert is_complete(text)


@pytest.mark.parametrize("text", ["", "One", "Two [1]", "Three,", "in 3.5"])
def test_an_unfinished_sentence_is_not(text):
    assert not is_complete(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One [1]. Two and", "One [1]."),
        ("One. Two. ", "One. Two."),
        ("Only the beginning of", "Only the beginning of…"),
        ("", ""),
        ("一。二", "一。"),
    ],
)
def test_trimming_drops_the_unfinished_end(text, expected):
    assert trim_to_sentences(text) == expected


@given(prose)
@settings(deadline=None)
def test_trimming_twice_changes_nothing(text):
    once = trim_to_sentences(text)
    assert trim_to_sentences(once) == once
