"""The runs that were made, in one SQLite file: what a later run is compared with.

Questions and answers are kept as they were, the passages only as places in files. It does not encrypt: the file can be
read by whoever can read the user's files, and is made for the user alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from edgeai.errors import DiskFull, IndexBusy, PathNotFound, ReadOnly, UsageProblem
from edgeai.evaluation.run import Run, run_from_dict

APPLICATION_ID = 0x45444556  # "EDEV": tells these files from indexes
BUSY_TIMEOUT_MS = 10_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    made TEXT NOT NULL,    -- ISO 8601, UTC
    record TEXT NOT NULL   -- JSON of Run.as_dict
) STRICT
"""


def create(path: Path) -> None:
    """Make the file of runs when it is missing: before a run, so that none is made in vain.

    Raises `UsageProblem` for a file that is something else and `ReadOnly` where nothing can be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise ReadOnly(f"{path} cannot be written ({error.strerror}); name another file with --runs.") from error
    with _opened(path) as connection:
        connection.execute(_SCHEMA)
        connection.pragma("application_id", APPLICATION_ID)


def save(path: Path, run: Run) -> int:
    """Add a run to a file that `create` has made; returns its number. Raises `DiskFull` or `ReadOnly`."""
    record = json.dumps(run.as_dict(), ensure_ascii=False)
    with _opened(path) as connection:
        sql = "INSERT INTO runs (made, record) VALUES (?, ?) RETURNING number"
        rows: list[Any] = connection.execute(sql, (run.made, record)).fetchall()
    return int(rows[0][0])


def load(path: Path, name: str) -> tuple[int, Run]:
    """The run of this number, or the one made last for "last"; raises `PathNotFound` when there is none."""
    if not path.is_file():
        raise PathNotFound(f"There are no runs in {path} yet; make one with `edgeai eval FILE`.")
    last = name == "last"
    condition = "ORDER BY number DESC LIMIT 1" if last else "WHERE number = ?"
    with _opened(path) as connection:
        bindings = () if last else (int(name),)
        sql = f"SELECT number, record FROM runs {condition}"
        rows: list[Any] = connection.execute(sql, bindings).fetchall()
    if not rows:
        raise PathNotFound(f"There is no run {name} in {path}; `edgeai eval` says a run's number when it ends.")
    number, record = rows[0]
    return int(number), run_from_dict(json.loads(record))


def load_baseline(name: str, path: Path) -> Run:
    """A run by its number or "last" in the file `path`, or out of a JSON file that `edgeai eval --json` printed."""
    if name == "last" or name.isdecimal():
        return load(path, name)[1]
    try:
        return run_from_dict(json.loads(Path(name).read_text(encoding="utf-8")))
    except OSError as error:
        raise PathNotFound(
            f"The baseline {name} cannot be read ({error.strerror}); give a number or a file."
        ) from error
    except ValueError as error:
        raise UsageProblem(f"The baseline {name} is not JSON; make one with `edgeai eval FILE --json`.") from error


@contextmanager
def _opened(path: Path) -> Iterator[apsw.Connection]:
    try:
        connection = apsw.Connection(str(path))
        try:
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            if connection.pragma("application_id") not in (0, APPLICATION_ID) or _foreign(connection):
                raise UsageProblem(f"{path} is not a file of runs; name another one with --runs.")
            yield connection
        finally:
            connection.close()
    except (apsw.ReadOnlyError, apsw.CantOpenError) as error:
        raise ReadOnly(f"{path} cannot be written; name another file with --runs.") from error
    except (apsw.BusyError, apsw.LockedError) as error:
        raise IndexBusy(f"{path} is being written by another process; try again when it is done.") from error
    except apsw.FullError as error:
        raise DiskFull(f"The disk is full, the run was not kept in {path}; free some space.") from error
    except apsw.Error as error:
        raise UsageProblem(f"{path} is not a file of runs ({error}); name another one with --runs.") from error


def _foreign(connection: apsw.Connection) -> bool:
    """Whether the file was some other program's before us: it has tables, and not ours."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return bool(tables) and "runs" not in tables
