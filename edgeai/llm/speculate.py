"""Which tokens an answer is likely to go on with: a draft that the model checks in one forward instead of many.

Most words of a grounded answer stand in the passages, and often all of them are the words a reader has found. A wrong
draft costs time and nothing else: a token is only ever taken where it would have been said without one (speculative
decoding, arXiv:2211.17192, of greedy answers; drafts copied from a reference, arXiv:2304.04487).
"""

from __future__ import annotations

from collections.abc import Sequence

# Checking a token costs about a fifth of computing it alone, and every second to third copied one is right.
COPIED = 6  # tokens proposed from the passages at once
LONGEST = 3  # last tokens of the answer that are looked for in the passages
HINTED = 24  # tokens of a hint proposed at most

Ids = tuple[int, ...]


def propose(answer: Sequence[int], hint: Sequence[int], sources: Sequence[Sequence[int]], end: int | None) -> Ids:
    """A draft of what follows `answer`, () where nothing suggests itself.

    `hint` is the answer to expect, which `end` would follow. An answer that leaves it goes on with whatever follows its
    last tokens in one of the sources: after the longest match, and in the first source among equals.
    """
    if following(answer, hint):
        ending = () if end is None or len(hint) > HINTED else (end,)
        return (*hint[len(answer) : HINTED], *ending)
    for length in range(min(LONGEST, len(answer)), 0, -1):
        wanted = list(answer[-length:])
        for source in (hint, *sources):
            for start in range(len(source) - length):
                if list(source[start : start + length]) == wanted:
                    return tuple(source[start + length : start + length + COPIED])
    return ()


def following(answer: Sequence[int], hint: Sequence[int]) -> bool:
    """Whether an answer has said nothing but the beginning of its hint."""
    return bool(hint) and list(hint[: len(answer)]) == list(answer)


def agreed(draft: Sequence[int], likeliest: Sequence[int]) -> int:
    """How many tokens of a draft the model would have said itself; `likeliest[i]` is what it says before `draft[i]`."""
    count = 0
    while count < len(draft) and draft[count] == likeliest[count]:
        count += 1
    return count
