"""Documents to chunks: pieces small enough to embed and to read, cut where their author would cut them.

Sections stay apart unless they are tiny, blocks stay whole unless they are too long, and where to cut in between is
chosen for the whole section at once. Pure; tokens are counted by the caller's function. It does not judge what a text
is about, and its sentence ends are a guess: an abbreviation can end one.
"""

from __future__ import annotations

import hashlib
import html
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise

from edgeai.records import Block, Chunk, Document
from edgeai.text.segments import Piece, pieces, trimmed

CHUNKER = "1"  # an index built by another version has other boundaries

Count = Callable[[str], int]

_TINY = 0.25  # of the target; a section below it is merged with a neighbour
_MOST_UNITS = 64  # in one chunk, which bounds the search when lines hold one word each
_GAP = 80  # characters of text outside of blocks (a link definition, a comment) that a chunk may span
_REPEATED_DOCUMENTS = 4
_REPEATED_SHARE = 0.2  # of the documents
_REPEATED_CHARACTERS = 20

# What a chunk boundary costs, in units of "a chunk of no tokens where the target was wanted".
_BEFORE_BLOCK = 0.0
_WITHIN_LIST = 0.1
_BEFORE_ROW = 0.1
_AFTER_LEAD_IN = 2.0
_AFTER_HEADING = 4.0


@dataclass(frozen=True, slots=True)
class _Unit:
    """The smallest thing a chunk is packed from."""

    start: int
    end: int
    tokens: int
    section: int
    cost: float  # of a chunk boundary before it
    extra: int  # tokens of the context a chunk that starts here has
    header: str = ""  # of the table a chunk that starts here continues
    page: int | None = None
    apart: bool = False  # from what precedes it: never in one chunk


@dataclass(slots=True)
class _Section:
    """A heading, or several that follow each other downwards, with the blocks up to the next heading."""

    path: tuple[str, ...]
    blocks: list[Block] = field(default_factory=list)
    tokens: int = 0
    context: int = 0  # tokens of the heading path


def split(
    document: Document,
    count: Count,
    *,
    target: int = 160,
    limit: int = 230,
    boilerplate: frozenset[str] = frozenset(),
) -> tuple[Chunk, ...]:
    """Chunks in reading order, without overlap; `document.text[c.start:c.end] == c.text` holds for each.

    `target` and `limit` are tokens as given by `count`, the chunk's context included. `limit` holds to within what a
    tokenizer adds when it joins texts. `boilerplate` holds keys made by `repeated_blocks`; such blocks are left out.
    """
    kept, breaks = _without_boilerplate(document, boilerplate)
    sections = _sections(document.text, kept)
    units = []
    for number, section in enumerate(sections):
        section.path, section.context = _fitted(section.path, count, limit // 4)
        made = list(_units(document.text, section, number, count, limit))
        section.tokens = sum(unit.tokens for unit in made)
        units += made
    units = _with_gaps(document.text, units, breaks, count)
    cuts = _best_cuts(units, _mergeable(sections, _TINY * target), target, limit)
    return tuple(_chunk(document.text, units[begin:end], sections) for begin, end in pairwise(cuts))


def _chunk(text: str, units: Sequence[_Unit], sections: Sequence[_Section]) -> Chunk:
    first, last = units[0], units[-1]
    path = sections[first.section].path
    for section in sections[first.section + 1 : last.section + 1]:
        path = _common(path, section.path)
    return Chunk(first.start, last.end, text[first.start : last.end], path, first.header, first.page)


def _common(path: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    shared = 0
    for ours, theirs in zip(path, other, strict=False):
        if ours != theirs:
            break
        shared += 1
    return path[:shared]


# boilerplate ------------------------------------------------------------------------------------------------------


def block_key(text: str) -> str:
    """A short hash of a block that case and white space do not change. Digits count: facts differ in them."""
    return hashlib.blake2b(" ".join(text.casefold().split()).encode(), digest_size=8).hexdigest()


def repeated_blocks(documents: Iterable[Document]) -> frozenset[str]:
    """Keys of the blocks that occur in at least four documents and in a fifth of them: navigation, notices, footers.

    One document keeps each of them, so that what they say can still be found.
    """
    seen: Counter[str] = Counter()
    keeper: dict[str, str] = {}
    total = 0
    for document in documents:
        total += 1
        for key in {block_key(text) for text in _repeatable(document)}:
            seen[key] += 1
            keeper[key] = min(document.path, keeper.get(key, document.path))
    least = max(_REPEATED_DOCUMENTS, _REPEATED_SHARE * total)
    repeated = [key for key, number in seen.items() if number >= least]
    return frozenset([*repeated, *(_kept_key(key, keeper[key]) for key in repeated)])


def _repeatable(document: Document) -> Iterator[str]:
    """Rows of data are facts however often they repeat, so records and tables are not looked at."""
    for block in document.blocks:
        if block.kind in ("paragraph", "list", "code") and block.end - block.start >= _REPEATED_CHARACTERS:
            yield document.text[block.start : block.end]


def _kept_key(key: str, path: str) -> str:
    return f"{key}@{block_key(path)}"


def _without_boilerplate(document: Document, keys: frozenset[str]) -> tuple[list[Block], list[int]]:
    """The blocks to keep, and the offsets at which others were dropped.

    A document that consists mostly of repeated text is one of several versions or copies, and keeps it.
    """
    blocks = list(document.blocks)
    if not blocks and document.text.strip():
        blocks = [Block("paragraph", *trimmed(document.text, 0, len(document.text)))]
    if not keys:
        return blocks, []
    kept, breaks, dropped = [], [], 0
    for block in blocks:
        key = block_key(document.text[block.start : block.end]) if block.kind != "heading" else ""
        if key in keys and _kept_key(key, document.path) not in keys:
            breaks.append(block.start)
            dropped += block.end - block.start
        else:
            kept.append(block)
    return (blocks, []) if dropped * 2 > len(document.text) else (kept, breaks)


# sections ---------------------------------------------------------------------------------------------------------

_HEADING_MARKS = re.compile(r"^#{1,6}[ \t]+|[ \t]+#+$|\n[ \t]*[=-]+[ \t]*$")
_HEADING_ID = re.compile(r"\s*\{:?\s*[#.][^}]*\}\s*$")
_IMAGE = re.compile(r"!\[[^\[\]]*\](?:\([^()]*\)|\[[^\]]*\])")
_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\](?:\([^()]*(?:\([^()]*\)[^()]*)*\)|\[[^\]]*\])")
_EMPHASIS = re.compile(r"(?<!\w)([*_~]{1,3})(?=\S)(.+?)(?<=\S)\1(?!\w)")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_HEADING_CHARACTERS = 120
_HEADING_MARKUP = 1000  # characters looked at, which bounds the work on a hostile line


