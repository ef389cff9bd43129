"""The bench counts right, never asks twice, and its gate means something."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai import bench
from edgeai.assistant import Assistant
from edgeai.cli import main
from edgeai.errors import NothingToIndex, UsageProblem
from edgeai.records import Answer, Timings

COLOURS = ("amber", "violet", "crimson", "teal", "ochre", "indigo", "scarlet", "olive")
ANIMALS = ("badger", "heron", "otter", "lynx", "falcon", "walrus", "beetle", "marten")

milliseconds = st.floats(0.01, 1e6)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["bench", *(str(argument) for argument in arguments)])


def answer(total: float, *, question: str = "q", status: str = "answered", **changes: object) -> Answer:
    timings = Timings(embed=total / 4, search=total / 4, first_token=total, total=total)
    values = {"text": "a", "status": status, "mode": "extractive", "timings": timings, **changes}
    return Answer(question, **values)


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    for i, colour in enumerate(COLOURS):
        parts = [
            f"## Room {i}-{j}\n\nThe {colour} {animal} cabinet stores the sealed {animal} ledger of district {i}{j}."
            f" Every {animal} inspector signs the {colour} register before opening drawer {j}.\n"
            for j, animal in enumerate(ANIMALS)
        ]
        (folder / f"{colour}.md").write_text(f"# Archive {colour}\n\n" + "\n".join(parts), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def index(docs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("index") / "index.db"
    with Assistant(path, model="none") as assistant:
        assistant.sync(docs)
    return path


# statistics


@settings(deadline=None)
@given(st.lists(milliseconds, min_size=1, max_size=300), st.floats(0, 1))
def test_percentiles_are_those_of_numpy(values, share):
    assert math.isclose(bench.percentile(values, share), np.percentile(values, share * 100), rel_tol=1e-9)


@settings(deadline=None)
@given(st.lists(milliseconds, min_size=1, max_size=50))
def test_percentiles_are_ordered_and_lie_among_the_values(values):
    spread = bench.spread(values)
    assert min(values) <= spread.p50 <= spread.p95 <= spread.p99 <= max(values)
    assert spread.count == len(values)


def test_a_stage_is_measured_over_the_answers_in_which_it_ran():
    slow = answer(100, mode="generated", tokens={"prompt": 200, "output": 10})
    report = bench.summarise([answer(10), slow, answer(20, status="refused")])
    assert report.stages["total"].count == 3
    assert "prefill" not in report.stages
    assert report.tokens == {"prompt": 200, "output": 10}
    assert (report.refused, report.extractive) == (pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_degradations_are_counted_by_kind():
    answers = [answer(1, degraded=("shorter answer",)), answer(1), answer(1), answer(1)]
    assert bench.summarise(answers).degraded == {"shorter answer": 0.25}


@pytest.mark.parametrize(("budget", "met", "within"), [(None, None, None), (95.0, False, 0.95), (96.0, True, 0.96)])
def test_the_budget_is_held_against_the_95th_percentile(budget, met, within):
    report = bench.summarise([answer(float(i)) for i in range(1, 101)], budget_ms=budget)  # p95 = 95.05
    assert (report.met, report.within_budget) == (met, within)


def test_the_report_is_plain_json():
    report = bench.summarise([answer(12.3456)], budget_ms=300.0)
    record = json.loads(json.dumps(report.as_dict()))
    assert record["stages"]["total"] == {"count": 1, "mean": 12.35, "p50": 12.35, "p95": 12.35, "p99": 12.35}
    assert record["met"] is True


# the run


def test_the_warm_up_takes_questions_of_its_own():
    asked: list[str] = []

    def ask(question: str) -> Answer:
        asked.append(question)
        return answer(1, question=question)

    steps: list[int] = []
    answers = bench.run(list("abcdef"), ask, warmup=2, progress=lambda step: steps.append(step.done))
    assert asked == list("abcdef")
    assert [one.question for one in answers] == list("cdef")
    assert steps == [1, 2, 3, 4]


def test_repeating_goes_round_the_list():
    answers = bench.run(list("abc"), lambda question: answer(1, question=question), warmup=1, repeat=2)
    assert [one.question for one in answers] == list("bcbc")
    assert bench.summarise(answers).questions == 2


def test_a_warm_up_that_leaves_nothing_is_refused():
    with pytest.raises(UsageProblem, match="too few"):
        bench.run(["a", "b"], lambda question: answer(1), warmup=2)


@pytest.mark.parametrize(("questions", "budget"), [(99, 300.0), (100, None)])
def test_a_gate_without_a_budget_or_enough_questions_is_refused(questions, budget):
    with pytest.raises(UsageProblem):
        bench.require_gate(questions, budget)


# questions


def test_questions_are_read_from_lines_and_objects_without_repetition():
    lines = ["How long?\n", '{"question": "Who?", "id": 3}\n', "\n", "How long?\n"]
    assert bench.read_questions(lines) == ["How long?", "Who?"]


@pytest.mark.parametrize("line", ['{"q": 1}', '{"question": " "}', '{"question": 3}', "{cut"])
def test_a_bad_object_is_named_by_its_line(line):
    with pytest.raises(UsageProblem, match="Line 2"):
        bench.read_questions(["fine", line])


def test_questions_from_an_index_are_distinct_repeatable_and_spread_over_it(index):
    with Assistant(index, model="none") as assistant:
        store = assistant.open_store()
        questions = bench.make_questions(store, 30)
        assert questions == bench.make_questions(store, 30)
    assert len(set(questions)) == 30
    assert all(any(colour in question for question in questions) for colour in COLOURS)


def test_an_empty_index_makes_no_questions(tmp_path):
    with Assistant(tmp_path / "i.db", model="none") as assistant:
        store = assistant.open_store(create=True)
        with pytest.raises(NothingToIndex, match="edgeai sync"):
            bench.make_questions(store, 5)


# the command


def test_the_command_prints_the_documented_object(index):
    result = run("--index", index, "-m", "none", "-n", 12, "--warmup", 2, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    keys = ["machine", "model", "embedder", "index", "settings", "warmup", "repeat", "report"]
    assert list(record) == keys
    assert record["machine"]["versions"]["edgeai"]
    assert record["index"]["chunks"] > 0
    report = record["report"]
    assert (report["answers"], report["questions"], report["budget_ms"]) == (12, 12, 300.0)
    assert set(report["stages"]) == {"embed", "search", "read", "first_token", "total"}
    assert report["stages"]["total"]["p50"] >= report["stages"]["embed"]["p50"]
    assert report["tokens"] == {}


def test_the_command_shows_a_table_and_the_verdict(index, tmp_path):
    (tmp_path / "q.txt").write_text("Where is the amber heron ledger?\nWho signs the teal register?\n")
    result = run("--index", index, "-m", "none", "--questions", tmp_path / "q.txt", "--warmup", 1, "--budget", 60000)
    assert result.exit_code == 0, result.output
    assert "p95" in result.stdout
    assert "met" in result.stdout
    assert "only 2 different questions" in result.stderr


def test_the_gate_exits_3_when_the_budget_is_missed_and_0_when_it_is_met(index, tmp_path):
    lines = (f"Which {animal} ledger is in the {colour} cabinet?\n" for colour in COLOURS for animal in ANIMALS)
    more = (f"Who opened the {colour} {animal} drawer?\n" for colour in COLOURS for animal in ANIMALS)
    (tmp_path / "q.txt").write_text("".join([*lines, *more]))
    arguments = ("--index", index, "-m", "none", "--questions", tmp_path / "q.txt", "--gate")
    assert run(*arguments, "--budget", 1).exit_code == 3
    assert run(*arguments, "--budget", 600000).exit_code == 0


def test_the_gate_refuses_before_measuring(index):
    result = run("--index", index, "-m", "none", "-n", 50, "--gate")
    assert result.exit_code == 2
    assert "100" in result.stderr
