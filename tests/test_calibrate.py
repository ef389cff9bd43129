"""`edgeai eval --calibrate`, `--forget-calibration` and `--drift` as a user meets them: the handbook, no generator."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from handbook import run
from pages import tags_of

from edgeai.assistant import Assistant
from edgeai.cli.ask import show_reply
from edgeai.evaluation import trials
from edgeai.evaluation.questions import Case, Source
from edgeai.grounding.calibrated import CALIBRATION, NOT_USABLE, Calibration
from edgeai.records import Answer
from edgeai.reply import Reply

LEAVE = Case("leave", "How long is parental leave?", ("20 weeks",), (Source("leave.md"),))
NOBODY = Case("nobody", "Who painted the moon?", kind="unanswerable")


@pytest.fixture
def index(handbook_index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(handbook_index, tmp_path / "index.db"))


@pytest.fixture
def plain(index: Path) -> tuple[object, ...]:
    return ("--index", index, "-m", "none", "--reader", "none")


# which questions are asked


def test_as_many_are_held_out_as_the_share_without_an_answer_asks_for(handbook_index):
    cases = [Case(str(n), f"{LEAVE.question} {n}", LEAVE.answers, LEAVE.sources) for n in range(30)]
    with Assistant(handbook_index, reader="none") as assistant:
        store = assistant.open_store()
        held = [asking for asking in trials.plan([*cases, NOBODY, NOBODY], store) if asking.held_out]
        assert len(held) == 8  # with the two, a quarter of forty
        assert len({asking.case.id for asking in held}) == 8
        unsourced = Case("x", "Who?", ("Ada",), (Source("gone.md"),))
        assert [one.held_out for one in trials.plan([unsourced, Case("y", "Unjudged?")], store)] == [False]


def test_a_question_held_out_finds_its_neighbours_and_not_its_document(handbook_index):
    with Assistant(handbook_index, model="none", reader="none") as assistant:
        [asking] = [one for one in trials.plan([LEAVE] * 3, assistant.open_store()) if one.held_out]
        hits = assistant.search(LEAVE.question, where=asking.where)
        assert hits
        assert "leave.md" not in {Path(hit.path).name for hit in hits}


def test_an_answer_is_right_as_an_evaluation_says():
    shown = Answer("q", "It is 20 weeks [1].", "answered", "extractive")
    assert trials.answered_right(LEAVE, shown)
    assert not trials.answered_right(NOBODY, shown)
    assert not trials.answered_right(LEAVE, Answer("q", "It is 20 weeks [1].", "refused", "extractive"))


def test_a_copy_elsewhere_is_no_missing_answer():
    found = Answer("q", "20 weeks [1]", "answered", "extractive", confidence=0.9)
    other = Answer("q", "3 days [1]", "answered", "extractive", confidence=0.6)
    askings = [trials.Asking(LEAVE, held_out=True), trials.Asking(LEAVE)]
    assert [one.trial.right for one in trials.ask_all(askings, lambda *_: found)] == [True]
    assert [one.trial.right for one in trials.ask_all(askings, lambda *_: other)] == [False, False]


# the command


def test_a_calibration_is_fitted_kept_shown_used_and_forgotten(plain, index, tmp_path):
    page = tmp_path / "page.html"
    made = run("eval", "--calibrate", *plain, "--json", "--html", page)
    assert made.exit_code == 0, made.output
    record = json.loads(made.stdout)
    fitted = Calibration(**record["calibration"])
    assert fitted.basis == "search"
    assert record["fit"]["before"]["ece"] > 0
    assert record["fit"]["curve"][-1]["coverage"] <= 1
    assert tags_of(page.read_text(encoding="utf-8")).count("svg") == 3
    status = json.loads(run("status", "--index", index, "--json").stdout)
    assert status["calibration"] == record["calibration"]
    with Assistant(index, model="none", reader="none") as assistant:
        used = assistant.ask(LEAVE.question).answer
        raw = assistant.ask(LEAVE.question, calibration=Calibration()).answer
        assert assistant.calibration() == fitted
    assert used.confidence == pytest.approx(fitted.probability(raw.confidence))
    assert (used.status == "refused") == (raw.confidence < fitted.floor)
    forgotten = run("eval", "--forget-calibration", *plain)
    assert forgotten.exit_code == 0
    assert "calibration      none" in run("status", "--index", index).stdout
    with Assistant(index, model="none", reader="none") as assistant:
        assert assistant.calibration() is None


def test_another_reader_does_not_use_it_and_says_so_once(index):
    with Assistant(index, model="none") as assistant:
        record = Calibration(basis="search", embedder=assistant.judges()[0], reader="none").as_dict()
        assistant.open_store().set_notes({CALIBRATION: record})
        answers = [assistant.ask(LEAVE.question).answer for _ in range(2)]
        assert assistant.notices == [NOT_USABLE]
        assistant.open_store().set_notes({CALIBRATION: None})
        assert assistant.ask(LEAVE.question).answer.confidence == answers[0].confidence


def test_with_the_shipped_reader_its_judgement_is_what_is_calibrated(index, tmp_path):
    made = run("eval", "--calibrate", "--index", index, "-m", "none", "--budget", "none", "--risk", "0.5")
    assert made.exit_code == 0, made.output
    assert "calibration error" in made.stdout
    with Assistant(index, model="none", budget_ms=0) as assistant:
        fitted = assistant.calibration()
        assert fitted.basis == "reader"
        raw = assistant.ask(LEAVE.question, calibration=Calibration()).answer
        assert assistant.ask(LEAVE.question).answer.confidence == pytest.approx(fitted.probability(raw.confidence))


def test_drift_compares_the_log_with_the_calibration(plain, index):
    assert run("eval", "--drift", *plain).exit_code == 2
    assert run("eval", "--calibrate", *plain, EDGEAI_LOG_QUESTIONS="1").exit_code == 0
    few = run("eval", "--drift", *plain)
    assert (few.exit_code, "0 questions" in few.stderr) == (2, True)  # those of a calibration are not logged
    with Assistant(index, model="none", reader="none") as assistant:
        assistant.reconfigure(log_questions=True)
        for number in range(20):
            assert assistant.ask(f"Which cheese goes with wine number {number}?").answer
    found = run("eval", "--drift", *plain, "--json")
    assert found.exit_code == 0, found.output
    record = json.loads(found.stdout)
    assert (record["recent"], record["due"]) == (20, True)
    assert "time to calibrate again" in run("eval", "--drift", *plain).stdout


USAGE = [
    (("--calibrate", "--drift"), "--forget-calibration"),
    (("--risk", "0.1", "FILE"), "--calibrate"),
    (("--drift", "FILE"), "--drift"),
    (("--calibrate", "FILE"), "add questions"),
]


@pytest.mark.parametrize(("arguments", "mend"), USAGE)
def test_what_does_not_fit_is_refused_with_the_mend(arguments, mend, plain, tmp_path):
    file = tmp_path / "q.jsonl"
    file.write_text('{"question": "How long is parental leave?", "answers": ["20 weeks"]}\n')
    result = run("eval", *(file if argument == "FILE" else argument for argument in arguments), *plain)
    assert (result.exit_code, mend in result.stderr) == (2, True), result.output


def test_the_terminal_says_where_support_is_weak(capsys):
    def given(support):
        yield from ()
        return Answer("q", "20 weeks [1]", "answered", "extractive", support=support)

    show_reply(Reply(given("weak")))
    assert "weak support" in capsys.readouterr().err
    show_reply(Reply(given("strong")))
    assert "weak support" not in capsys.readouterr().err
