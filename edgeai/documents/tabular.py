"""Data files to records that can be read on their own: rows of CSV and TSV, items of JSON and JSON Lines.

Guesses the delimiter and whether the first row names the columns; knows no schema and no units.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any

from edgeai.documents.extracted import Extracted, Part, assemble
from edgeai.errors import DocumentUnreadable

_SNIFFED = 1 << 15  # characters the delimiter is guessed from
_DELIMITERS = ",;\t|"
_YEAR = re.compile(r"(?:19|20)\d\d")
_NUMBER = re.compile(r"[-+]?[\d.,]*\d[\d.,]*%?")


def table(text: str, *, tabs: bool = False) -> Extracted:
    """One record a row, "column: value | column: value"; cells without a value are left out.

    Raises `DocumentUnreadable` when the text is not a table.
    """
    try:
        rows = [
            row for row in csv.reader(io.StringIO(text, newline=""), _dialect(text, tabs)) if any(map(str.strip, row))
        ]
    except csv.Error as error:
        raise DocumentUnreadable(f"not a readable table: {error}") from error
    if not rows:
        return Extracted("", ())
    names, body = (rows[0], rows[1:]) if _is_header(rows) else ([], rows)
    return assemble((Part("record", _row(names, row)) for row in body or [names]), separator="\n")


def _dialect(text: str, tabs: bool) -> type[csv.Dialect] | str:
    if tabs:
        return "excel-tab"
    try:
        # Whole lines only: half a quoted cell at the end misleads the guess.
        return csv.Sniffer().sniff(text[:_SNIFFED].rpartition("\n")[0] or text[:_SNIFFED], _DELIMITERS)
    except csv.Error:
        return "excel"


def _is_header(rows: list[list[str]]) -> bool:
    """Names differ from each other and are no numbers, except years above values that are none."""
    named = [(column, cell.strip()) for column, cell in enumerate(rows[0]) if cell.strip()]
    numbers = [column for column, cell in named if _NUMBER.fullmatch(cell)]
    return (
        len(rows) > 1
        and len(named) == len({cell for _, cell in named})
        and len(numbers) < len(named)
        and all(_is_year(rows[0][column]) and not _are_years(rows[1:], column) for column in numbers)
    )


def _is_year(cell: str) -> bool:
    return _YEAR.fullmatch(cell.strip()) is not None


def _are_years(rows: list[list[str]], column: int) -> bool:
    cells = [row[column] for row in rows if column < len(row) and row[column].strip()]
    return all(map(_is_year, cells))


def _row(names: list[str], row: list[str]) -> str:
    cells = []
    for index, value in enumerate(row):
        value = " ".join(value.split())
        name = " ".join(names[index].split()) if index < len(names) else ""
        if value:
            cells.append(f"{name}: {value}" if name else value)
    return " | ".join(cells)


def lines(text: str) -> Extracted:
    """One record a line of JSON. Raises `ValueError` when a line is not JSON."""
    items = [json.loads(line) for line in text.split("\n") if line.strip()]
    return assemble(Part("record", _record(item)) for item in items)


def tree(text: str) -> Extracted:
    """One record an item of a list or a member of an object. Raises `ValueError` when the text is not JSON."""
    value = json.loads(text)
    return assemble(Part("record", record) for record in _records(value, ""))


def _records(value: Any, name: str) -> Iterator[str]:
    """Lists of objects give one record each, and so do the members of an object that hold more than one value."""
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        yield from (_record(item, name) for item in value)
    elif isinstance(value, dict):
        plain = {key: item for key, item in value.items() if not isinstance(item, dict | list)}
        yield _record(plain, name)
        for key, item in value.items():
            if isinstance(item, dict | list):
                yield from _records(item, f"{name}.{key}" if name else str(key))
    else:
        yield _record(value, name)


def _record(value: Any, name: str = "") -> str:
    return "\n".join(_fields(value, name))


def _fields(value: Any, name: str) -> Iterator[str]:
    """Lines "name: value", the names of nested members dotted."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _fields(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for item in value:
            yield from _fields(item, name)
    elif isinstance(value, list):
        yield from _fields(", ".join(filter(None, map(_scalar, value))), name)
    elif said := _scalar(value):
        yield f"{name}: {said}" if name else said


def _scalar(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    return json.dumps(value)
