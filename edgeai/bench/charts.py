"""Plots of response times as SVG elements, drawn by hand: text in, text out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edgeai.bench.statistics import histogram, round_step
from edgeai.markup import Scale, svg, text

WIDTH = 880
LEFT, RIGHT = 64, WIDTH - 24  # edges of the plots with a vertical axis
LANES = 110  # left edge of the plots with a name beside each lane
MOST_TICKS = 8
MOST_BINS = 30
SERIES = ("first", "second")  # CSS classes of the curves, in order
LANE = 34  # height of one bar with its gap
LABEL = 130  # room for one label


def distribution(values: Sequence[float], marks: Mapping[str, float], budget: float | None) -> str:
    """A histogram of at least one time in ms, with labelled marks and the budget as vertical lines."""
    bins = histogram(values, MOST_BINS)
    top, bottom = 56, 260
    reach = max(bins[-1].high, budget or 0)
    scale = Scale(min(bins[0].low, budget or math.inf), reach, LEFT, RIGHT)
    most = max(one.count for one in bins)
    bars = []
    for one in bins:
        height = round((bottom - top) * one.count / most, 1)
        left, right = scale(one.low), scale(one.high)
        late = " late" if budget is not None and one.low >= budget else ""
        label = f"{one.low:g} to {one.high:g} ms: {one.count} answers"
        bars.append(
            f'<rect class="bar{late}" x="{left + 0.5}" y="{bottom - height}" width="{max(right - left - 1, 1):.1f}" '
            f'height="{height}"><title>{label}</title></rect>'
        )
    lines = [_mark(scale(value), top - 18, bottom, f"{name} {value:.0f}") for name, value in marks.items()]
    parts = [_axis(scale, bottom), *_counts(most, top, bottom), *bars, *lines, _budget(scale, budget, top, bottom)]
    return svg(WIDTH, bottom + 44, f"Distribution of {len(values)} answer times", parts)


def cumulative(curves: Mapping[str, Sequence[float]], budget: float | None) -> str:
    """The share of answers that were complete after so many ms, one step curve for each of at most two names."""
    top, bottom = 40, 280
    reach = max(max(values) for values in curves.values())
    scale = Scale(0, max(reach, budget or 0) * 1.02, LEFT, RIGHT)
    levels = [_level(share, top, bottom) for share in (0.25, 0.5, 0.75, 0.95, 1.0)]
    parts = [_axis(scale, bottom), *levels, _budget(scale, budget, top, bottom)]
    for (name, values), series in zip(curves.items(), SERIES, strict=False):
        parts.append(f'<path class="curve {series}" d="{_steps(values, scale, top, bottom)}"/>')
        x, y = scale(sorted(values)[len(values) // 2]), (top + bottom) / 2
        if len(curves) > 1:
            parts.append(text(x + 8, y + 16, name, f"name {series}"))
    return svg(WIDTH, bottom + 44, "Share of answers complete after so many milliseconds", parts)


def waterfall(stages: Mapping[str, float], budget: float | None) -> str:
    """Mean ms of consecutive stages, each bar beginning where the one before ends."""
    total = sum(stages.values())
    scale = Scale(0, max(total, budget or 0) * 1.08, LANES, RIGHT)
    bottom = 34 + LANE * len(stages)
    parts, begin = [_axis(scale, bottom), _budget(scale, budget, 24, bottom)], 0.0
    for lane, (name, value) in enumerate(stages.items()):
        y, left, right = 32 + LANE * lane, scale(begin), scale(begin + value)
        parts.append(text(LANES - 10, y + 16, name, "lane", "end"))
        parts.append(f'<rect class="bar" x="{left}" y="{y}" width="{max(right - left, 1.5):.1f}" height="22"/>')
        parts.append(_beside(left, right, y + 16, f"{value:.1f} ms, {value / total:.0%}"))
        begin += value
    return svg(WIDTH, bottom + 44, "Mean time of each stage", parts)


def ratios(rows: Mapping[str, tuple[float, float, float]], limit: float) -> str:
    """Ratios with their intervals (value, low, high) beside the lines of no change and of the limit."""
    ends = [end for row in rows.values() for end in row]
    scale = Scale(min(0.9, *ends) * 0.97, max(1.15, *ends) * 1.03, LANES, RIGHT)
    bottom = 34 + LANE * len(rows)
    parts = [_axis(scale, bottom, "times the baseline"), _mark(scale(1), 24, bottom, "same")]
    for lane, (name, (value, low, high)) in enumerate(rows.items()):
        y = 43 + LANE * lane
        parts.append(text(LANES - 10, y + 5, name, "lane", "end"))
        parts.append(f'<line class="whisker" x1="{scale(low)}" x2="{scale(high)}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="dot" cx="{scale(value)}" cy="{y}" r="5"><title>{value:.3f}</title></circle>')
    parts.append(_limit(scale(limit), 24, bottom, f"gate {limit:g}"))
    return svg(WIDTH, bottom + 44, "Ratio to the baseline", parts)


def shares(parts_of_one: Mapping[str, float]) -> str:
    """One bar of labelled parts whose shares add up to 1; CSS classes are their names."""
    parts, left = [], 0.0
    for name, share in parts_of_one.items():
        width = share * WIDTH
        parts.append(f'<rect class="{name}" x="{left:.1f}" y="0" width="{width:.1f}" height="26"/>')
        if width > LABEL:
            parts.append(text(left + 10, 18, f"{name} {share:.0%}", "inside"))
        left += width
    title = "Outcomes: " + ", ".join(f"{name} {share:.0%}" for name, share in parts_of_one.items())
    return svg(WIDTH, 26, title, parts)


def _steps(values: Sequence[float], scale: Scale, top: float, bottom: float) -> str:
    ordered = sorted(values)
    path = [f"M{scale(scale.low)} {bottom}"]
    for number, value in enumerate(ordered, 1):
        path.append(f"H{scale(value)}V{round(bottom - (bottom - top) * number / len(ordered), 1)}")
    return "".join([*path, f"H{scale(scale.high)}"])


def _axis(scale: Scale, y: float, unit: str = "ms") -> str:
    ticks = [
        f'<line class="tick" x1="{scale(tick)}" x2="{scale(tick)}" y1="{y}" y2="{y + 5}"/>'
        + text(scale(tick), y + 20, f"{tick:g}", "label", "middle")
        for tick in _ticks(scale)
    ]
    line = f'<line class="axis" x1="{scale.start}" x2="{scale.end}" y1="{y}" y2="{y}"/>'
    return line + "".join(ticks) + text(scale.end, y + 36, unit, "label", "end")


def _ticks(scale: Scale) -> list[float]:
    """Round values inside the scale."""
    step = round_step(scale.high - scale.low, MOST_TICKS)
    first, last = math.ceil(scale.low / step), math.floor(scale.high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def _counts(most: int, top: float, bottom: float) -> list[str]:
    """Grid lines at round numbers of answers."""
    step = max(1, round(round_step(most, 4)))
    return [_level(count / most, top, bottom, str(count)) for count in range(step, most + 1, step)]


def _level(share: float, top: float, bottom: float, label: str = "") -> str:
    y = round(bottom - (bottom - top) * share, 1)
    line = f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y}" y2="{y}"/>'
    return line + text(LEFT - 8, y + 4, label or f"{share:.0%}", "label", "end")


def _mark(x: float, top: float, bottom: float, label: str) -> str:
    line = f'<line class="mark" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>'
    return line + text(x - 4, top + 4, label, "label", "end")


def _budget(scale: Scale, budget: float | None, top: float, bottom: float) -> str:
    return "" if budget is None else _limit(scale(budget), top - 8, bottom, f"budget {budget:g}")


def _limit(x: float, top: float, bottom: float, label: str) -> str:
    """A dashed line, its label on the side where there is room."""
    line = f'<line class="limit" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>'
    if x > WIDTH - LABEL:
        return line + text(x - 5, top + 6, label, "limit-label", "end")
    return line + text(x + 5, top + 6, label, "limit-label")


def _beside(left: float, right: float, y: float, label: str) -> str:
    """A label inside a bar that is long enough, else behind it, or before it when it would leave the drawing."""
    if right - left > LABEL:
        return text(left + 10, y, label, "inside")
    if right > WIDTH - LABEL:
        return text(left - 8, y, label, "label", "end")
    return text(right + 8, y, label, "label")
