"""Saved chats: one JSON Lines file each, private to the user, replaced as a whole whenever a chat is saved.

It does not know what the answers were worth, and it does not encrypt: whoever can read the user's files can read these.
Two programs that save the same chat at once both succeed, and the later one stays.
"""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeai.config import data_dir
from edgeai.errors import DiskFull, PathNotFound, ReadOnly, UsageProblem
from edgeai.records import Citation, Turn

FORMAT = "edgeai-session-1"
_NAME = re.compile(r"\w[\w. -]{0,63}(?<![. ])")
# Windows opens a device for these, whatever extension follows.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|(?:com|lpt)\d)(?:\..*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question, its answer as shown, and the sources under it."""

    question: str
    answer: str
    citations: tuple[Citation, ...] = ()

    @property
    def turn(self) -> Turn:
        """What the next question is understood by."""
        return Turn(self.question, self.answer)


@dataclass(frozen=True, slots=True)
class Session:
    """One chat: what was said, and the index and paths it was about, both absolute."""

    name: str
    index: str
    docs: tuple[str, ...] = ()
    exchanges: tuple[Exchange, ...] = ()


def folder() -> Path:
    """Where saved chats live; it need not exist."""
    return data_dir() / "sessions"


def names() -> tuple[str, ...]:
    """The names of all saved chats, the one saved last first."""
    files = [path for path in folder().glob("*.jsonl") if not path.name.startswith(".")]
    return tuple(path.stem for path in sorted(files, key=_modified, reverse=True))


def latest() -> Session:
    """The chat saved last; raises `PathNotFound` when none was saved."""
    saved = names()
    if not saved:
        raise PathNotFound("There is no saved chat to continue; start one with `edgeai chat PATH`.")
    return load(saved[0])


def exists(name: str) -> bool:
    """Whether a chat of this name was saved; raises `UsageProblem` for what cannot be a name."""
    return _path(name).is_file()


def load(name: str) -> Session:
    """A saved chat; raises `PathNotFound` when there is none, `UsageProblem` when its file is damaged."""
    path = _path(name)
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")  # splitlines would cut at U+2028 too
    except FileNotFoundError:
        raise PathNotFound(f"There is no saved chat called {name!r}; start it with `edgeai chat --session`.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PathNotFound(f"The saved chat {path} cannot be read ({error}); check the file.") from error
    try:
        head, *exchanges = [json.loads(line) for line in lines]
        if head["format"] != FORMAT:
            raise ValueError(head["format"])
        return Session(name, str(head["index"]), tuple(map(str, head["docs"])), tuple(map(_exchange, exchanges)))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageProblem(f"{path} is not a saved chat, or is damaged; move it away to go on.") from error


def save(session: Session) -> Path:
    """Write a chat in place of any earlier version of it; returns its file.

    The file appears complete or not at all, readable by this user only. Raises `UsageProblem` for a name that cannot
    be a file, `DiskFull` or `ReadOnly`.
    """
    path = _path(session.name)
    head = {"format": FORMAT, "index": session.index, "docs": list(session.docs)}
    records: list[dict[str, Any]] = [head, *(asdict(exchange) for exchange in session.exchanges)]
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    with _writing(path):
        _make_private_folder(path.parent)
        _replace(path, text)
    return path


def remove(name: str) -> None:
    """Delete a saved chat; nothing happens when there is none."""
    path = _path(name)
    with _writing(path):
        path.unlink(missing_ok=True)


def new_name() -> str:
    """An unused name made of the local date and time."""
    stamp = time.strftime("%Y-%m-%d-%H%M%S")
    name, number = stamp, 1
    while exists(name):
        number += 1
        name = f"{stamp}-{number}"
    return name


def history_file() -> Path:
    """The file for the lines typed at the prompt, made when missing and readable by this user only."""
    path = data_dir() / "history"
    with _writing(path):
        _make_private_folder(path.parent)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    return path


def _path(name: str) -> Path:
    if not _NAME.fullmatch(name) or _DEVICE.fullmatch(name):
        raise UsageProblem(
            f"A chat cannot be called {name!r}; use up to 64 letters, digits, spaces, dots and dashes, "
            "starting with a letter or digit."
        )
    return folder() / f"{name}.jsonl"


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # removed since the listing
        return 0.0


def _exchange(record: dict[str, Any]) -> Exchange:
    citations = tuple(Citation(**citation) for citation in record["citations"])
    return Exchange(str(record["question"]), str(record["answer"]), citations)


def _make_private_folder(path: Path) -> None:
    for missing in reversed([place for place in (path, *path.parents) if not place.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)


def _replace(path: Path, text: str) -> None:
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")  # created with mode 0600
    try:
        # A lone surrogate, from a file name that is not UTF-8, becomes \\udcXX, which is how JSON escapes it.
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"The disk is full, {path} was not written; free some space.") from error
        raise ReadOnly(f"{path} cannot be written ({error.strerror}); check the permissions of its folder.") from error
