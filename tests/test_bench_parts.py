"""The laws of the statistics, and every part of the bench that can be looked at alone."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import tags_of
from rich.cells import cell_len
from tiny_gguf import write_tiny_gguf

from edgeai import bench
from edgeai.bench import charts, cold, machine, page, plain, statistics
from edgeai.bench.compare import alternately, read_baseline, speedups, with_baseline
from edgeai.cli import bench_view
from edgeai.config import Settings
from edgeai.errors import EdgeAIError, ModelRejected, UsageProblem
from edgeai.records import Answer, Chunk, Hit, Timings

milliseconds = st.floats(0.01, 1e6)
samples = st.lists(milliseconds, min_size=1, max_size=40)
few = settings(deadline=None, max_examples=25)  # each draws 4,000 resamples


def around(low: float, value: float, high: float) -> bool:
    """Whether low <= value <= high, but for rounding."""
    return low <= value * (1 + 1e-9) and value <= high * (1 + 1e-9)


# statistics


@few
@given(samples)
def test_percentiles_are_ordered_and_lie_in_their_intervals_among_the_values(values):
    spread = statistics.spread(values)
    estimates = [spread.p50, spread.p90, spread.p95, spread.p99]
    assert [one.value for one in estimates] == sorted(one.value for one in estimates)
    for one in estimates:
        assert around(one.low, one.value, one.high)
        assert around(min(values), one.low, one.high)
        assert around(one.low, one.high, max(values))
    assert spread.count == len(values)


@few
@given(samples)
def test_the_ratio_of_a_sample_to_itself_straddles_1(values):
    ratio = statistics.percentile_ratio(values, values, 0.95)
    assert ratio.value == 1
    assert around(ratio.low, 1, ratio.high)
    assert statistics.verdict(ratio) == "no difference"


@few
@given(samples, st.floats(0.01, 100))
def test_pairs_that_differ_by_a_factor_have_exactly_that_ratio(values, factor):
    others = [value * factor for value in values]
    for ratio in (statistics.paired_ratio(others, values), statistics.paired_percentile_ratio(others, values, 0.95)):
        assert (ratio.value, ratio.low, ratio.high) == pytest.approx((factor, factor, factor))


def test_intervals_shrink_with_more_answers_and_are_repeatable():
    random = np.random.default_rng(1)
    small, large = (random.lognormal(5, 0.3, size).tolist() for size in (50, 800))
    narrow, wide = statistics.spread(large).p50, statistics.spread(small).p50
    assert narrow.high - narrow.low < (wide.high - wide.low) / 2
    assert statistics.spread(small) == statistics.spread(small)


def test_the_interval_covers_the_true_median_about_as_often_as_it_says():
    random = np.random.default_rng(2)
    runs = [statistics.estimate_percentiles(random.lognormal(5, 0.4, 60).tolist(), [0.5])[0] for _ in range(60)]
    covered = sum(one.low <= math.exp(5) <= one.high for one in runs)
    assert 51 <= covered <= 60  # 57 expected


@pytest.mark.parametrize(("factor", "said"), [(0.5, "faster"), (1.0, "no difference"), (2.0, "slower")])
def test_a_verdict_needs_the_whole_interval(factor, said):
    values = np.random.default_rng(3).lognormal(5, 0.2, 100).tolist()
    again = [value * factor for value in reversed(values)]
    assert statistics.verdict(statistics.percentile_ratio(again, values, 0.5)) == said


@settings(deadline=None)
@given(st.lists(milliseconds, min_size=1, max_size=100), st.integers(2, 40))
def test_a_histogram_holds_every_value_once(values, most):
    bins = statistics.histogram(values, most)
    assert sum(one.count for one in bins) == len(values)
    assert bins[0].count
    assert bins[-1].count
    assert len(bins) <= most + 1
    for value in values:
        assert any(one.low <= value * (1 + 1e-9) and value * (1 - 1e-9) <= one.high for one in bins if one.count)


@settings(deadline=None)
@given(st.floats(1e-3, 1e7), st.integers(2, 40))
def test_steps_are_round_and_few_enough(width, parts):
    step = statistics.round_step(width, parts)
    assert step * parts >= width * (1 - 1e-6)
    assert step < 10 * width / parts
    assert step / 10.0 ** math.floor(math.log10(step) + 1e-9) == pytest.approx(
        round(step / 10.0 ** math.floor(math.log10(step) + 1e-9))
    )


# the machine


def test_the_machine_says_what_it_is_and_how_much_memory_was_taken():
    assert machine.describe()["versions"]["edgeai"]
    before = machine.peak_memory()
    block = bytearray(64_000_000)
    block[::4096] = b"x" * len(block[::4096])
    after = machine.peak_memory()
    assert before is None or after >= before > 1e6


def counter(root: Path, name: str, label: str) -> Path:
    zone = root / name
    zone.mkdir(parents=True)
    for file, text in (("name", label), ("energy_uj", "900"), ("max_energy_range_uj", "999")):
        (zone / file).write_text(f"{text}\n")
    return zone / "energy_uj"


def test_energy_is_that_of_the_packages_and_goes_on_after_a_counter_wraps(tmp_path):
    package = counter(tmp_path, "intel-rapl:0", "package-0")
    parts = [counter(tmp_path, "intel-rapl:0:0", "core"), counter(tmp_path, "intel-rapl:1", "psys")]
    meter = machine.EnergyMeter(tmp_path)

    def work(text: str) -> str:
        for zone in (package, *parts):
            zone.write_text(text)
        return text

    assert meter.metered(work)("950") == "950"
    meter.metered(work)("40")
    assert meter.joules == pytest.approx([50e-6, 90e-6])


def test_without_counters_nothing_is_metered(tmp_path):
    meter = machine.EnergyMeter(tmp_path)
    assert meter.metered(len)("four") == 4
    assert meter.joules == []


# comparisons


def record(totals: list[float], **changes: object) -> dict[str, object]:
    return {"times_ms": {"total": totals}, "model": "a", "settings": {"budget_ms": 300.0}, **changes}


def test_a_comparison_names_what_was_not_the_same():
    values = [float(i) for i in range(100, 200)]
    slower = [value * 1.5 for value in values]
    comparison = with_baseline(record(slower, model="b", settings={"budget_ms": 0.0}), record(values))
    assert comparison.different == ("model", "settings.budget_ms")
    assert comparison.regressed
    assert json.loads(json.dumps(comparison.as_dict()))["p95"]["verdict"] == "slower"
    assert not with_baseline(record(values), record(values)).regressed


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"times_ms": {"total": []}}', '{"times_ms": {"total": [0]}}', "3"])
def test_what_is_no_baseline_is_refused(text):
    with pytest.raises(UsageProblem, match="--json"):
        read_baseline(text)


def test_two_systems_go_first_in_turns_and_keep_their_places():
    asked: list[str] = []

    def system(name: str):
        def ask(question: str) -> str:
            asked.append(name + question)
            return name + question

        return ask

    both = alternately(system("a"), system("b"))
    assert [both(question) for question in "12"] == [("a1", "b1"), ("a2", "b2")]
    assert asked == ["a1", "b1", "b2", "a2"]


def test_a_speedup_above_1_means_that_ours_is_faster():
    found = speedups([10.0, 20.0, 30.0], [80.0, 160.0, 240.0])
    assert {name: ratio.value for name, ratio in found.items()} == pytest.approx({"pairs": 8, "p50": 8, "p95": 8})


# the plain stack


def hit(text: str) -> Hit:
    return Hit(1, Chunk(0, len(text), text), "/a.md", "Leave", "markdown", 0.0, 1.0)


def test_the_plain_stack_completes_from_at_most_four_chunks(tmp_path):
    stack = plain.PlainStack(
        write_tiny_gguf(tmp_path / "m.gguf"), lambda _: [hit("twelve weeks")] * 9, max_tokens=8, threads=1
    )
    answer = stack.ask("How long is leave?")
    stack.close()
    assert 0 <= answer.retrieval <= answer.first_token <= answer.total
    assert 0 < answer.pieces <= 8
    assert len(answer.text) > 0


def test_the_plain_stack_drops_passages_that_do_not_fit(tmp_path):
    long = "weeks of leave and nothing else " * 60  # four of them exceed the tiny model's context, one does not
    stack = plain.PlainStack(write_tiny_gguf(tmp_path / "m.gguf"), lambda _: [hit(long)] * 4, max_tokens=4, threads=1)
    assert stack.ask("How long?").pieces > 0
    stack.close()


def test_the_plain_stack_names_a_file_it_cannot_load(tmp_path):
    spec = write_tiny_gguf(tmp_path / "m.gguf")
    Path(spec.model).write_bytes(b"GGUF")
    with pytest.raises(ModelRejected, match="pull"):
        plain.PlainStack(spec, lambda _: [], max_tokens=4)


def test_messages_hold_numbered_passages_above_the_question():
    system, user = plain.messages("How long?", [hit("one"), hit("two")])
    assert system["role"] == "system"
    assert user["content"].index("[1] Leave\none") < user["content"].index("[2] Leave\ntwo")
    assert user["content"].endswith("Question: How long?")


# fresh processes


def test_a_fresh_process_that_fails_says_why(tmp_path):
    with pytest.raises(EdgeAIError, match="edgeai sync"):
        cold.ask_fresh("-- what?", tmp_path / "none.db", Settings(model="none"))


# the page


def answers(count: int = 120) -> list[Answer]:
    totals = np.random.default_rng(4).lognormal(5.5, 0.3, count).tolist()
    return [
        Answer(
            f"question {i}",
            "text",
            "refused" if i % 9 == 0 else "answered",
            "generated" if i % 3 else "extractive",
            degraded=("<b>cut</b>",) if i % 20 == 0 else (),
            timings=Timings(
                embed=3, search=5, prefill=total / 3, first_token=total / 2, generate=total / 2, total=total
            ),
            tokens={"prompt": 400, "cached": 40, "output": 20},
        )
        for i, total in enumerate(totals)
    ]


@cache
def whole_record(count: int = 120) -> dict[str, object]:
    ours = answers(count)
    others = [plain.PlainAnswer("text", 30, 9.0, total * 4, total * 8) for total in bench.times_ms(ours)["total"]]
    record = {
        "machine": machine.describe(),
        "model": "<script>alert(1)</script>",
        "embedder": "e",
        "index": {"documents": 2, "chunks": 3, "bytes": 4},
        "settings": {"budget_ms": 300.0},
        "warmup": 5,
        "repeat": 1,
        "report": bench.summarise(ours, budget_ms=300.0).as_dict(),
        "times_ms": bench.times_ms(ours),
        "resources": {"peak_memory_bytes": 4e8, "joules_per_answer": 7.5},
        "cold": cold.summarise([cold.ColdAnswer(1500.0, 300.0), cold.ColdAnswer(1700.0, 310.0)]),
        "plain": plain.summarise(plain.Setup("0", "m", 4, 64, 4096, 2), others, [one.timings.total for one in ours]),
    }
    return {**record, "baseline": with_baseline(record, record).as_dict()}


def test_the_page_is_whole_well_formed_and_fetches_and_runs_nothing():
    text = page.render(whole_record())
    assert tags_of(text).count("svg") == 5
    assert "<b>cut</b>" not in text
    for heading in ("Where the time goes", "Beside the plain stack", "Beside the baseline", "Cold start"):
        assert heading in text


def test_the_page_of_a_bare_run_leaves_out_what_was_not_asked_for():
    record = dict(whole_record(1))
    bare = bench.summarise([Answer("q", "t", "answered", "extractive", timings=Timings(first_token=9, total=9))])
    record |= {"report": bare.as_dict(), "cold": None, "plain": None, "baseline": None}
    record["resources"] = {"peak_memory_bytes": None, "joules_per_answer": None}
    text = page.render(record)
    assert "Cold start" not in text
    assert "memory" not in text
    assert "no budget" in text


def test_stage_means_add_up_to_the_mean_total():
    record = whole_record()
    total = record["report"]["stages"]["total"]["mean"]
    assert sum(page.stage_means(record).values()) == pytest.approx(total, abs=0.1)


@settings(deadline=None)
@given(st.lists(milliseconds, min_size=1, max_size=50), st.none() | st.floats(1, 1e6))
def test_charts_are_well_formed_and_stay_inside_their_frame(values, budget):
    drawings = [
        charts.distribution(values, {"p50": values[0]}, budget),
        charts.cumulative({"a": values, "b & c": values[::-1]}, budget),
        charts.waterfall({"embed": values[0], "other": 0.0}, budget),
    ]
    for drawing in drawings:
        for element in ElementTree.fromstring(drawing).iter("rect"):
            assert 0 <= float(element.get("x")) <= charts.WIDTH
            assert float(element.get("width")) >= 0
            assert float(element.get("height")) >= 0


# the terminal


@settings(deadline=None)
@given(st.lists(milliseconds, min_size=1, max_size=100), st.booleans())
def test_terminal_bars_are_as_long_as_their_share(values, ascii_only):
    rows = bench_view.bars(values, ascii_only=ascii_only)
    assert max(cell_len(bar) for _, bar, _ in rows) == bench_view.BAR_WIDTH
    assert all(bool(count) or not bar for _, bar, count in rows)
    assert not ascii_only or all(set(bar) <= {"#"} for _, bar, _ in rows)


def test_the_terminal_shows_every_part(capsys):
    bench_view.console.out.cache_clear()
    bench_view.show(whole_record())
    shown = capsys.readouterr().out
    bench_view.console.out.cache_clear()
    for words in ("ms, warm", "ms, cold", "ms, plain stack", "no difference", "J an answer", "Budget of 300 ms"):
        assert words in shown


def test_peers_share_the_figures_without_what_edgeai_installs():
    missing = ("apsw", "sqlite_vec", "onnxruntime", "tokenizers", "llama_cpp", "click", "rich", "platformdirs")
    blocked = f"import sys; sys.modules.update(dict.fromkeys({missing}))"
    harness = Path(__file__).parents[1] / "benchmarks" / "peers"
    program = f"{blocked}; sys.path.insert(0, {str(harness)!r}); from harness import *; print(read_questions(['Who?']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "['Who?']\n", done.stderr
