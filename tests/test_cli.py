"""The command line as a user meets it: real index, real embedder, no generator unless a test says so."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from handbook import HANDBOOK, run

from edgeai.cli import COMMANDS, main
from edgeai.records import Answer


@pytest.fixture
def index(handbook_index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(handbook_index, tmp_path / "index.db"))


def test_ask_prints_the_object_other_programs_rely_on(index):
    result = run("ask", "How long is parental leave?", "--index", index, "-m", "none", "--json")
    answer = json.loads(result.stdout)
    assert list(answer) == list(Answer("", "", "answered", "generated").as_dict())
    assert (answer["status"], answer["mode"], answer["budget_ms"]) == ("answered", "extractive", 300.0)
    assert "20 weeks" in answer["answer"]
    [citation] = answer["citations"]
    assert list(citation) == ["n", "path", "start", "end", "quote", "heading", "page"]
    assert Path(citation["path"]).name == "leave.md"
    text = Path(citation["path"]).read_text(encoding="utf-8")
    assert text[citation["start"] : citation["end"]] == citation["quote"]
    stages = ["embed", "search", "read", "prefill", "first_token", "generate", "total", "prepared"]
    assert list(answer["timings_ms"]) == stages


def test_a_question_about_something_else_exits_4_and_says_so(index):
    result = run("ask", "Which exoplanets orbit Trappist?", "--index", index, "-m", "none")
    assert result.exit_code == 4
    assert "do not contain the answer" in result.stdout


def test_batch_answers_line_by_line_and_keeps_ids(index):
    lines = '{"question": "How long is parental leave?", "id": 7}\n\n{"question": "Where are laptops backed up to?"}\n'
    result = run("ask", "--batch", "-", "--index", index, "-m", "none", stdin=lines)
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["id"], "20 weeks" in first["answer"]) == (7, True)
    assert "id" not in second
    assert "Leiden" in second["answer"]


def test_a_bad_batch_line_is_named(index):
    result = run("ask", "--batch", "-", "--index", index, "-m", "none", stdin='{"q": "?"}\n')
    assert result.exit_code == 2
    assert "Line 1" in result.stderr


def test_the_question_may_come_from_standard_input(index):
    result = run("ask", "--index", index, "-m", "none", stdin="How long is parental leave?\n")
    assert "20 weeks" in result.stdout


def test_docs_are_indexed_on_the_way_and_followed_afterwards(tmp_path):
    (tmp_path / "docs").mkdir()
    note = tmp_path / "docs" / "note.md"
    note.write_text("The gate code is 4711.\n")
    arguments = ("ask", "What is the gate code?", "--docs", tmp_path / "docs", "-m", "none")
    assert "4711" in run(*arguments).stdout
    note.write_text("The gate code is 9023, new since Monday.\n")
    assert "9023" in run(*arguments).stdout


def test_search_lists_hits_with_their_place(index):
    result = run("search", "hotel limit Switzerland", "--index", index)
    assert result.exit_code == 0
    assert "travel.md" in result.stdout
    assert "CHF 220" in result.stdout
    hits = json.loads(run("search", "hotel limit", "--index", index, "--json", "-k", 3).stdout)["hits"]
    assert 0 < len(hits) <= 3


def test_search_can_be_narrowed(index):
    hits = json.loads(run("search", "laptop", "--index", index, "--type", "csv", "--json").stdout)["hits"]
    assert {hit["type"] if "type" in hit else Path(hit["path"]).suffix for hit in hits} == {".csv"}
    hits = json.loads(run("search", "laptop", "--index", index, "--where", "path~*security*", "--json").stdout)["hits"]
    assert {Path(hit["path"]).name for hit in hits} == {"security.md"}
    assert run("search", "laptop", "--index", index, "--where", "colour=red").exit_code == 2


def test_the_index_can_be_looked_at_checked_emptied_and_carried(index, tmp_path):
    status = json.loads(run("status", "--index", index, "--json").stdout)
    assert status["documents"] == len(list(HANDBOOK.iterdir()))
    assert run("check", "--index", index).stdout.startswith("ok")
    copy = tmp_path / "copy.db"
    run("export", tmp_path / "all.jsonl", "--index", index)
    assert run("import", tmp_path / "all.jsonl", "--index", copy).exit_code == 0
    assert json.loads(run("status", "--index", copy, "--json").stdout)["chunks"] == status["chunks"]
    assert "1 documents removed" in run("rm", HANDBOOK / "leave.md", "--index", index).stdout
    assert run("check", "--index", index).exit_code == 0


def test_sync_reports_as_json(tmp_path):
    report = json.loads(run("sync", HANDBOOK, "--index", tmp_path / "i.db", "--json").stdout)
    assert len(report["added"]) == len(list(HANDBOOK.iterdir()))
    assert report["skipped"] == []


MISTAKES = {
    "missing path": (["sync", "{tmp}/nowhere"], 1, "nowhere"),
    "empty folder": (["sync", "{tmp}/hollow"], 1, "nothing to index"),
    "no index yet": (["search", "x", "--index", "{tmp}/none.db"], 1, "edgeai sync"),
    "not an index": (["search", "x", "--index", "{tmp}/garbage.db"], 1, "garbage.db"),
    "a foreign database": (["search", "x", "--index", "{tmp}/foreign.db"], 1, "foreign.db"),
    "unknown model": (["models", "show", "gpt-9"], 1, "gpt-9"),
    "no such gguf": (["ask", "alpha beta", "--docs", "{tmp}/full", "-m", "{tmp}/none.gguf"], 1, "none.gguf"),
    "truncated gguf": (["ask", "alpha beta", "--docs", "{tmp}/full", "-m", "{tmp}/cut.gguf"], 1, "cut.gguf"),
    "bad budget": (["ask", "x", "--budget", "soon"], 2, "soon"),
    "bad option": (["ask", "x", "--no-such-flag"], 2, "--no-such-flag"),
    "bad profile": (["ask", "x", "--profile", "turbo"], 2, "turbo"),
    "bad date": (["search", "x", "--newer-than", "yesterday-ish"], 2, "yesterday-ish"),
    "no question": (["ask"], 2, "question"),
    "missing settings file": (["status", "--config", "{tmp}/none.toml"], 2, "none.toml"),
    "unknown command": (["aks"], 2, "aks"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_one_sentence_and_the_right_exit_code(mistake, tmp_path):
    import apsw

    (tmp_path / "hollow").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.md").write_text("alpha beta gamma")
    (tmp_path / "garbage.db").write_bytes(b"no database " * 500)
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    connection = apsw.Connection(str(tmp_path / "foreign.db"))
    connection.execute("CREATE TABLE diary (entry TEXT)")
    connection.close()
    arguments, code, word = MISTAKES[mistake]
    result = run(*[argument.replace("{tmp}", str(tmp_path)) for argument in arguments])
    assert result.exit_code == code, result.output
    assert word in result.stderr
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_a_missing_model_offline_gives_the_best_sentence_and_says_how_to_get_it(index):
    result = run("ask", "How long is parental leave?", "--index", index, "--offline")
    assert result.exit_code == 0
    assert "20 weeks" in result.stdout
    assert "edgeai models pull" in result.stderr


def test_control_sequences_in_documents_never_reach_the_terminal(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "evil.md").write_text("The gate code is 4711.\x1b]0;owned\x07\x1b[31mred\x9b2J \u202e end")
    result = run("search", "gate code", "--docs", tmp_path / "docs")
    assert "4711" in result.stdout
    assert not {character for character in result.output if ord(character) < 32} - {"\n", "\t"}
    assert not set("\x7f\x9b\u202e") & set(result.output)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
    assert main.get_command(None, name).get_short_help_str()


def process(*arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """A real process, where the streams matter."""
    command = [sys.executable, "-m", "edgeai", *map(str, arguments)]
    return subprocess.run(command, stderr=subprocess.PIPE, check=False, **options)


def test_a_blank_question_is_no_question(index):
    assert run("ask", "   ", "--index", index, "-m", "none").exit_code == 2


def test_documents_that_cannot_be_read_at_all_are_no_answer(tmp_path):
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 garbage")
    result = run("ask", "What is the code?", "--docs", tmp_path / "broken.pdf", "-m", "none")
    assert result.exit_code == 1
    assert "broken.pdf: " in result.stderr


def test_offline_holds_for_pulling_too(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEAI_HOME", str(tmp_path))
    monkeypatch.setenv("EDGEAI_OFFLINE", "1")
    result = run("models", "pull", "smollm2-360m-instruct")
    assert result.exit_code == 1
    assert "the network may not be used" in result.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_old_encoding_of_the_output_is_no_reason_to_stop(tmp_path, encoding):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "\N{GRINNING FACE}.md").write_text("The gate code is \N{EURO SIGN} 4711.\n", encoding="utf-8")
    environ = {**os.environ, "PYTHONIOENCODING": encoding}
    arguments = ("search", "gate code", "--docs", tmp_path / "docs")
    assert b"4711" in process(*arguments, env=environ, stdout=subprocess.PIPE).stdout
    [hit] = json.loads(process(*arguments, "--json", env=environ, stdout=subprocess.PIPE).stdout)["hits"]
    assert "\N{EURO SIGN}" in hit["text"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", [("search", "laptop"), ("status", "--json"), ("export", "-")], ids=str)
def test_a_full_disk_under_the_output_is_one_sentence(index, arguments):
    with Path("/dev/full").open("w") as full:
        result = process(*arguments, "--index", index, stdout=full)
    assert result.returncode == 1
    assert result.stderr.decode().strip() == (
        "Error: The output could not be written, the disk is full; free some space."
    )


@pytest.mark.skipif(os.name == "nt", reason="a shell that can close streams")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_closed_stream_is_a_silent_one(index, closed):
    command = f'"$0" -m edgeai ask "How long is parental leave?" -m none --index "$1" {closed}'
    result = subprocess.run(["sh", "-c", command, sys.executable, index], capture_output=True, check=False)
    assert result.returncode == 0
    assert b"Traceback" not in result.stderr


def test_an_export_that_fails_leaves_the_earlier_one(index, tmp_path):
    earlier = tmp_path / "all.jsonl"
    earlier.write_text("earlier\n")
    assert run("export", earlier, "--index", tmp_path / "none.db").exit_code == 1
    assert earlier.read_text() == "earlier\n"
    assert run("export", tmp_path / "no" / "folder.jsonl", "--index", index).exit_code == 1
    assert [path.name for path in tmp_path.glob("*.part")] == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such file names")
def test_a_line_feed_in_a_file_name_does_not_make_a_second_line(tmp_path):
    (tmp_path / "two\nlines.md").write_text("The gate code is 4711.\n")
    assert "two lines.md\n" in run("search", "gate code", "--docs", tmp_path).stdout


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_a_path_that_is_not_unicode_is_named(tmp_path):
    path = tmp_path / os.fsdecode(b"bad\xff.txt")
    path.write_text("The gate code is 4711.\n")
    for arguments in (["sync", path, "--index", tmp_path / "i.db"], ["search", "gate", "--docs", path]):
        result = run(*arguments)
        assert (result.exit_code, "rename it" in result.stderr) == (1, True)


def test_input_in_another_encoding_is_named(index, tmp_path):
    file = tmp_path / "questions.jsonl"
    line = '{"question": "How long is parental leave?"}\n'
    file.write_bytes(line.encode("utf-16"))
    for arguments in (["ask", "--batch", file, "-m", "none"], ["import", file], ["bench", "--questions", file]):
        result = run(*arguments, "--index", index)
        assert (result.exit_code, "UTF-8" in result.stderr) == (2, True)
    file.write_text(line, encoding="utf-8-sig")  # as Windows editors write it
    assert "20 weeks" in run("ask", "--batch", file, "--index", index, "-m", "none").stdout
