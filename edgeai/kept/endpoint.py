"""The socket at which the user's own processes meet, and the proof that it is nobody else's.

The folder of the socket belongs to this user and is closed to all others; where the system tells, both ends also check
who is at the other one. Nothing here protects against programs that run as the same user.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from edgeai.config import data_dir
from edgeai.errors import UsageProblem

LONGEST_PATH = 103  # bytes of a socket's path on macOS and the BSDs; Linux takes 4 more
# macOS' <sys/un.h> and <sys/ucred.h>: an option that gives a struct xucred, whose second word is the user.
_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED_BYTES = 0, 1, 76


def supported() -> bool:
    """Whether this platform has what is needed; Python on Windows has no Unix sockets."""
    return hasattr(socket, "AF_UNIX") and hasattr(os, "getuid")


def address() -> Path:
    """Where the socket for this user and data directory is, whether or not anybody listens.

    In `XDG_RUNTIME_DIR`, which is gone when the user has logged out, else in the data directory, else, when that path
    is too long for a socket, in the folder for temporary files.
    """
    home = data_dir().resolve()
    name = f"{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}.sock"
    folders = [home / "run"]
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if runtime.is_absolute() and is_private(runtime):
        folders.insert(0, runtime / "edgeai")
    for folder in folders:
        if len(os.fsencode(folder / name)) <= LONGEST_PATH:
            return folder / name
    import tempfile

    return Path(tempfile.gettempdir()) / f"edgeai-{os.getuid()}" / name


def is_private(folder: Path) -> bool:
    """Whether this is a folder, not a link to one, that belongs to this user and is closed to others."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077


def make_private(folder: Path) -> None:
    """Make a folder that is closed to others; raises `UsageProblem` when what is there is not private."""
    for missing in reversed([place for place in (folder, *folder.parents) if not place.exists()]):
        with contextlib.suppress(FileExistsError):  # a link into nowhere, or another process was faster
            missing.mkdir(mode=0o700)
    if not is_private(folder):
        raise UsageProblem(f"{folder} is not a folder of yours that is closed to others; remove it.")


@contextlib.contextmanager
def claimed(path: Path, patience: float) -> Iterator[bool]:
    """Whether this process alone holds the lock at `path` for the time of the block; waits `patience` seconds for it.

    The system gives the lock back when a process ends in any way.
    """
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience
    held = False
    try:
        while not held:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = True
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    break
                time.sleep(0.1)
        yield held
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket that accepts connections at `path` for the time of the block; for who has claimed it.

    What a crashed process left there is replaced.
    """
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen()
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def connect(timeout: float) -> socket.socket | None:
    """A connection to who listens; None when nobody does, within so many seconds, or when it is not this user."""
    if not supported():
        return None
    path = address()
    if not is_private(path.parent):
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(str(path))
        if is_mine(connection):
            return connection
    except OSError:  # nothing there, or a socket that a crashed process left behind
        pass
    connection.close()
    return None


def is_mine(connection: socket.socket) -> bool:
    """Whether the process at the other end runs as this user; True where the system does not tell.

    Raises `OSError` when that process is gone.
    """
    if sys.platform == "darwin":
        credentials = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED_BYTES)
        return bool(struct.unpack_from("2I", credentials)[1] == os.getuid())
    if hasattr(socket, "SO_PEERCRED"):
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
        return bool(struct.unpack("iII", credentials)[1] == os.getuid())
    return True
