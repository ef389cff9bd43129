"""Whether an index is whole: the file, its keyword index and its vectors, and that they speak of the same chunks.

It cannot tell that a text is what the file on disk says, nor that a vector is what the embedder would give; only
building the index again can.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeai.errors import IndexUnusable
from edgeai.store import keywords, queries
from edgeai.store.database import Database
from edgeai.store.schema import TEXT_PART
from edgeai.store.writes import NORM_TOLERANCE
from edgeai.text.terms import query_terms

SAMPLED_CHUNKS = 100  # of the index, whose words are looked up
BATCH = 1000  # vectors in memory at a time

# What would be wrong, and a query for what must not be there. `fts_docsize` and `vectors_rowids` are the tables in
# which FTS5 and sqlite-vec keep the ids they hold.
_MUST_BE_EMPTY = (
    ("rows that belong to no document", "PRAGMA foreign_key_check"),
    ("chunks missing from the keyword index", "SELECT id FROM chunks EXCEPT SELECT id FROM fts_docsize"),
    ("keyword entries without a chunk", "SELECT id FROM fts_docsize EXCEPT SELECT id FROM chunks"),
    ("chunks without a vector", "SELECT id FROM chunks EXCEPT SELECT rowid FROM vectors_rowids"),
    ("vectors without a chunk", "SELECT rowid FROM vectors_rowids EXCEPT SELECT id FROM chunks"),
    (
        "chunks outside of their document's text",
        "SELECT chunks.id FROM chunks JOIN documents ON documents.id = document_id "
        "WHERE start < 0 OR start >= stop OR stop > length",
    ),
)


def problems(database: Database, dimension: int) -> list[str]:
    """Everything found wrong, in sentences for the user; reads the whole index."""
    try:
        found = [*_damage(database)]
        found += [f"There are {what} ({count})." for what, count in _counts(database, dimension) if count]
    except IndexUnusable as error:
        return [str(error)]
    return found


def _damage(database: Database) -> Iterator[str]:
    """SQLite's own check, which includes that of FTS5."""
    for (finding,) in database.rows("PRAGMA integrity_check"):
        if finding != "ok":
            yield f"SQLite reports: {finding}."


def _counts(database: Database, dimension: int) -> Iterator[tuple[str, int]]:
    for what, sql in _MUST_BE_EMPTY:
        yield what, len(database.rows(sql))
    yield "documents whose text has gaps", _incomplete_texts(database)
    yield "vectors that a search does not see, or sees twice", _unsearchable_vectors(database)
    yield "vectors that are missing or not of norm 1", _bad_vectors(database, dimension)
    yield f"chunks among {SAMPLED_CHUNKS} tried that are not found by their words", _unfindable_chunks(database)


def _incomplete_texts(database: Database) -> int:
    def complete(document_id: int, length: int) -> bool:
        rows = database.rows("SELECT text FROM texts WHERE document_id = ? ORDER BY part", (document_id,))
        lengths = [len(text) for (text,) in rows]
        return sum(lengths) == length and all(part == TEXT_PART for part in lengths[:-1])

    return sum(not complete(*row) for row in database.rows("SELECT id, length FROM documents"))


def _unsearchable_vectors(database: Database) -> int:
    """Searches walk blocks of vectors, look-ups go by id: sqlite-vec keeps both orders, and they must be the same."""
    blocks = "SELECT chunk_id, validity, rowids FROM vectors_chunks"
    searched = [entry for row in database.rows(blocks) for entry in _entries(*row)]
    looked_up = database.rows("SELECT chunk_id, chunk_offset, rowid FROM vectors_rowids")
    return len(set(searched) ^ set(looked_up)) + len(searched) - len(set(searched))


def _entries(block: int, validity: bytes, rowids: bytes) -> Iterator[tuple[int, int, int]]:
    """(block, position, id) of the vectors of one block; a set bit of `validity` marks a position in use."""
    used = np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little")
    ids = np.frombuffer(rowids, "<i8")
    return ((block, int(position), int(ids[position])) for position in np.flatnonzero(used))


def _bad_vectors(database: Database, dimension: int) -> int:
    ids = [row[0] for row in database.rows("SELECT rowid FROM vectors_rowids ORDER BY rowid")]
    bad = 0
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        stored = [vector for vector in queries.vector_bytes(database, batch).values() if len(vector) == 4 * dimension]
        vectors = np.frombuffer(b"".join(stored), np.float32).reshape(len(stored), dimension)
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        good = int(np.count_nonzero(np.abs(norms - 1.0) <= NORM_TOLERANCE))  # NaN is within no tolerance
        bad += len(batch) - good
    return bad


def _unfindable_chunks(database: Database) -> int:
    total = database.value("SELECT count(*) FROM chunks")
    step = max(1, total // SAMPLED_CHUNKS)
    numbered = "SELECT id, row_number() OVER (ORDER BY id) AS number FROM chunks"
    ids = [row[0] for row in database.rows(f"SELECT id FROM ({numbered}) WHERE number % ? = 0", (step,))]
    lost = 0
    for chunk_id, stored in queries.hydrate(database, ids).items():
        # ASCII: Python and FTS5 know different versions of Unicode, so that they may split and fold others differently.
        terms = [term for term in query_terms(stored.chunk.text) if term.isascii()]
        sql = "SELECT count(*) FROM fts WHERE fts MATCH ? AND rowid = ?"
        lost += any(not database.value(sql, (keywords.quote_terms((term,)), chunk_id)) for term in terms)
    return lost
