"""`edgeai bench`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

import click

from edgeai.cli.options import index_options, model_options, open_assistant

if TYPE_CHECKING:
    from edgeai.assistant import Assistant
    from edgeai.bench import Report
    from edgeai.records import Progress

GATE_FAILED = 3


@click.command("bench", short_help="Measure how long answers take.")
@click.option(
    "--questions",
    type=click.File("r", encoding="utf-8-sig"),
    metavar="FILE",
    help='One question a line, or JSON Lines with "question"; without it they are made from the index.',
)
@click.option("-n", "--number", type=click.IntRange(1), default=100, show_default=True, help="Questions to measure.")
@click.option("--warmup", type=click.IntRange(0), default=5, show_default=True, help="Unmeasured questions before.")
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="Rounds over the same questions.")
@click.option("--gate", is_flag=True, help="Exit 3 when the 95th percentile misses the budget.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@index_options
@model_options
def bench_command(
    questions: TextIO | None, number: int, warmup: int, repeat: int, gate: bool, as_json: bool, **flags: Any
) -> None:
    """Ask many questions in one warm process and show the percentiles of every stage.

    Every question is asked once, because a repeated one is answered from warm caches. --gate needs at least 100
    different questions. With '--model none' nothing is generated.

    \b
    --json prints {"machine", "model", "embedder", "index", "settings", "warmup", "repeat", "report"};
    "report" holds "answers", "questions", "stages" (for each: "count", "mean", "p50", "p95", "p99" in ms), the shares
    "refused", "extractive" and "degraded", mean "tokens", "budget_ms", "within_budget" (a share) and "met".
    """
    from edgeai import bench
    from edgeai.cli import console
    from edgeai.cli.index import sync_docs

    docs = flags["docs"]
    with console.progress_bar("Getting the model") as progress, open_assistant(flags, progress) as assistant:
        sync_docs(assistant, docs)
        assistant.warm()
        asked = _questions(questions, assistant, warmup + number)
        budget = assistant.settings.budget_ms or None
        if gate:
            bench.require_gate(len(asked) - warmup, budget)
        answers = bench.run(
            asked, lambda question: assistant.ask(question).answer, warmup=warmup, repeat=repeat, progress=_count
        )
        report = bench.summarise(answers, budget_ms=budget)
        record = _record(assistant, warmup, repeat, report)
    for line in assistant.notices:
        console.notice(line)
    if as_json:
        console.print_json(record)
    else:
        _show(record, report)
    if gate and not report.met:
        raise SystemExit(GATE_FAILED)


def _questions(file: TextIO | None, assistant: Assistant, count: int) -> list[str]:
    from edgeai import bench
    from edgeai.cli import console

    found = bench.read_questions(file) if file else bench.make_questions(assistant.open_store(), count)
    if len(found) < count:
        console.notice(f"There are only {len(found)} different questions, warm-up included, instead of {count}.")
    return found[:count]


def _count(step: Progress) -> None:
    """Draws between two questions only: a bar of its own thread would compete with what is measured."""
    from edgeai.cli import console

    if console.err().is_terminal:
        end = "\n" if step.done == step.total else ""
        console.err().file.write(f"\r{step.done}/{step.total} questions{end}")
        console.err().file.flush()


def _record(assistant: Assistant, warmup: int, repeat: int, report: Report) -> dict[str, Any]:
    from edgeai import bench

    status, settings = assistant.status(), assistant.settings
    return {
        "machine": bench.describe_machine(),
        "model": settings.model,
        "embedder": status["maker"]["embedder"],
        "index": {name: status[name] for name in ("documents", "chunks", "bytes")},
        "settings": asdict(settings),
        "warmup": warmup,
        "repeat": repeat,
        "report": report.as_dict(),
    }


def _show(record: dict[str, Any], report: Report) -> None:
    from rich.table import Table

    from edgeai.cli import console

    machine, index = record["machine"], record["index"]
    console.say(f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['system']}, Python {machine['python']}")
    console.say(f"{record['model']} · {index['documents']} documents, {index['chunks']} chunks")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ms")
    for column in ("p50", "p95", "p99", "mean", "answers"):
        table.add_column(column, justify="right")
    for name, times in report.stages.items():
        values = (times.p50, times.p95, times.p99, times.mean)
        style = "bold" if name == "total" else ""
        table.add_row(name.replace("_", " "), *(f"{value:.1f}" for value in values), str(times.count), style=style)
    console.out().print(table)
    console.say(_shares(report))
    if record["repeat"] > 1:
        console.say("Questions were repeated, so part of this was answered from warm caches.", "yellow")
    if report.budget_ms is not None:
        verdict, style = ("met", "green") if report.met else ("missed", "bold red")
        late = f"{report.within_budget:.0%} of answers within it"
        console.say(f"Budget of {report.budget_ms:g} ms at p95: {verdict}, {late}", style)


def _shares(report: Report) -> str:
    parts = [f"{report.answers} answers", f"refused {report.refused:.0%}", f"extractive {report.extractive:.0%}"]
    parts += [f"{reason} {share:.0%}" for reason, share in report.degraded.items()]
    parts += [f"{mean:.0f} {name} tokens" for name, mean in report.tokens.items()]
    return " · ".join(parts)
