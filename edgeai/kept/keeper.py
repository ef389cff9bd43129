"""The process that keeps models loaded between two `edgeai ask`: `python -m edgeai.kept.keeper`.

It answers one question after the other for its own user, never opens the network, and ends when it was idle for long
or when something it had loaded has changed on disk. Questions and answers are in its memory only.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeai.errors import EdgeAIError
from edgeai.filters import Filter
from edgeai.kept import endpoint, wire
from edgeai.kept.keepalive import Setup

if TYPE_CHECKING:
    from edgeai.assistant import Assistant
    from edgeai.changes import Listed
    from edgeai.registry import Registry

SILENCE = 5.0  # seconds that a client may take to say what it wants, or to take what it is sent
TURN = 5.0  # seconds to wait until a process that was told to end has freed its memory


def main() -> None:
    """Read from standard input what to keep, and keep it; ends at once when another process does that already."""
    order = json.load(sys.stdin)
    setup: Setup = wire.rebuild(Setup, order["setup"])
    place = endpoint.address()
    endpoint.make_private(place.parent)
    with endpoint.claimed(place.with_suffix(".lock"), TURN) as free:
        if free:
            keep(setup, order["minutes"], place)


def keep(setup: Setup, minutes: float, place: Path) -> None:
    """Load everything, then answer until there is a reason to end; raises `EdgeAIError` when something is missing."""
    from edgeai.assistant import Assistant  # here: a process that is not needed is to end before it loads anything

    disk = Disk(setup)  # before anything is loaded: what changes meanwhile counts as changed
    with Assistant(setup.index, settings=setup.settings) as assistant:
        assistant.warm(wait=True)
        with endpoint.listening(place) as listener:
            Keeper(setup, assistant, disk, minutes).serve(listener)


class Keeper:
    """Answers requests with one assistant, one at a time."""

    def __init__(self, setup: Setup, assistant: Assistant, disk: Disk, minutes: float) -> None:
        self._setup = json.loads(json.dumps(setup, default=wire.plain))  # as it looks in a request
        self._assistant = assistant
        self._disk = disk
        self._minutes = minutes
        self._since = time.time()
        self._ended = False

    def serve(self, listener: socket.socket) -> None:
        """Answer whoever connects, until told to end or nobody has come for the time agreed."""
        while not self._ended:
            listener.settimeout(self._minutes * 60)
            try:
                peer, _ = listener.accept()
            except TimeoutError:
                return
            # `Lost`: a client that goes away is its own affair, its answer is no longer computed.
            with wire.Connection(peer, SILENCE) as line, suppress(wire.Lost):
                if _is_mine(peer):
                    self._respond(line, line.receive())

    def _respond(self, line: wire.Connection, request: dict[str, Any]) -> None:
        match request.get("do"):
            case "ask":
                self._ask(line, request)
            case "yield":
                # Kept is what answers as a process that starts now would.
                self._ended = request.get("setup") != self._setup or not self._disk.unchanged()
                line.send(kept=not self._ended)
            case "stop":
                self._ended = True
                line.send(**self._status())
            case "status":
                line.send(**self._status())

    def _ask(self, line: wire.Connection, request: dict[str, Any]) -> None:
        self._ended = not self._disk.unchanged()
        suits = request.get("setup") == self._setup and not self._ended
        if not suits or not _up_to_date(self._assistant, self._setup["docs"]):
            line.send(accepted=False)
            return
        self._minutes = request["minutes"] or self._minutes
        line.send(accepted=True, notices=self._assistant.notices)
        where: Filter = wire.rebuild(Filter, request["where"])
        with suppress(EdgeAIError), self._assistant.ask(request["question"], where=where) as reply:
            # The process that asks meets the same error when it answers itself, and can say more about it.
            for piece in reply:
                line.send(piece=piece)
            line.send(answer=reply.answer)

    def _status(self) -> dict[str, Any]:
        from edgeai.bench.machine import peak_memory

        return {
            "pid": os.getpid(),
            "since": self._since,
            "memory": peak_memory(),
            "index": self._setup["index"],
            "minutes": self._minutes,
        }


def _is_mine(peer: socket.socket) -> bool:
    try:
        return endpoint.is_mine(peer)
    except OSError:  # gone before it could be asked
        return False


def _up_to_date(assistant: Assistant, docs: Sequence[str]) -> bool:
    """Whether the index holds just these documents, as they are now; a sync is for who can report what it did.

    False as well when there is a file among them that cannot be read.
    """
    from edgeai.documents import walk

    if not docs:
        return True
    try:
        entries, _ = walk(docs)
    except EdgeAIError:
        return False
    known = assistant.open_store().files().values()
    return bool(entries) and set(map(_version, entries)) == set(map(_version, known))


def _version(file: Listed) -> tuple[str, int, float]:
    return file.path, file.size, file.modified


class Disk:
    """What was loaded from disk, and whether it would be the same now.

    The documents of an index are not part of it: an open index sees them change. Raises what the registry raises when a
    model is missing.
    """

    def __init__(self, setup: Setup) -> None:
        from edgeai.registry import Registry

        self._setup = setup
        self._registry = Registry(offline=True, allow_unverified=setup.settings.allow_unverified)
        self._loaded = self._state()

    def unchanged(self) -> bool:
        """Whether code, models and index file are those that were loaded."""
        try:
            return self._state() == self._loaded
        except (EdgeAIError, OSError):
            return False

    def _state(self) -> tuple[Any, ...]:
        index = Path(self._setup.index).stat()
        specs = _models(self._registry, self._setup)
        files = [
            Path(getattr(spec, name))
            for spec in specs
            for name in ("model", "tokenizer", "path")
            if hasattr(spec, name)
        ]
        return (index.st_dev, index.st_ino, *specs, *map(_stamp, files), _code())


def _models(registry: Registry, setup: Setup) -> list[Any]:
    """How each model of a setup is run at present."""
    settings = setup.settings
    specs: list[Any] = [registry.embedder(settings.embedder)]
    if settings.reader != "none":
        specs.append(registry.reader(settings.reader))
    if settings.model != "none":
        generator = registry.generator(settings.model)
        specs += [generator, *([registry.adapter(settings.adapter, generator)] if settings.adapter else [])]
    return specs


def _stamp(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _code() -> int:
    """When the newest file of edgeai was changed: a version may be installed twice, or be worked on."""
    return max(path.stat().st_mtime_ns for path in Path(__file__).parents[1].rglob("*.py"))


if __name__ == "__main__":
    main()
