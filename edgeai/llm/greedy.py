"""Greedy decoding of a prompt's answer, drafts checked in one forward.

What is said is what one token at a time would give: drafts change how many forwards that takes and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgeai.llm.grammar import Grammar
from edgeai.llm.llama import Llama
from edgeai.llm.residence import Parts, Residence
from edgeai.llm.speculate import agreed, following, propose


def greedy(
    residence: Residence,
    parts: Parts,
    hint: Sequence[int],
    end: int | None,
    grammar: Grammar | None = None,
    favour: float = 0.0,
) -> Iterator[list[int]]:
    """The likeliest tokens, at most `parts.answer`, as many at once as a forward gave.

    `favour` nats are added to the log-probability of the next token of the hint, and of the end behind it, as long as
    the answer says nothing else (shallow fusion, arXiv:1503.03535); a grammar decides without them.
    """
    answer: list[int] = []
    rewinds = residence.llama.rewinds
    draft = _draft(answer, parts, hint, end) if rewinds else ()
    likeliest = residence.evaluate(parts, draft)
    while True:
        if favour and following(answer, hint):
            expected = (*hint[len(answer) :], *(() if end is None else (end,)))
            likeliest = _favoured(residence.llama, likeliest, expected, favour)
        said = grammar.follow(draft) if grammar else likeliest[: agreed(draft, likeliest) + 1]
        residence.retract(len(draft) + 1 - len(said))
        yield said
        answer += said
        if len(answer) >= parts.answer:
            return
        draft = _draft(answer, parts, hint, end) if rewinds else ()
        likeliest = residence.append((answer[-1], *draft))


def _favoured(llama: Llama, likeliest: list[int], expected: Sequence[int], favour: float) -> list[int]:
    """The likeliest tokens if each of those expected had `favour` nats more than the model gives it."""
    chosen = list(likeliest)
    for row, token in enumerate(expected[: len(likeliest)]):
        logits = llama.logits(len(likeliest) - 1 - row)
        if logits[token] + favour > logits[likeliest[row]]:
            chosen[row] = token
    return chosen


def _draft(answer: Sequence[int], parts: Parts, hint: Sequence[int], end: int | None) -> tuple[int, ...]:
    """What to check behind an answer, so that it stays within its limit."""
    return propose(answer, hint, parts.passages, end)[: parts.answer - len(answer) - 1]
