"""A run as one HTML page that needs nothing else: figures, plots, and the worst cases side by side.

The page loads nothing and runs nothing, whatever a document says: all text is escaped, and its policy forbids both. It
holds passages of the documents, so it is as private as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from string import Template

import numpy as np

from edgeai.bootstrap import Estimate
from edgeai.evaluation import metrics, plots
from edgeai.evaluation import run as evaluate
from edgeai.evaluation.regressions import Change, Comparison
from edgeai.evaluation.run import Result, Run
from edgeai.records import Passage

WORST = 20
BARS = ("correct", "answered", "recall@5", "citation_precision")  # drawn for each kind of question
_PASSAGE = 600  # characters of a passage that are shown

STYLE = """:root { color-scheme: light dark; --mark: #2a6fb0; --faint: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
table { border-collapse: collapse; } th, td { padding: .15rem .7rem; text-align: right; }
th:first-child, td:first-child { text-align: left; } tr + tr { border-top: 1px solid var(--faint); }
.scroll { overflow-x: auto; } .plots { display: flex; flex-wrap: wrap; gap: 1.5rem; }
figure { margin: 0; width: 26rem; }
svg { width: 100%; font: 11px system-ui, sans-serif; } svg text { fill: currentColor; }
.grid { stroke: var(--faint); } .guide { stroke: currentColor; stroke-dasharray: 4; opacity: .5; }
.line { fill: none; stroke: var(--mark); stroke-width: 2; } .dot, .bar { fill: var(--mark); }
.bar { opacity: .7; } .whisker { stroke: currentColor; stroke-width: 1.5; }
.right { text-anchor: end; } .middle { text-anchor: middle; }
article { border: 1px solid var(--faint); border-radius: 6px; margin: 1rem 0; padding: .3rem 1rem 1rem; }
.sides { display: grid; grid-template-columns: 1fr 1.4fr; gap: 1.5rem; } h3 { margin: .5rem 0; }
.why { color: #b3402a; } dt { font-weight: 600; } dd { margin: 0 0 .5rem; }
.passage { border-left: 3px solid var(--faint); margin: 0 0 .7rem; padding-left: .7rem; white-space: pre-wrap; }
.cited { border-color: var(--mark); } .place { font-size: 12px; opacity: .7; } .worse { color: #b3402a; }
"""

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>edgeai eval, $made</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<style>
$style</style></head><body>
<h1>Evaluation</h1><p>$made · $context</p>
$comparison
<h2>Figures</h2><div class="scroll">$figures</div><p>Value and 95 % interval (bootstrap over questions). $lost</p>
<h2>Plots</h2><div class="plots">$plots</div>
<h2>Worst cases</h2>$cases
</body></html>
""")


def render(run: Run, comparison: Comparison | None = None) -> str:
    """The page. Passages are shown only for a run that is still in memory."""
    summary = run.summary
    lost = ", ".join(f"{stage} {count}" for stage, count in evaluate.count_lost(run.results).items())
    bad = evaluate.worst(run.results, WORST)
    return _PAGE.substitute(
        style=STYLE,
        made=escape(run.made),
        context=escape(_context(run)),
        comparison="" if comparison is None else _comparison(comparison),
        figures=_figures(summary),
        lost=escape(f"Sources lost: {lost}." if lost else "No source was lost."),
        plots=_plots(run, summary),
        cases="".join(map(_case, bad)) or "<p>Nothing to see: every answer was as expected.</p>",
    )


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


def _plots(run: Run, summary: dict[str, dict[str, Estimate]]) -> str:
    confidence, correct = evaluate.shown(run.results)
    known = ~np.isnan(confidence) & ~np.isnan(correct)
    confidence, correct = confidence[known], correct[known]
    drawn = []
    if len(confidence):
        points = zip(*metrics.risk_coverage(confidence, correct), strict=True)
        drawn.append(("Risk and coverage", plots.curve(points, "coverage", "share wrong")))
        drawn.append(("Reliability", plots.reliability_diagram(metrics.reliability(confidence, correct))))
    for name in BARS:
        if found := {kind: figures[name] for kind, figures in summary.items() if name in figures}:
            drawn.append((name, plots.bars(found)))
    return "".join(f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>" for title, svg in drawn)


def _comparison(comparison: Comparison) -> str:
    cause = f'<p class="worse">Look first at {escape(comparison.cause)}.</p>' if comparison.cause else ""
    rows = "".join(map(_change, comparison.changes))
    head = "<tr><th>figure</th><th>before</th><th>now</th><th>difference</th><th>interval</th><th></th></tr>"
    title = f"<h2>Against the baseline, {comparison.questions} questions</h2>"
    return f'{title}{cause}<div class="scroll"><table>{head}{rows}</table></div>'


def _change(change: Change) -> str:
    moved = change.difference
    verdict = "worse" if change.worse else "better" if change.better else ""
    return (
        f'<tr class="{verdict}"><td>{escape(change.name)}</td><td>{change.before:.3f}</td><td>{change.after:.3f}</td>'
        f"<td>{moved.value:+.3f}</td><td>{moved.low:+.3f} to {moved.high:+.3f}</td><td>{verdict}</td></tr>"
    )


def _case(result: Result) -> str:
    expected = " / ".join(result.expected) or "a refusal"
    facts = {"answer": f"{result.answer} ({result.status}, confidence {result.confidence:.2f})", "expected": expected}
    listed = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    return (
        f'<article><h3>{escape(result.question)}</h3><p class="why">{escape(result.why)}</p>'
        f'<div class="sides"><dl>{listed}<dt>question</dt><dd>{escape(f"{result.id}, {result.kind}")}</dd></dl>'
        f"<div>{_passages(result.passages, {quote.n for quote in result.citations})}</div></div></article>"
    )


def _passages(passages: Iterable[Passage], cited: set[int]) -> str:
    return "".join(
        f'<p class="place">[{one.number}] {escape(one.path)} · {escape(" > ".join(one.heading))}</p>'
        f'<div class="passage{" cited" if one.number in cited else ""}">{escape(one.text[:_PASSAGE])}</div>'
        for one in passages
    )
