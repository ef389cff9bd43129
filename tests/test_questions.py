"""A file of questions is read as it is documented, and a slip in it is named by its line."""

from __future__ import annotations

import json

import pytest

from edgeai.errors import UsageProblem
from edgeai.evaluation import questions
from edgeai.evaluation.questions import Source, read_cases
from edgeai.records import Turn

FULL = {
    "id": 7,
    "question": " How long? ",
    "answers": ["20 weeks", 20],
    "sources": [{"path": "leave.md", "quote": "20 weeks"}, {"path": "*.csv"}],
    "also": [{"path": "leave-2019.md"}],
    "kind": "multi-turn",
    "history": [{"question": "Who?", "answer": "Parents."}],
    "fresh": True,
    "draft": True,
    "note": "read by nobody",
}


def cases(*records: object) -> list[questions.Case]:
    return read_cases(json.dumps(record) for record in records)


def test_every_documented_key_is_understood():
    [case] = cases(FULL)
    assert (case.id, case.question, case.answers, case.kind) == ("7", "How long?", ("20 weeks", "20"), "multi-turn")
    assert case.sources == (Source("leave.md", "20 weeks"), Source("*.csv"))
    assert case.also == (Source("leave-2019.md"),)
    assert case.history == (Turn("Who?", "Parents."),)
    assert case.fresh
    assert case.draft
    assert set(FULL) == questions._KEYS


def test_a_question_with_nothing_expected_is_unanswerable_and_one_with_a_source_is_not():
    bare, sourced = cases({"question": "A?"}, {"question": "B?", "sources": [{"path": "b.md"}]})
    assert (bare.kind, bare.answerable) == ("unanswerable", False)
    assert (sourced.kind, sourced.answerable) == ("answerable", True)


def test_ids_are_made_from_what_is_asked_and_survive_reordering():
    first, second = {"question": "A?"}, {"question": "A?", "history": [{"question": "B?", "answer": "C"}]}
    forth, back = cases(first, second), cases(second, first)
    assert {case.id for case in forth} == {case.id for case in back}
    assert forth[0].id == back[1].id != forth[1].id


BAD = [
    "{cut",
    "[]",
    '{"question": " "}',
    '{"question": "A?", "answer": ["x"]}',
    '{"question": "A?", "answers": "x"}',
    '{"question": "A?", "answers": [["x"]]}',
    '{"question": "A?", "sources": [{"quote": "x"}]}',
    '{"question": "A?", "sources": ["a.md"]}',
    '{"question": "A?", "history": [{"question": "x"}]}',
    '{"question": "A?", "kind": 3}',
    '{"question": "A?", "kind": "unanswerable", "answers": ["x"]}',
    '{"question": "A?", "kind": "conflict", "answers": ["x"]}',
    '{"question": "Fine?"}',
]


@pytest.mark.parametrize("line", BAD)
def test_a_line_that_cannot_be_a_question_is_named(line):
    with pytest.raises(UsageProblem, match="Line 3"):
        read_cases(['{"question": "Fine?"}', "", line])


def test_a_file_without_questions_says_how_to_draft_some():
    with pytest.raises(UsageProblem, match="--make"):
        read_cases(["", "\n"])
