"""`edgeai bench`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, TextIO

import click

from edgeai.cli.options import index_options, model_options
from edgeai.errors import UsageProblem

if TYPE_CHECKING:
    from edgeai.assistant import Assistant
    from edgeai.bench.plain import PlainStack
    from edgeai.config import Settings

GATE_FAILED = 3
SCHEMA = """\
\b
--json prints {"machine", "model", "embedder", "index", "settings", "warmup", "repeat", "report", "times_ms",
"resources", "cold", "plain", "baseline"}, the last three null when not asked for. All times are in ms.
"report" holds "answers", "questions", "stages" (for each: "count", "mean", "p50", "p90", "p95", "p99",
"intervals" with [low, high] of each percentile), the shares "generated", "extractive", "refused" and "degraded",
mean "tokens", "budget_ms", "within_budget" (a share) and "met".
"times_ms" holds "total" and "first_token" of every answer, "resources" "peak_memory_bytes" and
"joules_per_answer" of the processor package (null where the system does not say).
"cold" holds "processes", "page_cache", and like stages "wall" and "answer".
"plain" holds "setup", "stages", "pieces" (mean, about tokens), "times_ms" and "speedup": "pairs" (geometric
mean), "p50" and "p95", each with "value" and "interval"; above 1 edgeai is faster.
"baseline" holds the ratios "p50" and "p95" (below 1 is faster now) with "value", "interval" and "verdict",
"regressed", and "different": what was not the same in both runs.
"""


@click.command("bench", short_help="Measure how long answers take.", epilog=SCHEMA)
@click.option(
    "--questions",
    type=click.File("r", encoding="utf-8-sig"),
    metavar="FILE",
    help='One question a line, or JSON Lines with "question"; without it they are made from the index.',
)
@click.option("-n", "--number", type=click.IntRange(1), default=100, show_default=True, help="Questions to measure.")
@click.option("--warmup", type=click.IntRange(0), default=5, show_default=True, help="Unmeasured questions before.")
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="Rounds over the same questions.")
@click.option("--cold", type=click.IntRange(1), metavar="N", help="Also answer N questions in a fresh process each.")
@click.option("--compare", type=click.Choice(["plain"]), help="Also ask llama-cpp-python's chat completion, in turns.")
@click.option("--baseline", type=click.File("r", encoding="utf-8-sig"), metavar="FILE", help="Earlier --json output.")
@click.option("--gate", is_flag=True, help="Exit 3 when p95 misses the budget or, with --baseline, got worse.")
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a page with plots."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@index_options
@model_options
def bench_command(
    questions: TextIO | None,
    number: int,
    warmup: int,
    repeat: int,
    cold: int | None,
    compare: str | None,
    baseline: TextIO | None,
    gate: bool,
    html: Path | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Ask many questions in one warm process and show the percentiles of every stage.

    Every question is asked once, because a repeated one is answered from warm caches. With '--model none' nothing is
    generated. All intervals are 95 % bootstrap intervals.

    --gate needs at least 100 different questions. It exits 3 when p95 misses the budget. With --baseline the budget is
    not judged, as on a noisy machine it cannot be; instead it exits 3 when p95 is beyond doubt over 1.1 times the
    baseline's (the whole interval of the ratio).

    --cold times `edgeai ask` from process start to end; files stay in the system's page cache. --compare plain puts
    the same model file, index and answer length through llama-cpp-python with its own defaults (no adapter; threads =
    physical cores), alternating which goes first. Every pair counts, also where edgeai refused without generating.
    Memory is not reported then, as both share the process.
    """
    from edgeai import bench
    from edgeai.bench.compare import read_baseline, with_baseline
    from edgeai.cli import console
    from edgeai.cli.index import unlogged_assistant

    earlier = read_baseline(baseline.read()) if baseline else None
    with unlogged_assistant(flags) as assistant:
        assistant.warm()
        asked = _questions(questions, assistant, (cold or 0) + warmup + number)
        fresh, asked = asked[: cold or 0], asked[cold or 0 :]
        if gate:
            enough = len(earlier["times_ms"]["total"]) if earlier else None
            bench.require_gate(len(asked) - warmup, assistant.settings.budget_ms or None, enough)
        record = _measure(assistant, asked, warmup, repeat, compare=compare is not None)
    record["cold"] = _cold(fresh, assistant) if fresh else None
    record["baseline"] = with_baseline(record, earlier).as_dict() if earlier else None
    for line in assistant.notices:
        console.notice(line)
    _report(record, as_json, html)
    passed = not record["baseline"]["regressed"] if earlier else record["report"]["met"]
    if gate and not passed:
        raise SystemExit(GATE_FAILED)


