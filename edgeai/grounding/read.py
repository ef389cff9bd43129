"""What a reader's judgements mean for an answer: the order of the passages, whether there is an answer, and which.

Pure. The judgements themselves come from a model that can be wrong; constants were fitted on questions it had not been
trained on (models/reader-6/CARD.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from edgeai.grounding import versions
from edgeai.grounding.cite import citation
from edgeai.records import Citation, Passage, Reading, Verdict
from edgeai.scores import contains
from edgeai.text.sentences import touched

# Added to the fused score of a hit: WEIGHT * trust * log-odds of its relevance, limited to +-LIMIT so that one odd
# judgement cannot turn everything around. Trust is that of `retrieve.language_trust`: the reader knows English only.
RELEVANCE_WEIGHT = 0.25
RELEVANCE_LIMIT = 5.0

# Below this trust the reader is not asked at all. Of 5,000 questions 99 % of the English ones are above it, and 40 % of
# the German, Spanish and French ones.
READABLE = 0.8

# P(the passages hold the answer) = logistic(BIAS + ANSWERABLE * log-odds + WITNESS), the reading being that of the best
# passage, and WITNESS what the generator has said. Fitted by tools/fit_policy.py: the first two and the floor on 595
# development questions, of which 87 % of the answerable ones are answered at this floor; the witnesses on 220, where
# the generator that ships adds little to what the reader knows.
BIAS, ANSWERABLE = 0.29, 0.97
DECLINED = -0.4  # that they do not
UNHEARD = 0.0  # nothing, or nothing that can be believed
STATED = 0.1  # an answer that they support
# Of ln P(span) beside the log-odds that a passage holds the answer, for choosing among passages: on 189 development
# questions F1 is .570 by the product of both probabilities, .583 so, .589 by the log-odds alone; on 47 of rgb .554,
# .562, .536. Put to their own index, 100 questions of squad2 cite the right passage in 93, 98 and 98 cases.
SPAN_WEIGHT = 0.3
# Nats by which the reader's words are likelier to the generator than it thinks itself (shallow fusion of two models,
# arXiv:1503.03535). On 178 development questions F1 of the generator's answers is lower than that of the reader's at
# every distance: .23 to .54 where it would have needed less than 1, .31 to .44 at 3 to 4; beyond 5 there are 17.
FAVOUR = 4.0
FLOOR = 0.4  # below, nothing is answered
WEAK = 0.5  # an answer that is likelier wrong than right is marked
HOPELESS = 0.03  # below, the generator is not asked

# A passage that is likelier than this to hold the answer ends the reading: of 250 questions put to three indexes, 5.1
# of 8 passages are read instead of all, and nDCG@10 moves by +.001, +.001 and -.022 (benchmarks/LOG.md).
SETTLED = 0.8
# One that is likelier than this ends it where time is short: of 400 questions put to 10,000 chunks, stopping there
# always would halve the time to answer, with F1 .634 instead of .642 (at .5 the same) and as much refused and cited.
PROBABLE = 0.4


def order(scores: Sequence[float], readings: Sequence[Reading], trust: float) -> list[int]:
    """Positions of hits, best first, by their fused scores and what the reader made of them."""
    joint = [
        score + RELEVANCE_WEIGHT * trust * max(-RELEVANCE_LIMIT, min(RELEVANCE_LIMIT, log_odds(reading.relevance)))
        for score, reading in zip(scores, readings, strict=True)
    ]
    return sorted(range(len(joint)), key=lambda position: (-joint[position], position))


def log_odds(probability: float) -> float:
    """ln(p / (1 - p)), finite for 0 and 1."""
    kept = min(1 - 1e-6, max(1e-6, probability))
    return math.log(kept / (1 - kept))


def evidence(best: Reading) -> float:
    """Log-odds that the passages hold the answer, from what the reader made of the likeliest one."""
    return BIAS + ANSWERABLE * log_odds(best.answerable)


def verdict(best: Reading, witness: float | None = None, floor: float = FLOOR) -> Verdict:
    """Whether to answer from the likeliest passage; before the generator was asked (`witness` None), whether it is
    worth asking.
    """
    confidence = 1 / (1 + math.exp(-evidence(best) - (witness or 0.0)))
    if confidence < (min(HOPELESS, floor) if witness is None else floor):
        return Verdict("refused", confidence, ("no passage answers the question",))
    return Verdict("answered", confidence)


def settled(readings: Sequence[Reading]) -> bool:
    """Whether one of the passages holds the answer plainly enough to leave the others unread."""
    return any(reading.answerable > SETTLED for reading in readings)


def probable(readings: Sequence[Reading]) -> bool:
    """Whether one of the passages rather holds the answer than not."""
    return any(reading.answerable > PROBABLE for reading in readings)


def chosen(passages: Sequence[Passage], readings: Sequence[Reading]) -> int:
    """Position of the passage with the likeliest answer, given what the others say.

    Mostly by whether it holds one: a span stands out less where the text before it names it in other words as well. A
    document that gives the same answer is a second witness: one that was planted or is out of date stands alone. An
    answer of which another document says that it was true before gives way to that document's.
    """

    def key(row: int) -> tuple[float, float]:
        return likelihood(_seconded(row, passages, readings)), likelihood(readings[row])

    ranked = sorted(range(len(readings)), key=key, reverse=True)
    return next((row for row in ranked if not _retracted(row, passages, readings)), ranked[0])


def _retracted(row: int, passages: Sequence[Passage], readings: Sequence[Reading]) -> bool:
    """Whether a passage of another document that probably holds the answer says that this one was true before."""
    said = words(passages[row], readings[row])
    return any(
        other.path != passages[row].path
        and probable([reading])
        and versions.retracts(other, said)
        and not same(said, words(other, reading))
        for other, reading in zip(passages, readings, strict=True)
    )


def _seconded(row: int, passages: Sequence[Passage], readings: Sequence[Reading]) -> Reading:
    """A reading, as likely to hold the answer as it and those of other documents with the same words are together.

    1 - (1 - p) (1 - q) ..., as if they erred independently; a document counts once, and a copy of it not at all.
    """
    own, said = passages[row], words(passages[row], readings[row])
    others: dict[str, float] = {}
    for passage, reading in zip(passages, readings, strict=True):
        if passage.path != own.path and passage.text != own.text and same(said, words(passage, reading)):
            others[passage.path] = max(reading.answerable, others.get(passage.path, 0.0))
    wrong = math.prod((1 - other for other in others.values()), start=1 - readings[row].answerable)
    return replace(readings[row], answerable=1 - wrong)


def same(one: str, other: str) -> bool:
    """Whether one answer holds the words of the other."""
    return contains(one, [other]) or contains(other, [one])


def likelihood(reading: Reading) -> float:
    """How likely a passage holds the answer and its span is it, on a scale for comparing passages only."""
    return log_odds(reading.answerable) + SPAN_WEIGHT * math.log(max(reading.span, 1e-9))


def words(passage: Passage, reading: Reading) -> str:
    """The likeliest span of a passage, on one line."""
    return " ".join(passage.text[reading.start : reading.end].split())


def hint(passages: Sequence[Passage], readings: Sequence[Reading]) -> str:
    """The words of the likeliest answer on one line; "" where there is no text."""
    row = chosen(passages, readings)
    return words(passages[row], readings[row])


def extract(passage: Passage, reading: Reading) -> tuple[str, Citation] | None:
    """The likeliest span with its mark, and the sentence it stands in as its citation; None where there is no text."""
    if reading.start == reading.end:
        return None
    return f"{words(passage, reading)} [{passage.number}]", source(passage, reading)


def source(passage: Passage, reading: Reading) -> Citation:
    """The citation of the sentence that a span stands in."""
    return citation(passage, touched(passage.text, reading.start, reading.end))
