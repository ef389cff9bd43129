"""A run as one HTML page that needs nothing else: figures, plots, and the worst cases side by side.

The page loads nothing and runs nothing, whatever a document says: all text is escaped, and its policy forbids both. It
holds passages of the documents, so it is as private as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import numpy as np

from edgeai.bootstrap import Estimate
from edgeai.evaluation import metrics, plots
from edgeai.evaluation import run as evaluate
from edgeai.evaluation.regressions import Change, Comparison
from edgeai.evaluation.run import Result, Run
from edgeai.markup import document, section
from edgeai.records import Passage

WORST = 20
BARS = ("correct", "answered", "recall@5", "citation_precision")  # drawn for each kind of question
_PASSAGE = 600  # characters of a passage that are shown

STYLE = """body { max-width: 76rem; } article { border-top: 1px solid var(--line); padding: .75rem 0; }
.sides { display: grid; grid-template-columns: 1fr 1.4fr; gap: 1.5rem; } h3 { font-size: 1rem; margin: 0; }
dd { margin: 0 0 .5rem; } td small { display: inline; } .place { color: var(--soft); font-size: .8rem; }
.passage { border-left: 3px solid var(--line); margin: 0 0 .7rem; padding-left: .7rem; white-space: pre-wrap; }
.cited { border-color: var(--main); }
"""


def render(run: Run, comparison: Comparison | None = None) -> str:
    """The page. Passages are shown only for a run that is still in memory."""
    bad = evaluate.worst(run.results, WORST)
    lost = ", ".join(f"{stage} {count}" for stage, count in evaluate.count_lost(run.results).items())
    note = "Value and 95 % interval (bootstrap over questions). "
    note += f"Sources lost: {lost}." if lost else "No source was lost."
    sections = [
        f"<h1>Evaluation</h1><p>{escape(run.made)} · {escape(_context(run))}</p>",
        "" if comparison is None else _comparison(comparison),
        section("Figures", note, _figures(run.summary)),
        section("Plots", "", plots.figures(_plots(run))),
        section("Worst cases", "", "".join(map(_case, bad)) or "<p>Nothing to see: every answer was as expected.</p>"),
    ]
    return document(f"edgeai eval, {run.made}", plots.STYLE + STYLE, "".join(sections))


def _context(run: Run) -> str:
    settings, index = run.context.get("settings", {}), run.context.get("index", {})
    known = {
        "model": settings.get("model"),
        "reader": settings.get("reader"),
        "documents": index.get("documents"),
        "chunks": index.get("chunks"),
        "questions": len(run.results),
    }
    return " · ".join(f"{name} {value}" for name, value in known.items() if value is not None)


def _figures(summary: dict[str, dict[str, Estimate]]) -> str:
    head = "".join(f"<th>{escape(kind)}</th>" for kind in summary)
    rows = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(_cell(name, one.get(name)) for one in summary.values())}</tr>"
        for name in summary["all"]
    )
    return f"<table><tr><th>figure</th>{head}</tr>{rows}</table>"


def _cell(name: str, one: Estimate | None) -> str:
    if one is None:
        return "<td></td>"
    digits = 0 if name.startswith("latency") else 3
    low, value, high = (f"{number:.{digits}f}" for number in (one.low, one.value, one.high))
    return f'<td title="{one.count} questions">{value} <small>{low}–{high}</small></td>'


def _plots(run: Run) -> dict[str, str]:
    confidence, correct = evaluate.shown(run.results)
    known = ~np.isnan(confidence) & ~np.isnan(correct)
    confidence, correct = confidence[known], correct[known]
    drawn = {}
    if len(confidence):
        points = zip(*metrics.risk_coverage(confidence, correct), strict=True)
        drawn["Risk and coverage"] = plots.curve(points, "coverage", "share wrong")
        drawn["Reliability"] = plots.reliability_diagram(metrics.reliability(confidence, correct))
    for name in BARS:
        if found := {kind: figures[name] for kind, figures in run.summary.items() if name in figures}:
            drawn[name] = plots.bars(found, name)
    return drawn


def _comparison(comparison: Comparison) -> str:
    note = f"Look first at {comparison.cause}." if comparison.cause else ""
    rows = "".join(map(_change, comparison.changes))
    head = "<tr><th>figure</th><th>before</th><th>now</th><th>difference</th><th>interval</th><th></th></tr>"
    return section(f"Against the baseline, {comparison.questions} questions", note, f"<table>{head}{rows}</table>")


def _change(change: Change) -> str:
    moved = change.difference
    verdict, style = ("worse", "bad") if change.worse else ("better", "good") if change.better else ("", "")
    return (
        f'<tr class="{style}"><td>{escape(change.name)}</td><td>{change.before:.3f}</td><td>{change.after:.3f}</td>'
        f"<td>{moved.value:+.3f}</td><td>{moved.low:+.3f} to {moved.high:+.3f}</td><td>{verdict}</td></tr>"
    )


def _case(result: Result) -> str:
    expected = " / ".join(result.expected) or "a refusal"
    facts = {"answer": f"{result.answer} ({result.status}, confidence {result.confidence:.2f})", "expected": expected}
    listed = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    return (
        f'<article><h3>{escape(result.question)}</h3><p class="bad">{escape(result.why)}</p>'
        f'<div class="sides"><dl>{listed}<dt>question</dt><dd>{escape(f"{result.id}, {result.kind}")}</dd></dl>'
        f"<div>{_passages(result.passages, {quote.n for quote in result.citations})}</div></div></article>"
    )


def _passages(passages: Iterable[Passage], cited: set[int]) -> str:
    return "".join(
        f'<p class="place">[{one.number}] {escape(one.path)} · {escape(" > ".join(one.heading))}</p>'
        f'<div class="passage{" cited" if one.number in cited else ""}">{escape(one.text[:_PASSAGE])}</div>'
        for one in passages
    )
