"""The index: documents, their chunks, keyword entries and vectors in one SQLite file that always agree.

A document is written in one transaction over all of them and is safe once the call returns. The store trusts its
callers for what a chunk is and what a vector means; it checks only that they are well formed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeai.errors import EmbedderMismatch, IndexMissing, PathNotFound
from edgeai.filters import EVERYTHING, Filter
from edgeai.records import Chunk, Document
from edgeai.store import files, integrity, kept_states, keywords, queries, schema
from edgeai.store.database import Database, create_file, damaged
from edgeai.store.files import FileState
from edgeai.store.queries import StoredChunk
from edgeai.store.vectors import VectorMemory
from edgeai.store.writes import Entry, delete, reword, unit_vectors

if TYPE_CHECKING:
    from edgeai.records import Vectors

__all__ = ["FileState", "Maker", "Store", "StoredChunk"]


@dataclass(frozen=True, slots=True)
class Maker:
    """What an index was built with; vectors and offsets of another maker mean something else."""

    embedder: str
    digest: str  # SHA-256 of the embedder's model file
    dimension: int
    chunker: str


class Store:
    """One index file; open it with `Store.open`. May be used from several threads, not across `fork`.

    `visible_to` gives a store whose reading half knows only the documents with certain access labels.
    """

    def __init__(self, database: Database, maker: Maker) -> None:
        self._database = database
        self._maker = maker
        self._memory = VectorMemory(database, maker.dimension)
        self._frequencies = keywords.Frequencies(database)
        self._seen = EVERYTHING

    # opening ----------------------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: Path | str, *, maker: Maker | None, create: bool = True, read_only: bool = False) -> Store:
        """Open the index at `path`, or make an empty one when there is none.

        `maker` must be what the index was built with; None opens any index and creates none. On a read-only place an
        index opens for searching even without `read_only`. Raises `IndexMissing`, `IndexUnusable` (not an index,
        damaged, or from a newer edgeai), `EmbedderMismatch`, `IndexBusy`, `DiskFull`, `ReadOnly`.
        """
        path = Path(path).expanduser().absolute()
        if not schema.exists(path):
            if maker is None or read_only or not create:
                raise IndexMissing(f"There is no index at {path}; make one with `edgeai sync FOLDER`.")
            kept_states.forget(path)  # of an index that was here before
            create_file(path)
        database = Database(path, read_only=read_only)
        try:
            return cls(database, _prepare(database, maker))
        except BaseException:
            database.close()
            raise

    @staticmethod
    def exists(path: Path | str) -> bool:
        """Whether there is an index at `path`; raises `IndexUnusable` for any other file there."""
        return schema.exists(Path(path))

    @property
    def maker(self) -> Maker:
        """What the index was built with."""
        return self._maker

    def visible_to(self, labels: frozenset[str]) -> Store:
        """The same open index, of which only documents with these access labels can be read ("" = without one).

        Whatever is counted, listed, searched or looked up here counts, lists and finds no others; only the ranking of
        keywords weighs words by how frequent they are in all documents. Writing is not restricted. Closing either
        closes both.
        """
        restricted = copy(self)
        restricted._seen = self._narrowed(Filter(labels=labels))
        return restricted

    def close(self) -> None:
        """Close the file, once other threads are done with the query or the write they are in."""
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # writing ----------------------------------------------------------------------------------------------------------

    def put(self, document: Document, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Write a document in place of any earlier version; `vectors`: float32, shape (chunks, dimension), norm 1.

        When this returns, the document survives a crash; when it raises, the index is as before. Raises `ValueError`
        for chunks or vectors that do not fit, `IndexBusy`, `DiskFull`, `ReadOnly`, `IndexUnusable`.
        """
        self.put_many([(document, chunks, vectors)])

    def put_many(self, batch: Sequence[tuple[Document, Sequence[Chunk], Vectors]]) -> None:
        """`put` for several documents in one transaction: all of them or none."""
        entries = [Entry(document, chunks, vectors, self._maker.dimension) for document, chunks, vectors in batch]
        with self._database.transaction() as connection:
            for entry in entries:
                delete(connection, entry.document.path)
                entry.insert(connection)
        kept_states.forget(self._database.path, [entry.document.path for entry in entries])

    def move(self, old_path: str, new_path: str, *, modified: float, title: str | None = None) -> None:
        """Give a document a new path, modification time and, unless None, title, without embedding it again.

        A document already at `new_path` is replaced. Raises `PathNotFound` when there is none at `old_path`.
        """
        with self._database.transaction() as connection:
            if new_path != old_path:
                delete(connection, new_path)
            sql = "UPDATE documents SET path = ?, modified = ?, title = coalesce(?, title) WHERE path = ?"
            connection.execute(sql, (new_path, modified, title, old_path))
            if not connection.changes():
                raise _unknown(old_path)
            if title is not None:
                reword(connection, title, self.chunks_of(new_path))
        kept_states.forget(self._database.path, [old_path, new_path])

    def touch(self, path: str, *, modified: float, size: int) -> None:
        """Note a new modification time and size of a file with the same content; `PathNotFound` when unknown."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE documents SET modified = ?, size = ? WHERE path = ?", (modified, size, path))
            if not connection.changes():
                raise _unknown(path)

    def remove(self, paths: Iterable[str]) -> int:
        """Delete documents in one transaction; returns how many there were."""
        paths = list(paths)
        with self._database.transaction() as connection:
            removed = sum(delete(connection, path) for path in paths)
        kept_states.forget(self._database.path, paths)
        return removed

    def set_boilerplate(self, keys: Iterable[str]) -> None:
        """Remember the keys of blocks that repeat across documents."""
        value = json.dumps(sorted(keys))
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('boilerplate', ?)", (value,))

    def set_notes(self, notes: Mapping[str, Any]) -> None:
        """Remember values that JSON can hold, by name and all at once; None forgets one."""
        with self._database.transaction() as connection:
            for name, value in notes.items():
                connection.execute("DELETE FROM meta WHERE key = ?", (f"note {name}",))
                if value is not None:
                    connection.execute("INSERT INTO meta VALUES (?, ?)", (f"note {name}", json.dumps(value)))

    def vacuum(self) -> None:
        """Give free space back to the disk, and leave no trace of what was removed in the file or its log.

        Takes time and free space in proportion to the index; searches go on meanwhile. Raises `IndexBusy` when
        another process reads or writes.
        """
        with self._database.transaction() as connection:
            schema.compact(connection, self._maker.dimension)
        self._database.vacuum()

    # reading ----------------------------------------------------------------------------------------------------------

    def files(self) -> dict[str, FileState]:
        """All documents by path."""
        rows = self._rows(
            """SELECT path, digest, size, modified, type, label,
                (SELECT count(*) FROM chunks WHERE document_id = documents.id),
                (SELECT json_group_array(tag ORDER BY position) FROM tags WHERE document_id = documents.id)
            FROM documents""",
            order="path",
        )
        return {row[0]: files.file_state(self._database.path, row) for row in rows}

    def document(self, path: str) -> Document | None:
        """The document at `path` with its text, without `blocks`; None when there is none."""
        rows = self._rows(f"SELECT {files.DOCUMENT_COLUMNS} FROM documents", path=path)
        return files.document(self._database.path, rows[0]) if rows else None

    def documents(self) -> Iterator[Document]:
        """All documents in the order of their paths, read one by one."""
        for (path,) in self._rows("SELECT path FROM documents", order="path"):
            document = self.document(path)
            if document is not None:  # removed since the listing
                yield document

    def version(self, path: str) -> tuple[float, str] | None:
        """Modification time and digest of the document at `path`, visible or not; None when there is none."""
        rows = self._database.rows("SELECT modified, digest FROM documents WHERE path = ?", (path,))
        return rows[0] if rows else None

    def chunks_of(self, path: str) -> tuple[tuple[int, Chunk], ...]:
        """(chunk id, chunk) of a document in reading order."""
        rows = self._rows(
            f"SELECT chunks.id, {queries.CHUNK_COLUMNS} FROM chunks JOIN documents ON documents.id = document_id",
            path=path,
            order="chunks.start, chunks.id",
        )
        return tuple((row[0], queries.chunk_from(self._database.path, row[1:])) for row in rows)

    def boilerplate(self) -> frozenset[str]:
        """The keys last given to `set_boilerplate`; raises `IndexUnusable` when they cannot be read."""
        rows = self._database.rows("SELECT value FROM meta WHERE key = 'boilerplate'")
        try:
            return frozenset(json.loads(rows[0][0]) if rows else ())
        except (TypeError, ValueError) as error:
            raise damaged(self._database.path, "the list of repeated blocks cannot be read") from error

    def note(self, name: str) -> Any:
        """What `set_notes` was last given under this name, else None; raises `IndexUnusable` for what is damaged."""
        rows = self._database.rows("SELECT value FROM meta WHERE key = ?", (f"note {name}",))
        try:
            return json.loads(rows[0][0]) if rows else None
        except (TypeError, ValueError) as error:
            raise damaged(self._database.path, f"its {name} cannot be read") from error

    def count_documents(self) -> int:
        """How many documents there are."""
        return int(self._rows("SELECT count(*) FROM documents")[0][0])

    def count_chunks(self) -> int:
        """How many chunks there are."""
        joined = "" if self._seen == EVERYTHING else "JOIN documents ON documents.id = document_id"
        return int(self._rows(f"SELECT count(*) FROM chunks {joined}")[0][0])

    def stamp(self) -> tuple[int, int]:
        """Two numbers that change with anything in the index; only those of one thread can be compared."""
        return self._database.stamp()

    def status(self) -> dict[str, Any]:
        """Counts, sizes and versions, ready for JSON; `bytes` includes SQLite's log."""
        path = self._database.path
        log = path.with_name(path.name + "-wal")
        types = self._rows("SELECT type, count(*) FROM documents", order="type", group="type")
        return {
            "path": str(path),
            "documents": self.count_documents(),
            "chunks": self.count_chunks(),
            "bytes": path.stat().st_size + (log.stat().st_size if log.exists() else 0),
            "kept_states_bytes": kept_states.size(path),
            "types": dict(types),
            "maker": asdict(self._maker),
            "layout": schema.VERSION,
            "read_only": self._database.read_only,
            "sqlite": self._database.value("SELECT sqlite_version()"),
            "sqlite_vec": self._database.value("SELECT vec_version()"),
        }

    def check(self) -> list[str]:
        """Everything found wrong with the index, in sentences; empty when text, keywords and vectors agree."""
        return integrity.problems(self._database, self._maker.dimension)

    # searching --------------------------------------------------------------------------------------------------------

    def matching(
        self,
        terms: Sequence[str],
        *,
        limit: int,
        where: Filter = EVERYTHING,
        frequencies: Mapping[str, int] | None = None,
    ) -> list[tuple[int, float]]:
        """Chunks that hold any of the terms: (chunk id, BM25 as a positive number), best first.

        With `frequencies` (as from `document_frequency`) a large index is not scored as a whole: the most frequent
        terms may not count, and chunks that hold no other be left out (`edgeai.store.keywords`).
        """
        return keywords.matching(
            self._database, terms, limit=limit, where=self._narrowed(where), frequencies=frequencies
        )

    def nearest(self, vector: Vectors, *, limit: int, where: Filter = EVERYTHING) -> list[tuple[int, float]]:
        """Chunks closest to a unit vector, float32, shape (dimension,): (chunk id, cosine), best first.

        Exact up to about 30,000 chunks; beyond, single ones may be missed (`edgeai.store.vectors`). Cosines are exact.
        Raises `ValueError` for a vector that does not fit.
        """
        return self._memory.nearest(self._query(vector), limit=limit, where=self._narrowed(where))

    def load_vectors(self) -> None:
        """Bring what `nearest` keeps in memory up to date now, so that the next search need not wait for it."""
        self._memory.load()

    def similarities(
        self, vector: Vectors, chunk_ids: Iterable[int], *, where: Filter = EVERYTHING
    ) -> dict[int, float]:
        """Cosine of a unit vector with each of these chunks; ids that are gone or not visible are left out."""
        return queries.similarities(self._database, self._query(vector), chunk_ids, where=self._narrowed(where))

    def hydrate(self, chunk_ids: Iterable[int], *, where: Filter = EVERYTHING) -> dict[int, StoredChunk]:
        """The chunks behind ids, in the order given; ids that are gone or not visible are left out."""
        return queries.hydrate(self._database, chunk_ids, where=self._narrowed(where))

    def document_frequency(self, terms: Iterable[str], *, where: Filter = EVERYTHING) -> dict[str, int]:
        """For each term, how many chunks hold it."""
        return self._frequencies.of(terms, self._narrowed(where))

    def vectors(self, chunk_ids: Sequence[int]) -> Vectors:
        """The vectors of chunks in the order given, float32, shape (len(chunk_ids), dimension).

        Raises `KeyError` for an id that is not in the index.
        """
        if self._seen != EVERYTHING and (hidden := set(chunk_ids) - set(self.hydrate(chunk_ids))):
            raise KeyError(min(hidden))
        return queries.vectors(self._database, chunk_ids, self._maker.dimension)

    def _narrowed(self, where: Filter) -> Filter:
        """A filter that allows nothing this store may not see."""
        mine = self._seen.labels
        if mine is None or where.labels is None:
            return where if mine is None else replace(where, labels=mine)
        return replace(where, labels=mine & where.labels)

    def _rows(self, select: str, *, path: str | None = None, group: str = "", order: str = "") -> list[tuple[Any, ...]]:
        """The rows of a query on `documents` that this store may see, of one path or all."""
        condition, values = queries.visible(self._seen)
        clauses = [*([condition] if condition else []), *(["path = ?"] if path is not None else [])]
        sql = f"{select} {'WHERE ' if clauses else ''}{' AND '.join(clauses)}"
        sql += (f" GROUP BY {group}" if group else "") + (f" ORDER BY {order}" if order else "")
        return self._database.rows(sql, (*values, *([path] if path is not None else [])))

    def _query(self, vector: Vectors) -> Vectors:
        checked: Vectors = unit_vectors(np.asarray(vector)[np.newaxis], (1, self._maker.dimension))[0]
        return checked


