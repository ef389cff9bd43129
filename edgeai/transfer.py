"""An index as JSON Lines, and back.

This is how indexes are exchanged: opening somebody else's SQLite file is not safe, reading lines of JSON is. Vectors
are not carried; they are computed again by whoever imports.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from edgeai.engines import Embedder
from edgeai.errors import UsageProblem
from edgeai.indexing import store_chunked
from edgeai.records import Chunk, Document
from edgeai.store import Store

FORMAT = "edgeai-index-1"


def export_lines(store: Store) -> Iterator[str]:
    """One JSON object a line: first the format, then every document with its text and chunk boundaries."""
    yield json.dumps({"format": FORMAT, "maker": asdict(store.maker)}, ensure_ascii=False)
    for document in store.documents():
        record = asdict(document)
        del record["blocks"]
        record["chunks"] = [_without_text(chunk) for _, chunk in store.chunks_of(document.path)]
        yield json.dumps(record, ensure_ascii=False)


def import_lines(lines: Iterable[str], *, store: Store, embedder: Embedder) -> int:
    """Add every document of an export, replacing those of the same path; returns how many.

    Raises `UsageProblem` naming the line that is not part of an export; batches written before it stay.
    """
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    number, first = next(numbered, (1, "{}"))
    if _object(first, number).get("format") != FORMAT:
        raise UsageProblem(f"Line 1 is not the head of an {FORMAT} file; make one with 'edgeai export FILE'.")
    parsed = (_document(_object(line, number), number) for number, line in numbered)
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more

    store_chunked(parsed, store, embedder, count)
    return done


def _without_text(chunk: Chunk) -> dict[str, Any]:
    record = asdict(chunk)
    del record["text"]
    return record


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UsageProblem(f"Line {number} is not a JSON object; is this a file made by 'edgeai export'?")
    return value


def _document(record: dict[str, Any], number: int) -> tuple[Document, tuple[Chunk, ...]]:
    try:
        text = record["text"]
        document = Document(
            path=str(record["path"]),
            text=text,
            type=str(record["type"]),
            title=str(record["title"]),
            modified=_seconds(record["modified"]),
            digest=str(record["digest"]),
            tags=tuple(map(str, record.get("tags", ()))),
            label=str(record.get("label", "")),
            size=_whole(record.get("size", 0)),
        )
        chunks = tuple(_chunk(part, text) for part in record["chunks"])
        json.dumps(record, ensure_ascii=False).encode()  # JSON can hold lone surrogates, an index cannot
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UsageProblem(f"Line {number} is not an exported document ({error!r}); export again.") from None
    return document, chunks


def _chunk(part: dict[str, Any], text: str) -> Chunk:
    start, end = int(part["start"]), int(part["end"])
    if not 0 <= start < end <= len(text):
        raise ValueError(f"chunk {start}-{end} lies outside the text")
    heading = tuple(map(str, part.get("heading", ())))
    page = part.get("page")
    header = str(part.get("header", ""))
    return Chunk(start, end, text[start:end], heading, header, None if page is None else _whole(page))


def _whole(value: Any) -> int:
    number = int(value)
    if not 0 <= number < 1 << 63:  # what SQLite can store
        raise ValueError(f"{number} is no size and no page")
    return number


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError(f"{seconds} is no time")
    return seconds
