"""One SQLite file, used safely: its connections, its transactions, and what SQLite's errors mean to a user.

It does not know which tables there are. Every thread gets its own connection; writes of one process wait for each
other here, those of several processes in SQLite. It cannot protect against a disk that loses what it has synced.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import sqlite_vec

from edgeai.errors import DiskFull, EdgeAIError, EngineMissing, IndexBusy, IndexUnusable, ReadOnly

BUSY_TIMEOUT_MS = 30_000

# synchronous=FULL: in WAL mode a commit is on the disk when COMMIT returns. trusted_schema, cell_size_check: a damaged
# file must not run functions or send SQLite outside of a page. secure_delete: what is deleted is overwritten.
_PRAGMAS = """
PRAGMA synchronous = FULL;
PRAGMA foreign_keys = ON;
PRAGMA trusted_schema = OFF;
PRAGMA cell_size_check = ON;
PRAGMA secure_delete = ON;
PRAGMA mmap_size = 0;
"""

_REBUILD = "build it again from your files with `edgeai sync FOLDER --rebuild --index {path}`"
_CLOSED = "{path} was closed while it was in use; open it again."
# Exception class of SQLite, ours, and the sentence; the first that fits counts.
_MEANINGS: tuple[tuple[type[apsw.Error], type[EdgeAIError], str], ...] = (
    (apsw.BusyError, IndexBusy, "{path} is being written by another process; try again when it is done."),
    (apsw.LockedError, IndexBusy, "{path} is being written by another process; try again when it is done."),
    (apsw.FullError, DiskFull, "The disk is full, nothing of this step was written to {path}; free some space."),
    (apsw.ReadOnlyError, ReadOnly, "{path} is on a read-only place; copy it to a writable one to change it."),
    (apsw.NoMemError, IndexUnusable, "There is not enough memory to use {path}; close other programs."),
    (apsw.IOError, IndexUnusable, "{path} cannot be read or written ({error}); check the disk, then " + _REBUILD + "."),
    (apsw.CantOpenError, IndexUnusable, "{path} cannot be opened ({error}); check the permissions of its folder."),
    (apsw.ConnectionClosedError, IndexUnusable, _CLOSED),
    (apsw.ThreadingViolationError, IndexUnusable, _CLOSED),  # threads share a connection only while one closes it
    (apsw.Error, IndexUnusable, "{path} is damaged ({error}); " + _REBUILD + "."),
)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise the error of `edgeai.errors` that says what an error of SQLite means for the index at `path`."""
    try:
        yield
    except apsw.Error as error:
        ours, sentence = next((ours, text) for theirs, ours, text in _MEANINGS if isinstance(error, theirs))
        raise ours(sentence.format(path=path, error=error)) from error
    except UnicodeDecodeError as error:
        raise damaged(path, "a text is not UTF-8") from error


def damaged(path: Path, what: str) -> IndexUnusable:
    """The error for content that SQLite reads well but that cannot be what was written."""
    return IndexUnusable(f"{path} is damaged ({what}); {_REBUILD.format(path=path)}.")


def create_file(path: Path) -> None:
    """Make an empty file that only this user can read, with its folders; SQLite's side files take over its mode.

    Raises `IndexUnusable`, `DiskFull` or `ReadOnly`.
    """
    try:
        for folder in reversed([folder for folder in path.parents if not folder.exists()]):
            folder.mkdir(mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except (FileExistsError, NotADirectoryError) as error:
        raise IndexUnusable(f"{path} cannot be made, a part of it is a file; name another place.") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"The disk is full, {path} was not made; free some space.") from error
        raise ReadOnly(f"{path} cannot be made ({error.strerror}); name a writable place for the index.") from error


