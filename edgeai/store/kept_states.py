"""Computed states of passages in a file beside the index, for the next process that shows the same passages.

A cache: whatever is wrong with the file, it is only not used, and it may be deleted at any time. Names are digests made
by whoever computes; that a state still fits its model is up to them. What is known here is which version of which
document a state was computed from: with that version the state goes, and its bytes are overwritten.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw

from edgeai.errors import EdgeAIError, ReadOnly
from edgeai.records import Owner
from edgeai.store.database import create_file

APPLICATION_ID = 0x65644153  # "edAS"; a file of this name that does not have it is not ours and never touched
LAYOUT = 1
PAGE = 16_384  # bytes; a state of 3.6 MB is read in 0.8 ms and checked in 1.4
FORGET_WAIT_MS = 5_000  # for other processes; who answers never waits
HALF_LIFE_S = 7 * 86_400.0  # a use counts half after a week

# The journal is deleted with every commit, so that no copy of what was overwritten stays beside the file.
_TABLES = """
CREATE TABLE states (
    key BLOB PRIMARY KEY,
    maker BLOB NOT NULL,       -- digest of model and library
    path TEXT NOT NULL,        -- of the document
    digest TEXT NOT NULL,      -- of the document's file
    rank REAL NOT NULL,
    checksum INTEGER NOT NULL, -- CRC-32
    state BLOB NOT NULL
) STRICT;
CREATE INDEX states_by_path ON states (path);
"""
# Those of other models first, then by rank.
_EVICT = "DELETE FROM states WHERE key = (SELECT key FROM states ORDER BY maker = ?, rank LIMIT 1)"

Versions = Callable[[str], tuple[float, str] | None]  # modification time and digest of a document in the index


def beside(index: Path) -> Path:
    """The file that belongs to an index; it need not exist."""
    return index.with_name(f"{index.name}-states")


def size(index: Path) -> int:
    """Bytes of the file that belongs to an index, 0 where there is none."""
    return beside(index).stat().st_size if _is_ours(beside(index)) else 0


def forget(index: Path, paths: Iterable[str] | None = None) -> None:
    """Delete all states of these documents, None = of all; with the whole file where that fails, else `ReadOnly`.

    To be called after the index has changed: who writes a state looks first whether its document is still the same,
    and nobody can write in between.
    """
    file = beside(index)
    if not _is_ours(file):
        return
    try:
        with closing(_connect(file, FORGET_WAIT_MS)) as connection, _transaction(connection):
            if paths is None:
                connection.execute("DELETE FROM states")
            else:
                connection.executemany("DELETE FROM states WHERE path = ?", [(path,) for path in paths])
    except apsw.Error:
        discard(index)


def discard(index: Path) -> None:
    """Delete the file that belongs to an index, if there is one; raises `ReadOnly`."""
    file = beside(index)
    try:
        if _is_ours(file):
            file.unlink(missing_ok=True)
            file.with_name(f"{file.name}-journal").unlink(missing_ok=True)
    except OSError as error:
        raise ReadOnly(f"{file} holds parts of documents that have changed; delete it ({error.strerror}).") from error


class KeptStates:
    """States by key, in at most `limit` bytes on the disk; for one thread.

    `versions` says which version of a document the index holds now, or raises where the index is not open. What is used
    most and last stays longest.
    """

    def __init__(self, index: Path, limit: int, versions: Versions) -> None:
        self._index = index
        self._pages = limit // PAGE
        self._versions = versions
        self._connection: apsw.Connection | None = None
        self._keys: set[bytes] = set()
        self._seen = -1  # `data_version` that the keys are of

    def __contains__(self, key: bytes) -> bool:
        return key in self._keys

    def refresh(self) -> None:
        """Open the file if there is one, and learn which states it holds, other processes' among them."""
        with self._spared():
            if self._connection is None and _is_ours(beside(self._index)):
                self._open()
            if self._connection is not None:
                self._read_keys(self._connection)

    def version(self, owner: Owner) -> str:
        """The digest of this version of a document, "" when the index no longer holds it."""
        path, modified = owner
        with self._spared():
            current = self._versions(path)
            return current[1] if current and current[0] == modified else ""
        return ""

    def get(self, key: bytes) -> bytes | None:
        """A state as it was put; None where it is gone or damaged, or another process is writing just now."""
        with self._spared():
            if key in self._keys and self._connection is not None:
                sql = "SELECT state, checksum FROM states WHERE key = ?"
                for state, checksum in self._connection.execute(sql, (key,)).fetchall():
                    if isinstance(state, bytes) and zlib.crc32(state) == checksum:
                        return state
        self._keys.discard(key)
        return None

    def put(self, key: bytes, state: bytes, *, maker: bytes, path: str, digest: str) -> None:
        """Write a state of this version of a document, if that is still the one in the index and there is room."""
        needed = len(state) // (PAGE - 4) + 5  # pages: the blob's own, and those of table, keys, paths and page map
        if needed > self._pages:
            return
        with self._spared():
            connection = self._connection or self._open()
            with _transaction(connection):
                # With the file locked: whoever changes the document from here on calls `forget` after this commit.
                current = self._versions(path)
                if current is None or current[1] != digest or not self._make_room(connection, maker, needed):
                    return
                row = (key, maker, path, digest, _now(), zlib.crc32(state), state)
                connection.execute("INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            self._read_keys(connection)

    def used(self, keys: Iterable[bytes]) -> None:
        """Count a use of each of these states.

        A rank is the logarithm of all uses, each worth half after `HALF_LIFE_S` (LRFU, Lee et al. 2001), counted from a
        fixed time, so that it changes only with use. Size does not matter: what a state saves grows with it.
        """
        keys = [key for key in keys if key in self._keys]
        with self._spared():
            if keys and self._connection is not None:
                with _transaction(self._connection) as connection:
                    for key in keys:
                        rank: Any = connection.execute("SELECT rank FROM states WHERE key = ?", (key,)).get
                        if rank is not None:
                            connection.execute("UPDATE states SET rank = ? WHERE key = ?", (_once_more(rank), key))

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        if self._connection is not None:
            with suppress(apsw.Error):
                self._connection.close()
        self._connection, self._seen = None, -1
        self._keys.clear()

    def _open(self) -> apsw.Connection:
        """Open the file, or make it; what the index no longer holds, and what is too much, goes."""
        file = beside(self._index)
        if not file.exists() or file.stat().st_size == 0:
            create_file(file)
        elif not _is_ours(file):
            raise ReadOnly(f"{file} is not ours; move it away.")
        self._connection = connection = _connect(file, 0)
        with _transaction(connection):
            if connection.pragma("user_version") != LAYOUT:
                _lay_out(connection)
            self._reconcile(connection)
            self._make_room(connection, b"", 0)
        return connection

    def _reconcile(self, connection: apsw.Connection) -> None:
        """Delete what a crash between a change of the index and `forget` left, or an index that was replaced."""
        rows: list[Any] = connection.execute("SELECT DISTINCT path, digest FROM states").fetchall()
        for path, digest in rows:
            current = self._versions(path)
            if current is None or current[1] != digest:
                connection.execute("DELETE FROM states WHERE path = ? AND digest = ?", (path, digest))

    def _make_room(self, connection: apsw.Connection, maker: bytes, needed: int) -> bool:
        """Delete states until so many more pages fit into the limit; False if even all of them were too few."""
        while connection.pragma("page_count") - connection.pragma("freelist_count") + needed > self._pages:
            connection.execute(_EVICT, (maker,))
            if not connection.changes():
                return False
        return True

    def _read_keys(self, connection: apsw.Connection) -> None:
        state = (connection.pragma("data_version"), connection.total_changes())
        if hash(state) != self._seen:
            self._keys = {key for (key,) in connection.execute("SELECT key FROM states")}
            self._seen = hash(state)

    @contextmanager
    def _spared(self) -> Iterator[None]:
        """What goes wrong with the file is nobody's trouble; one that is damaged is made anew."""
        try:
            yield
        except apsw.BusyError:  # the next time, then
            pass
        except (apsw.CorruptError, apsw.NotADBError, apsw.SchemaChangeError, apsw.SQLError):
            self.close()
            with suppress(EdgeAIError):
                discard(self._index)
        except (apsw.Error, EdgeAIError, OSError, ValueError):  # the last one of an index that was closed meanwhile
            self.close()


def _is_ours(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            header = stream.read(100)
    except OSError:
        return False
    return header.startswith(b"SQLite format 3\0") and header[68:72] == APPLICATION_ID.to_bytes(4, "big")


def _connect(file: Path, wait_ms: int) -> apsw.Connection:
    connection = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(wait_ms)
    connection.pragma("page_size", PAGE)  # this and the next count for an empty file only
    connection.pragma("auto_vacuum", "full")
    for name in ("trusted_schema", "cell_size_check", "secure_delete"):  # for reasons see `database`
        connection.pragma(name, name != "trusted_schema")
    return connection


def _lay_out(connection: apsw.Connection) -> None:
    """The tables of an empty file, or of one from another version of edgeai, whose states go."""
    connection.execute("DROP TABLE IF EXISTS states")
    connection.execute(_TABLES)
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", LAYOUT)


@contextmanager
def _transaction(connection: apsw.Connection) -> Iterator[apsw.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _now() -> float:
    """The rank of a state with one use, now."""
    return time.time() / HALF_LIFE_S


def _once_more(rank: float) -> float:
    now = _now()
    return now + math.log2(1 + 2 ** min(rank - now, 60.0))  # a clock that was set back must not overflow
