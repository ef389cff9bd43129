"""What the HTML pages and the plots in them have in common, as text: the document with its style, sections, SVG.

A page loads and runs nothing. Titles, notes and words are plain text and escaped here; bodies and parts are markup.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

# Drawings name their colours by class, so that one drawing serves light and dark.
STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf8; --card: #fff; --ink: #1d2129; --soft: #667085; --line: #e4e2dd;
  --main: #2f6fb7; --other: #c2751b; --quiet: #b8bfca; --good: #1c7c4a; --bad: #c0342b; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --card: #1c2027; --ink: #e7e9ee; --soft: #98a2b3;
  --line: #303642; --main: #6aa8ee; --other: #e3a04f; --quiet: #4b5463; --good: #4cc38a; --bad: #f2766b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 60rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.05rem; margin: 0 0 .25rem; }
p { margin: .25rem 0; } .soft, dt { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
section { padding: 1.1rem 1.25rem; margin: 1rem 0; background: var(--card); border: 1px solid var(--line);
  border-radius: .6rem; } section > p { color: var(--soft); font-size: .9rem; }
.scroll { overflow-x: auto; } svg { display: block; width: 100%; min-width: 34rem; height: auto; margin-top: .75rem; }
svg text { font-size: 13px; fill: var(--ink); paint-order: stroke; stroke: var(--card); stroke-width: 4px; }
svg .label { fill: var(--soft); }
.bar, .dot { fill: var(--main); } .whisker { stroke: var(--main); stroke-width: 3; }
.curve { fill: none; stroke: var(--main); stroke-width: 2; }
.axis, .tick { stroke: var(--soft); } .grid { stroke: var(--line); }
.mark { stroke: var(--soft); stroke-dasharray: 2 3; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin-top: .5rem; }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 500; } th:first-child, td:first-child { text-align: left; padding-left: 0; }
td small { display: block; color: var(--soft); }
"""


def document(title: str, style: str, body: str) -> str:
    """A whole page; `style` is what it needs beyond the common rules."""
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def section(title: str, note: str, body: str) -> str:
    """A card with a heading, a note unless it is empty, and a body that scrolls where it is too wide."""
    said = f"<p>{escape(note)}</p>" if note else ""
    return f'<section><h2>{escape(title)}</h2>{said}<div class="scroll">{body}</div></section>\n'


@dataclass(frozen=True, slots=True)
class Scale:
    """Data units from `low` to `high` as pixels from `start` to `end`, which may be the smaller one."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of a value, to a tenth of a pixel; values outside lie on the border."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def svg(width: float, height: float, title: str, parts: Iterable[str]) -> str:
    """A drawing of so many pixels that grows with the page; the title is for those who cannot see it."""
    name = escape(title, quote=True)
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{name}">{"".join(parts)}</svg>'


def text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    """Words that start, end or have their middle at x; `kind` is a CSS class."""
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'
