"""The questions SQLite answers about chunks: how close given ones are, and what a chunk's id stands for.

Reading only. Every function that takes `where` sees nothing but the documents it allows, so that a restricted caller
cannot learn of others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeai.filters import EVERYTHING, Condition, Filter
from edgeai.records import Chunk
from edgeai.store.database import Database, damaged
from edgeai.store.schema import TEXT_PART

if TYPE_CHECKING:
    from edgeai.records import Vectors

_GLOB_SET = re.compile(r"\[(?P<negated>!?+)(?P<members>\]?+[^\]]*)\]|\[")
_ALTERNATIVES = ("path", "type", "title", "label")  # fields with one value: several "=" can only mean "any of"


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk with what is known of its document."""

    chunk_id: int
    chunk: Chunk
    path: str
    title: str
    type: str
    modified: float  # seconds since the epoch


def similarities(
    database: Database, vector: Vectors, chunk_ids: Iterable[int], *, where: Filter = EVERYTHING
) -> dict[int, float]:
    """Cosine of a unit vector with each of these chunks; ids that are gone or not visible are left out."""
    condition, values = visible(where)
    # CROSS JOIN keeps this order: one look-up an id, where `rowid IN (...)` would read all vectors.
    documents = """
        CROSS JOIN chunks ON chunks.id = wanted.value CROSS JOIN documents ON documents.id = chunks.document_id"""
    sql = f"""
        SELECT vectors.rowid, vec_distance_l2(vectors.embedding, ?)
        FROM json_each(?) AS wanted {documents if condition else ""}
        CROSS JOIN vectors ON vectors.rowid = wanted.value WHERE {condition or "true"}"""
    found = database.rows(sql, (vector.tobytes(), _json_ids(chunk_ids), *values))
    if any(distance is None for _, distance in found):  # SQLite's form of what is not a number
        raise damaged(database.path, "a vector is not made of numbers")
    return {row[0]: _cosine(row[1]) for row in found}


def visible_ranges(database: Database, where: Filter) -> list[tuple[int, int]] | None:
    """First and last chunk id of every document a filter allows, in order; None when it allows everything.

    The chunks of a document are written at once and never one by one, so no id between its first and last belongs to
    another document.
    """
    condition, values = visible(where)
    if not condition:
        return None
    found = database.rows(
        "SELECT min(chunks.id), max(chunks.id) FROM documents CROSS JOIN chunks ON chunks.document_id = documents.id "
        f"WHERE {condition} GROUP BY documents.id ORDER BY 1",
        values,
    )
    return [(row[0], row[1]) for row in found]


def hydrate(database: Database, chunk_ids: Iterable[int], *, where: Filter = EVERYTHING) -> dict[int, StoredChunk]:
    """The chunks behind ids, in the order given; ids that are gone or not visible are left out."""
    condition, values = visible(where)
    sql = f"""
        SELECT chunks.id, documents.path, documents.title, documents.type, documents.modified, {CHUNK_COLUMNS}
        FROM json_each(?) AS wanted CROSS JOIN chunks ON chunks.id = wanted.value
        JOIN documents ON documents.id = chunks.document_id WHERE {condition or "true"} ORDER BY wanted.key"""
    found = database.rows(sql, (_json_ids(chunk_ids), *values))
    return {row[0]: StoredChunk(row[0], chunk_from(database.path, row[5:]), *row[1:5]) for row in found}


def vectors(database: Database, chunk_ids: Sequence[int], dimension: int) -> Vectors:
    """The vectors of chunks in the order given, float32, shape (len(chunk_ids), dimension); `KeyError` for others."""
    found = vector_bytes(database, chunk_ids)
    stored = b"".join(found[chunk_id] for chunk_id in chunk_ids)
    return np.frombuffer(stored, np.float32).reshape(len(chunk_ids), dimension)


def vector_bytes(database: Database, chunk_ids: Iterable[int]) -> dict[int, bytes]:
    """The vectors of chunks as they are stored; ids that are gone are left out."""
    sql = """
        SELECT vectors.rowid, vectors.embedding
        FROM json_each(?) AS wanted CROSS JOIN vectors ON vectors.rowid = wanted.value"""
    return {row[0]: row[1] for row in database.rows(sql, (_json_ids(chunk_ids),))}