class Database:
    """A SQLite file with the vector extension; see `rows` and `transaction`. Close it in the end."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only or not _writable(path)
        self._process = os.getpid()
        self._connections: dict[threading.Thread, apsw.Connection] = {}
        self._registry_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._closed = False

    def rows(self, sql: str, bindings: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with translated(self.path):
            return self.connection().execute(sql, bindings).fetchall()

    def value(self, sql: str, bindings: Sequence[Any] = ()) -> Any:
        """The first column of the only row of a query."""
        return self.rows(sql, bindings)[0][0]

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All queries of this block, on this thread, see one state of the index."""
        with translated(self.path), self.connection():
            yield

    def stamp(self) -> tuple[int, int]:
        """Two numbers that change for this thread when anything in the file was changed, by whomever."""
        with translated(self.path):
            connection = self.connection()
            return int(connection.pragma("data_version")), connection.total_changes()

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """A write transaction: committed and synced to disk when the block ends, undone when it raises."""
        with self.writing() as connection:
            connection.execute("BEGIN IMMEDIATE")  # a read that turns into a write could not wait for another writer
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def use_log(self) -> None:
        """Write through a log (WAL), so that readers and a writer do not wait for each other; stays with the file."""
        with self.writing() as connection:
            connection.pragma("journal_mode", "wal")

    @contextmanager
    def writing(self) -> Iterator[apsw.Connection]:
        """This thread's connection while no other thread of this process writes; raises `ReadOnly`."""
        if self.read_only:
            raise ReadOnly(f"{self.path} is open for searching only; copy it to a writable place to change it.")
        with self._write_lock, translated(self.path):
            yield self.connection()

    def connection(self) -> apsw.Connection:
        """This thread's connection, opened when it is first needed; raises `RuntimeError` in a forked child."""
        if os.getpid() != self._process:
            raise RuntimeError(f"{self.path} was opened before fork(); open it again in the new process")
        thread = threading.current_thread()
        return self._connections.get(thread) or self._connect(thread)

    def vacuum(self) -> None:
        """Write the file anew without free space, and empty the log."""
        with self.writing() as connection:
            connection.execute("VACUUM")
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def close(self) -> None:
        """Close all connections, once other threads are done with the query or the transaction they are in.

        In a forked child this does nothing to the file: SQLite forbids even closing an inherited connection.
        """
        self._closed = True
        if os.getpid() != self._process:
            return
        with self._write_lock, self._registry_lock, translated(self.path):
            while self._connections:
                _close(self._connections.popitem()[1])

    def _connect(self, thread: threading.Thread) -> apsw.Connection:
        with self._registry_lock, translated(self.path):
            if self._closed:
                raise ValueError(f"the index {self.path} was closed")
            for ended in [known for known in self._connections if not known.is_alive()]:
                self._connections.pop(ended).close()
            connection = _open(self.path, read_only=self.read_only)
            self._connections[thread] = connection
            return connection


def _open(path: Path, *, read_only: bool) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
    name = path.as_uri() + ("?immutable=1" if read_only and _immutable(path) else "")
    connection = apsw.Connection(name, flags=flags | apsw.SQLITE_OPEN_URI)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    try:
        connection.enable_load_extension(True)
        connection.load_extension(sqlite_vec.loadable_path())
        connection.enable_load_extension(False)
    except apsw.ExtensionLoadingError as error:
        raise EngineMissing(
            f"The vector search of SQLite does not load ({error}); run `pip install --force-reinstall sqlite-vec`."
        ) from error
    connection.execute(_PRAGMAS).fetchall()  # to the end: some of them return a row
    return connection


def _close(connection: apsw.Connection) -> None:
    while True:
        try:
            return connection.close()
        except apsw.ThreadingViolationError:  # another thread is in a query
            time.sleep(0.002)


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def _immutable(path: Path) -> bool:
    """Whether to read without locks: where SQLite cannot make its side files, and none hold anything yet."""
    log = path.with_name(path.name + "-wal")
    return not os.access(path.parent, os.W_OK) and not (log.exists() and log.stat().st_size)
