"""How files come into the data directory: one process at a time, complete or not at all, with errors in words.

It knows nothing of models, and it cannot protect against programs that do not take the lock.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeai.errors import DiskFull, UsageProblem


def publish(part: Path, target: Path) -> None:
    """Make a complete file visible under its final name, on the disk before its name is."""
    _flush(part, os.O_RDWR if os.name == "nt" else os.O_RDONLY)  # Windows flushes only what it may write
    part.replace(target)
    with suppress(OSError):  # Windows cannot open a folder
        _flush(target.parent, os.O_RDONLY)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """One holder at a time, over all processes."""
    import filelock

    with filelock.FileLock(path):
        yield


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Errors of the file system as `DiskFull` or `UsageProblem`, naming the folder."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            raise DiskFull(f"The disk of {folder} is full; free some space or set EDGEAI_HOME elsewhere.") from error
        raise UsageProblem(
            f"{folder} cannot be written ({error.strerror or error}); set EDGEAI_HOME to a folder of yours."
        ) from error
