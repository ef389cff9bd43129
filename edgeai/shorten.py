"""Which passages a prompt has time for, and how much of each.

Pure. What is cut is named, because the answer may be worse for it; whether it is, is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from edgeai.grounding.read import chosen
from edgeai.records import Passage, Reading
from edgeai.text.sentences import sentences

SHORTENED = "passages shortened"
DROPPED = "fewer passages"
# Of the room, for more than the sentences with the likeliest answer. A plan that fills its time to the brim misses it
# more often: of 200 answers within 300 ms .62 and .61 are generated with a half and with nothing, .51 with all of it.
LUXURY = 0.5


def fit(
    passages: Sequence[Passage], readings: Sequence[Reading], cost: Callable[[Passage], float], room: float
) -> tuple[tuple[Passage, ...], tuple[str, ...]]:
    """The passages that `room` tokens suffice for, in their order, and what had to be done to them.

    The one with the likeliest answer comes first, then the others as they are ranked; each whole where there is room,
    else the sentences with its likeliest answer. Only those of the first may take more than `LUXURY` of the room.
    `cost` gives the tokens that a passage would take. No passages when not even the first fits.
    """
    best = chosen(passages, readings) if readings else 0
    ranking = [best, *(row for row in range(len(passages)) if row != best)]
    spare = room * LUXURY
    kept: dict[int, Passage] = {}
    cuts: dict[str, None] = {}
    for row in ranking:
        whole = passages[row]
        shorter = excerpt(whole, readings[row]) if readings else whole
        sizes = ((whole, spare), (shorter, room if row == best else spare))
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


def excerpt(passage: Passage, reading: Reading) -> Passage:
    """The sentences of a passage that its reading touches, offsets kept exact; the passage where there are none."""
    around = [span for span in sentences(passage.text) if span[0] < reading.end and reading.start < span[1]]
    if not around:
        return passage
    start, end = around[0][0], around[-1][1]
    return replace(passage, text=passage.text[start:end], start=passage.start + start, end=passage.start + end)
