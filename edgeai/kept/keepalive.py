"""Finds, uses, starts and ends the process that keeps models loaded between two `edgeai ask` (`keeper.py`).

Imports nothing that a question needs: that is the point. Whatever goes wrong here costs time only, because who asks can
always answer in a process of its own.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgeai import __version__
from edgeai.config import Settings, data_dir
from edgeai.kept import endpoint, wire
from edgeai.kept.wire import Lost

if TYPE_CHECKING:
    from edgeai.filters import Filter
    from edgeai.records import Answer, Piece
    from edgeai.reply import Reply

__all__ = ["Kept", "Lost", "Plan", "Setup", "ask", "leave", "plan", "status", "stop"]

MINUTES = 10.0  # without a question, until the models are freed
PATIENCE = 1.0  # seconds to wait for who is busy with another question: about what loading the models takes
LONG_PATIENCE = 10.0  # seconds, for who has nothing better to do
# For glibc in the process that stays: buffers of megabytes go back to the system, and few threads have a heap of their
# own. 24 questions leave it 30 MB smaller.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "1000000", "MALLOC_ARENA_MAX": "2"}


@dataclass(frozen=True, slots=True)
class Setup:
    """What an answer depends on besides question, filter and the content of files."""

    program: str  # version and place of edgeai
    index: str
    docs: tuple[str, ...]  # what the index is to hold, () = whatever it holds
    settings: Settings


class Plan(NamedTuple):
    """What to look for, and how long to keep it; with 0 minutes nothing is started."""

    setup: Setup
    minutes: float


class Kept(NamedTuple):
    """A reply that another process computes: reading it raises `Lost` when that process ends."""

    reply: Reply
    notices: Sequence[str]


def plan(index: Path, settings: Settings, *, docs: Sequence[Path] = (), terminal: bool) -> Plan | None:
    """What a question wants of a kept process; None when it wants none.

    With the setting `keep_alive` at "auto" a process is used wherever it runs, but started from a terminal only:
    scripts and continuous integration leave nothing behind that they did not ask for.
    """
    minutes = (MINUTES if terminal else 0.0) if settings.keep_alive == "auto" else float(settings.keep_alive)
    if not endpoint.supported() or (settings.keep_alive != "auto" and not minutes):
        return None
    alike = replace(
        settings,
        model=_absolute(settings.model),
        adapter=_absolute(settings.adapter),
        embedder=_absolute(settings.embedder),
        reader=_absolute(settings.reader),
        offline=True,  # this and how long it stays change no answer
        keep_alive="0",
    )
    program = f"{__version__} {Path(__file__).resolve().parent} {sys.executable}"
    folders = tuple(str(path.expanduser().absolute()) for path in docs)
    return Plan(Setup(program, str(index.absolute()), folders, alike), minutes)


def _absolute(model: str) -> str:
    """The path of a model as seen from any directory; names of the catalog stay."""
    is_path = "/" in model or model.endswith((".gguf", ".onnx"))
    return str(Path(model).expanduser().absolute()) if is_path else model


def ask(wanted: Plan, question: str, where: Filter, patience: float = PATIENCE) -> Kept | None:
    """Have a running process answer; None when there is none that would answer as this one, or it is busy.

    `patience`: seconds to wait until it begins; the answer may take as long as it does.
    """
    line = _connect(patience)
    if line is None:
        return None
    try:
        line.send(do="ask", setup=wanted.setup, minutes=wanted.minutes, question=question, where=where)
        from edgeai.reply import Reply  # here: while the other process works, this one has time

        first = line.receive()
        line.wait(None)
    except Lost:
        first = {}
    if not first.get("accepted"):
        line.close()
        return None
    return Kept(Reply(_pieces(line)), first.get("notices", ()))


def _pieces(line: wire.Connection) -> Generator[Piece, None, Answer]:
    from edgeai.records import Answer, Piece

    with line:
        while "piece" in (message := line.receive()):
            yield _rebuild(Piece, message["piece"])
        complete: Answer = _rebuild(Answer, message.get("answer"))
        return complete


def _rebuild(kind: Any, value: Any) -> Any:
    try:
        return wire.rebuild(kind, value)
    except (AttributeError, TypeError, ValueError) as error:
        raise Lost(str(error)) from error


def leave(wanted: Plan) -> None:
    """Start a process for the next question, in place of one that would answer differently; does not wait for it."""
    if not wanted.minutes:
        return
    answer = _exchange(PATIENCE, do="yield", setup=wanted.setup)
    if answer is None or answer.get("kept") is False:
        with suppress(OSError):  # too many processes, or too little memory: the next question takes longer, that is all
            _start(wanted)


def status() -> dict[str, Any] | None:
    """The running process: "pid", "since" (seconds since the epoch), "memory" (most bytes ever, or None), "index",
    "minutes"; None when there is none, {} when it is too busy to tell.
    """
    return _exchange(PATIENCE, do="status")


def stop() -> dict[str, Any] | None:
    """End the running process; returns what `status` returns, after waiting longer for it."""
    return _exchange(LONG_PATIENCE, do="stop")


def _exchange(patience: float, **request: Any) -> dict[str, Any] | None:
    """The answer to a request; None when nobody is there, {} when nobody answers in time."""
    line = _connect(patience)
    if line is None:
        return None
    with line:
        try:
            line.send(**request)
            return line.receive()
        except Lost:
            return {}


def _connect(patience: float) -> wire.Connection | None:
    connection = endpoint.connect(patience)
    return None if connection is None else wire.Connection(connection, patience)


def _start(wanted: Plan) -> None:
    """Start the process, independent of this one and of its terminal and folder.

    What it needs goes through a pipe, because other users see the arguments of a process.
    """
    import subprocess

    # -P: no module is to be taken from the folder in which a user happens to ask.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "edgeai.kept.keeper"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={**ALLOCATOR, **os.environ, "EDGEAI_HOME": str(data_dir().absolute())},
        start_new_session=True,
    )
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(json.dumps({"setup": wanted.setup, "minutes": wanted.minutes}, default=wire.plain).encode("ascii"))
