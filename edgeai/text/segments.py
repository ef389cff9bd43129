"""Blocks that are too long for one chunk, cut where a reader would pause.

Pure: blank lines, then lines, then sentences, then words, and characters only where nothing else is left.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from edgeai.records import Block
from edgeai.text.sentences import sentences, spans

Level = tuple[Callable[[str], Iterable[tuple[int, int]]], float]  # how to cut, and the cost of a boundary there

_BLANK_LINE = re.compile(r"\n[ \t]*\n")
_LINE = re.compile(r"\n")
_NESTED_ITEM = re.compile(r"\n(?=[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t])")
_DRAWN = re.compile(r"[^\w\s]{200}")  # rules and drawings; looking for sentences in them takes quadratic time
_PAUSES = " \n\t,;:，、；：|"


def _sentences(text: str) -> list[tuple[int, int]]:
    return [trimmed(text, 0, len(text))] if _DRAWN.search(text) else sentences(text)


# What a chunk boundary at each kind of cut costs, see `chunks`.
_PROSE: tuple[Level, ...] = ((partial(spans, separator=_BLANK_LINE), 0.1), (_sentences, 0.3))
_ITEMS: tuple[Level, ...] = ((partial(spans, separator=_NESTED_ITEM), 0.1), *_PROSE)
_LINES: tuple[Level, ...] = (_PROSE[0], (partial(spans, separator=_LINE), 0.2), (_sentences, 0.3))
_LEVELS = {"paragraph": _PROSE, "heading": _PROSE, "list": _ITEMS}
_WORDS = 0.4


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text with its tokens, and the cost of a chunk boundary before it."""

    start: int
    end: int
    tokens: int
    cost: float


def pieces(text: str, block: Block, tokens: int, room: int, count: Callable[[str], int]) -> Iterator[Piece]:
    """Stretches of a block of `tokens` tokens, each within `room` tokens unless it is a single character."""
    return _cut(text, Piece(block.start, block.end, tokens, 0.0), _LEVELS.get(block.kind, _LINES), max(1, room), count)


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The same range without white space at either end."""
    span = text[start:end]
    return start + len(span) - len(span.lstrip()), start + len(span.rstrip())


def _cut(
    text: str,
    piece: Piece,
    levels: Sequence[Level],
    room: int,
    count: Callable[[str], int],
) -> Iterator[Piece]:
    if piece.tokens <= room or piece.end - piece.start <= 1:
        yield piece
        return
    if not levels:
        yield from _cut_words(text, piece, room, count)
        return
    (cut, cost), *finer = levels
    inside = text[piece.start : piece.end]
    for index, (start, end) in enumerate(cut(inside)):
        start, end = piece.start + start, piece.start + end
        own = Piece(start, end, count(text[start:end]), cost if index else piece.cost)
        yield from _cut(text, own, finer, room, count)


def _cut_words(text: str, piece: Piece, room: int, count: Callable[[str], int]) -> Iterator[Piece]:
    """Equal parts by characters, each moved back to the nearest pause: few counts however long the piece is."""
    step = max(1, (piece.end - piece.start) * room // (piece.tokens + 1))
    position, cost = piece.start, piece.cost
    while position < piece.end:
        stop = min(position + step, piece.end)
        if stop < piece.end:
            pause = max(text.rfind(mark, position + step // 2, stop) for mark in _PAUSES)
            stop = pause + 1 if pause >= position else stop
        start, end = trimmed(text, position, stop)
        if start < end:
            yield from _cut(text, Piece(start, end, count(text[start:end]), cost), (), room, count)
            cost = _WORDS
        position = stop
