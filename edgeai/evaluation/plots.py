"""Three small plots as SVG text, for pages that must not load anything.

They draw what they are given: no smoothing, axes from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from edgeai.bootstrap import Estimate
from edgeai.evaluation.metrics import Bin
from edgeai.markup import Scale, svg, text

WIDTH, HEIGHT, MARGIN = 420, 260, 44  # pixels; the margin holds the axes' labels
_X, _Y = Scale(0, 1, MARGIN, WIDTH - 16), Scale(0, 1, HEIGHT - MARGIN, 12)
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_ROW = 22  # height of a bar with its gap
_BAR = Scale(0, 1, 110, WIDTH - 80)  # with room for the labels on both sides

STYLE = """.plots { display: flex; flex-wrap: wrap; gap: 1.5rem; } figure { margin: .5rem 0 0; width: 26rem; }
figure svg { min-width: 0; } figure svg text { font-size: 12px; }
figure .bar { opacity: .6; } figure .whisker { stroke: var(--ink); stroke-width: 1.5; }
"""


def figures(drawn: Mapping[str, str]) -> str:
    """Drawings side by side, each below its title."""
    each = (f"<figure><figcaption>{escape(title)}</figcaption>{drawing}</figure>" for title, drawing in drawn.items())
    return f'<div class="plots">{"".join(each)}</div>'


def curve(points: Iterable[tuple[float, float]], across: str, up: str) -> str:
    """A line through points of 0..1 by 0..1."""
    path = " ".join(f"{_X(x)},{_Y(y)}" for x, y in points)
    return _framed(f'<polyline class="curve" points="{path}"/>', across, up)


def reliability_diagram(bins: Sequence[Bin]) -> str:
    """Accuracy over confidence, a dot for each bin with its number of answers; on the diagonal where they agree."""
    diagonal = f'<line class="mark" x1="{_X(0)}" y1="{_Y(0)}" x2="{_X(1)}" y2="{_Y(1)}"/>'
    return _framed(diagonal + "".join(map(_dot, bins)), "confidence", "share right")


def _dot(one: Bin) -> str:
    x, y = _X(one.confidence), _Y(one.accuracy)
    title = f"{one.count} answers: confidence {one.confidence:.2f}, right {one.accuracy:.2f}"
    dot = f'<circle class="dot" cx="{x}" cy="{y}" r="5"><title>{title}</title></circle>'
    return dot + text(x + 8, y + 4, str(one.count), "label")


def bars(values: Mapping[str, Estimate], title: str) -> str:
    """A horizontal bar for each figure of 0..1, with its interval as a line and its questions in brackets."""
    rows = (_bar(name, one, _ROW * row) for row, (name, one) in enumerate(values.items()))
    return svg(WIDTH, _ROW * len(values) + 6, title, rows)


def _bar(name: str, one: Estimate, top: int) -> str:
    y, left = top + _ROW / 2, _BAR(0)
    return (
        text(left - 8, y + 4, name, "name", "end")
        + f'<rect class="bar" x="{left}" y="{top + 3}" width="{_BAR(one.value) - left:.1f}" height="{_ROW - 6}"/>'
        + f'<line class="whisker" x1="{_BAR(one.low)}" x2="{_BAR(one.high)}" y1="{y}" y2="{y}"/>'
        + text(_BAR(max(one.value, one.high)) + 8, y + 4, f"{one.value:.2f} ({one.count})", "label")
    )


def _framed(inside: str, across: str, up: str) -> str:
    """A square of 0..1 by 0..1 with ticks and the names of both axes."""
    grid = (
        f'<line class="grid" x1="{_X(0)}" x2="{_X(1)}" y1="{_Y(at)}" y2="{_Y(at)}"/>'
        + text(_X(0) - 6, _Y(at) + 4, f"{at:g}", "label", "end")
        + text(_X(at), _Y(0) + 16, f"{at:g}", "label", "middle")
        for at in _TICKS
    )
    upright = f'<g transform="translate(11 {_Y(0.5)}) rotate(-90)">{text(0, 0, up, "label", "middle")}</g>'
    names = text(_X(0.5), HEIGHT - 6, across, "label", "middle") + upright
    return svg(WIDTH, HEIGHT, f"{up} over {across}", [*grid, inside, names])
