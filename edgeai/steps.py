"""Questions that take two, asked one after the other and answered as one.

What is asked is only what the documents say in their own words: no language model takes part. Where either of the two
is not answered there is no joint answer, and the question is left to be answered as it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edgeai import decompose
from edgeai.grounding import read
from edgeai.grounding.cite import MARK, content, evidence
from edgeai.prompt import place
from edgeai.records import Answer, Citation, Passage, Turn
from edgeai.scores import contains

LONGEST = 8  # words of a find that can stand in for its description
LEAST_CONFIDENCE = 0.35  # of an answer in two steps, the product of both
CERTAIN = 0.75  # of an answer that needs no second look


@dataclass(frozen=True, slots=True)
class Found:
    """What the documents say to one question: the bare words, and the answer made of them."""

    words: str
    answer: Answer


# A question, the turns before it, and into how many parts the time left is divided, one of them for it; None where that
# is too little.
Ask = Callable[[str, Sequence[Turn], int], Found | None]


def both(question: str, ask: Ask) -> Answer | None:
    """The answers to the two questions that one asks; None where it asks one, or either is not answered."""
    if (parts := decompose.halves(question)) is None:
        return None
    first = ask(parts[0], (), 3)  # the question as it stands may be the third
    if first is None or first.answer.status == "refused":
        return None
    second = ask(parts[1], (Turn(parts[0], first.answer.text),), 2)
    if second is None or second.answer.status == "refused" or second.words == first.words:
        return None
    later = _after(first.answer, second.answer)
    return _joined(question, f"{first.answer.text.rstrip('.')}; {later.text}", first.answer, later)


def bridged(question: str, direct: Callable[[], Found | None], ask: Ask, floor: float = 0.0) -> Answer | None:
    """The answer about what a description means, with that named, None where nothing is described or found.

    `direct` gives what the question as it stands finds: mostly something, and with less confidence than two steps;
    `floor` is the confidence that an answer needs.
    """
    if (bridge := decompose.bridge(question)) is None or (alone := direct()) is None:
        return None
    first = ask(bridge.first, (), 2)
    if first is None or first.answer.status != "answered" or not _names(first.words, question):
        return None
    worth = alone.answer.confidence if alone.answer.status != "refused" else 0.0
    names_it = bool(alone.words) and read.same(alone.words, first.words)  # which is not what is asked of it
    if worth > CERTAIN and not names_it:
        return None
    second = ask(bridge.then(first.words), (), 1)
    if second is None or second.answer.status == "refused" or contains(question, [second.words]):
        return None
    if not _is_about(second.answer, first.words, bridge.noun) or _quotes(second.answer) <= _quotes(first.answer):
        return None
    if names_it and not _sources(first.answer) & _sources(second.answer):
        worth = 0.0
    later = _after(first.answer, second.answer)
    mark = f" [{first.answer.citations[0].n}]" if first.answer.citations else ""
    joined = _joined(question, f"{later.text} ({first.words}{mark})", first.answer, later)
    return joined if joined.confidence > max(LEAST_CONFIDENCE, floor, worth) else None


def _quotes(answer: Answer) -> set[tuple[str, int]]:
    """Where the sentences that an answer cites begin; what adds none of its own says nothing new."""
    return {(citation.path, citation.start) for citation in answer.citations}


def _sources(answer: Answer) -> set[str]:
    """The documents that an answer cites."""
    return {citation.path for citation in answer.citations}


def _names(find: str, question: str) -> bool:
    """Whether a find can stand for its description: short, and not what the question says already."""
    return 0 < len(find.split()) <= LONGEST and not contains(question, [find])


def _is_about(answer: Answer, find: str, noun: str) -> bool:
    """Whether what the answer cites holds all content words of the find, but for what kind of thing that is: the row of
    a table, or else the passage, with title and headings.
    """
    named = (content(find) - content(noun)) or content(find) or evidence(find)  # "Bramble" is "Bramble ward"
    texts = {passage.number: passage.text for passage in answer.passages}
    places = {passage.number: place(passage) for passage in answer.passages}
    quoted = ((one.n, one.quote if "|" in one.quote else texts[one.n]) for one in answer.citations)
    return any(len(named) and len(named & evidence(f"{places[n]}\n{text}")) == len(named) for n, text in quoted)


def _after(first: Answer, second: Answer) -> Answer:
    """The second answer with its passages numbered behind those of the first; a passage of both keeps its number."""
    known = {_key(passage): passage.number for passage in first.passages}
    numbers: dict[int, int] = {}
    for passage in second.passages:
        numbers[passage.number] = known.setdefault(_key(passage), len(known) + 1)
    return replace(
        second,
        text=MARK.sub(lambda mark: mark[0].replace(mark[1], str(numbers.get(int(mark[1]), mark[1]))), second.text),
        citations=tuple(replace(citation, n=numbers[citation.n]) for citation in second.citations),
        passages=tuple(replace(passage, number=numbers[passage.number]) for passage in second.passages),
    )


def _joined(question: str, text: str, first: Answer, second: Answer) -> Answer:
    """The second answer with the evidence of both; the timings of both searches, and the chance that both are right."""
    timings = second.timings
    for name in ("embed", "search", "read", "prepared"):
        timings = replace(timings, **{name: getattr(first.timings, name) + getattr(second.timings, name)})
    known = {passage.number for passage in first.passages}
    confidence = first.confidence * second.confidence
    cited: dict[tuple[int, int, int], Citation] = {
        (citation.n, citation.start, citation.end): citation for citation in (*first.citations, *second.citations)
    }
    return replace(
        second,
        question=question,
        text=text,
        status="conflict" if "conflict" in (first.status, second.status) else "answered",
        citations=tuple(cited.values()),
        passages=(*first.passages, *(passage for passage in second.passages if passage.number not in known)),
        confidence=confidence,
        degraded=tuple(dict.fromkeys((*first.degraded, *second.degraded))),
        support="weak" if confidence < read.WEAK or "weak" in (first.support, second.support) else "strong",
        timings=timings,
    )


def _key(passage: Passage) -> tuple[str, int, int]:
    return passage.path, passage.start, passage.end
