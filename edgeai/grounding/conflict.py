"""Whether two documents answer a question with values that cannot both be right, and how that is said.

Pure. It rests on the reader's likeliest span of each passage. Two values differ only where `values.differ` says so,
which is rarely: free text is never compared, and a difference between a rule and its exception, or between two things
of one name, is told apart only where the words of the question tell it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from edgeai.grounding import read, versions
from edgeai.grounding.cite import Content, content, evidence
from edgeai.grounding.values import Date, Values, dates, differ, values
from edgeai.prompt import place
from edgeai.records import Citation, Passage, Reading

# Set on 700 development questions, of which 115 have a conflict in their passages and 145 a superseded value
# (benchmarks/conflicts.py).
LEAST_CONFIDENCE, LEAST_SPAN = 0.5, 0.05  # that a passage holds the answer; that this is the answer
# Names and dates abound, and the reader takes a wrong one more easily than a wrong quantity.
NAME_CONFIDENCE, NAME_SPAN = 0.6, 0.3
PLAIN_CONFIDENCE = 0.75

_NAME = re.compile(r"(?<=\s)[^\W\d_a-z][\w’'-]*")
_JOINS = re.compile(r"\band\b", re.IGNORECASE)

Kind = Literal["conflict", "superseded"]


@dataclass(frozen=True, slots=True)
class Difference:
    """Two passages, by position, that give different values; where one replaces the other it is the first."""

    kind: Kind
    first: int
    second: int


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a passage, by its position, is read to answer."""

    row: int
    passage: Passage
    reading: Reading
    said: Values
    sentence: str  # the one it stands in

    @property
    def sure(self) -> bool:
        confidence = read.verdict(self.reading).confidence
        if self.said.dates or self.said.name:
            return confidence >= NAME_CONFIDENCE and self.reading.span >= NAME_SPAN
        return confidence >= LEAST_CONFIDENCE and self.reading.span >= LEAST_SPAN

    @property
    def plain(self) -> bool:
        """Whether there is hardly a doubt that this is an answer, and it is no name or date."""
        return not (self.said.dates or self.said.name) and read.verdict(self.reading).confidence >= PLAIN_CONFIDENCE

    @property
    def is_own_date(self) -> bool:
        """Whether what is said is only the date that the version bears."""
        return versions.date_of(self.passage) in self.said.dates


def find(question: str, passages: Sequence[Passage], readings: Sequence[Reading]) -> Difference | None:
    """The likeliest answer against the next likeliest of another document that contradicts it, None when none does.

    The reader must be nearly sure of both. A question that joins two things by "and" has two answers, not a conflict.
    """
    if not readings or _JOINS.search(question):
        return None
    best = read.chosen(passages, readings)
    mine = _claim(best, passages[best], readings[best])
    if not mine.sure:
        return None
    others = [_claim(row, passages[row], readings[row]) for row in range(len(readings)) if row != best]
    contrary = [
        other
        for other in sorted(others, key=lambda claim: -read.likelihood(claim.reading))
        if mine.passage.path != other.passage.path and other.sure and differ(mine.said, other.said)
    ]
    return next((found for other in contrary if (found := _difference(question, mine, other))), None)


def _claim(row: int, passage: Passage, reading: Reading) -> _Claim:
    sentence = read.source(passage, reading).quote
    return _Claim(row, passage, reading, values(passage.text, reading.start, reading.end), sentence)


def _difference(question: str, one: _Claim, other: _Claim) -> Difference | None:
    """None where the two may be answers to different questions."""
    asked = content(question)
    plainly = one.plain and other.plain and "," not in question  # a comma may join two things, too
    if not _same_subject(asked, _names(question), one, other, plainly):
        return None
    if _replaces(one, other) or _replaces(other, one):
        newer, older = (one, other) if _replaces(one, other) else (other, one)
        if newer.is_own_date or older.is_own_date or _asks_for(question, older.passage, newer.passage):
            return None
        return Difference("superseded", newer.row, older.row)
    if one.said.name or not _same_statement(asked, one, other):
        return None  # two names can both be right: there may be two of what is asked for
    return Difference("conflict", one.row, other.row)


