"""Which of two passages is the newer version, and when that is not known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeai.grounding.versions import date_of, replaces, series
from edgeai.records import Passage

PLAIN = "Employees have 25 days of leave."


def passage(path: str = "/docs/leave.md", title: str = "", text: str = PLAIN, heading: tuple[str, ...] = ()) -> Passage:
    return Passage(1, text, path, 0, len(text), title=title, heading=heading)


@pytest.mark.parametrize(
    ("one", "date"),
    [
        (passage(title="Leave policy 2024"), (2024, None, None)),
        (passage(title="Leave policy (2024-05-06)"), (2024, 5, 6)),
        (passage("/docs/leave_2023.pdf"), (2023, None, None)),
        (passage("/docs/2022/leave.pdf"), (2022, None, None)),
        (passage(heading=("Rules", "In force since 1 June 2021")), (2021, 6, 1)),
        (passage(text="Valid from: 1 March 2024. " + PLAIN), (2024, 3, 1)),
        (passage(text="Last updated 2024-03. " + PLAIN), (2024, 3, None)),
        (passage(text="In 1998 there were 20 days. " + PLAIN), None),
        (passage("/2019/docs/handbook/leave.md"), None),
        (passage(), None),
    ],
)
def test_the_date_is_that_of_the_document_not_of_what_it_tells(one, date):
    assert date_of(one) == date


def test_versions_of_a_document_are_of_one_series():
    assert series(passage(title="Leave policy 2024")) & series(passage(title="Leave Policy (2021, superseded)"))
    assert series(passage("/a/leave-v2.md")) & series(passage("/b/leave_v3_final.md"))
    assert not series(passage("/a.md", "Leave policy 2024")) & series(passage("/b.md", "Travel policy 2021"))
    assert series(passage("/2024.md", "2024")) == frozenset()


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        (passage(title="Leave policy 2025"), passage(title="Leave policy 2023")),
        (passage("/docs/leave-v3.md"), passage("/docs/leave-v2.md")),
        (passage("/docs/leave-v10.md"), passage("/docs/leave-v9.md")),
        (passage("/docs/leave.md"), passage("/docs/archive/leave.md")),
        (passage("/docs/leave.md"), passage("/docs/leave-old.md")),
        (passage("/a.md", text="Leave is 25 days instead of 20."), passage("/b.md", text="Leave is 20 days.")),
        (passage("/a.md", text="Leave rises to 25 days."), passage("/b.md", text="Leave is 20 days.")),
        (
            passage("/a.md", text="This circular replaces the handbook of 2019. " + PLAIN),
            passage("/b.md", text="Leave is 20 days."),
        ),
        (passage("/a.md", "Note of May 2024", "From 1 June leave is 25 days."), passage("/b.md", "Handbook 2019")),
    ],
)
def test_the_newer_version_replaces_the_older_and_not_the_other_way_round(newer, older):
    assert replaces(newer, newer.text, older, older.text)
    assert not replaces(older, older.text, newer, newer.text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (passage("/leave.md", "Leave 2024"), passage("/policy.md", "Policy 2021")),
        (passage("/a.md"), passage("/b.md")),
        (passage("/archive/a.md"), passage("/archive/b.md")),
        (passage("/a.md", "Rules of the Old Mill"), passage("/b.md", "Rules of the mill")),
        (
            passage("/a.md", text="Leave is 25 days instead of 20."),
            passage("/b.md", text="Leave is 20 days instead of 25."),
        ),
        (passage("/a.md", "Note", "From 1 June leave is 25 days."), passage("/b.md", "Handbook")),
    ],
)
def test_where_nothing_tells_neither_replaces_the_other(one, other):
    assert not replaces(one, one.text, other, other.text)
    assert not replaces(other, other.text, one, one.text)


def test_what_says_it_replaces_but_is_older_does_not():
    claim = passage("/a.md", "Circular 2018", "Leave is now 25 days instead of 20.")
    later = passage("/b.md", "Handbook 2024", "Leave is 20 days.")
    assert not replaces(claim, claim.text, later, later.text)


NAMES = st.sampled_from(["leave 2023", "leave 2024", "leave v2", "old leave", "archive", "travel 2024-05-06", ""])
TEXTS = st.sampled_from([PLAIN, "Leave rises to 25 days.", "Now 20 days.", "This replaces the rules of 2019.", ""])


@given(NAMES, NAMES, TEXTS, TEXTS)
def test_no_two_passages_replace_each_other(name, other_name, text, other_text):
    one, other = passage("/a.md", name, text), passage("/b.md", other_name, other_text)
    assert not (replaces(one, text, other, other_text) and replaces(other, other_text, one, text))
