"""Three small plots as SVG text, for pages that must not load anything.

They draw what they are given: no smoothing, axes from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from edgeai.bootstrap import Estimate
from edgeai.evaluation.metrics import Bin

WIDTH, HEIGHT, MARGIN = 420, 260, 44  # pixels; the margin holds the axes' labels
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_BAR = 22  # height of a bar with its gap
_LABEL = 150  # width of the labels left of bars


def curve(points: Iterable[tuple[float, float]], across: str, up: str) -> str:
    """A line through points of 0..1 by 0..1."""
    path = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
    return _framed(f'<polyline class="line" points="{path}"/>', across, up)


def reliability_diagram(bins: Sequence[Bin]) -> str:
    """Accuracy over confidence, a dot for each bin with its number of answers; on the diagonal where they agree."""
    diagonal = f'<line class="guide" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>'
    dots = "".join(
        f'<circle class="dot" cx="{_x(one.confidence):.1f}" cy="{_y(one.accuracy):.1f}" r="5">'
        f"<title>{one.count} answers: confidence {one.confidence:.2f}, right {one.accuracy:.2f}</title></circle>"
        f'<text x="{_x(one.confidence) + 8:.1f}" y="{_y(one.accuracy) + 4:.1f}">{one.count}</text>'
        for one in bins
    )
    return _framed(diagonal + dots, "confidence", "share right")


def bars(figures: Mapping[str, Estimate]) -> str:
    """A horizontal bar for each figure of 0..1, with its interval as a line and its questions in brackets."""
    height = _BAR * len(figures) + 6
    rows = "".join(_bar(name, one, _BAR * row) for row, (name, one) in enumerate(figures.items()))
    return f'<svg viewBox="0 0 {WIDTH + _LABEL} {height}" role="img">{rows}</svg>'


def _bar(name: str, one: Estimate, top: int) -> str:
    length = WIDTH - 60
    middle = top + _BAR / 2
    text = f"{one.value:.2f} ({one.count})"
    return (
        f'<text class="right" x="{_LABEL - 8}" y="{middle + 4}">{escape(name)}</text>'
        f'<rect class="bar" x="{_LABEL}" y="{top + 3}" width="{one.value * length:.1f}" height="{_BAR - 6}"/>'
        f'<line class="whisker" x1="{_LABEL + one.low * length:.1f}" x2="{_LABEL + one.high * length:.1f}" '
        f'y1="{middle}" y2="{middle}"/>'
        f'<text x="{_LABEL + max(one.value, one.high) * length + 8:.1f}" y="{middle + 4}">{text}</text>'
    )


def _framed(inside: str, across: str, up: str) -> str:
    """A square of 0..1 by 0..1 with ticks and the names of both axes."""
    grid = "".join(
        f'<line class="grid" x1="{_x(0)}" x2="{_x(1)}" y1="{_y(at)}" y2="{_y(at)}"/>'
        f'<text class="right" x="{_x(0) - 6}" y="{_y(at) + 4}">{at:g}</text>'
        f'<text class="middle" x="{_x(at)}" y="{_y(0) + 16}">{at:g}</text>'
        for at in _TICKS
    )
    names = (
        f'<text class="middle" x="{_x(0.5)}" y="{HEIGHT - 6}">{escape(across)}</text>'
        f'<text class="middle" transform="translate(11 {_y(0.5)}) rotate(-90)">{escape(up)}</text>'
    )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{grid}{inside}{names}</svg>'


def _x(value: float) -> float:
    return MARGIN + value * (WIDTH - MARGIN - 16)


def _y(value: float) -> float:
    return HEIGHT - MARGIN - value * (HEIGHT - MARGIN - 12)