def _replaces(newer: _Claim, older: _Claim) -> bool:
    return versions.replaces(newer.passage, newer.sentence, older.passage, older.sentence)


def _asks_for(question: str, older: Passage, newer: Passage) -> bool:
    """Whether the question names the year of the older passage and not that of the newer."""
    years = {date[0] for date in dates(question)}
    was, now = versions.date_of(older), versions.date_of(newer)
    return was is not None and was[0] in years and (now is None or now[0] not in years)


def _names(question: str) -> frozenset[str]:
    """Stems of the words in capitals, without the first, which may be no name."""
    return evidence(" ".join(_NAME.findall(question))).stems


def _same_subject(asked: Content, names: frozenset[str], one: _Claim, other: _Claim, plainly: bool) -> bool:
    """Whether the passages may be about the same thing.

    Not when one alone has a number or name of the question, nor when each has a word of it that the other lacks, unless
    both answer it `plainly`: then they say it in other words.
    """
    mine, theirs = _apart(asked, *(f"{place(claim.passage)}\n{claim.passage.text}" for claim in (one, other)))
    alone = mine.numbers or theirs.numbers or (mine.stems | theirs.stems) & names
    return not alone and (plainly or not (mine.stems and theirs.stems))


def _same_statement(asked: Content, one: _Claim, other: _Claim) -> bool:
    """The same of the two sentences with their titles and headings; for dates, no word may be in one of them alone."""
    mine, theirs = _apart(asked, *(f"{place(claim.passage)}\n{claim.sentence}" for claim in (one, other)))
    return not (mine.numbers or theirs.numbers or (one.said.dates and (mine.stems or theirs.stems)))


def _apart(asked: Content, one: str, other: str) -> tuple[Content, Content]:
    """What of the question only the first text holds, and what only the second."""
    first, second = asked & evidence(one), asked & evidence(other)
    return first - second, second - first


def told(
    difference: Difference, passages: Sequence[Passage], readings: Sequence[Reading]
) -> tuple[str, tuple[Citation, ...]]:
    """One sentence with both values and their marks, and the two citations."""
    rows = difference.first, difference.second
    one, other = (passages[row] for row in rows)
    first, second = (f"{read.words(passages[row], readings[row])} [{passages[row].number}]" for row in rows)
    citations = tuple(read.source(passages[row], readings[row]) for row in rows)
    if difference.kind == "conflict":
        return f"Sources differ: {first} {_origin(one, other)} and {second} {_origin(other, one)}.", citations
    when, before = _when(one, other), _when(other, one)
    if when and before and when != before:
        return f"{first} (from the version of {when}; that of {before} said {second}).", citations
    return f"{first} ({_file(one, other)} replaces {_file(other, one)}, which said {second}).", citations


def _origin(passage: Passage, other: Passage) -> str:
    when = _when(passage, other)
    return f"({_file(passage, other)}, {when})" if when else f"({_file(passage, other)})"


def _file(passage: Passage, other: Passage) -> str:
    """The name of the file, with its folder where the other one is named alike."""
    path = PurePosixPath(passage.path)
    return "/".join(path.parts[-2:]) if path.name == PurePosixPath(other.path).name else path.name


def _when(passage: Passage, other: Passage) -> str:
    """The date of a passage as it is written, the year alone where that tells it from the other; "" for none."""
    date, against = versions.date_of(passage), versions.date_of(other)
    if date is None:
        return ""
    return _written((date[0], None, None) if against is None or against[0] != date[0] else date)


def _written(date: Date) -> str:
    year, month, day = date
    if month is None:
        return f"{year}"
    return f"{year}-{month:02}" if day is None else f"{year}-{month:02}-{day:02}"