def plain_heading(markup: str) -> str:
    """A heading as a reader sees it: without marks, images, links, emphasis, tags; cut at 120 characters."""
    text = _HEADING_ID.sub("", _HEADING_MARKS.sub("", markup.strip()[:_HEADING_MARKUP]))
    text = _LINK.sub(r"\1", _IMAGE.sub("", text))
    text = _EMPHASIS.sub(r"\2", _EMPHASIS.sub(r"\2", _TAG.sub("", text)))
    text = " ".join(html.unescape(text.replace("`", "")).split()).replace("\\", "")
    if len(text) > _HEADING_CHARACTERS:
        text = text[:_HEADING_CHARACTERS].rsplit(" ", 1)[0] + "…"
    return text


def _sections(text: str, blocks: Iterable[Block]) -> list[_Section]:
    sections: list[_Section] = []
    above: list[tuple[int, str]] = []
    for block in blocks:
        if block.kind == "heading":
            deeper = not above or block.level > above[-1][0]
            above = [entry for entry in above if entry[0] < block.level]
            above.append((block.level, plain_heading(text[block.start : block.end])))
            path = tuple(name for _, name in above if name)
            if sections and deeper and all(own.kind == "heading" for own in sections[-1].blocks):
                sections[-1].path = path
            else:
                sections.append(_Section(path))
        elif not sections:
            sections.append(_Section(()))
        sections[-1].blocks.append(block)
    return sections


def _fitted(path: tuple[str, ...], count: Count, room: int) -> tuple[tuple[str, ...], int]:
    """The path without its outermost headings when they would leave too little room for text."""
    tokens = count(" > ".join(path)) if path else 0
    while path and tokens > room:
        path = path[1:]
        tokens = count(" > ".join(path)) if path else 0
    return path, tokens


def _mergeable(sections: Sequence[_Section], tiny: float) -> list[bool]:
    """For each section, whether a chunk may hold it together with the one before."""
    merge = [False] * len(sections)
    for index in range(1, len(sections)):
        before, after = sections[index - 1], sections[index]
        related = after.path[:-1] in (before.path[:-1], before.path)
        merge[index] = related and min(before.tokens, after.tokens) < tiny
    return merge


# units ------------------------------------------------------------------------------------------------------------


