"""Which cell of a table a question points at: the one in the row and under the column that it names.

A reader sees a table as one line of text, and takes a value from the right row but the wrong column, or the other way
round. Here a row counts by the words it shares with the question, a column by those of its name, each word by how few
others share it, and something is said only where one row stands out: of 79 table questions that no model was trained on
the reader alone finds the cell in 52, and so in 71. Pure; knows tables as `documents` writes them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from edgeai.records import Passage, Reading
from edgeai.text.terms import query_terms, words

ABBREVIATION = 3  # letters of "Wed" for "Wednesday"
SHARED = 4  # letters at the beginning that make "child" of "children"
EMPTY = 0.02  # chance that a passage holds the answer whose cell is empty
PART = 0.5  # of the longer of two words, which those letters must make up at least

_RULE = re.compile(r"[\s|:+=-]+")
_BAR = re.compile(r"(?<!\\)\|")
_LINE = re.compile(r"([\w\[][\w. \[\]-]{0,39}):\s+([^|]+)")
_WHICH = re.compile(  # not "what is the room rate", which asks for the rate
    r"\b(?:which|what)\s+((?:(?!(?:an?|the|of|is|are|was|were|do|does|did|can|has|have|had|will)\b)[\w'’-]+\s+){1,3})",
    re.IGNORECASE,
)
_ASKS_NAME = re.compile(r"\b(?:which|who|whom|whose)\b", re.IGNORECASE)
_NAMED = re.compile(r"\s*([^:|]{1,60}):\s+(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell's text by its offsets in the passage, and the name of its column, "" for none."""

    start: int
    end: int
    text: str
    column: str


Row = tuple[Cell, ...]


def pointed(questions: Sequence[str], passage: Passage, reading: Reading) -> Reading:
    """The reading, with the cell that the questions point at, if it found another one in the same table.

    Where that cell is empty the passage does not hold the answer. What is no cell of a table stays as it is.
    """
    for table in tables(passage):
        if table[0][0].start <= reading.start < table[-1][-1].end:
            cell = cell_of(questions, table, reading.start) or _covered(questions, table, reading)
            if cell and not cell.text:
                return replace(reading, answerable=min(reading.answerable, EMPTY))
            if cell and not cell.start <= reading.start < reading.end <= cell.end:
                return replace(reading, start=cell.start, end=cell.end)
    return reading


def cell_of(questions: Sequence[str], table: Sequence[Row], chosen: int = -1) -> Cell | None:
    """The cell in the row and the column that share most with a question, None where no row stands out.

    For each the first question that makes one stand out decides: "And in France?" names a row, and the column is that
    of the question before. Where none names a column it is that of the cell at the offset `chosen`. The first column
    names the rows, and is meant only by "which" and its name. A cell that is left out has no text.
    """
    asked = _terms(questions)
    if any(_asks_which(question, table[0][0].column) for question in questions):
        row = _first_standing_out(asked, [" ".join(cell.text for cell in row[1:]) for row in table])
        if row is not None:
            return table[row][0]
    named = _named(asked, table)
    here = (cell.column for row in table for cell in row[1:] if cell.start <= chosen < cell.end)
    column = named or next(here, "")
    if not column:
        return None
    row = _first_standing_out(asked, [" ".join(cell.text for cell in row if cell.column != column) for row in table])
    if row is None:
        return _named_by(questions, asked, table, column)
    left_out = Cell(table[row][-1].end, table[row][-1].end, "", column)
    return next((cell for cell in table[row] if cell.column == column), left_out if named else None)


def _named(asked: Sequence[Sequence[str]], table: Sequence[Row]) -> str:
    """The column that the questions name, but for the first, which names the rows; "" for none."""
    columns = list(dict.fromkeys(cell.column for row in table for cell in row[1:] if cell.column))
    place = _first_standing_out(asked, columns)
    return "" if place is None else columns[place]


def _named_by(
    questions: Sequence[str], asked: Sequence[Sequence[str]], table: Sequence[Row], column: str
) -> Cell | None:
    """The name of the row that a value under a column tells, where a question asks for it: "Which is from 1994?"."""
    if not any(map(_ASKS_NAME.search, questions)):
        return None
    values = [" ".join(cell.text for cell in row if cell.column == column) for row in table]
    row = _first_standing_out(asked, values)
    said = {word for one in asked for word in one}
    return table[row][0] if row is not None and words(values[row]) and said.issuperset(words(values[row])) else None


