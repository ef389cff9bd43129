"""The chat as a user meets it: real index, real embedder, lines in, answers with sources out."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgeai import sessions
from edgeai.cli import main
from edgeai.cli.chat import look_ahead, read_message
from edgeai.cli.chat_commands import ALIASES, COMMANDS, Chat, Downloads
from edgeai.filters import EVERYTHING

LEAVE = """# Leave

## Parental leave

Parents may take 20 weeks of paid parental leave for each child. It starts within a year of the birth.
Apply for parental leave in the portal Sunrise.

## Sick leave

A doctor's note is needed from the fourth day of sickness.
"""
TRAVEL = """# Travel

Trains are booked in second class. The hotel limit in Switzerland is 220 francs a night.
Apply for trains at the desk Moonlight.
"""


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "leave.md").write_text(LEAVE, encoding="utf-8")
    (folder / "travel.md").write_text(TRAVEL, encoding="utf-8")
    return folder


def chat(*arguments: object, lines: tuple[str, ...]) -> Result:
    command = ["chat", "-m", "none", *(str(argument) for argument in arguments)]
    result = CliRunner().invoke(main, command, input="".join(f"{line}\n" for line in lines))
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_questions_are_answered_in_turn_with_their_sources(docs):
    result = chat(docs, lines=("How long is parental leave?", "What is the hotel limit in Switzerland?"))
    assert result.exit_code == 0
    assert "20 weeks" in result.stdout
    assert "220 francs" in result.stdout
    assert "leave.md · Leave" in result.stdout
    assert result.stderr.count(" ms ·") == 2


def test_a_follow_up_is_understood_from_the_turn_before(docs):
    follow_up = "Where do I apply for it?"
    about_leave = chat(docs, lines=("How long is parental leave?", follow_up)).stdout
    about_trains = chat(docs, lines=("Which class are trains booked in?", follow_up)).stdout
    assert "leave.md" in about_leave.split(f"> {follow_up}")[1]
    assert "travel.md" in about_trains.split(f"> {follow_up}")[1]


def test_a_refusal_shows_the_closest_passages_and_the_chat_goes_on(docs):
    result = chat(docs, lines=("Which exoplanets orbit Trappist?", "How long is parental leave?"))
    assert result.exit_code == 0
    assert "do not contain the answer" in result.stdout
    assert "Closest passages" in result.stderr
    assert "20 weeks" in result.stdout


def test_help_lists_every_command(docs):
    result = chat(docs, lines=("/help", "/?"))
    for name, command in COMMANDS.items():
        assert result.stdout.count(f"{name} {command.argument}".strip()) >= 2
        assert command.help in result.stdout
    assert set(ALIASES.values()) <= set(COMMANDS)


def test_an_unknown_command_gets_the_nearest_one(docs):
    result = chat(docs, lines=("/surces", "/xyzzy"))
    assert "did you mean /sources?" in result.stderr
    assert "/help" in result.stderr


def test_sources_and_open_show_where_the_last_answer_comes_from(docs):
    result = chat(docs, lines=("/sources", "How long is parental leave?", "/sources", "/open 1", "/open 7", "/open"))
    assert "no answer with sources yet" in result.stderr
    assert result.stdout.count("leave.md · Leave") == 3
    opened = result.stdout.split("> /open 1")[1]
    assert "It starts within a year of the birth." in opened
    assert result.stderr.count("/open N, N one of 1") == 2


def test_open_says_when_the_document_has_changed_since(docs):
    (docs / "leave.md").write_text("# Leave\n\nAll about leave was rewritten: 30 weeks of it.\n", encoding="utf-8")
    first = chat(docs, "--session", "s", lines=("How many weeks of leave were rewritten?",))
    assert "30 weeks" in first.stdout
    (docs / "leave.md").write_text(LEAVE, encoding="utf-8")
    second = chat("--session", "s", lines=("/open 1",))
    assert "has changed" in second.stderr
    assert "30 weeks" in second.stdout


def test_added_paths_are_answered_from_and_followed_by_sync(docs, tmp_path):
    note = tmp_path / "note.txt"
    note.write_text("The gate code is 4711.\n", encoding="utf-8")
    question = "What is the gate code?"
    first = chat(docs, lines=(question, f"/add {note}", question, "/add", "/add nowhere"))
    before, after = first.stdout.split(f"> {question}")[1:]
    assert "4711" not in before
    assert "4711" in after
    assert "/add PATH" in first.stderr
    assert "nowhere" in first.stderr
    note.write_text("The gate code is 9023 since Monday.\n", encoding="utf-8")
    assert "9023" in chat("--continue", lines=(question,)).stdout


def test_what_a_chat_added_does_not_leak_into_the_index_of_the_folder_alone(docs, tmp_path):
    note = tmp_path / "note.txt"
    note.write_text("The gate code is 4711.\n", encoding="utf-8")
    assert "4711" in chat(docs, lines=(f"/add {note}", "What is the gate code?")).stdout
    assert "4711" not in chat(docs, lines=("What is the gate code?",)).stdout
    assert "4711" in chat("--session", sessions.names()[-1], lines=("What is the gate code?",)).stdout


def test_sync_takes_up_changes_made_during_the_chat(docs):
    process = [sys.executable, "-m", "edgeai", "chat", "-m", "none", str(docs)]
    with subprocess.Popen(
        process, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8"
    ) as running:
        assert running.stdin
        assert running.stdout
        running.stdin.write("How long is parental leave?\n")
        running.stdin.flush()
        while "20 weeks" not in running.stdout.readline():
            pass
        (docs / "leave.md").write_text(LEAVE.replace("20 weeks", "26 weeks"), encoding="utf-8")
        rest, _ = running.communicate("/sync\nHow long is parental leave?\n", timeout=60)
    assert "26 weeks" in rest
    assert running.returncode == 0


def test_sync_without_paths_says_how_to_get_some(docs, tmp_path):
    index = tmp_path / "i.db"
    CliRunner().invoke(main, ["sync", str(docs), "--index", str(index)])
    assert "/add PATH" in chat("--index", index, lines=("/sync",)).stderr


def test_search_lists_passages(docs):
    result = chat(docs, lines=("/search hotel Switzerland", "/search"))
    assert "1. " in result.stdout
    assert "travel.md" in result.stdout
    assert "/search QUERY" in result.stderr


def test_filters_hold_for_the_whole_chat(docs):
    result = chat(docs, "--where", "path~*leave.md", lines=("/search hotel", "How long is parental leave?"))
    assert "travel.md" not in result.stdout
    assert "20 weeks" in result.stdout


def test_settings_can_be_changed_and_a_bad_value_changes_nothing(docs):
    lines = ("/budget", "/budget 150", "/budget soon", "/budget", "/budget none", "/model", "/model gpt-9", "/model")
    result = chat(docs, lines=lines)
    budgets = [line for line in result.stdout.splitlines() if line.startswith("Budget")]
    assert budgets == ["Budget: 300 ms", "Budget: 150 ms", "Budget: 150 ms", "Budget: none"]
    assert "'soon'" in result.stderr
    assert "'gpt-9'" in result.stderr
    assert result.stdout.count("Model: none") == 2


def test_a_message_of_several_lines_stands_between_quotes(docs):
    result = chat(docs, lines=('"""', "How long is", "parental leave?", '"""', "/exit", "never read"))
    assert "> How long is\nparental leave?" in result.stdout
    assert "20 weeks" in result.stdout
    assert "never read" not in result.stdout


@pytest.mark.parametrize(
    ("lines", "messages"),
    [
        (["  plain  "], ["plain"]),
        (['"""one line"""', "next"], ["one line", "next"]),
        (['"""a', "  b", 'c"""'], ["a\n  b\nc"]),
        (['"""', "cut off"], ["cut off"]),
        (["", "x"], ["", "x"]),
    ],
)
def test_messages_are_read_from_lines(lines, messages):
    rest = iter(lines)

    def read(prompt: str) -> str:
        try:
            return next(rest)
        except StopIteration:
            raise EOFError from None

    assert [read_message(read) for _ in messages] == messages
    with pytest.raises(EOFError):
        read_message(read)


