"""`edgeai eval` as a user meets it: the handbook, real questions, no generator."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from handbook import run
from pages import tags_of

from edgeai.assistant import Assistant
from edgeai.errors import NothingToIndex, PathNotFound, UsageProblem
from edgeai.evaluation import questions, report, runs
from edgeai.evaluation import run as evaluate
from edgeai.evaluation.makeset import draft_questions
from edgeai.evaluation.regressions import compare
from edgeai.evaluation.run import Run

QUESTIONS = [
    {"question": "How long is parental leave?", "answers": ["20 weeks"]}
    | {"sources": [{"path": "leave.md", "quote": "20 weeks of\npaid parental leave"}]},
    {"question": "Which password manager is used?", "answers": ["Keyhole"]}
    | {"sources": [{"path": "handbook/*.md", "quote": "Keyhole"}], "fresh": True},
    {"question": "And in France?", "answers": ["€150"], "kind": "multi-turn"}
    | {"history": [{"question": "What is the hotel limit in Germany?", "answer": "€130"}]}
    | {"sources": [{"path": "travel.md", "quote": "France"}]},
    {"question": "Which exoplanets orbit Trappist?", "id": "space"},
    {"question": "What may dogs eat?", "answers": ["<b>bones</b>"], "sources": [{"path": "dogs.md"}], "id": "dogs"},
]


@pytest.fixture
def plain(handbook_index: Path) -> tuple[object, ...]:
    return ("--index", handbook_index, "-m", "none", "--reader", "none")


@pytest.fixture(scope="module")
def made(handbook_index: Path) -> Run:
    """A run over the questions, still in memory."""
    from edgeai.cli.evaluate import subject_of

    with Assistant(handbook_index, model="none", reader="none") as assistant:
        return evaluate.run(questions.read_cases(map(json.dumps, QUESTIONS)), subject_of(assistant))


def write(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def many(made: Run, **changes: float) -> Run:
    """A run over six times as many questions, with some figures changed."""
    results = [
        replace(
            one, id=f"{one.id}-{copy}", values={**one.values, **{k: v for k, v in changes.items() if k in one.values}}
        )
        for one in made.results
        for copy in range(6)
    ]
    return replace(made, results=tuple(results))


# the command


def test_the_command_prints_the_documented_object_and_keeps_the_run(plain, tmp_path, home):
    result = run("eval", write(tmp_path / "q.jsonl", QUESTIONS), *plain, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert list(record) == ["format", "made", "context", "summary", "lost", "results", "run"]
    assert set(record["summary"]) == {"all", "answerable", "multi-turn", "unanswerable"}
    recall = record["summary"]["all"]["recall@5"]
    assert recall["count"] == 4  # the question about nothing has no source
    assert recall["low"] <= recall["value"] <= recall["high"]
    assert record["summary"]["all"]["freshness"] == record["summary"]["all"]["correct"] | {"count": 1} | recall_of(
        record
    )
    assert record["lost"]["not chunked"] == 1
    assert record["context"]["settings"]["model"] == "none"
    number, kept = runs.load(home / "evaluations.db", "last")
    assert number == record["run"] == 1
    assert [one.values for one in kept.results] == [one["values"] for one in record["results"]]


def recall_of(record: dict) -> dict[str, float]:
    fresh = next(one for one in record["results"] if "freshness" in one["values"])
    spread = record["summary"]["all"]["freshness"]
    return {"value": fresh["values"]["correct"], "low": spread["low"], "high": spread["high"]}


def test_the_command_shows_a_table_and_says_how_to_compare(plain, tmp_path):
    result = run("eval", write(tmp_path / "q.jsonl", QUESTIONS), *plain, "--runs", tmp_path / "runs.db")
    assert result.exit_code == 0, result.output
    assert all(word in result.stdout for word in ("recall@5", "ndcg@10", "aurc", "latency_ms_p95", "multi-turn"))
    assert "not chunked 1" in result.stdout
    assert "--baseline 1" in result.stderr


def test_the_gate_passes_the_same_run_and_stops_a_worse_one(plain, tmp_path, made):
    lines = [
        {"id": f"{i}-{kind}", "question": f"{word} {asked}?", "answers": [answer], "sources": [{"path": path}]}
        for i, (asked, answer, path) in enumerate(
            [("long is parental leave", "20 weeks", "leave.md"), ("password manager is used", "Keyhole", "security.md")]
        )
        for kind, word in enumerate(
            ("How", "Which", "What", "Say which", "Tell me which", "Maybe", "So", "Then", "Now", "Or")
        )
    ]
    file, runs = write(tmp_path / "q.jsonl", lines), tmp_path / "runs.db"
    first = run("eval", file, *plain, "--runs", runs, "--json")
    assert first.exit_code == 0, first.output
    (tmp_path / "base.json").write_text(first.stdout, encoding="utf-8")
    again = run("eval", file, *plain, "--runs", runs, "--baseline", tmp_path / "base.json", "--gate")
    assert (again.exit_code, "No significant change over 20 questions" in again.stdout) == (0, True), again.output
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "leave.md").write_text("Parental leave is explained by a colleague.\n")
    (elsewhere / "security.md").write_text("The moon is far away.\n")
    changed = ("--docs", elsewhere, "-m", "none", "--reader", "none", "--runs", runs, "--html", tmp_path / "r.html")
    worse = run("eval", file, *changed, "--baseline", "1", "--gate")
    assert worse.exit_code == 3, worse.output
    assert "correct: worse" in worse.stdout
    assert "Look first at" in worse.stdout
    assert "Against the baseline" in (tmp_path / "r.html").read_text(encoding="utf-8")


USAGE = [
    ((), "--make"),
    (("--make", "3"), "--out"),
    (("FILE", "--gate"), "--baseline"),
    (("FILE", "--make", "3", "--out", "x.jsonl"), "--make"),
]


@pytest.mark.parametrize(("arguments", "mend"), USAGE)
def test_options_that_do_not_fit_are_refused_with_the_mend(arguments, mend, plain, tmp_path):
    file = write(tmp_path / "q.jsonl", QUESTIONS)
    result = run("eval", *(file if argument == "FILE" else argument for argument in arguments), *plain)
    assert result.exit_code == 2
    assert mend in result.stderr


def test_a_baseline_that_is_none_is_named_before_anything_is_asked(plain, tmp_path):
    file = write(tmp_path / "q.jsonl", QUESTIONS)
    (tmp_path / "other.json").write_text('{"format": "other"}')
    (tmp_path / "text.json").write_text("text")
    for baseline, exit_code in (("3", 1), ("gone.json", 1), (tmp_path / "other.json", 2), (tmp_path / "text.json", 2)):
        result = run("eval", file, *plain, "--runs", tmp_path / "runs.db", "--baseline", baseline)
        assert result.exit_code == exit_code, result.output
        assert not (tmp_path / "runs.db").exists()


def test_a_file_that_is_not_one_of_runs_is_left_alone(plain, handbook_index, tmp_path):
    file = write(tmp_path / "q.jsonl", QUESTIONS)
    (tmp_path / "notes.txt").write_text("my notes " * 100)
    for path in (handbook_index, tmp_path / "notes.txt"):
        before = path.read_bytes()
        result = run("eval", file, *plain, "--runs", path)
        assert (result.exit_code, "--runs" in result.stderr) == (2, True), result.output
        assert path.read_bytes() == before


# runs and comparisons


def test_a_run_survives_being_kept(made, tmp_path):
    runs.create(tmp_path / "runs.db")
    first, second = (runs.save(tmp_path / "runs.db", one) for one in (made, replace(made, made="later")))
    assert (first, second) == (1, 2)
    assert os.name != "posix" or (tmp_path / "runs.db").stat().st_mode & 0o077 == 0
    number, kept = runs.load(tmp_path / "runs.db", "1")
    assert (number, kept.made) == (1, made.made)
    assert kept.results == tuple(replace(one, citations=(), passages=()) for one in made.results)
    with pytest.raises(PathNotFound, match="no run 9"):
        runs.load(tmp_path / "runs.db", "9")


def test_the_kept_run_holds_no_text_of_the_passages(made):
    kept = json.dumps(made.as_dict())
    assert "born or adopted" in "".join(one.text for result in made.results for one in result.passages)
    assert "born or adopted" not in kept.replace(made.results[0].answer, "")


def test_questions_are_paired_by_id_and_wording(made):
    longer = many(made)
    reworded = replace(longer, results=tuple(replace(one, question="Other?") for one in longer.results))
    with pytest.raises(UsageProblem, match="0 questions in common"):
        compare(reworded, longer)
    assert compare(longer, replace(longer, results=longer.results[:20])).questions == 20


def test_a_figure_that_falls_everywhere_is_worse_and_the_earliest_names_the_cause(made):
    comparison = compare(many(made, chunked=0.0, correct=0.0), many(made, correct=1.0))
    assert [change.name for change in comparison.regressions] == ["chunked", "correct"]
    assert "chunking" in comparison.cause
    assert json.loads(json.dumps(comparison.as_dict()))["cause"] == comparison.cause


def test_what_should_be_low_is_worse_when_it_rises(made):
    comparison = compare(many(made, unsupported_numbers=1.0), many(made))
    assert [change.name for change in comparison.regressions] == ["unsupported_numbers"]
    assert [change.name for change in compare(many(made), many(made, unsupported_numbers=1.0)).changes if change.better]


# the report


def test_the_report_is_one_sound_page_that_loads_nothing(made):
    text = report.render(made)
    assert tags_of(text).count("svg") >= 5
    assert "http" not in text.replace("http-equiv", "")


def test_the_report_shows_the_worst_cases_with_what_was_expected_and_why(made):
    text = report.render(made)
    worst = evaluate.worst(made.results)
    assert "dogs" in {one.id for one in worst}
    assert "no file of the index is called dogs.md" in text
    assert "&lt;b&gt;bones&lt;/b&gt;" in text
    assert "<b>bones" not in text
    assert all(one.why for one in worst)


def test_the_report_of_a_run_without_an_answer_or_a_fault_is_drawn_too(made):
    refused = [one for one in made.results if one.id == "space"]
    text = report.render(replace(made, results=tuple(refused)))
    assert "Nothing to see" in text


# drafts


def test_drafts_can_be_read_back_and_their_quotes_are_found(plain, tmp_path):
    out = tmp_path / "drafts.jsonl"
    result = run("eval", "--make", 12, "--out", out, *plain)
    assert result.exit_code == 0, result.output
    cases = questions.read_cases(out.read_text(encoding="utf-8").splitlines())
    assert len(cases) == 12
    assert all(case.draft for case in cases)
    assert {case.kind for case in cases} == {"answerable", "unanswerable"}
    assert len({case.sources[0].path for case in cases if case.sources}) > 3
    asked = run("eval", out, *plain, "--runs", tmp_path / "runs.db", "--json")
    record = json.loads(asked.stdout)
    assert record["summary"]["all"]["chunked"]["value"] == 1
    assert "12 of 12 questions are uncorrected drafts" in asked.stderr


def test_drafts_are_repeatable_and_ask_for_what_they_leave_out(handbook_index):
    with Assistant(handbook_index, model="none") as assistant:
        store = assistant.open_store()
        drafts = draft_questions(store, 20)
        assert drafts == draft_questions(store, 20)
        texts = {Path(path).name: " ".join(store.document(path).text.split()) for path in store.files()}
    for draft in drafts:
        if draft["kind"] == "answerable":
            [source], [answer] = draft["sources"], draft["answers"]
            assert source["quote"] in texts[source["path"]]
            assert answer in source["quote"]
            assert answer not in draft["question"].split("“")[1]


def test_drafts_never_replace_what_was_corrected(plain, tmp_path):
    file = write(tmp_path / "q.jsonl", QUESTIONS)
    before = file.read_bytes()
    result = run("eval", "--make", 3, "--out", file, *plain)
    assert (result.exit_code, "exists already" in result.stderr) == (2, True)
    assert file.read_bytes() == before


def test_an_index_without_facts_gives_no_drafts(tmp_path):
    with Assistant(tmp_path / "i.db", model="none") as assistant, pytest.raises(NothingToIndex, match="edgeai sync"):
        draft_questions(assistant.open_store(create=True), 5)
