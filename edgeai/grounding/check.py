"""Whether an answer may be shown, and how sure we are.

Before the model runs, two signals of the search decide whether there is anything to answer from; afterwards the words
and numbers of the answer are looked up in the passages it cites.

What this cannot prove: that an answer is true, or follows from its passages. Words are compared, not meanings, so it
misses a negation that was dropped, a number moved to another subject, two facts joined wrongly, and a passage that is
itself wrong, outdated or planted; and it rejects good answers in other words or in another language than the passage.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from edgeai.grounding import cells
from edgeai.grounding.cite import MARK, Content, Evidence, citation, cite, content, evidence, marked_sentences
from edgeai.prompt import is_refusal, passage_text
from edgeai.records import Citation, Passage, Retrieval, Verdict
from edgeai.text.links import addresses
from edgeai.text.sentences import Span

# P(the hits hold an answer) = logistic(BIAS + COVERAGE * coverage + SIMILARITY * similarity), refused below the floor.
# Set by hand for cosines of a sentence embedder, where unrelated texts score about 0.1 and answers 0.4 to 0.8.
ANSWERABLE_BIAS = -4.0
ANSWERABLE_COVERAGE = 3.0
ANSWERABLE_SIMILARITY = 6.0
ANSWERABLE_FLOOR = 0.25

# Among written answers to 2,000 questions 99 % had a support above 0.66, answers to other questions one below 0.51.
SUPPORT_FLOOR = 0.5  # share of its content found in the cited passages, below which a statement counts as unsupported
SUPPORT_WEAK = 0.7  # below this an answer is shown, but marked as weakly supported
WEAKLY_SUPPORTED = "weakly supported"  # the reason that marks it

KEPT_SENTENCES = 2  # of a generated answer: one is asked for, conflicts take two
NUMBER_BONUS = 0.25  # for a sentence with a number when the question asks for one, a share of the question's content
PLACE_WEIGHT = 0.5  # a word of the title or headings counts less than one of the sentence itself
RANK_PENALTY = 0.1  # later passages were found to fit less
COMPARED = 8  # sentences whose vectors are worth computing, about 3 ms each
SIMILARITY_WEIGHT = 1.0  # of a cosine, against the share of the question's words; the plateau is 1 to 2

# A verb denied in English, where nothing in the quoted words is negative: small models get this wrong.
_DENIES = re.compile(r"\b(?:do|does|did|is|are|was|were|has|have|can|could|will|would|must|may)(?:\s+not\b|n[’']t\b)")
_NEGATIVE = re.compile(r"\b(?:not|no|nor|none|never|nobody|nothing|cannot|without)\b|n[’']t\b", re.IGNORECASE)
_ECHO = re.compile(r"^#|\s>\s|[?？]$")  # a heading, the heading path above a passage, or the question
_LIST_MARK = re.compile(r"^(?:\d{1,2}[.)]|[-*•])\s+")

Similarity = Callable[[str, Sequence[str]], Sequence[float]]

_RULE = re.compile(r"\|?[\s:|-]*-[\s:|-]*")  # the line below a table's header
_ASKS_NUMBER = re.compile(
    r"\b(?:how (?:long|many|much|old|often)|when|what (?:time|date|year)|wann|wie (?:lange|viele?)|quand|combien|cuándo"
    r"|cuánt[oa]s?)\b|多少|几|何时|多久",
    re.IGNORECASE,
)


def answerable(retrieval: Retrieval, floor: float = ANSWERABLE_FLOOR) -> Verdict:
    """Whether the hits of a search are worth reading; below `floor` refuses before any language model is loaded."""
    if not retrieval.hits:
        return Verdict("refused", 0.0, ("nothing in the index matches the question",))
    evidence_for = (
        ANSWERABLE_BIAS
        + ANSWERABLE_COVERAGE * retrieval.coverage
        + ANSWERABLE_SIMILARITY * max(0.0, retrieval.similarity)
    )
    confidence = 1 / (1 + math.exp(-evidence_for))
    if confidence < floor:
        return Verdict("refused", confidence, ("no passage is close enough to the question",))
    return Verdict("answered", confidence)


def support(text: str, citations: Sequence[Citation], passages: Sequence[Passage]) -> float:
    """Share (0..1) of the answer's content words and numbers that occur in the passages it cites; 0 without citations.

    Passages count with their title and headings, because an answer may name its subject by them.
    """
    said = content(text)
    return len(said & _cited(citations, passages)) / len(said) if len(said) and citations else 0.0


def unsupported_numbers(text: str, citations: Sequence[Citation], passages: Sequence[Passage]) -> tuple[str, ...]:
    """Numbers of the answer that no cited passage holds, in canonical form, sorted."""
    return tuple(sorted(content(text).numbers - _cited(citations, passages).numbers))


def unsupported_addresses(text: str, citations: Sequence[Citation], passages: Sequence[Passage]) -> tuple[str, ...]:
    """Addresses of the answer that no cited passage holds word for word, sorted: made up, or put together."""
    cited = {quote.n for quote in citations}
    held = [passage.text for passage in passages if passage.number in cited]
    return tuple(sorted(one for one in addresses(text) if not any(one in shown for shown in held)))


def check(text: str, citations: Sequence[Citation], passages: Sequence[Passage], verdict: Verdict) -> Verdict:
    """The final verdict on an answer whose citations `cite` has resolved; `verdict` is that of `answerable`.

    Refused: the model said so, nothing is cited, a number or an address is made up, or too few words of it occur in
    what it cites.
    Confidence is that of the search times the support.
    """
    if verdict.status == "refused":
        return verdict
    if not text.strip() or is_refusal(text):
        return Verdict("refused", 1 - verdict.confidence, ("the model found no answer in the passages",))
    if not citations:
        return Verdict("refused", 0.0, (*verdict.reasons, "no passage supports the answer"))
    if missing := unsupported_numbers(text, citations, passages):
        return Verdict("refused", 0.0, (*verdict.reasons, f"numbers not in the passages: {', '.join(missing)}"))
    if missing := unsupported_addresses(text, citations, passages):
        return Verdict("refused", 0.0, (*verdict.reasons, f"addresses not in the passages: {', '.join(missing)}"))
    share = support(text, citations, passages)
    confidence = verdict.confidence * share
    if share < SUPPORT_FLOOR:
        return Verdict("refused", confidence, (*verdict.reasons, "the passages do not support the answer"))
    weak = (WEAKLY_SUPPORTED,) if share < SUPPORT_WEAK else ()
    return replace(verdict, confidence=confidence, reasons=(*verdict.reasons, *weak))


def keep_supported(
    text: str, citations: Sequence[Citation], passages: Sequence[Passage]
) -> tuple[str, tuple[Citation, ...]]:
    """The sentences of a cited answer that their own passages support, with their citations; ("", ()) when none is.

    For models that go on talking: unsupported sentences, repetitions and echoed headings are dropped, the others kept
    in order.
    """
    kept: list[str] = []
    said: set[str] = set()
    for start, end in marked_sentences(text):
        sentence = _LIST_MARK.sub("", " ".join(text[start:end].split()))
        bare = MARK.sub("", sentence)
        marked = {int(number) for number in MARK.findall(sentence)}
        quotes = [quote for quote in citations if quote.n in marked]
        if len(kept) < KEPT_SENTENCES and bare not in said and not _ECHO.search(bare):
            if _holds(sentence, quotes, passages):
                kept.append(sentence)
            said.add(bare)
    return cite(" ".join(kept), passages)


def answers(question: str, citations: Sequence[Citation]) -> bool:
    """Whether some quoted sentence, headings aside, shares a content word or number with the question."""
    asked = content(question)
    return any(len(asked & evidence(quote.quote)) > 0 for quote in citations if not quote.quote.startswith("#"))


def overlap(citations: Sequence[Citation], other: Citation) -> bool:
    """Whether some citation quotes a part of what `other` quotes."""
    return any(quote.path == other.path and quote.start < other.end and other.start < quote.end for quote in citations)


def extract(
    question: str, passages: Sequence[Passage], similarity: Similarity | None = None
) -> tuple[str, Citation] | None:
    """The sentence of the passages that fits the question best, as an answer with its mark, and its citation.

    Sentences are scored by the words they share with the question and, for the best `COMPARED` of them, by
    `similarity`: cosines of the question with each of the texts given. Headings, questions and sentences that only
    repeat the question are no answers, but what follows them inherits their words, as the rows of a table do those of
    its header. None when no sentence shares anything with the question.
    """
    scored = sorted(_scored(question, passages), key=lambda candidate: -candidate[0])[:COMPARED]
    if not scored:
        return None
    cosines: Sequence[float] = [0.0] * len(scored)
    if similarity is not None:
        cosines = similarity(
            question, [f"{passage.title}\n{passage.text[slice(*span)]}" for _, passage, span in scored]
        )
    _, passage, span = max(
        zip(scored, cosines, strict=True), key=lambda pair: pair[0][0] + SIMILARITY_WEIGHT * pair[1]
    )[0]
    best = citation(passage, span)
    return f"{as_sentence(passage, span)} [{best.n}]", best


def as_sentence(passage: Passage, span: Span) -> str:
    """A sentence without its list mark; a table row as "column: value" pairs where its header is known."""
    text = " ".join(passage.text[slice(*span)].split())
    if not text.startswith("|"):
        return _LIST_MARK.sub("", text)
    rows = (row for table in cells.tables(passage) for row in table)
    row = next((row for row in rows if span[0] <= row[0].start < span[1]), ())
    named = [f"{cell.column}: {cell.text}" if cell.column else cell.text for cell in row if cell.text]
    return ", ".join(named) or ", ".join(filter(None, map(str.strip, text.strip("|").split("|"))))


def _scored(question: str, passages: Sequence[Passage]) -> Iterator[tuple[float, Passage, Span]]:
    """Every sentence that shares something with the question, with the share (0 to a little over 1)."""
    asked = content(question)
    shown = Evidence(passages)
    all_asked = shown.weight(asked) or 1.0
    wants_number = _ASKS_NUMBER.search(question) is not None
    for rank, passage in enumerate(passages):
        place = evidence(" ".join((passage.title, *passage.heading, passage.header)))
        for span, held, own in _candidates(passage, shown.sentences[passage.number], asked):
            common = shown.weight(asked & held) + PLACE_WEIGHT * shown.weight((asked & place) - held)
            if common:
                bonus = NUMBER_BONUS if wants_number and own.numbers - asked.numbers else 0.0
                yield (common / all_asked + bonus) / (1 + RANK_PENALTY * rank), passage, span


def _cited(citations: Sequence[Citation], passages: Sequence[Passage]) -> Content:
    """What the cited passages offer, with the names of their files, which may tell a version's date."""
    numbers = {quote.n for quote in citations}
    cited = [passage for passage in passages if passage.number in numbers]
    return evidence("\n".join(f"{PurePosixPath(passage.path).name}\n{passage_text(passage)}" for passage in cited))


def _holds(sentence: str, citations: Sequence[Citation], passages: Sequence[Passage]) -> bool:
    if _DENIES.search(sentence) and not any(_NEGATIVE.search(quote.quote) for quote in citations):
        return False
    return support(sentence, citations, passages) >= SUPPORT_FLOOR and not unsupported_numbers(
        sentence, citations, passages
    )


def _candidates(
    passage: Passage, spans: Sequence[tuple[Span, Content]], asked: Content
) -> Iterator[tuple[Span, Content, Content]]:
    """Sentences that may be an answer: span, content with what it inherits, and its own content."""
    inherited = header = Content(frozenset(), frozenset())
    texts = [passage.text[slice(*span)] for span, _ in spans]
    for (span, own), text, following in zip(spans, texts, [*texts[1:], ""], strict=False):
        if not text.startswith("|"):
            header = Content(frozenset(), frozenset())
        if _RULE.fullmatch(text):
            continue
        if _RULE.fullmatch(following):
            header = own
        elif text.startswith("#") or text.rstrip("*_").endswith(("?", "？")) or not len(content(text) - asked):
            inherited |= own
        else:
            yield span, own | inherited | header, own
            inherited = Content(frozenset(), frozenset())
