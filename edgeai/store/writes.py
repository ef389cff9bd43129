"""One document as rows of the index: validated, prepared, inserted, deleted.

Everything here runs inside a transaction of the caller, who decides what belongs together. Text is prepared before
the transaction begins, so that the index is locked for as short a time as possible.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import apsw
import numpy as np

from edgeai.records import Chunk, Document
from edgeai.store.schema import TEXT_PART
from edgeai.text.terms import index_text

if TYPE_CHECKING:
    from edgeai.records import Vectors

NORM_TOLERANCE = 1e-3

INSERT_VECTOR = "INSERT INTO vectors (rowid, embedding) VALUES (?, ?)"
_INSERT_WORDS = "INSERT INTO fts (rowid, context, body) VALUES (?, ?, ?)"
_INSERT_DOCUMENT = """
    INSERT INTO documents (path, type, title, modified, size, digest, label, length) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""


class Entry:
    """A document with its chunks and vectors, ready to be written.

    Raises `ValueError` when a chunk is not a part of the text, or the vectors are not float32 of shape
    (chunks, dimension), finite, of norm 1.
    """

    def __init__(self, document: Document, chunks: Sequence[Chunk], vectors: Vectors, dimension: int) -> None:
        text = document.text
        for chunk in chunks:
            if not 0 <= chunk.start < chunk.end <= len(text) or text[chunk.start : chunk.end] != chunk.text:
                raise ValueError(f"{document.path}: chunk {chunk.start}-{chunk.end} is not a part of the text")
        self.document = document
        self._chunks = [
            (chunk.start, chunk.end, json.dumps(chunk.heading, ensure_ascii=False), chunk.header, chunk.page)
            for chunk in chunks
        ]
        self._words = [words(document.title, chunk) for chunk in chunks]
        self._vectors = [vector.tobytes() for vector in unit_vectors(vectors, (len(chunks), dimension))]

    def insert(self, connection: apsw.Connection) -> None:
        """Write it under new ids; there must be no document of this path."""
        document = self.document
        fields = (document.path, document.type, document.title, document.modified, document.size)
        connection.execute(_INSERT_DOCUMENT, (*fields, document.digest, document.label, len(document.text)))
        document_id = connection.last_insert_rowid()
        _insert_all(connection, "tags", document_id, document.tags)
        parts = range(0, len(document.text), TEXT_PART)
        _insert_all(connection, "texts", document_id, [document.text[at : at + TEXT_PART] for at in parts])
        ids = _new_ids(connection, len(self._chunks))
        connection.executemany(
            "INSERT INTO chunks (id, document_id, start, stop, heading, header, page) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(i, document_id, *chunk) for i, chunk in zip(ids, self._chunks, strict=True)],
        )
        connection.executemany(_INSERT_WORDS, [(i, *both) for i, both in zip(ids, self._words, strict=True)])
        connection.executemany(INSERT_VECTOR, zip(ids, self._vectors, strict=True))


def delete(connection: apsw.Connection, path: str) -> int:
    """Delete a document with all that belongs to it; returns 1, or 0 when there was none."""
    sql = "SELECT chunks.id FROM chunks JOIN documents ON documents.id = chunks.document_id WHERE path = ?"
    ids = connection.execute(sql, (path,)).fetchall()
    connection.executemany("DELETE FROM fts WHERE rowid = ?", ids)
    connection.executemany("DELETE FROM vectors WHERE rowid = ?", ids)
    connection.execute("DELETE FROM documents WHERE path = ?", (path,))  # tags, texts and chunks go with it
    return connection.changes()


def reword(connection: apsw.Connection, title: str, chunks: Sequence[tuple[int, Chunk]]) -> None:
    """Enter the words of a document's chunks again, under another title."""
    connection.executemany("DELETE FROM fts WHERE rowid = ?", [(chunk_id,) for chunk_id, _ in chunks])
    connection.executemany(_INSERT_WORDS, [(chunk_id, *words(title, chunk)) for chunk_id, chunk in chunks])


def words(title: str, chunk: Chunk) -> tuple[str, str]:
    """What the keyword index gets to see of a chunk: (title and headings, table header and text)."""
    return index_text("\n".join((title, *chunk.heading))), index_text(f"{chunk.header}\n{chunk.text}")


def unit_vectors(vectors: Any, shape: tuple[int, int]) -> Vectors:
    """The vectors themselves, or `ValueError`: sqlite-vec 0.1.9 would also take NaN, and cosine needs a norm of 1."""
    array = np.asarray(vectors)
    if array.dtype != np.float32 or array.shape != shape:
        raise ValueError(f"vectors must be float32 of shape {shape}, not {array.dtype} of {array.shape}")
    norms = np.sqrt(np.einsum("ij,ij->i", array, array, dtype=np.float64))
    if not bool(np.all(np.abs(norms - 1.0) <= NORM_TOLERANCE)):  # false for NaN and infinity, too
        raise ValueError("vectors must be finite and of norm 1")
    contiguous: Vectors = np.ascontiguousarray(array)
    return contiguous


def _insert_all(connection: apsw.Connection, table: str, document_id: int, values: Sequence[str]) -> None:
    rows = [(document_id, position, value) for position, value in enumerate(values)]
    connection.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)


def _new_ids(connection: apsw.Connection, count: int) -> range:
    sql = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'chunks'), 0) + 1"
    first: Any = connection.execute(sql).fetchall()[0][0]
    return range(first, first + count)
