"""A question, numbered passages and a token budget become the segments of a prompt.

The order is fixed: template prefix with the system text, one segment per passage, earlier turns, the question, template
suffix. What never changes comes first and what always changes comes last, so that an engine can keep the state of the
prefix and of the passages right behind it. Text from users and documents is only ever an ordinary segment: it cannot
become a control token, but nothing here stops it from *saying* that it is an instruction or another passage.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from edgeai.errors import ContextTooLong, UsageProblem
from edgeai.records import Passage, Prompt, Segment, Turn, outer_headings
from edgeai.specs import ChatTemplate
from edgeai.text.links import without_targets
from edgeai.text.sentences import sentences

REFUSAL = "The documents do not contain the answer."

SYSTEM = (
    "Answer the question in one short sentence, only from the numbered passages, with [n] after each claim. "
    f"If they do not contain the answer, say: {REFUSAL}"
)
# For models of our own, which are trained on this wording and on passages without numbers: where words come from is
# found by comparing them, which is surer than what a small model says and costs no tokens. Changing the wording or the
# layout means training again.
PLAIN_SYSTEM = (
    f"Answer from the passages in as few words as possible. If they do not contain the answer, say: {REFUSAL}"
)

Count = Callable[[str], int]

# How models say it in words of their own, at the beginning of an answer.
_REFUSES = re.compile(
    r"(?:the |these )?(?:\w+ )?(?:documents?|passages?|texts?|context)\b[^.]{0,30}?\b(?:do|does|did)(?: not|n't) "
    r"(?:contain|mention|provide|say|include|specify|state|answer)"
)
_MARK = re.compile(r"\s*\[\d{1,2}(?:\s*,\s*\d{1,2})*\]")


def prefix_segments(template: ChatTemplate, *, numbered: bool = True) -> tuple[Segment, ...]:
    """The constant start of every prompt of this template, for warming an engine up before the first question."""
    texts = ((SYSTEM if numbered else PLAIN_SYSTEM) if part == "$system" else part for part in template.prefix)
    return tuple(Segment(text, "prefix", special=text in template.special_ids) for text in texts)


def place(passage: Passage) -> str:
    """Title and headings of a passage, "" when it has none."""
    parts = (passage.title, *outer_headings(passage.heading, passage.text))
    return " > ".join(dict.fromkeys(part for part in parts if part))


def passage_text(passage: Passage, *, numbered: bool = True) -> str:
    """The text of one passage segment: number, title and headings, table header when it has one, the passage."""
    first = f"[{passage.number}] {place(passage)}".rstrip() if numbered else place(passage)
    lines = [first, passage.header, without_targets(passage.text).strip()]
    return "\n".join(line for line in lines if line) + "\n\n"


def build_prompt(
    question: str,
    passages: Sequence[Passage],
    template: ChatTemplate,
    *,
    count: Count,
    context: int,
    max_tokens: int = 64,
    history: Sequence[Turn] = (),
    numbered: bool = True,
    hint: str = "",
    favour: float = 0.0,
) -> Prompt:
    """Lay out a prompt whose tokens, together with `max_tokens` of answer, fit into `context` tokens.

    `count` gives the tokens of one segment's text. What does not fit goes in this order: the oldest turns, then the
    last passages, the last one kept being cut after a sentence. `Prompt.passages` are the passages as shown.
    `numbered` False is for models that were trained on passages without numbers. `hint` is what a reader takes for the
    answer; it stands below the question, and `favour` is how much likelier its words are made (`Prompt.favour`).

    Raises `UsageProblem` for an empty question and `ContextTooLong` when even the bare question does not fit.
    """
    if not question.strip():
        raise UsageProblem("The question is empty; ask something.")
    prefix = prefix_segments(template, numbered=numbered)
    asked = Segment(_asked(question, hint), "question")
    suffix = tuple(Segment(part, "suffix", special=part in template.special_ids) for part in template.suffix)
    room = context - max_tokens - sum(tokens_of(segment, count) for segment in (*prefix, asked, *suffix))
    if room < 0:
        raise ContextTooLong(
            f"The question is {-room} tokens too long for a context of {context} tokens with an answer of "
            f"{max_tokens}; ask it in fewer words or raise the context setting."
        )
    turns = [_turn_segment(turn) for turn in history]
    text_of = partial(passage_text, numbered=numbered)
    wanted = sum(count(text_of(passage)) for passage in passages)
    turns = _newest_that_fit(turns, room - wanted, count)
    room -= sum(tokens_of(turn, count) for turn in turns)
    shown = tuple(_first_that_fit(passages, room, lambda passage: count(text_of(passage))))
    texts = (Segment(text_of(passage), "passage", owner=passage.owner) for passage in shown)
    return Prompt((*prefix, *texts, *turns, asked, *suffix), shown, max_tokens, _one_line(hint), favour)


def tokens_of(segment: Segment, count: Count) -> int:
    """The tokens of a segment: a control token is one, whatever `count` makes of its name."""
    return 1 if segment.special else count(segment.text)


def is_refusal(answer: str) -> bool:
    """Whether an answer opens with the refusal the system text asks for, or one like it in English."""
    return _REFUSES.match(" ".join(_MARK.sub("", answer).casefold().split())) is not None


def _asked(question: str, hint: str) -> str:
    lines = [f"Question: {_one_line(question)}", *([f"Likely answer: {_one_line(hint)}"] if hint else [])]
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _turn_segment(turn: Turn) -> Segment:
    """An earlier exchange without its marks, which number passages that are gone."""
    return Segment(f"Q: {_one_line(turn.question)}\nA: {_one_line(_MARK.sub('', turn.answer))}\n", "history")


def _newest_that_fit(turns: list[Segment], room: int, count: Count) -> list[Segment]:
    kept: list[Segment] = []
    for turn in reversed(turns):
        room -= tokens_of(turn, count)
        if room < 0:
            break
        kept.insert(0, turn)
    return kept


def _first_that_fit(passages: Sequence[Passage], room: int, cost_of: Callable[[Passage], int]) -> Iterator[Passage]:
    """Whole passages while they fit, then as much of the next one as fits."""
    for passage in passages:
        cost = cost_of(passage)
        if cost > room:
            if shorter := _shortened(passage, room, cost_of):
                yield shorter
            return
        room -= cost
        yield passage


def _shortened(passage: Passage, room: int, cost_of: Callable[[Passage], int]) -> Passage | None:
    """The passage up to the last sentence that fits, None when not even the first does; offsets stay exact."""
    cuts = [end for _, end in sentences(passage.text)]
    low, high = 0, len(cuts)  # the first `low` cuts fit, those from `high` on do not
    while low < high:
        middle = (low + high) // 2
        if cost_of(_cut(passage, cuts[middle])) <= room:
            low = middle + 1
        else:
            high = middle
    return _cut(passage, cuts[low - 1]) if low else None


def _cut(passage: Passage, length: int) -> Passage:
    return replace(passage, text=passage.text[:length], end=passage.start + length)