def test_a_chat_is_saved_as_it_goes_and_can_be_continued(docs):
    chat(docs, lines=("How long is parental leave?",))
    saved = sessions.latest()
    assert saved.docs == (str(docs),)
    assert [exchange.question for exchange in saved.exchanges] == ["How long is parental leave?"]
    result = chat("--continue", lines=("/sources", "When does it start?"))
    assert "leave.md" in result.stdout
    assert len(sessions.load(saved.name).exchanges) == 2
    assert sessions.names() == (saved.name,)


def test_a_session_can_be_named_at_the_start_or_later(docs):
    chat(docs, "--session", "alpha", lines=("How long is parental leave?",))
    chat(docs, lines=("How long is parental leave?", "/save alpha", "/save beta", "/save"))
    assert set(sessions.names()) == {"alpha", "beta"}
    assert len(sessions.load("alpha").exchanges) == 1
    chat("--session", "beta", lines=("/clear", "What is the hotel limit in Switzerland?"))
    assert len(sessions.names()) == 3
    assert len(sessions.load("beta").exchanges) == 1


def test_a_chat_in_which_nothing_was_asked_leaves_no_session(docs):
    chat(docs, lines=("/help", ""))
    assert sessions.names() == ()


def test_a_saved_path_that_is_gone_is_reported_and_still_answered_from(docs, tmp_path):
    chat(docs, lines=("How long is parental leave?",))
    docs.rename(tmp_path / "elsewhere")
    result = chat("--continue", lines=("How long is parental leave?",))
    assert "not there any more" in result.stderr
    assert "20 weeks" in result.stdout


