"""Questions that take two, told by their words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeai.decompose import bridge, halves


@pytest.mark.parametrize(
    ("question", "first", "then"),
    [
        ("How many beds has the hostel that allows pets?", "Which hostel allows pets?", "How many beds has X?"),
        ("Who leads the team which has the night shift?", "Which team has the night shift?", "Who leads X?"),
        ("What extension has the person who signs orders?", "Who signs orders?", "What extension has X?"),
        ("How deep is the pool whose tiles are new?", "Which pool's tiles are new?", "How deep is X?"),
        ("How many seats has the room where we eat?", "In which room we eat?", "How many seats has X?"),
        ("Who teaches on the line on which boards are run?", "On which line boards are run?", "Who teaches on X?"),
        ("How big is the flat we rent?", "Which flat we rent?", "How big is X?"),
        (
            "What is the fee of the course Roza Selim studies?",
            "Which course Roza Selim studies?",
            "What is the fee of X?",
        ),
        ("Where is the course taught by Ada held?", "Which course is taught by Ada?", "Where is X held?"),
        # the main verb stands behind the noun, or behind its description
        ("What does the plan cost that includes calls?", "Which plan includes calls?", "What does X cost?"),
        ("What does the band that plays on Friday cost?", "Which band plays on Friday?", "What does X cost?"),
        ("How much can the lift carry that stopped twice?", "Which lift stopped twice?", "How much can X carry?"),
        ("When will the site be ready whose roof leaks?", "Which site's roof leaks?", "When will X be ready?"),
        ("Whose desk does the man who leads sales take over?", "Who leads sales?", "Whose desk does X take over?"),
        ("What is the name of the person who signs orders?", "Who signs orders?", "What is the name of X?"),
        # the innermost description is asked for first
        ("Who knows the man who met the girl that sings?", "Which girl sings?", "Who knows the man who met X?"),
    ],
)
def test_what_is_described_is_asked_for_first(question, first, then):
    found = bridge(question)
    assert found is not None
    assert (found.first, found.then("X")) == (first, then)


@pytest.mark.parametrize(
    "question",
    [
        "How long is parental leave?",
        "What is the capital of France?",
        "The ship that serves Little Vey",  # nothing is asked of it
        "What does the waiting room at Kirkvane cost?",
        "Which hostel allows pets?",
        "What is the name of the first boat that crossed the lake?",  # that boat is what is asked for
        "Who was the king written of in the canon?",
        "On what day is the garden bin emptied at Upper Mill?",  # "emptied" is what is asked, not what describes
        "Where in the app do I find what I deleted?",
        "",
    ],
)
def test_a_plain_question_describes_nothing(question):
    assert bridge(question) is None


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        (
            "How long is parental leave and who approves it?",
            ("How long is parental leave?", "who approves it?"),
        ),
        (
            "When does the tiler come, and by when must he be paid?",
            ("When does the tiler come?", "by when must he be paid?"),
        ),
        (
            "What is the notice period for cleaners and for drivers?",
            ("What is the notice period for cleaners?", "What is the notice period for drivers?"),
        ),
        ("Which two of red and blue are mixed?", None),
        ("The suburbs lie between the tropics and what other zone?", None),
        ("Who sells bread and butter?", None),
        ("When and where is the meeting?", None),
    ],
)
def test_two_questions_joined_by_and_are_told_apart(question, parts):
    assert halves(question) == parts


WORDS = st.sampled_from(["who", "how", "and", "of", "the", "room", "that", "is", "does", "cost", "Ada", "held in", "é"])


@given(st.one_of(st.text(max_size=80), st.lists(WORDS, max_size=12).map(" ".join)))
def test_what_is_asked_instead_is_made_of_the_words_of_the_question(question):
    plain = " ".join(question.split())
    if found := bridge(question):
        assert found.first.endswith("?")
        assert plain.startswith(found.before)
        assert found.after.strip() in plain
        assert found.then("Old Tom") == f"{found.before}Old Tom{found.after}?"
    if parts := halves(question):
        assert all(part.endswith("?") and len(part.split()) > 1 for part in parts)
        assert all(word in plain for part in parts for word in part.rstrip("?").split())


def test_blanks_do_not_count_and_a_long_text_is_no_question():
    found = bridge("How big is the room that " + " " * 20_000 + "we rent ? ")
    assert found is not None
    assert found.first == "Which room we rent?"
    for text in ("How big is the room that we rent in " + "x" * 400, "what of " * 4_000, "how of a and " * 2_000):
        assert (bridge(text), halves(text)) == (None, None)


@given(st.from_regex(r"[A-Z][a-z]{0,8}( [A-Za-z]{1,8}){0,4}", fullmatch=True))
def test_a_find_stands_where_its_description_stood(find):
    found = bridge("How many beds has the hostel that allows pets in summer?")
    assert found is not None
    assert found.then(find) == f"How many beds has {find}?"
