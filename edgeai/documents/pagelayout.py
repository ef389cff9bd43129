"""Lines on pages to paragraphs, list items and headings.

Pure geometry: reads sizes, gaps and margins, and joins words broken at line ends. It knows no columns beyond the order
the lines come in, and a table becomes lines.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from edgeai.documents.extracted import Part

_EDGE_LINES = 3  # lines at the top and at the bottom of a page that can be a header or a footer
_REPEATING_PAGES = 3
_REPEATING_SHARE = 0.3  # of the pages; left and right pages can differ, and chapters have their own
_LARGER = 1.12  # times the body's height: a heading
_WIDER_GAP = 1.35  # times the usual distance of two lines: a new paragraph
_WIDE_GAP_OF_ROWS = 1.9  # the same after a short line that does not end a sentence: tables are set wider
_FULL_LINE = 0.8  # of the width of its column: the line was broken because it was full
_HEADING_CHARACTERS = 150

_ITEM = re.compile(r"(?:[-–•●▪◦‣∙*]|\(?\d{1,2}[.)]|\(?[a-z]\))\s+\S")
_ENDED = re.compile(r"[.!?:;…。！？][\"'”’»)\]]*$")
_DIGITS = re.compile(r"\d+|\b[ivxlc]+\b", re.IGNORECASE)
# A word broken at the end of a line: PDFium puts U+FFFE where it saw the hyphen.
_BROKEN_WORD = re.compile(r"(\w+)(?:\ufffe|[-\u2010]\n)(?=([^\W\d_]+))")
_WORD = re.compile(r"\w+(?:-\w+)*")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a page; lengths are PDF points, the origin is the bottom left corner."""

    text: str
    page: int
    left: float
    right: float
    first_base: float  # base line of the first character
    last_base: float  # and of the last: a line whose last word was broken comes with its continuation
    height: float  # font size
    in_margin: bool = False  # in the outermost eighth of the page, above or below


def parts(pages: Sequence[Sequence[Line]]) -> Iterator[Part]:
    """Paragraphs, list items and headings of a document in reading order."""
    pages = _without_running_lines(pages)
    lines = [line for page in pages for line in page]
    if not lines:
        return
    levels = _heading_levels(lines)
    pitch = _pitch(lines)
    words = {word.casefold() for line in lines for word in _WORD.findall(line.text)}
    for page in pages:
        full = _full_lines(page)
        for group in _groups(page, levels, pitch, full):
            yield _part(group, levels, full, words)


def _without_running_lines(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """The pages without the lines that repeat at their top or bottom; page numbers count as repeating."""
    levels = _heading_levels([line for page in pages for line in page])

    def running_key(line: Line) -> tuple[str, int]:
        """Text at about the same height, with numbers alike unless it is set as a heading ("Lesson 3")."""
        text = " ".join(line.text.casefold().split())
        return text if _size(line) in levels else _DIGITS.sub("0", text), round(line.first_base / 20)

    edges = [_edges(page) for page in pages]
    seen = Counter(key for edge in edges for key in {running_key(line) for line in edge})
    least = max(_REPEATING_PAGES, _REPEATING_SHARE * len(pages))
    kept = []
    for page, edge in zip(pages, edges, strict=True):
        running = {id(line) for line in edge if seen[running_key(line)] >= least}
        kept.append([line for line in page if id(line) not in running])
    return kept


def _edges(page: Sequence[Line]) -> list[Line]:
    """The lines that can be a header or a footer."""
    by_height = sorted(page, key=lambda line: -line.first_base)
    outermost = by_height if len(page) <= 2 * _EDGE_LINES else by_height[:_EDGE_LINES] + by_height[-_EDGE_LINES:]
    return [line for line in outermost if line.in_margin]


def _heading_levels(lines: Sequence[Line]) -> dict[float, int]:
    """Heights of heading lines to levels, the largest is 1; the body's height is that of most characters."""
    characters: Counter[float] = Counter()
    for line in lines:
        characters[_size(line)] += len(line.text)
    body = max(characters, key=lambda size: characters[size], default=0.0)
    larger = sorted((size for size in characters if size > body * _LARGER), reverse=True)
    return {size: min(rank, 6) for rank, size in enumerate(larger, 1)}


def _size(line: Line) -> float:
    return round(line.height * 2) / 2


def _pitch(lines: Sequence[Line]) -> float:
    """The usual distance of two lines, in heights of a line."""
    gaps = [
        _gap(before, line)
        for before, line in pairwise(lines)
        if before.page == line.page and _size(before) == _size(line) and 0.5 < _gap(before, line) < 3
    ]
    return median(gaps) if gaps else 1.2


def _gap(before: Line, line: Line) -> float:
    """The distance from one line down to the next, in font sizes."""
    return (before.last_base - line.first_base) / line.height


def _groups(page: Sequence[Line], levels: dict[float, int], pitch: float, full: set[Line]) -> Iterator[list[Line]]:
    group: list[Line] = []
    for line in page:
        if group and _begins(group[-1], line, levels, pitch, group[-1] in full):
            yield group
            group = []
        group.append(line)
    if group:
        yield group


def _begins(before: Line, line: Line, levels: dict[float, int], pitch: float, full: bool) -> bool:
    """Whether `line` begins something new; `full` tells whether the one before filled its column."""
    if levels.get(_size(before)) != levels.get(_size(line)):
        return True
    gap = _gap(before, line)
    ended = _ENDED.search(before.text) is not None
    wider = _WIDER_GAP if ended or full else _WIDE_GAP_OF_ROWS
    if gap > pitch * wider or (_ITEM.match(line.text) is not None and gap > 0.5):
        return True
    if gap < -0.5:  # the next column
        return ended
    indented = line.left > before.left + line.height and not _ITEM.match(before.text)
    return ended and gap > 0.5 and (indented or not full)


def _full_lines(page: Sequence[Line]) -> set[Line]:
    """The lines that fill their column; lines that begin at about the same place are in one column."""
    full = set()
    for line in page:
        edge = max(other.right for other in page if abs(other.left - line.left) <= 3 * line.height)
        if line.right - line.left >= _FULL_LINE * (edge - line.left):
            full.add(line)
    return full


def _part(group: Sequence[Line], levels: dict[float, int], full: set[Line], words: set[str]) -> Part:
    text = _mended(_joined(group, full), words)
    level = levels.get(_size(group[0]), 0)
    page = group[0].page
    item = _ITEM.match(text) is not None
    if level and not item and len(text) <= _HEADING_CHARACTERS and any(map(str.isalpha, text)):
        return Part("heading", " ".join(text.split()), level, page)
    return Part("list" if item else "paragraph", text, page=page)


def _joined(group: Sequence[Line], full: set[Line]) -> str:
    """Full lines flow into the next one; others, as in tables and addresses, end where they ended on the page."""
    text = group[0].text
    for before, line in pairwise(group):
        same_row = abs(_gap(before, line)) < 0.5
        flows = same_row or before in full or line.text[:1].islower()
        broken = text.endswith(("-", "\u2010")) and line.text[:1].islower()
        text += ("\n" if broken or not flows else " ") + line.text
    return text


def _mended(text: str, words: set[str]) -> str:
    """Broken words in one piece; the hyphen stays when the document has the word with a hyphen elsewhere."""

    def mend(match: re.Match[str]) -> str:
        hyphenated = f"{match[1]}-{match[2]}".casefold() in words
        return f"{match[1]}-" if hyphenated else match[1]

    return _BROKEN_WORD.sub(mend, text)