MISTAKES = {
    "no index": ([], 1, "edgeai sync"),
    "no such path": (["{tmp}/nowhere"], 1, "nowhere"),
    "nothing to continue": (["--continue"], 1, "no saved chat"),
    "both": (["--continue", "--session", "x"], 2, "not both"),
    "bad name": (["--session", "../x"], 2, "../x"),
    "bad budget": (["--budget", "soon"], 2, "soon"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_at_the_start_get_one_sentence_and_the_right_exit_code(mistake, tmp_path):
    arguments, code, word = MISTAKES[mistake]
    result = chat(*(argument.replace("{tmp}", str(tmp_path)) for argument in arguments), lines=())
    assert result.exit_code == code, result.output
    assert word in result.stderr


def test_bytes_that_are_not_text_do_not_end_the_chat(docs):
    command = [sys.executable, "-m", "edgeai", "chat", "-m", "none", str(docs)]
    lines = b"\xff\xfe?\nHow long is parental leave?\n"
    environ = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, input=lines, capture_output=True, env=environ, timeout=60, check=True)
    assert b"20 weeks" in done.stdout
    assert b"Traceback" not in done.stderr


def test_a_pipe_gets_no_colours_and_no_progress(docs):
    command = [sys.executable, "-m", "edgeai", "chat", "-m", "none", str(docs)]
    done = subprocess.run(
        command, input="How long is parental leave?\n", capture_output=True, text=True, timeout=60, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "20 weeks" in done.stdout


@pytest.mark.parametrize(
    ("typed", "question"),
    [(" What is the hotel limit? ", "What is the hotel limit?"), ("/search hotel limit", ""), ('"""How long', "")],
)
def test_only_what_may_become_a_question_is_prepared(typed, question):
    class Assistant:
        def prepare(self, *arguments, **options):
            self.prepared = (*arguments, options)

    said = sessions.Exchange("How long is parental leave?", "20 weeks [1].", ())
    chat = Chat(Assistant(), sessions.Session("s", "i.db", exchanges=(said,)), EVERYTHING, True, Downloads())
    look_ahead(chat, typed)
    assert chat.assistant.prepared == (question, {"history": [said.turn], "where": EVERYTHING})


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_at_a_terminal_lines_are_edited_and_control_keys_do_what_the_help_says(docs, home):
    import pty

    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "edgeai", "chat", "-m", "none", str(docs)]
    environ = {**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environ) as running:
        os.close(terminal)

        def until(*expected: bytes) -> None:
            seen = b""
            for part in expected:
                while part not in seen:
                    assert select.select([controller], [], [], 30)[0], seen
                    seen += os.read(controller, 4096)
                seen = seen.partition(part)[2]

        ready = b"\x1b[?2004h"  # the line editor switches bracketed paste on when it starts to read
        try:
            until(b"Ctrl-D leaves", ready)
            os.write(controller, b"discarded\x03\x03")
            until(b"Type /exit", ready)
            os.write(controller, b"How long is\x1b\rparental leave?\r")
            until(b"20 weeks", b" ms ", b"prepared", ready)
            os.write(controller, b"\x04")
            until(b"--continue")
            assert running.wait(timeout=30) == 0
        finally:
            running.kill()  # a test that fails must not leave it waiting
    os.close(controller)
    assert [exchange.question for exchange in sessions.latest().exchanges] == ["How long is\nparental leave?"]
    assert "parental leave?" in (home / "history").read_text(encoding="utf-8")


@pytest.mark.real
def test_a_conversation_with_the_default_generator(docs, generator_spec):
    result = CliRunner().invoke(
        main,
        ["chat", str(docs), "-m", generator_spec.model, "--offline"],
        input="How many weeks is parental leave?\n/model none\nHow many weeks is parental leave?\n",
    )
    assert result.exit_code == 0, result.output
    generated, quoted = [line for line in result.stderr.splitlines() if " ms ·" in line]
    assert "first token" in generated
    assert "extractive" in quoted
    assert result.stdout.count("leave.md") >= 1
    saved = (sessions.folder() / f"{sessions.latest().name}.jsonl").read_text(encoding="utf-8")
    assert len([json.loads(line) for line in saved.splitlines()]) == 3
