"""Which cell a question points at, and when it points at none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.grounding import cells
from edgeai.records import Passage, Reading

TANKS = """Fuel is bunkered at Corrowick.

| Ship | Tank capacity | Usual consumption a week | Reserve never used |
|---|---|---|---|
| MV Solan | 118,000 l | 41,500 l | 18,000 l |
| MV Fulmar | 86,000 l | 33,200 l | 14,000 l |

Nobody smokes there.
"""
ROWS = """| MV Solan | 118,000 l | 41,500 l |
| MV Fulmar | 86,000 l | 33,200 l |"""
COURSES = """Course: Fast rescue boat | Length: 3 days | Price per person: £620
Course: First aid at work | Length: 2 days | Price per person: £210
Course: Forklift | Length: 2 days
"""
OFFICES = """office: Ticket office Tarbeg
opens: 06:45
closes: 18:30

office: Ticket office Kirkvane
opens: 07:40
closes: 17:30
"""


def read(text: str, words: str, question: str, header: str = "") -> Reading:
    """The reading of a passage where a reader took these words for the answer."""
    start = text.index(words)
    passage = Passage(1, text, "/ships.md", 0, len(text), header=header)
    return cells.pointed([question], passage, Reading(0.9, 0.8, start, start + len(words), 0.5))


def words(text: str, found: Reading) -> str:
    return text[found.start : found.end]


@pytest.mark.parametrize(
    ("text", "taken", "question", "wanted"),
    [
        (TANKS, "18,000 l |\n| MV Fulmar", "How much fuel fits into Solan's tanks?", "118,000 l"),
        (TANKS, "118,000 l", "What is the usual consumption of Fulmar?", "33,200 l"),
        (TANKS, "118,000 l", "What is the capacity of the Fulmar?", "86,000 l"),  # the column as the reader has it
        (COURSES, "£210", "What is the price of the fast rescue boat course?", "£620"),
        (COURSES, "3 days", "What does first aid cost in days?", "2 days"),
        (
            TANKS,
            "86,000 l | 33,200 l",
            "Which ship uses 33,200 l a week?",
            "MV Fulmar",
        ),  # the first column is asked for
        (COURSES, "£620", "In which course do I pay £620?", "Fast rescue boat"),
        (TANKS, "41,500 l", "Which of them carries 86,000 l when its tanks are full?", "MV Fulmar"),  # known by a value
        (TANKS, "MV Solan | 118,000 l", "What is the capacity of a tank?", "118,000 l"),  # of those read
        (TANKS, "MV Solan", "What is the ship's tank capacity on Solan?", "118,000 l"),  # and here it is not
        (TANKS, "MV Fulmar", "Which ship consumption has Fulmar?", "33,200 l"),
        (COURSES, "Fast rescue boat", "What is the course length of fast rescue boat?", "3 days"),
        (OFFICES, "17:30", "What office closes at 17:30?", "Ticket office Kirkvane"),
        (OFFICES, "18:30", "When does the ticket office in Tarbeg open?", "06:45"),
        (OFFICES, "06:45", "When does the office in Kirkvane close?", "17:30"),
    ],
)
def test_the_cell_in_the_row_and_the_column_that_the_question_names_is_taken(text, taken, question, wanted):
    assert words(text, read(text, taken, question)) == wanted


def test_rows_without_their_header_are_read_under_the_header_that_the_chunk_carries():
    found = read(ROWS, "118,000 l", "What is the consumption of Fulmar?", "| Ship | Tank | Consumption |")
    assert words(ROWS, found) == "33,200 l"


@pytest.mark.parametrize(
    "question",
    [
        "How much fuel is there?",  # no row stands out
        "How big are the tanks of Solan and Fulmar?",  # two do
        "Who painted the ships?",
        "",
    ],
)
def test_a_question_that_points_at_no_row_changes_nothing(question):
    assert words(TANKS, read(TANKS, "14,000 l", question)) == "14,000 l"


def test_what_is_read_outside_of_a_table_stays():
    assert words(TANKS, read(TANKS, "Corrowick", "Where is the tank capacity of Solan?")) == "Corrowick"


def test_an_empty_cell_means_that_the_passage_does_not_hold_the_answer():
    found = read(COURSES, "£210", "What is the price of the forklift course?")
    assert found.answerable == cells.EMPTY
    assert read(COURSES, "£210", "What is the price of the first aid course?").answerable == 0.8


def test_a_follow_up_names_the_row_and_the_question_before_it_the_column():
    passage = Passage(1, TANKS, "/ships.md", 0, len(TANKS))
    start = TANKS.index("14,000 l")
    taken = Reading(0.9, 0.8, start, start + 8, 0.5)
    found = cells.pointed(["And Fulmar?", "And Fulmar? tank capacity solan"], passage, taken)
    assert words(TANKS, found) == "86,000 l"


def test_the_first_question_that_points_decides():
    passage = Passage(1, OFFICES, "/offices.json", 0, len(OFFICES))
    start = OFFICES.index("18:30")
    taken = Reading(0.9, 0.8, start, start + 5, 0.5)
    found = cells.pointed(["And in Kirkvane?", "And in Kirkvane? Tarbeg Tarbeg"], passage, taken)
    assert words(OFFICES, found) == "17:30"
    found = cells.pointed(["And there?", "When does Tarbeg open?"], passage, taken)
    assert words(OFFICES, found) == "06:45"


@settings(deadline=None)
@given(st.text("ab1 |:-\n\\", max_size=80), st.text("ab |", max_size=12), st.data())
def test_cells_are_what_stands_at_their_offsets(text, header, data):
    passage = Passage(1, text, "/any.md", 0, len(text), header=header)
    for table in cells.tables(passage):
        assert table
        for row in table:
            for cell in row:
                assert text[cell.start : cell.end] == cell.text == cell.text.strip()
    start = data.draw(st.integers(0, len(text)))
    reading = Reading(0.5, 0.5, start, data.draw(st.integers(start, len(text))), 0.5)
    found = cells.pointed(["a b 1?"], passage, reading)
    assert 0 <= found.start <= found.end <= len(text)
