"""`edgeai eval`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from edgeai.cli.options import index_options, model_options
from edgeai.errors import UsageProblem

if TYPE_CHECKING:
    from edgeai.assistant import Assistant
    from edgeai.evaluation.questions import Case
    from edgeai.evaluation.regressions import Comparison
    from edgeai.evaluation.run import Run, Subject

GATE_FAILED = 3


@click.command("eval", short_help="Measure whether answers are right, on questions of your own.")
@click.argument("file", type=click.File("r", encoding="utf-8-sig"), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the run as JSON.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a report with the worst cases.")
@click.option("--runs", type=click.Path(path_type=Path), metavar="FILE", help="Where runs are kept [data directory].")
@click.option("--baseline", metavar="RUN", help="Compare with this run: its number, 'last', or a JSON file.")
@click.option("--gate", is_flag=True, help="Exit 3 when a figure is significantly worse than in the baseline.")
@click.option("--make", type=click.IntRange(1), metavar="N", help="Draft N questions instead, for you to correct.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Where --make writes them.")
@click.option("--calibrate", is_flag=True, help="Fit confidence and refusal to FILE, or to drafted questions, instead.")
@click.option("--risk", type=click.FloatRange(0, 1), metavar="SHARE", help="Of --calibrate: share that may be wrong.")
@click.option("--forget-calibration", is_flag=True, help="Take the calibration out of the index instead.")
@click.option("--drift", is_flag=True, help="Compare the questions of the log with those of the calibration instead.")
@index_options
@model_options
def eval_command(
    file: TextIO | None,
    as_json: bool,
    html: Path | None,
    runs: Path | None,
    baseline: str | None,
    gate: bool,
    make: int | None,
    out: Path | None,
    calibrate: bool,
    risk: float | None,
    forget_calibration: bool,
    drift: bool,
    **flags: Any,
) -> None:
    """Ask the questions of FILE (JSON Lines) and score retrieval and answers apart; no judge model, no network.

    \b
    A line: {"question": "How long is parental leave?", "answers": ["20 weeks"],
             "sources": [{"path": "leave.md", "quote": "20 weeks of paid parental leave"}]}
    More keys: "kind" ("unanswerable", "conflict", or a word of yours), "history", "fresh", "id", "note".
    Without answers and sources a question counts as unanswerable. --make drafts such a file from your documents.

    --gate compares with --baseline, question by question, over the figures from chunking to answers; a figure is worse
    when the interval of its difference (paired bootstrap, 5 % error shared among all figures) excludes 0.

    --calibrate asks everything with nothing withheld, some of it with the documents of the answer left out, and keeps
    in the index what a confidence is worth and from which one on to answer: where the chance to be right is at least
    0.4, or, with --risk, such that no larger share is wrong. --drift needs log_questions = true.
    """
    from edgeai.cli import calibrate as calibration
    from edgeai.cli.index import unlogged_assistant

    _check_modes(file, make, calibrate, forget_calibration, drift)
    _check_flags(make, out, baseline, gate, calibrate, risk)
    with unlogged_assistant(flags) as assistant:
        if make is not None and out is not None:
            _draft(assistant, make, out)
        elif calibrate:
            calibration.calibrate(file, assistant, risk, html, as_json)
        elif forget_calibration:
            calibration.forget(assistant)
        elif drift:
            calibration.show_drift(assistant, as_json)
        if file is None or calibrate:
            return
        run, number, comparison = _evaluate(file, assistant, runs or runs_file(), baseline)
    _report(run, number, comparison, assistant.notices, as_json=as_json, html=html)
    if gate and comparison is not None and comparison.regressions:
        raise SystemExit(GATE_FAILED)


def _report(
    run: Run, number: int, comparison: Comparison | None, notices: list[str], *, as_json: bool, html: Path | None
) -> None:
    from edgeai.cli import console

    for line in notices:
        console.notice(line)
    if as_json:
        record = run.as_dict() | {"run": number}
        console.print_json(record if comparison is None else {**record, "comparison": comparison.as_dict()})
    else:
        show_run(run, number, comparison)
    if html is not None:
        _write_report(html, run, comparison)


def _check_modes(file: TextIO | None, make: int | None, calibrate: bool, forget: bool, drift: bool) -> None:
    modes = sum((make is not None, calibrate, forget, drift))
    if not modes and file is None:
        raise UsageProblem("Give a file of questions, or draft one with `edgeai eval --make 50 --out FILE`.")
    if modes > 1 or (modes and file is not None and not calibrate):
        raise UsageProblem("Give one of FILE, --make, --calibrate [FILE], --forget-calibration and --drift.")


def _check_flags(
    make: int | None, out: Path | None, baseline: str | None, gate: bool, calibrate: bool, risk: float | None
) -> None:
    if risk is not None and not calibrate:
        raise UsageProblem("--risk belongs to --calibrate: `edgeai eval --calibrate questions.jsonl --risk 0.1`.")
    if (make is None) != (out is None):
        raise UsageProblem("--make and --out belong together: `edgeai eval --make 50 --out questions.jsonl`.")
    if out is not None and out.exists():  # what somebody has corrected is not written over
        raise UsageProblem(f"{out} exists already; name a new file with --out.")
    if gate and baseline is None:
        raise UsageProblem("A gate needs something to compare with; give a run with --baseline.")


def runs_file() -> Path:
    """Where runs are kept unless --runs says otherwise."""
    from edgeai.config import data_dir

    return data_dir() / "evaluations.db"


def _evaluate(
    file: TextIO, assistant: Assistant, runs: Path, baseline: str | None
) -> tuple[Run, int, Comparison | None]:
    """Run, keep, compare. The baseline is read first: a wrong name costs no run, and "last" is not this one."""
    from edgeai.cli import console
    from edgeai.evaluation import questions, regressions
    from edgeai.evaluation import run as evaluate
    from edgeai.evaluation import runs as kept

    cases = questions.read_cases(file)
    before = kept.load_baseline(baseline, runs) if baseline else None
    kept.create(runs)
    if drafts := sum(case.draft for case in cases):
        console.notice(f"{drafts} of {len(cases)} questions are uncorrected drafts; their figures say little.")
    assistant.warm()
    assistant.search("warm up")  # opens the embedder's session, which is not to count for the first question
    run = evaluate.run(cases, subject_of(assistant), context=_context(assistant), progress=console.count_steps)
    number = kept.save(runs, run)
    return run, number, regressions.compare(run, before) if before else None


def subject_of(assistant: Assistant) -> Subject:
    """What is evaluated of an assistant."""
    from edgeai.evaluation.judge import DEPTH
    from edgeai.evaluation.run import Subject

    def ask(case: Case) -> Any:
        return assistant.ask(case.question, history=case.history).answer

    return Subject(assistant.open_store(), assistant.embedder, lambda query: assistant.search(query, limit=DEPTH), ask)


def _context(assistant: Assistant) -> dict[str, Any]:
    from edgeai import __version__

    status = assistant.status()
    index = {name: status[name] for name in ("documents", "chunks")}
    kept = {name: status[name] for name in ("maker", "calibration")}
    return {"edgeai": __version__, "index": index, **kept, "settings": asdict(assistant.settings)}


def _draft(assistant: Assistant, count: int, out: Path) -> None:
    from edgeai.cli import console
    from edgeai.cli.index import writing
    from edgeai.evaluation import makeset

    drafts = makeset.draft_questions(assistant.open_store(), count)
    with writing(out) as stream:
        for record in drafts:
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")
    console.say(f'{len(drafts)} drafts in {out}; put them in your own words, correct them, and take out "draft".')
    if len(drafts) < count:
        console.notice(f"The documents gave {len(drafts)} instead of {count}; more come of more text.")


def _write_report(path: Path, run: Run, comparison: Comparison | None) -> None:
    from edgeai.cli.index import writing
    from edgeai.evaluation import report

    with writing(path) as stream:
        stream.write(report.render(run, comparison))


# what is shown --------------------------------------------------------------------------------------------------------


def show_run(run: Run, number: int, comparison: Comparison | None) -> None:
    """Figures of all questions with their intervals, then by kind, then what moved."""
    from rich.table import Table

    from edgeai.cli import console
    from edgeai.evaluation import run as evaluate

    summary = run.summary
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("figure")
    for kind in summary:
        table.add_column(kind, justify="right")
    table.add_column("95 % interval (all)", justify="right")
    for name, whole in summary["all"].items():
        cells = [format_figure(name, figures[name].value) if name in figures else "" for figures in summary.values()]
        table.add_row(name, *cells, f"{format_figure(name, whole.low)} - {format_figure(name, whole.high)}")
    console.out().print(table)
    if lost := evaluate.count_lost(run.results):
        console.say("Sources lost: " + ", ".join(f"{stage} {count}" for stage, count in lost.items()))
    if comparison is not None:
        _show_comparison(comparison)
    console.aside(f"{len(run.results)} questions, kept as run {number}; compare a later one with --baseline {number}")


def format_figure(name: str, value: float) -> str:
    """A share with three decimals, a time in whole milliseconds."""
    return f"{value:.0f}" if name.startswith("latency") else f"{value:.3f}"


def _show_comparison(comparison: Comparison) -> None:
    from edgeai.cli import console

    for change in comparison.changes:
        if change.worse or change.better:
            verdict, style = ("worse", "bold red") if change.worse else ("better", "green")
            moved = change.difference
            console.say(
                f"{change.name}: {verdict}, {change.before:.3f} -> {change.after:.3f} "
                f"({moved.value:+.3f}, interval {moved.low:+.3f} to {moved.high:+.3f})",
                style,
            )
    if comparison.cause:
        console.say(f"Look first at {comparison.cause}.")
    elif not any(change.better for change in comparison.changes):
        console.say(f"No significant change over {comparison.questions} questions.")