def _report(record: dict[str, Any], as_json: bool, html: Path | None) -> None:
    from edgeai.cli import bench_view, console

    if as_json:
        console.print_json(record)
    else:
        bench_view.show(record)
    if html:
        _write_page(html, record)


def _questions(file: TextIO | None, assistant: Assistant, count: int) -> list[str]:
    from edgeai.bench.questions import make_questions, read_questions
    from edgeai.cli import console

    found = read_questions(file) if file else make_questions(assistant.open_store(), count)
    if len(found) < count:
        console.notice(f"There are only {len(found)} different questions, warm-up included, instead of {count}.")
    return found[:count]


@contextmanager
def _plain_stack(settings: Settings, index: Path) -> Iterator[PlainStack]:
    """The stack to compare with, over a search of its own: a shared one would remember the question's embedding."""
    from edgeai.assistant import Assistant
    from edgeai.bench.plain import PASSAGES, PlainStack
    from edgeai.models import open_registry

    if settings.model == "none":
        raise UsageProblem("There is nothing to compare without a language model; leave out '--model none'.")
    spec = open_registry(offline=True, allow_unverified=settings.allow_unverified).generator(settings.model)
    with Assistant(index, settings=settings) as searching:
        stack = PlainStack(
            spec,
            lambda question: searching.search(question, limit=PASSAGES),
            max_tokens=settings.max_tokens,
            threads=settings.threads or None,
        )
        with closing(stack):
            yield stack


def _measure(assistant: Assistant, asked: Sequence[str], warmup: int, repeat: int, *, compare: bool) -> dict[str, Any]:
    """The record of one warm run, of two systems in turns to `compare` them."""
    from edgeai import bench
    from edgeai.bench import machine, plain
    from edgeai.bench.compare import alternately
    from edgeai.cli import console

    meter = machine.EnergyMeter()
    ask = meter.metered(lambda question: assistant.ask(question).answer)
    run = partial(bench.run, asked, warmup=warmup, repeat=repeat, progress=console.count_steps)
    theirs = None
    if compare:
        with _plain_stack(assistant.settings, assistant.index) as stack:
            pairs = run(alternately(ask, stack.ask))
        answers = [ours for ours, _ in pairs]
        theirs = plain.summarise(stack.setup, [other for _, other in pairs], [one.timings.total for one in answers])
    else:
        answers = run(ask)
    joules, memory = meter.joules[warmup:], machine.peak_memory()  # before statistics take their own
    return {
        **_conditions(assistant),
        "warmup": warmup,
        "repeat": repeat,
        "report": bench.summarise(answers, budget_ms=assistant.settings.budget_ms or None).as_dict(),
        "times_ms": bench.times_ms(answers),
        "resources": {
            "peak_memory_bytes": None if compare else memory,
            "joules_per_answer": round(fmean(joules), 3) if joules else None,
        },
        "cold": None,
        "plain": theirs,
        "baseline": None,
    }


def _conditions(assistant: Assistant) -> dict[str, Any]:
    from edgeai.bench import machine

    status, settings = assistant.status(), assistant.settings
    return {
        "machine": machine.describe(),
        "model": settings.model,
        "embedder": status["maker"]["embedder"],
        "index": {name: status[name] for name in ("documents", "chunks", "bytes")},
        "settings": asdict(settings),
    }


def _cold(questions: Sequence[str], assistant: Assistant) -> dict[str, Any]:
    from edgeai.bench import cold
    from edgeai.cli import console

    return cold.summarise(cold.run(questions, assistant.index, assistant.settings, console.count_steps))


def _write_page(path: Path, record: dict[str, Any]) -> None:
    from edgeai.bench import page

    try:
        path.write_text(page.render(record), encoding="utf-8")
    except OSError as error:
        raise UsageProblem(f"{path} cannot be written ({error.strerror}); name another file with --html.") from error
