"""Which passages a prompt has time for, and how much of each.

Pure. What is cut is named, because the answer may be worse for it; whether it is, is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from edgeai.grounding.read import chosen
from edgeai.records import Passage, Reading
from edgeai.text.sentences import touched

SHORTENED = "passages shortened"
DROPPED = "fewer passages"
# Of the room, for more than the sentences with the likeliest answer. A plan that fills its time to the brim misses it
# more often: of 200 answers within 300 ms .62 and .61 are generated with a half and with nothing, .51 with all of it.
LUXURY = 0.5
# Words at either side of the likeliest answer that are shown where even its sentences do not fit.
NEIGHBOURS = (16, 8)

_WORD = re.compile(r"\S+")


def fit(
    passages: Sequence[Passage], readings: Sequence[Reading], cost: Callable[[Passage], float], room: float
) -> tuple[tuple[Passage, ...], tuple[str, ...]]:
    """The passages that `room` tokens suffice for, in their order, and what had to be done to them.

    The one with the likeliest answer comes first, then the others as they are ranked; each whole where there is room,
    else the sentences with its likeliest answer, of the first at least the words around it. Only the first, shortened,
    may take more than `LUXURY` of the room.
    `cost` gives the tokens that a passage would take. No passages when not even the first fits.
    """
    best = chosen(passages, readings) if readings else 0
    ranking = [best, *(row for row in range(len(passages)) if row != best)]
    spare = room * LUXURY
    kept: dict[int, Passage] = {}
    cuts: dict[str, None] = {}
    for row in ranking:
        whole = passages[row]
        sizes = _sizes(whole, readings[row] if readings else None, spare, room if row == best else 0.0)
        fitting = next(((part, used) for part, limit in sizes if (used := cost(part)) <= limit), None)
        if fitting is None:
            if row == best:
                return (), ()
            cuts.setdefault(DROPPED)
            continue
        kept[row] = fitting[0]
        spare = max(0, spare - fitting[1])
        if fitting[0] != whole:
            cuts.setdefault(SHORTENED)
    return tuple(kept[row] for row in sorted(kept)), tuple(cuts)


def _sizes(whole: Passage, reading: Reading | None, spare: float, room: float) -> Iterator[tuple[Passage, float]]:
    """Ways to show a passage, the best first, with the tokens each may take; `room` is 0 for all but the first."""
    yield whole, spare
    most = max(spare, room)
    if reading is None:
        yield whole, most
        return
    yield excerpt(whole, reading), most
    if room:
        yield from ((around(whole, reading, words), most) for words in NEIGHBOURS)


def excerpt(passage: Passage, reading: Reading) -> Passage:
    """The sentences of a passage that its reading touches, offsets kept exact; the passage where there are none."""
    start, end = touched(passage.text, reading.start, reading.end)
    return _part(passage, start, end) if start < end else passage


def around(passage: Passage, reading: Reading, words: int) -> Passage:
    """A reading's words with so many others at either side, of the same sentences; offsets kept exact."""
    most = excerpt(passage, reading)
    first, last = most.start - passage.start, most.end - passage.start
    before = [word.start() for word in _WORD.finditer(passage.text, first, reading.start)]
    behind = [word.end() for word in _WORD.finditer(passage.text, reading.end, last)]
    return _part(passage, min([reading.start, *before[-words:]]), max([reading.end, *behind[:words]]))


def _part(passage: Passage, start: int, end: int) -> Passage:
    return replace(passage, text=passage.text[start:end], start=passage.start + start, end=passage.start + end)