def _covered(questions: Sequence[str], table: Sequence[Row], reading: Reading) -> Cell | None:
    """Of several cells that a span lies over, the one in the column that the questions name."""
    under = [cell for row in table for cell in row if cell.start < reading.end and reading.start < cell.end]
    column = _named(_terms(questions), table) if len(under) > 1 else ""
    return next((cell for cell in under if cell.column and cell.column == column), None)


def tables(passage: Passage) -> Iterator[tuple[Row, ...]]:
    """The tables of a passage with at least one row of values each, records of named lines among them."""
    names: list[str] = _texts(passage.header) if passage.header else []
    rows: list[Row] = []
    for start, line in _lines(passage.text):
        if "|" not in line:
            if rows:
                yield tuple(rows)
            names, rows = [], []
        elif _RULE.fullmatch(line):
            if len(rows) == 1:  # what stood above the rule are names
                names, rows = [cell.text for cell in rows[0]], []
        elif row := _row(line, start, names):
            rows.append(row)
    if rows:
        yield tuple(rows)
    if records := tuple(_records(passage.text)):
        yield records


def _records(text: str) -> Iterator[Row]:
    """Runs of lines "name: value", at least two, as rows."""
    row: list[Cell] = []
    for start, line in [*_lines(text), (len(text), "")]:
        if named := _LINE.fullmatch(line.rstrip()):
            row.append(Cell(start + named.start(2), start + named.end(2), named[2], named[1].strip()))
        elif row:
            if len(row) > 1:
                yield tuple(row)
            row = []


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a text with the offsets they begin at."""
    start = 0
    for line in text.splitlines(keepends=True):
        yield start, line
        start += len(line)


def _row(line: str, start: int, names: Sequence[str]) -> Row:
    cells: list[Cell] = []
    for number, (begin, end) in enumerate(_places(line)):
        text = line[begin:end]
        column = names[number] if number < len(names) else ""
        if not names and (named := _NAMED.fullmatch(text)):  # a record names its values itself
            column, begin, text = named[1].strip(), begin + named.start(2), named[2]
        cells.append(Cell(start + begin, start + end, text, column))
    return tuple(cells)


def _texts(line: str) -> list[str]:
    return [line[begin:end] for begin, end in _places(line)]


def _places(line: str) -> Iterator[tuple[int, int]]:
    """Offsets of the cells of a line, without blanks around them."""
    inner = line.strip().removeprefix("|").removesuffix("|")
    start = line.index(inner)
    for part in _BAR.split(inner):
        text = part.strip()
        begin = start + part.index(text)
        yield begin, begin + len(text)
        start += len(part) + 1


def _terms(questions: Sequence[str]) -> list[tuple[str, ...]]:
    """The words that count of each question, in the form in which they are compared."""
    return [words(" ".join(query_terms(question))) for question in dict.fromkeys(questions)]


def _asks_which(question: str, column: str) -> bool:
    """Whether a question asks which of the things that a column names: "Which ship", "In what room"."""
    wanted = _WHICH.search(question)
    said, named = words(wanted[1]) if wanted else (), words(column)
    return bool(named) and all(any(_akin(word, other) for other in said) for word in named)


def _first_standing_out(asked: Sequence[Sequence[str]], texts: Sequence[str]) -> int | None:
    return next((row for one in asked if (row := _standing_out(one, texts)) is not None), None)


def _standing_out(asked: Sequence[str], texts: Sequence[str]) -> int | None:
    """Position of the one text that shares most with the question, by words that not all texts share."""
    held = [frozenset(words(text)) for text in texts]
    scores = [0.0] * len(texts)
    for word in asked:
        rows = [row for row, found in enumerate(held) if word in found]
        rows = rows or [row for row, found in enumerate(held) if any(_akin(word, other) for other in found)]
        for row in rows:
            scores[row] += math.log((1 + len(texts)) / len(rows))
    best = max(scores, default=0.0)
    return scores.index(best) if best > 0.0 and scores.count(best) == 1 else None


def _akin(word: str, other: str) -> bool:
    """Whether two words are forms of one, or one is short for the other, as far as their letters show."""
    shorter = min(len(word), len(other))
    common = next((i for i in range(shorter) if word[i] != other[i]), shorter)
    if common < ABBREVIATION or not (word + other).isalpha():
        return False
    return common == shorter or common >= max(SHARED, PART * max(len(word), len(other)))
