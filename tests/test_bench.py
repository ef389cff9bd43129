"""The bench counts right, never asks twice, and its gate means something.

Statistics, comparisons, the plain stack, fresh processes and the page have tests of their own in test_bench_parts.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny_gguf import write_tiny_gguf

from edgeai import bench
from edgeai.assistant import Assistant
from edgeai.bench.questions import make_questions, read_questions
from edgeai.cli import main
from edgeai.errors import NothingToIndex, UsageProblem
from edgeai.records import Answer, Timings

COLOURS = ("amber", "violet", "crimson", "teal", "ochre", "indigo", "scarlet", "olive")
QUICK = ("-m", "none", "--reader", "none")
ANIMALS = ("badger", "heron", "otter", "lynx", "falcon", "walrus", "beetle", "marten")


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


# the report


def test_a_stage_is_measured_over_the_answers_in_which_it_ran():
    slow = answer(100, mode="generated", tokens={"prompt": 200, "output": 10})
    report = bench.summarise([answer(10), slow, answer(20, status="refused")])
    assert report.stages["total"].count == 3
    assert "prefill" not in report.stages
    assert report.tokens == {"prompt": 200, "output": 10}
    assert (report.generated, report.extractive, report.refused) == pytest.approx((1 / 3, 1 / 3, 1 / 3))


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
    names = ("p50", "p90", "p95", "p99")
    assert record["stages"]["total"] == {
        "count": 1,
        "mean": 12.35,
        **dict.fromkeys(names, 12.35),
        "intervals": {name: [12.35, 12.35] for name in names},
    }
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


@pytest.mark.parametrize(("questions", "budget", "baseline"), [(99, 300.0, None), (100, None, None), (100, 300.0, 99)])
def test_a_gate_without_a_budget_enough_questions_or_enough_of_a_baseline_is_refused(questions, budget, baseline):
    with pytest.raises(UsageProblem):
        bench.require_gate(questions, budget, baseline)


def test_a_baseline_takes_the_place_of_a_budget():
    with pytest.raises(UsageProblem, match="budget"):
        bench.require_gate(100, None)
    assert bench.require_gate(100, None, 100) is None


# questions


def test_questions_are_read_from_lines_and_objects_without_repetition():
    lines = ["How long?\n", '{"question": "Who?", "id": 3}\n', "\n", "How long?\n"]
    assert read_questions(lines) == ["How long?", "Who?"]


@pytest.mark.parametrize("line", ['{"q": 1}', '{"question": " "}', '{"question": 3}', "{cut"])
def test_a_bad_object_is_named_by_its_line(line):
    with pytest.raises(UsageProblem, match="Line 2"):
        read_questions(["fine", line])


def test_questions_from_an_index_are_distinct_repeatable_and_spread_over_it(index):
    with Assistant(index, model="none") as assistant:
        store = assistant.open_store()
        questions = make_questions(store, 30)
        assert questions == make_questions(store, 30)
    assert len(set(questions)) == 30
    assert all(any(colour in question for question in questions) for colour in COLOURS)


def test_an_empty_index_makes_no_questions(tmp_path):
    with Assistant(tmp_path / "i.db", model="none") as assistant:
        store = assistant.open_store(create=True)
        with pytest.raises(NothingToIndex, match="edgeai sync"):
            make_questions(store, 5)


# the command


def test_the_command_prints_the_documented_object(index):
    result = run("--index", index, "-m", "none", "-n", 12, "--warmup", 2, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    keys = ["machine", "model", "embedder", "index", "settings", "warmup", "repeat", "report", "times_ms", "resources"]
    assert list(record) == [*keys, "cold", "plain", "baseline"]
    assert [len(times) for times in record["times_ms"].values()] == [12, 12]
    assert record["resources"]["peak_memory_bytes"] is None or record["resources"]["peak_memory_bytes"] > 20e6
    assert record["cold"] is record["plain"] is record["baseline"] is None
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
    arguments = ("--index", index, *QUICK, "--questions", tmp_path / "q.txt", "--gate")
    assert run(*arguments, "--budget", 1).exit_code == 3
    assert run(*arguments, "--budget", 600000).exit_code == 0


def test_a_run_is_compared_with_an_earlier_one(index, tmp_path):
    arguments = ("--index", index, *QUICK, "-n", 10, "--warmup", 1)
    earlier = json.loads(run(*arguments, "--json").stdout)
    earlier["times_ms"]["total"] = [total * 100 for total in earlier["times_ms"]["total"]]
    earlier["index"]["chunks"] += 1
    (tmp_path / "earlier.json").write_text(json.dumps(earlier))
    result = run(*arguments, "--baseline", tmp_path / "earlier.json", "--html", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    assert "faster" in result.stdout
    assert "index.chunks" in result.stdout
    assert "Beside the baseline" in (tmp_path / "page.html").read_text("utf-8")


def test_the_gate_judges_the_baseline_instead_of_the_budget(index, tmp_path):
    lines = (f"Which {one} {two} {colour} drawer?\n" for colour in COLOURS for one in ANIMALS for two in ANIMALS[:2])
    (tmp_path / "q.txt").write_text("".join(lines))
    arguments = ("--index", index, *QUICK, "--questions", tmp_path / "q.txt", "--budget", 1)
    earlier = json.loads(run(*arguments, "--json").stdout)
    measured = earlier["times_ms"]["total"]
    for factor, code in ((0.01, 3), (100, 0)):
        earlier["times_ms"]["total"] = [total * factor for total in measured]
        (tmp_path / "earlier.json").write_text(json.dumps(earlier))
        assert run(*arguments, "--gate", "--baseline", tmp_path / "earlier.json").exit_code == code


def test_cold_answers_take_longer_than_the_answer_inside_them(index):
    result = run("--index", index, *QUICK, "-n", 3, "--warmup", 1, "--cold", 2, "--json")
    assert result.exit_code == 0, result.output
    cold = json.loads(result.stdout)["cold"]
    assert (cold["processes"], cold["page_cache"]) == (2, "not dropped")
    assert cold["wall"]["p50"] > cold["answer"]["p50"] > 0


def test_the_plain_stack_is_asked_the_same_questions(index, tmp_path):
    spec = write_tiny_gguf(tmp_path / "tiny.gguf")
    arguments = ("--index", index, "--allow-unverified", "-m", spec.model, "--reader", "none", "-n", 4, "--warmup", 1)
    result = run(*arguments, "--compare", "plain", "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    plain = record["plain"]
    assert plain["stages"]["total"]["count"] == record["report"]["answers"] == 4
    assert plain["setup"]["max_tokens"] == record["settings"]["max_tokens"]
    assert set(plain["speedup"]) == {"pairs", "p50", "p95"}
    assert record["resources"]["peak_memory_bytes"] is None


def test_there_is_nothing_to_compare_without_a_model(index):
    result = run("--index", index, "-m", "none", "--compare", "plain")
    assert result.exit_code == 2
    assert "--model none" in result.stderr


def test_a_page_that_cannot_be_written_is_one_sentence(index, tmp_path):
    result = run("--index", index, *QUICK, "-n", 2, "--warmup", 0, "--html", tmp_path / "no" / "page.html")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_a_baseline_without_times_is_one_sentence(index, tmp_path):
    (tmp_path / "b.json").write_text("{}")
    result = run("--index", index, "-m", "none", "--baseline", tmp_path / "b.json")
    assert result.exit_code == 2
    assert "--json" in result.stderr


def test_the_gate_refuses_before_measuring(index):
    result = run("--index", index, "-m", "none", "-n", 50, "--gate")
    assert result.exit_code == 2
    assert "100" in result.stderr
