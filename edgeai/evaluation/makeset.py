"""Drafts of evaluation questions out of the documents of an index, for a person to put right.

A sentence that states a number or a name becomes a question with a gap. Such questions are far easier than those people
ask, because they repeat the sentence: each is marked as a draft until somebody has reworded it. One in four is made
unanswerable by naming something else instead; that the documents really do not say it has to be looked up too.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from edgeai.bootstrap import SEED
from edgeai.errors import NothingToIndex
from edgeai.evaluation.questions import UNANSWERABLE
from edgeai.evaluation.targets import matches
from edgeai.records import Document
from edgeai.store import Store
from edgeai.text.sentences import is_complete, sentences

SHORTEST, LONGEST = 40, 240  # characters of a sentence that says enough and can still be read as a question
UNANSWERABLE_EVERY = 4
GAP = "…"
ASKS_NAME = "Which name"

_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_NAME = re.compile(r"(?<=[\w,;] )[A-Z][\w’-]+(?: (?:of |the )?[A-Z][\w’-]+)*")
_CODE_OR_LINK = re.compile(r"[`{}<>|\[\]]|https?:")
# What a span asks for, and the question it makes; the first that is found in a sentence counts.
_ASKS = (
    (re.compile(r"\b\d{1,2}:\d{2}\b(?: ?[ap]\.?m\.?)?", re.IGNORECASE), "What time"),
    (re.compile(r"\d[\d.,]* ?%|\b\d[\d.,]* percent\b"), "What percentage"),
    (re.compile(r"(?:[€$£¥]|\b(?:CHF|EUR|USD|GBP) ?)\d[\d.,]*\d|[€$£¥]\d\b"), "How much"),
    (_YEAR, "Which year"),
    (re.compile(r"\b(?<![.,-])\d{1,6}(?:,\d{3})* (?:[a-z]+ )?(?P<unit>[a-z]{3,}s)\b"), "How many {unit}"),
    (_NAME, ASKS_NAME),
)


@dataclass(frozen=True, slots=True)
class Gap:
    """A sentence with the part that is asked for."""

    path: str
    title: str
    sentence: str
    answer: str
    asks: str

    @property
    def question(self) -> str:
        """The draft of a question."""
        return self.asking(self.sentence)

    def asking(self, sentence: str) -> str:
        """The same question about another wording of the sentence."""
        about = f", in {self.title}" if self.title else ""
        return f"{self.asks}{about}: “{sentence.replace(self.answer, GAP)}”?"


def draft_questions(store: Store, count: int) -> list[dict[str, Any]]:
    """Up to `count` records of the format of `questions`, spread over the documents; the same for the same index.

    Raises `NothingToIndex` when no document has a sentence that can be asked about.
    """
    paths = list(store.files())
    gaps: list[Gap] = []
    for gap in _round_robin(store, paths):
        gaps.append(gap)
        if len(gaps) == count:
            break
    if not gaps:
        raise NothingToIndex(
            "No sentence of the index states a number or a name; index more with `edgeai sync FOLDER`."
        )
    records = []
    for number, gap in enumerate(gaps, 1):
        other = _swapped(gap, gaps, store) if number % UNANSWERABLE_EVERY == 0 else None
        records.append({"id": f"draft-{number:03}", **(other or _answerable(gap, paths)), "draft": True})
    return records


def gaps_of(document: Document) -> list[Gap]:
    """The sentences of a document that state something to ask for; names, which say least, come last."""
    return sorted(_gaps(document), key=lambda gap: gap.asks == ASKS_NAME)


def _gaps(document: Document) -> Iterator[Gap]:
    for start, end in sentences(document.text):
        sentence = " ".join(document.text[start:end].split()).strip("-*_ ")
        if SHORTEST <= len(sentence) <= LONGEST and is_complete(sentence) and not _CODE_OR_LINK.search(sentence):
            yield from _gap(document, sentence)


def _gap(document: Document, sentence: str) -> Iterator[Gap]:
    for pattern, asks in _ASKS:
        found = pattern.search(sentence)
        if found and sentence.count(found.group()) == 1:
            yield Gap(document.path, document.title, sentence, found.group(), asks.format(**found.groupdict()))
            return


def _round_robin(store: Store, paths: Sequence[str]) -> Iterator[Gap]:
    """One sentence of every document, in a shuffled order, then a second one of each, and so on."""
    order = list(paths)
    random.Random(SEED).shuffle(order)
    waiting = [iter(gaps_of(document)) for path in order if (document := store.document(path))]
    while waiting:
        going_on = []
        for gaps in waiting:
            if gap := next(gaps, None):
                yield gap
                going_on.append(gaps)
        waiting = going_on


def _answerable(gap: Gap, paths: Sequence[str]) -> dict[str, Any]:
    source = {"path": _short(gap.path, paths), "quote": gap.sentence}
    return {"question": gap.question, "answers": [gap.answer], "sources": [source], "kind": "answerable"}


def _swapped(gap: Gap, gaps: Sequence[Gap], store: Store) -> dict[str, Any] | None:
    """The question about something else that its document never names; None when there is nothing to put."""
    mine = [name for name in _NAME.findall(gap.sentence) if name not in gap.answer]
    document = store.document(gap.path)
    if not mine or document is None:
        return None
    others = [name for other in gaps if other.path != gap.path for name in _NAME.findall(other.sentence)]
    other = max((name for name in others if name not in document.text), key=len, default="")  # long ones mean one thing
    if not other:
        return None
    note = f"made by putting {other!r} for {mine[0]!r}; check that the documents do not say it"
    return {"question": gap.asking(gap.sentence.replace(mine[0], other)), "kind": UNANSWERABLE, "note": note}


def _short(path: str, paths: Sequence[str]) -> str:
    """The shortest end of a path that names no other file."""
    parts = path.split("/")
    ends = ("/".join(parts[-length:]) for length in range(1, len(parts)))
    return next((end for end in ends if sum(matches(end, other) for other in paths) == 1), path)
