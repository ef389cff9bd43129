"""A calibration as one HTML page that needs nothing else: risk and coverage, and the reliability before and after.

It holds no text of questions or documents. The reliability drawn is of the questions fitted on, the table's is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from string import Template

from edgeai.evaluation import metrics, plots
from edgeai.evaluation.calibration import Fit, Trial, apply, columns
from edgeai.evaluation.report import STYLE
from edgeai.grounding.calibrated import Calibration

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>edgeai calibration, $made</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<style>
$style</style></head><body>
<h1>Calibration</h1><p>$facts</p>
<table><tr><th>figure</th><th>before</th><th>now, on questions not fitted on</th></tr>$figures</table>
<div class="plots">$plots</div>
</body></html>
""")


def render(calibration: Calibration, fitted: Fit, trials: Sequence[Trial]) -> str:
    """The page."""
    facts = {
        "made": calibration.made,
        "questions": calibration.questions,
        "embedder": calibration.embedder,
        "reader": calibration.reader,
        "model": calibration.model,
        "answered from confidence": f"{calibration.probability_of_floor:.2f}",
    }
    return _PAGE.substitute(
        style=STYLE,
        made=escape(calibration.made),
        facts=escape(" · ".join(f"{name} {value}" for name, value in facts.items())),
        figures=_figures(fitted),
        plots=_plots(fitted, trials),
    )


def _figures(fitted: Fit) -> str:
    names = {"ece": "expected calibration error", "answered": "share answered", "wrong": "share wrong of those"}
    pairs = ((text, getattr(fitted.before, name), getattr(fitted.after, name)) for name, text in names.items())
    return "".join(f"<tr><td>{text}</td><td>{old:.3f}</td><td>{new:.3f}</td></tr>" for text, old, new in pairs)


def _plots(fitted: Fit, trials: Sequence[Trial]) -> str:
    raw, right = columns(trials)
    points = ((coverage, risk) for coverage, risk, _ in fitted.curve)
    drawn = {
        "Risk and coverage": plots.curve(points, "share answered", "share wrong"),
        "Reliability before": plots.reliability_diagram(metrics.reliability(raw, right)),
        "Reliability as fitted": plots.reliability_diagram(
            metrics.reliability(apply(raw, fitted.slope, fitted.offset), right)
        ),
    }
    return "".join(f"<figure><figcaption>{title}</figcaption>{svg}</figure>" for title, svg in drawn.items())
