"""A calibration as one HTML page that needs nothing else: risk and coverage, and the reliability before and after.

It holds no text of questions or documents. The reliability drawn is of the questions fitted on, the table's is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from edgeai.evaluation import metrics, plots
from edgeai.evaluation.calibration import Fit, Trial, apply, columns
from edgeai.grounding.calibrated import Calibration
from edgeai.markup import document, section


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
    head = f"<h1>Calibration</h1><p>{escape(' · '.join(f'{name} {value}' for name, value in facts.items()))}</p>"
    sections = [section("Figures", "", _figures(fitted)), section("Plots", "", plots.figures(_plots(fitted, trials)))]
    return document(f"edgeai calibration, {calibration.made}", plots.STYLE, head + "".join(sections))


def _figures(fitted: Fit) -> str:
    names = {"ece": "expected calibration error", "answered": "share answered", "wrong": "share wrong of those"}
    pairs = ((text, getattr(fitted.before, name), getattr(fitted.after, name)) for name, text in names.items())
    rows = "".join(f"<tr><td>{text}</td><td>{old:.3f}</td><td>{new:.3f}</td></tr>" for text, old, new in pairs)
    head = "<tr><th>figure</th><th>before</th><th>now, on questions not fitted on</th></tr>"
    return f"<table>{head}{rows}</table>"


def _plots(fitted: Fit, trials: Sequence[Trial]) -> dict[str, str]:
    raw, right = columns(trials)
    now = apply(raw, fitted.slope, fitted.offset)
    points = ((coverage, risk) for coverage, risk, _ in fitted.curve)
    return {
        "Risk and coverage": plots.curve(points, "share answered", "share wrong"),
        "Reliability before": plots.reliability_diagram(metrics.reliability(raw, right)),
        "Reliability as fitted": plots.reliability_diagram(metrics.reliability(now, right)),
    }
