"""Saved chats come back as they were, stay private, and are never half written."""

from __future__ import annotations

import errno
import os
import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeai import sessions
from edgeai.errors import DiskFull, EdgeAIError, PathNotFound, ReadOnly, UsageProblem
from edgeai.records import Citation, Turn
from edgeai.sessions import Exchange, Session

text = st.text(st.characters(), max_size=40) | st.just("name that is not UTF-8: \udcff")
citations = st.builds(
    Citation,
    n=st.integers(1, 9),
    path=text,
    start=st.integers(0, 9),
    end=st.integers(0, 9),
    quote=text,
    heading=text,
    page=st.none() | st.integers(1, 99),
)
exchanges = st.builds(Exchange, question=text, answer=text, citations=st.lists(citations, max_size=2).map(tuple))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(index=text, docs=st.lists(text).map(tuple), said=st.lists(exchanges, max_size=4).map(tuple))
def test_a_saved_chat_comes_back_as_it_was(index, docs, said):
    session = Session("talk", index, docs, said)
    sessions.save(session)
    assert sessions.load("talk") == session


def test_the_latest_chat_is_the_one_saved_last():
    for name in ("a", "b", "c"):
        sessions.save(Session(name, "i.db"))
    for age, name in enumerate(("b", "c", "a")):
        path = sessions.folder() / f"{name}.jsonl"
        os.utime(path, (1000 - age, 1000 - age))
    assert sessions.names() == ("b", "c", "a")
    assert sessions.latest().name == "b"


def test_an_exchange_gives_the_turn_that_follow_ups_need():
    assert Exchange("Q", "A", ()).turn == Turn("Q", "A")


def test_without_any_saved_chat_the_message_says_how_to_start_one():
    with pytest.raises(PathNotFound, match="edgeai chat"):
        sessions.latest()
    with pytest.raises(PathNotFound, match="'nope'"):
        sessions.load("nope")


@pytest.mark.skipif(os.name != "posix", reason="file modes are a POSIX notion")
def test_chats_and_typed_lines_are_private_whatever_the_umask(home):
    before = os.umask(0)
    try:
        path = sessions.save(Session("private", "i.db"))
        history = sessions.history_file()
    finally:
        os.umask(before)
    assert {stat.S_IMODE(file.stat().st_mode) for file in (path, history)} == {0o600}
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in (home, sessions.folder())} == {0o700}


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../up", "a/b", "a\\b", ".hidden", "nul", "COM1.txt", "x" * 65, "end."]
)
def test_a_name_that_would_leave_the_folder_is_refused(name):
    with pytest.raises(UsageProblem):
        sessions.save(Session(name, "i.db"))
    with pytest.raises(UsageProblem):
        sessions.load(name)


@pytest.mark.parametrize("name", ["notes", "Über Urlaub", "2026-11-21-1", "a.b", "会议"])
def test_ordinary_names_in_any_language_work(name):
    sessions.save(Session(name, "i.db"))
    assert sessions.names() == (name,)
    assert sessions.load(name).name == name


def test_automatic_names_never_collide():
    first = sessions.new_name()
    sessions.save(Session(first, "i.db"))
    assert sessions.new_name() != first


DAMAGE = [
    b"",
    b"no json\n",
    b'{"format": "other"}\n',
    b'{"format": "edgeai-session-1", "index": "i.db", "docs": []}\n{"question": "cut',
    b'{"format": "edgeai-session-1", "index": "i.db", "docs": []}\n[]\n',
    b"\xff\xfe",
]


@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_file_is_named_not_guessed_at(content):
    path = sessions.save(Session("talk", "i.db"))
    path.write_bytes(content)
    with pytest.raises(EdgeAIError, match=r"talk\.jsonl"):
        sessions.load("talk")


def test_a_full_disk_keeps_the_earlier_version_and_leaves_nothing_behind(monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = sessions.save(Session("talk", "i.db", exchanges=(Exchange("kept", "yes"),)))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull):
        sessions.save(Session("talk", "i.db", exchanges=(Exchange("lost", "no"),)))
    assert sessions.load("talk").exchanges[0].question == "kept"
    assert list(path.parent.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_reported(home):
    home.parent.mkdir(exist_ok=True)
    home.write_text("a file where the folder should be")
    with pytest.raises(ReadOnly, match="cannot be written"):
        sessions.save(Session("talk", "i.db"))


def test_removing_is_idempotent():
    sessions.save(Session("talk", "i.db"))
    sessions.remove("talk")
    sessions.remove("talk")
    assert not sessions.exists("talk")
