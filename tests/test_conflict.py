"""When two documents are said to differ, how that is put, and when nothing is said of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeai
from edgeai.grounding.conflict import Difference, find, told
from edgeai.records import Passage, Reading

QUESTION = "How many days of leave do employees get?"


def passage(number: int, text: str, path: str = "", title: str = "") -> Passage:
    return Passage(number, text, path or f"/docs/file{number}.md", 0, len(text), title=title)


def reading(shown: Passage, words: str, answerable: float = 0.9, span: float = 0.6) -> Reading:
    start = shown.text.index(words)
    return Reading(0.9, answerable, start, start + len(words), span)


def leave(number: int, days: str, path: str = "", title: str = "") -> tuple[Passage, Reading]:
    shown = passage(number, f"Employees get {days} days of leave a year.", path, title)
    return shown, reading(shown, f"{days} days")


def found(*pairs: tuple[Passage, Reading], question: str = QUESTION) -> Difference | None:
    return find(question, [one for one, _ in pairs], [judged for _, judged in pairs])


def said(*pairs: tuple[Passage, Reading], question: str = QUESTION) -> str:
    passages, readings = [one for one, _ in pairs], [judged for _, judged in pairs]
    difference = find(question, passages, readings)
    assert difference is not None
    return told(difference, passages, readings)[0]


def test_both_values_are_shown_with_their_sources_and_dates():
    policy, rules = leave(1, "20", "/docs/leave.md", "Leave (2024)"), leave(2, "25", "/docs/policy.pdf", "Policy 2021")
    assert said(policy, rules) == "Sources differ: 20 days [1] (leave.md, 2024) and 25 days [2] (policy.pdf, 2021)."
    _, citations = told(Difference("conflict", 0, 1), (policy[0], rules[0]), (policy[1], rules[1]))
    assert [(one.n, one.quote) for one in citations] == [(1, policy[0].text), (2, rules[0].text)]


def test_sources_without_a_date_are_named_and_files_of_one_name_told_apart():
    first, second = leave(1, "20", "/docs/uk/leave.md"), leave(2, "25", "/docs/us/leave.md")
    assert said(first, second) == "Sources differ: 20 days [1] (uk/leave.md) and 25 days [2] (us/leave.md)."


def test_dates_of_one_year_are_written_in_full():
    first, second = leave(1, "20", title="Note 2024-03-01"), leave(2, "25", title="Mail of 5 May 2024")
    assert "(file1.md, 2024-03-01)" in said(first, second)
    assert "(file2.md, 2024-05-05)" in said(first, second)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_newer_version_is_preferred_wherever_it_stands(order):
    pairs = leave(1, "25", title="Leave policy 2025"), leave(2, "20", title="Leave policy 2023")
    pairs = tuple(pairs[row] for row in order)
    assert said(*pairs) == "25 days [1] (from the version of 2025; that of 2023 said 20 days [2])."


def test_a_version_that_says_what_it_replaces_is_preferred():
    shown = passage(1, "Employees get 25 days of leave instead of 20.")
    newer = shown, reading(shown, "25 days")
    assert said(leave(2, "20"), newer) == "25 days [1] (file1.md replaces file2.md, which said 20 days [2])."


def test_who_asks_for_an_older_year_is_not_given_the_newer():
    pairs = leave(1, "20", title="Leave policy 2023"), leave(2, "25", title="Leave policy 2025")
    assert found(*pairs, question="How many days of leave were there in 2023?") is None


def test_the_same_value_twice_is_no_conflict():
    assert found(leave(1, "20"), leave(2, "twenty")) is None


def test_one_document_does_not_contradict_itself():
    assert found(leave(1, "20", "/docs/leave.md"), leave(2, "25", "/docs/leave.md")) is None


@pytest.mark.parametrize("doubt", [{"answerable": 0.3}, {"span": 0.03}])
def test_the_reader_has_to_be_nearly_sure_of_both(doubt):
    shown, judged = leave(2, "25")
    assert found(leave(1, "20"), (shown, judged)) is not None
    assert found(leave(1, "20"), (shown, replace(judged, **doubt))) is None


def test_names_need_a_surer_reader_than_quantities():
    first = passage(1, "The secretary is Ada Byron.", title="Club 2023")
    second = passage(2, "The secretary is Grace Hopper.", title="Club 2024")
    pairs = [(first, reading(first, "Ada Byron")), (second, reading(second, "Grace Hopper"))]
    question = "Who is the secretary?"
    assert found(*pairs, question=question) == Difference("superseded", 1, 0)
    unsure = [pairs[0], (second, reading(second, "Grace Hopper", span=0.2))]
    assert found(*unsure, question=question) is None


def test_two_names_may_both_be_right_unless_one_document_replaces_the_other():
    first, second = passage(1, "The secretary is Ada Byron."), passage(2, "The secretary is Grace Hopper.")
    pairs = [(first, reading(first, "Ada Byron")), (second, reading(second, "Grace Hopper"))]
    assert found(*pairs, question="Who is the secretary?") is None


def test_dates_need_sentences_that_say_the_same_of_what_is_asked():
    first, second = passage(1, "The hall opened in 1591."), passage(2, "The hall is old. Its roof is of 1703.")
    pairs = [(first, reading(first, "1591")), (second, reading(second, "1703"))]
    assert found(*pairs, question="When did the hall open?") is None
    second = passage(2, "The hall opened in 1703.")
    assert found(pairs[0], (second, reading(second, "1703")), question="When did the hall open?") is not None


def test_a_number_in_the_question_tells_two_things_apart():
    first, second = passage(1, "Model 40 weighs 12 kg."), passage(2, "This model weighs 15 kg.")
    pairs = [(first, reading(first, "12 kg")), (second, reading(second, "15 kg"))]
    assert found(*pairs, question="How much does this model weigh?") is not None
    assert found(*pairs, question="How much does model 40 weigh?") is None


def test_a_name_in_the_question_tells_two_things_apart():
    first, second = passage(1, "The battery of Kestrel lasts 8 years."), passage(2, "The battery lasts 10 years.")
    pairs = [(first, reading(first, "8 years")), (second, reading(second, "10 years"))]
    assert found(*pairs, question="How long does the battery last?") is not None
    assert found(*pairs, question="How long does the battery of Kestrel last?") is None


def test_the_date_a_version_bears_is_not_what_it_says():
    first = passage(1, "The board meets in spring.", title="Minutes 2 February 2026")
    second = passage(2, "Decided on 2 February 2026.", title="Minutes 2 February 2026")
    third = passage(3, "Decided on 5 September 2022.", title="Minutes 5 September 2022")
    pairs = [(second, reading(second, "2 February 2026")), (third, reading(third, "5 September 2022"))]
    assert found((first, reading(first, "spring", 0.1)), *pairs, question="When is the board decided?") is None


def test_answers_to_two_parts_of_a_question_do_not_contradict_each_other():
    first, second = passage(1, "The handset costs £13."), passage(2, "Cover costs £7.")
    pairs = [(first, reading(first, "£13")), (second, reading(second, "£7"))]
    assert found(*pairs, question="What do handset, cover cost?") is None
    assert found(leave(1, "20"), leave(2, "25"), question="How many days of leave and of notice?") is None


def test_what_both_answer_plainly_they_may_say_in_other_words():
    first, second = (
        passage(1, "Tell us 48 hours before you board."),
        passage(2, "Ask for help ahead, by 24 hours."),
    )
    question = "How many hours ahead do I ask to board?"
    for sure, is_found in ((0.8, True), (0.6, False)):
        pairs = [(first, reading(first, "48 hours", sure)), (second, reading(second, "24 hours", sure))]
        assert (found(*pairs, question=question) is not None) is is_found


def test_nothing_read_is_nothing_found():
    assert find(QUESTION, (), ()) is None


JUDGED = st.tuples(st.sampled_from(["20", "25", "30"]), st.floats(0, 1), st.floats(0, 1), st.integers(1, 3))


@settings(deadline=None)
@given(st.lists(JUDGED, min_size=1, max_size=4))
def test_what_is_shown_is_of_two_documents_and_cited_where_it_stands(drawn):
    pairs = []
    for number, (days, answerable, span, file) in enumerate(drawn, 1):
        shown, judged = leave(number, days, f"/docs/{file}.md")
        pairs.append((shown, replace(judged, answerable=answerable, span=span)))
    if (difference := found(*pairs)) is None:
        return
    passages, readings = [one for one, _ in pairs], [judged for _, judged in pairs]
    text, citations = told(difference, passages, readings)
    assert len({citation.path for citation in citations}) == 2
    for citation in citations:
        assert f"[{citation.n}]" in text
        assert passages[citation.n - 1].text[citation.start : citation.end] == citation.quote
    assert drawn[difference.first][0] != drawn[difference.second][0]


def test_asked_of_real_files_both_are_shown_or_the_newer_one(tmp_path: Path):
    files = {
        "leave.md": "# Leave\n\nFull-time employees get 20 days of paid leave a year.\n",
        "faq.md": "# Questions\n\nFull-time employees get 25 days of paid leave a year.\n",
        "parking-2023.md": "# Parking rules 2023\n\nA parking permit costs 30 euros a month.\n",
        "parking-2025.md": "# Parking rules 2025\n\nA parking permit costs 40 euros a month.\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with edgeai.Assistant(tmp_path / "notes.db", model="none", budget_ms=0) as assistant:
        assistant.sync(tmp_path)
        leave_days = assistant.ask("How many days of paid leave do employees get?").answer
        permit = assistant.ask("What does a parking permit cost?").answer
    assert leave_days.status == "conflict"
    assert {Path(citation.path).name for citation in leave_days.citations} == {"leave.md", "faq.md"}
    assert "20 days" in leave_days.text and "25 days" in leave_days.text
    assert permit.status == "answered"
    assert "40 euros" in permit.text.split("(from the version of 2025; that of 2023 said 30 euros")[0]
