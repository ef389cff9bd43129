"""Whether two documents answer a question with values that cannot both be right, and how that is said.

Pure. It rests on the reader's likeliest span of each passage. Two values differ only where `values.differ` says so,
which is rarely: free text is never compared, and a difference between a rule and its exception, or between two things
of one name, is told apart only where the words of the question tell it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from edgeai import read, versions
from edgeai.cite import Content, content, evidence
from edgeai.prompt import place
from edgeai.records import Citation, Passage, Reading
from edgeai.sentences import sentences
from edgeai.values import Date, Values, dates, differ, values

# Fitted on 700 development questions of which 115 have a conflict in their passages and 145 a superseded value
# (benchmarks/conflicts.py): at these floors 6 in 10 of the conflicts are found.
LEAST_CONFIDENCE = 0.5  # that a passage holds the answer, by the reader alone
LEAST_SPAN = 0.1  # that this is its answer
# Names and dates abound, and the reader takes a wrong one more easily than a wrong quantity.
NAME_CONFIDENCE, NAME_SPAN = 0.6, 0.3

_JOINS = re.compile(r"\band\b", re.IGNORECASE)

Kind = Literal["conflict", "superseded"]


@dataclass(frozen=True, slots=True)
class Difference:
    """Two passages, by position, that give different values; where one replaces the other it is the first."""

    kind: Kind
    first: int
    second: int


def find(question: str, passages: Sequence[Passage], readings: Sequence[Reading]) -> Difference | None:
    """The likeliest answer against the next likeliest of another document that contradicts it, None when none does.

    The reader must be nearly sure of both. Nothing is compared where the two may answer different things: a number in
    the question ("in 2023", "model 40") that only one passage holds, words of which each passage holds one that the
    other lacks, or a question that joins two things by "and".
    """
    if not readings or _JOINS.search(question):
        return None
    best = read.chosen(readings)
    asked, said = content(question), _values(passages[best], readings[best])
    if not _sure(said, readings[best]):
        return None
    for row in sorted(range(len(readings)), key=lambda row: (-readings[row].answerable * readings[row].span, row)):
        if (
            passages[row].path != passages[best].path
            and _sure(said, readings[row])
            and differ(said, _values(passages[row], readings[row]))
            and _about_the_same(asked, passages[best], passages[row])
        ):
            return _difference(question, passages, readings, best, row)
    return None


def told(
    difference: Difference, passages: Sequence[Passage], readings: Sequence[Reading]
) -> tuple[str, tuple[Citation, ...]]:
    """One sentence with both values and their marks, and the two citations."""
    rows = difference.first, difference.second
    one, other = (passages[row] for row in rows)
    first, second = (f"{_words(passages[row], readings[row])} [{passages[row].number}]" for row in rows)
    citations = tuple(read.source(passages[row], readings[row]) for row in rows)
    if difference.kind == "conflict":
        return f"Sources differ: {first} {_origin(one, other)} and {second} {_origin(other, one)}.", citations
    when, before = _when(one, other), _when(other, one)
    if when and before and when != before:
        return f"{first} (from the version of {when}; that of {before} said {second}).", citations
    return f"{first} ({_file(one, other)} replaces {_file(other, one)}, which said {second}).", citations


def _difference(
    question: str, passages: Sequence[Passage], readings: Sequence[Reading], best: int, other: int
) -> Difference | None:
    for first, second in ((best, other), (other, best)):
        newer, older = passages[first], passages[second]
        if versions.replaces(newer, _around(newer, readings[first]), older, _around(older, readings[second])):
            return None if _asks_for(question, older, newer) else Difference("superseded", first, second)
    return Difference("conflict", best, other)


def _asks_for(question: str, older: Passage, newer: Passage) -> bool:
    """Whether the question names the year of the older passage and not that of the newer."""
    years = {date[0] for date in dates(question)}
    was, now = versions.date_of(older), versions.date_of(newer)
    return was is not None and was[0] in years and (now is None or now[0] not in years)


def _sure(said: Values, reading: Reading) -> bool:
    confidence = 1 / (1 + math.exp(-read.evidence([reading])))
    if said.dates or said.name:
        return confidence >= NAME_CONFIDENCE and reading.span >= NAME_SPAN
    return confidence >= LEAST_CONFIDENCE and reading.span >= LEAST_SPAN


def _values(passage: Passage, reading: Reading) -> Values:
    return values(passage.text, reading.start, reading.end)


def _about_the_same(asked: Content, one: Passage, other: Passage) -> bool:
    first, second = (asked & evidence(f"{place(passage)}\n{passage.text}") for passage in (one, other))
    mine, theirs = first - second, second - first
    return not (mine.numbers or theirs.numbers or (mine.stems and theirs.stems))


# how it is said ---------------------------------------------------------------------------------------------------


def _words(passage: Passage, reading: Reading) -> str:
    return " ".join(passage.text[reading.start : reading.end].split())


def _around(passage: Passage, reading: Reading) -> str:
    """The sentence with the value."""
    return " ".join(
        passage.text[start:end] for start, end in sentences(passage.text) if start < reading.end and reading.start < end
    )


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