def _units(text: str, section: _Section, number: int, count: Count, limit: int) -> Iterator[_Unit]:
    before: Block | None = None
    lead_in = 0
    for block in section.blocks:
        cost = _boundary(text, before, block)
        room = limit - section.context - (lead_in if cost >= _AFTER_LEAD_IN else 0)
        tokens = count(text[block.start : block.end])
        whole = _Unit(block.start, block.end, tokens, number, cost, section.context, page=block.page)
        if tokens <= room:
            yield whole
        elif block.header_end:
            yield from _rows(text, block, whole, room, count)
        else:
            yield from _parts(whole, pieces(text, block, tokens, room, count), cost)
        before, lead_in = block, min(tokens, limit // 2)


def _parts(whole: _Unit, cut: Iterable[Piece], cost: float) -> Iterator[_Unit]:
    """A unit in pieces; `cost` is that of a boundary before the first."""
    for index, piece in enumerate(cut):
        own = piece.cost if index else cost
        yield replace(whole, start=piece.start, end=piece.end, tokens=piece.tokens, cost=own)


def _boundary(text: str, before: Block | None, block: Block) -> float:
    if before is None:
        return _BEFORE_BLOCK
    if before.kind == "heading":
        return _AFTER_HEADING
    if block.kind != "paragraph" and before.kind == "paragraph" and text[before.end - 1] in ":：":
        return _AFTER_LEAD_IN
    return _WITHIN_LIST if block.kind == before.kind == "list" else _BEFORE_BLOCK


def _rows(text: str, table: Block, whole: _Unit, room: int, count: Count) -> Iterator[_Unit]:
    """A table row by row. The first row stays with the header rows; chunks that start at others carry the header."""
    header, header_tokens = _carried_header(text[table.start : table.header_end], count, room // 3)
    later = replace(whole, header=header, extra=whole.extra + header_tokens)
    start = table.start
    position = table.header_end
    while position < table.end:
        newline = text.find("\n", position, table.end)
        position = table.end if newline < 0 else newline + 1
        row = Block("table", *trimmed(text, start, position))
        tokens = count(text[row.start : row.end])
        first = start == table.start
        if tokens <= (room if first else room - header_tokens):
            cut = iter([Piece(row.start, row.end, tokens, 0.0)])
        else:
            cut = pieces(text, row, tokens, room - header_tokens, count)
        if first:
            yield from _parts(whole, islice(cut, 1), whole.cost)
        yield from _parts(later, cut, _BEFORE_ROW)
        start = position


def _carried_header(rows: str, count: Count, room: int) -> tuple[str, int]:
    """The header rows without the line of dashes; the leftmost columns of a header that is too wide."""
    header = "\n".join(" ".join(line.split()) for line in rows.split("\n") if line.strip(" \t|:-"))
    tokens = count(header)
    while tokens > room and len(header) > 1:
        header = header[: len(header) * room // (tokens + 1)].rpartition("|")[0] or header[: len(header) // 2]
        tokens = count(header)
    return header, tokens


def _with_gaps(text: str, units: list[_Unit], breaks: Sequence[int], count: Count) -> list[_Unit]:
    """Units marked as apart from their predecessor where a block was dropped or much lies between them."""
    for index in range(1, len(units)):
        before, unit = units[index - 1], units[index]
        dropped = bisect_left(breaks, before.end) != bisect_left(breaks, unit.start)
        between = text[before.end : unit.start].strip()
        if dropped or len(between) > _GAP:
            units[index] = replace(unit, apart=True)
        elif between:
            units[index] = replace(unit, tokens=unit.tokens + count(between))
    return units


# boundaries -------------------------------------------------------------------------------------------------------


def _best_cuts(units: Sequence[_Unit], mergeable: Sequence[bool], target: int, limit: int) -> list[int]:
    """Indices of the first units of all chunks, and the number of units at the end.

    The shortest path over all ways to cut: cheapest sum of boundary costs and squared distances from the target.
    """
    best = [0.0] + [float("inf")] * len(units)
    previous = [0] * (len(units) + 1)
    for end in range(1, len(units) + 1):
        ends_section = end == len(units) or units[end].section != units[end - 1].section
        tokens = 0
        for begin in range(end - 1, max(-1, end - 1 - _MOST_UNITS), -1):
            unit = units[begin]
            tokens += unit.tokens
            size = tokens + unit.extra
            if tokens > limit and begin < end - 1:
                break
            starts_section = begin == 0 or units[begin - 1].section != unit.section
            whole = starts_section or unit.section == units[end - 1].section
            if whole and (size <= limit or begin == end - 1):
                cost = best[begin] + unit.cost + _size_cost(size, target, limit)
                if cost < best[end]:
                    best[end], previous[end] = cost, begin
            if unit.apart or (starts_section and not (ends_section and mergeable[unit.section])):
                break
    cuts = [len(units)]
    while cuts[-1]:
        cuts.append(previous[cuts[-1]])
    return cuts[::-1]


def _size_cost(size: int, target: int, limit: int) -> float:
    """0 at the target, 1 for nothing and 1 at the limit."""
    distance = (target - size) / target if size <= target else (size - target) / max(1, limit - target)
    return distance * distance
