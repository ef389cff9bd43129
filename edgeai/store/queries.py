"""The questions SQLite answers: by words, how close given chunks are, and what a chunk's id stands for.

Reading only. Every function that takes `where` sees nothing but the documents it allows, so that a restricted caller
cannot learn of others. Scores of the two searches are on different scales; joining them is the caller's business.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeai.filters import EVERYTHING, Condition, Filter
from edgeai.records import Chunk
from edgeai.store.database import Database, damaged
from edgeai.store.schema import TEXT_PART
from edgeai.terms import index_text

if TYPE_CHECKING:
    from edgeai.records import Vectors

CONTEXT_WEIGHT = 2.0  # of a word in title or headings, for BM25
BODY_WEIGHT = 1.0
# Scoring costs 0.8 us for every chunk that holds a term, reading on without scoring a twentieth of that. So only chunks
# that hold one of the rarest terms are scored, about this many, and more only where they are too few for the list.
SCORED = 10_000
MORE_SCORED = 4  # times as many at every further attempt

_OF_CHUNK = "JOIN chunks ON chunks.id = fts.rowid JOIN documents ON documents.id = chunks.document_id"
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


def matching(
    database: Database,
    terms: Sequence[str],
    *,
    limit: int,
    where: Filter = EVERYTHING,
    frequencies: Mapping[str, int] | None = None,
) -> list[tuple[int, float]]:
    """Chunks that hold any of the terms: (chunk id, BM25 as a positive number), best first.

    With `frequencies`, how many chunks hold each term, chunks that hold only frequent terms may be left out, as long as
    there are `limit` others; scores are the same.
    """
    found: list[tuple[int, float]] = []
    if not quote_terms(terms) or limit < 1:
        return found
    for query, times in keyword_queries(terms, frequencies or {}):
        found = [(row, score / times) for row, score in _ranked(database, query, limit, where)]
        if len(found) >= limit:
            break
    return found


def keyword_queries(terms: Sequence[str], frequencies: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """FTS5 queries that score more and more chunks, up to all that hold a term, each with its factor on BM25.

    FTS5 adds up BM25 over all strings of a query. To require a rare term without counting it more than others, every
    term is written twice: "(rare) AND (rare OR frequent OR frequent)" scores twice what "rare OR frequent" does.
    """
    held = sorted((term for term in terms if frequencies.get(term)), key=lambda term: frequencies[term])
    sums = [*accumulate(frequencies[term] for term in held)]
    room, count = SCORED, 0
    while (count := max(count + 1, bisect_right(sums, room))) < len(held):
        rare, frequent = held[:count], held[count:]
        yield f"({quote_terms(rare)}) AND ({quote_terms((*rare, *frequent, *frequent))})", 2
        room *= MORE_SCORED
    yield quote_terms(terms), 1


def _ranked(database: Database, query: str, limit: int, where: Filter) -> list[tuple[int, float]]:
    condition, values = visible(where)
    join, restriction = (_OF_CHUNK, f"AND {condition}") if condition else ("", "")
    # `ORDER BY rank LIMIT` lets FTS5 sort before anything is joined.
    sql = f"""
        SELECT fts.rowid, -fts.rank FROM fts {join}
        WHERE fts MATCH ? AND fts.rank MATCH 'bm25({CONTEXT_WEIGHT}, {BODY_WEIGHT})' {restriction}
        ORDER BY fts.rank LIMIT ?"""
    return [(row[0], row[1]) for row in database.rows(sql, (query, *values, limit))]


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


def document_frequency(database: Database, terms: Iterable[str], *, where: Filter = EVERYTHING) -> dict[str, int]:
    """For each term, how many chunks hold it."""
    condition, values = visible(where)
    join, restriction = (_OF_CHUNK, f"AND {condition}") if condition else ("", "")
    sql = f"SELECT count(*) FROM fts {join} WHERE fts MATCH ? {restriction}"
    return {term: database.value(sql, (quote_terms((term,)) or '""', *values)) for term in terms}


def quote_terms(terms: Iterable[str]) -> str:
    """The FTS5 query for chunks that hold any of the terms; "" when there is nothing to look for.

    The only way from a user's words into a query. A term becomes one string in the sense of FTS5
    (https://www.sqlite.org/fts5.html#full_text_query_syntax), in which nothing is an operator; it is prepared like
    indexed text, and a term of several words is a phrase.
    """
    prepared = (index_text(term).replace("\0", " ").replace('"', '""') for term in terms)
    encodable = (term.encode(errors="replace").decode() for term in prepared)
    return " OR ".join(f'"{term}"' for term in encodable if term.strip())


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
