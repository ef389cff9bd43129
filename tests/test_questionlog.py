"""The log of questions: masked, private, bounded, and never in the way of an answer."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai import questionlog
from edgeai.assistant import Assistant
from edgeai.config import Settings
from edgeai.records import Answer, Piece
from edgeai.reply import Reply

INDEX = Path("index.db").absolute()


def answer(question: str, status: str = "answered") -> Answer:
    return Answer(question, "The secret is 42.", status, "extractive", confidence=0.7)


@settings(deadline=None)
@given(st.text())
def test_no_digit_and_no_address_is_left(question):
    masked = questionlog.mask(f"{question} ada.lovelace+x@post.example.org 49 170/123-45 {question}")
    assert "lovelace" not in masked
    assert not any(character in "0123456789" for character in masked)


def test_masking_leaves_the_words():
    said = questionlog.mask("Is invoice 2024-118 of anna@example.com for 1,250.50 paid?")
    assert said == "Is invoice # of (e-mail) for # paid?"


def test_a_line_holds_no_answer_and_only_this_user_can_read_it(home):
    questionlog.append(INDEX, answer("What is the code of safe 17?"))
    text = questionlog.path().read_text(encoding="utf-8")
    assert list(json.loads(text)) == ["asked", "index", "question", "status", "confidence"]
    assert "secret" not in text
    assert "17" not in json.loads(text)["question"]
    assert os.name != "posix" or questionlog.path().stat().st_mode & 0o077 == 0


def test_the_last_questions_of_an_index_come_back_in_order():
    for number, name in enumerate("abcdef"):
        questionlog.append(
            INDEX if number % 2 else Path("other.db"), answer(name, "refused" if number > 3 else "answered")
        )
    with questionlog.path().open("a") as file:
        file.write('{"index": cut off')
    found = questionlog.recent(INDEX, 2)
    assert [(one.question, one.refused) for one in found] == [("d", False), ("f", True)]
    assert questionlog.recent(Path("never.db"), 5) == []


def test_the_file_does_not_grow_for_ever(monkeypatch):
    monkeypatch.setattr(questionlog, "LONGEST", 2_000)
    for number in range(100):
        questionlog.append(INDEX, answer("x" * (number % 7)))
    assert questionlog.path().stat().st_size <= 2_000
    assert questionlog.recent(INDEX, 3)[-1].question == "x"


def test_a_place_that_cannot_be_written_costs_no_answer(home):
    home.parent.mkdir(exist_ok=True)
    home.write_text("a file where the folder should be")

    def run():
        yield Piece("The ")
        return answer("Who?")

    reply = questionlog.logged(Reply(run()), INDEX)
    assert [piece.text for piece in reply] == ["The "]
    assert reply.answer.text == "The secret is 42."


def test_closing_a_logged_reply_stops_what_it_runs_and_logs_nothing():
    stopped = []

    def run():
        try:
            yield Piece("The ")
            yield Piece("rest")
        finally:
            stopped.append(True)
        return answer("Who?")

    reply = questionlog.logged(Reply(run()), INDEX)
    next(iter(reply))
    reply.close()
    assert stopped == [True]
    assert questionlog.recent(INDEX, 5) == []


@pytest.mark.parametrize(("wanted", "lines"), [(True, 1), (False, 0)])
def test_questions_are_logged_only_where_that_is_wanted(wanted, lines, tmp_path):
    (tmp_path / "leave.md").write_text("Parents may take 20 weeks of paid parental leave for each child.\n")
    chosen = Settings(model="none", reader="none", log_questions=wanted)
    with Assistant(tmp_path / "notes.db", settings=chosen) as assistant:
        assistant.sync(tmp_path / "leave.md")
        assert "20 weeks" in assistant.ask("How long is parental leave?").answer.text
        assert len(questionlog.recent(assistant.index, 5)) == lines