# Chunks as rows ---------------------------------------------------------------------------------------------------

CHUNK_COLUMNS = f"""
    chunks.start, chunks.stop, chunks.heading, chunks.header, chunks.page,
    (SELECT json_group_array(texts.text ORDER BY texts.part) FROM texts
     WHERE texts.document_id = chunks.document_id
     AND texts.part BETWEEN chunks.start / {TEXT_PART} AND (chunks.stop - 1) / {TEXT_PART})"""


def chunk_from(path: Path, row: Sequence[Any]) -> Chunk:
    """The chunk of a row of `CHUNK_COLUMNS`; raises `IndexUnusable` when the row cannot have been written by us."""
    start, stop, heading, header, page, parts = row
    try:
        offset = start // TEXT_PART * TEXT_PART
        text = "".join(json.loads(parts))[start - offset : stop - offset]
        return Chunk(start, stop, text, tuple(json.loads(heading)), header, page)
    except (TypeError, ValueError) as error:
        raise damaged(path, "a chunk cannot be read") from error


# Filters as SQL ---------------------------------------------------------------------------------------------------


def visible(where: Filter) -> tuple[str, tuple[str | float, ...]]:
    """A filter as an SQL condition on `documents` with its bound values; "" when it allows everything."""
    clauses: list[str] = []
    values: list[str | float] = []
    for clause, bound in _clauses(where):
        clauses.append(clause)
        values += bound
    return " AND ".join(clauses), tuple(values)


def _clauses(where: Filter) -> Iterator[tuple[str, Sequence[str | float]]]:
    if where.labels is not None:
        yield _one_of("label", sorted(where.labels))
    for field in _ALTERNATIVES:
        equals = [c.value for c in where.conditions if (c.field, c.operator) == (field, "=")]
        if equals:
            yield _one_of(field, equals)
    for condition in where.conditions:
        if condition.field not in _ALTERNATIVES or condition.operator != "=":
            yield _clause(condition)


def _one_of(field: str, values: Sequence[str | float]) -> tuple[str, Sequence[str | float]]:
    return f"documents.{field} IN ({', '.join('?' * len(values))})", values


def _clause(condition: Condition) -> tuple[str, Sequence[str | float]]:
    field, operator, value = condition.field, condition.operator, condition.value
    if operator == "~":
        operator, value = "GLOB", sqlite_glob(str(value))
    if field == "tag":
        holds = "" if operator != "!=" else "NOT "
        compare = "=" if operator == "!=" else operator
        return f"documents.id {holds}IN (SELECT document_id FROM tags WHERE tag {compare} ?)", (value,)
    if field == "path" and operator == "GLOB":
        return "(documents.path GLOB ? OR documents.path GLOB ?)", (value, f"*/{value}")
    return f"documents.{field} {operator} ?", (value,)


def sqlite_glob(pattern: str) -> str:
    """A pattern of `fnmatch` in the syntax of SQLite's GLOB: they differ in negated sets and in a "[" left open."""
    return _GLOB_SET.sub(_glob_set, pattern)


def _glob_set(match: re.Match[str]) -> str:
    negated, members = match["negated"], match["members"]
    if members is None:
        return "[[]"
    if negated:
        return f"[^{members}]"
    if members[0] != "^":
        return f"[{members}]"
    if members == "^":
        return "^"
    # "^" must not come first: it is repeated after a member, for a range after the range's end.
    return f"[{members[2]}{members}]" if members[1] == "-" and len(members) > 2 else f"[{members[1:]}^]"


def _json_ids(chunk_ids: Iterable[int]) -> str:
    return json.dumps([int(chunk_id) for chunk_id in chunk_ids])


def _cosine(distance: float) -> float:
    """Of unit vectors, from their Euclidean distance d: 1 - d^2 / 2."""
    return 1.0 - distance * distance / 2.0
