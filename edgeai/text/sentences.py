"""Where sentences begin and end, in any script, without a model.

Text is cut at blank lines, list items, table rows and headings first, then at sentence punctuation. Lines that are only
wrapped are joined. It knows common abbreviations of a few languages and no grammar: an abbreviation it does not know,
followed by a capital letter, ends a sentence too early.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

Span = tuple[int, int]

# Lines shorter than this that do not go on in lower case are lines of their own (headings, records, verse), because
# wrapped prose fills its lines.
WRAPPED_LINE = 50

_MARKER = re.compile(r"[ \t]*(?:[-*+•‣·]|\d{1,3}[.)]|[a-z]\))[ \t]+\S|[ \t]*(?:\||#{1,6} |>|```)")
_FIELD = re.compile(r"[ \t]*[A-ZÀ-Þ][\w-]*(?: [\w-]+){0,2}: \S")  # "Valid from: 2024"
_ROW = re.compile(r"[ \t]*(?:\||#{1,6} |```)|[ \t]*\S.*(?:\t\S| \| \S|\|[ \t]*$)")
_MARK = r"\s*\[\d{1,2}(?:\s*,\s*\d{1,2})*\]"
_MARKS = f"(?:{_MARK})*"
_END = re.compile(rf"(?:[.!?…]+[\"'”’»)\]*_]*{_MARKS}(?=\s)|[.!?…]*[。！？｡؟।۔]+[\"'”’」』）)\]]*{_MARKS})")
_ABBREVIATIONS = frozenset(
    """mr mrs ms dr prof st jr sr vs approx ca cf e.g i.e u.s u.k al ed eds z.b d.h bzw usw vgl hr fr inkl evtl ggf
    u.a o.ä bspw mme mlle sra srta""".split()  # noqa: SIM905
)
_BEFORE_NUMBERS = frozenset(
    """no nos fig figs eq sec ch vol pp p nr abs art str av núm pág jan feb mar apr jun jul aug sep sept oct nov
    dec""".split()  # noqa: SIM905
)
_MONTH = re.compile(r"\s+(?:Jan|Feb|Mär|Apr|Mai|Jun|Jul|Aug|Sep|Okt|Nov|Dez)\w*")  # "3. März" is one date
_NEXT = re.compile(r"\s*(\S)")
_LAST_WORD = re.compile(r"[^\s(\[\"'“‘„]*$")
_COMPLETE = re.compile(rf"[.!?…。！？｡؟।۔][\"'”’»」』）)\]*_]*{_MARKS}$|[.!?…]?{_MARKS}[.!?…]$")


def sentences(text: str) -> list[Span]:
    """Spans `(start, end)` of the sentences of a text, in order, disjoint, without surrounding white space.

    Everything outside the spans is white space. List items, table rows and headings are spans of their own.
    """
    return [span for start, end in _blocks(text) for span in _split(text, start, end)]


def touched(text: str, start: int, end: int) -> Span:
    """From the beginning of the first to the end of the last sentence that a part of a text touches; the part itself
    where there is none.
    """
    found = [span for span in sentences(text) if span[0] < end and start < span[1]]
    return (found[0][0], found[-1][1]) if found else (start, end)


def is_complete(sentence: str) -> bool:
    """Whether a sentence ends in sentence punctuation, closing quotes and citation marks aside."""
    return _COMPLETE.search(sentence.rstrip()) is not None


def trim_to_sentences(text: str) -> str:
    """A text that was cut off somewhere, without its unfinished end.

    When not even the first sentence is finished, it is kept and closed with an ellipsis.
    """
    spans = sentences(text)
    while len(spans) > 1 and not is_complete(text[slice(*spans[-1])]):
        spans.pop()
    if not spans:
        return ""
    kept = text[spans[0][0] : spans[-1][1]]
    return kept if len(spans) > 1 or is_complete(kept) else f"{kept}…"


def _blocks(text: str) -> Iterator[Span]:
    """Runs of lines that belong together."""
    start = position = 0
    previous = ""
    for line in text.splitlines(keepends=True):
        if previous and not _continues(previous, line):
            yield start, position
            start = position
        previous = line
        position += len(line)
    yield start, position


def _continues(previous: str, line: str) -> bool:
    """Whether a line goes on with the sentence of the line before it."""
    if not previous.strip() or not line.strip():
        return False
    if _ROW.match(previous) or any(opening.match(line) for opening in (_MARKER, _FIELD, _ROW)):
        return False
    return len(re.sub(_MARK, "", previous).rstrip()) >= WRAPPED_LINE or line.lstrip()[0].islower()


def _split(text: str, start: int, end: int) -> Iterator[Span]:
    """The sentences of one block."""
    for match in _END.finditer(text, start, end):
        if _ends(text, start, match, end):
            yield from _stripped(text, start, match.end())
            start = match.end()
    yield from _stripped(text, start, end)


def _ends(text: str, start: int, match: re.Match[str], end: int) -> bool:
    """Whether sentence punctuation really ends a sentence here."""
    if not match.group().startswith("."):
        return True
    following = _NEXT.match(text, match.end(), end)
    first = following[1] if following else ""
    if first.islower():
        return False
    found = _LAST_WORD.search(text[start : match.start()])
    word = found.group().casefold() if found else ""
    if word.isdigit() and len(word) <= 2:  # an ordinal of a date, or the number of a list item
        return not (_MONTH.match(text, match.end(), end) or text[start : match.start()].strip() == word)
    if word in _BEFORE_NUMBERS:
        return not first.isdigit()
    return not (word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha()))


def _stripped(text: str, start: int, end: int) -> Iterator[Span]:
    part = text[start:end]
    if stripped := part.strip():
        offset = start + part.index(stripped)
        yield offset, offset + len(stripped)


def spans(text: str, separator: re.Pattern[str]) -> Iterable[tuple[int, int]]:
    """The stretches between matches of `separator` that hold more than white space, without white space around."""
    position = 0
    for start, end in [*(match.span() for match in separator.finditer(text)), (len(text), len(text))]:
        stretch = text[position:start]
        if stretch.strip():
            yield position + len(stretch) - len(stretch.lstrip()), position + len(stretch.rstrip())
        position = end