def _prepare(database: Database, maker: Maker | None) -> Maker:
    """Bring the file's layout up to date and return what the index was built with, which has to be `maker`."""
    version = database.value("PRAGMA user_version")
    schema.check_version(database.path, version)
    if version < schema.VERSION:
        with database.transaction() as connection:
            version = connection.pragma("user_version")  # another process may have been faster
            if version == 0 and maker is not None:
                schema.migrate(connection, 0, maker.dimension)
                connection.execute("INSERT INTO meta VALUES ('maker', ?)", (json.dumps(asdict(maker)),))
            elif version < schema.VERSION:
                schema.migrate(connection, version, 0)
    if not database.read_only:
        database.use_log()
    recorded = _recorded_maker(database)
    if maker not in (None, recorded):
        raise EmbedderMismatch(
            f"{database.path} was built with {_named(recorded)}, not with {_named(maker)}; "
            f"run `edgeai sync FOLDER --rebuild --index {database.path}`, or choose the embedder it was built with."
        )
    return recorded


def _recorded_maker(database: Database) -> Maker:
    rows = database.rows("SELECT value FROM meta WHERE key = 'maker'")
    try:
        return Maker(**json.loads(rows[0][0]))
    except (IndexError, TypeError, ValueError) as error:
        raise damaged(database.path, "it does not say what it was built with") from error


def _named(maker: Maker | None) -> str:
    return "" if maker is None else f"{maker.embedder} ({maker.digest[:12]}, chunker {maker.chunker})"


def _unknown(path: str) -> PathNotFound:
    return PathNotFound(f"{path} is not in the index; add it with `edgeai sync`.")
