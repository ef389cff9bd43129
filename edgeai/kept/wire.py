"""Records as lines of JSON, and the socket they go through.

What a type holds is read from its annotations: dataclasses, tuples, sets and mappings of them, and plain values. It
does not authenticate anybody, and trusts that both ends are the same version of edgeai.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

LONGEST = 16_000_000  # bytes of a line; an answer with its passages has some thousand


class Lost(Exception):
    """The other end is gone, silent for too long, or not understood."""


class Connection:
    """One end of a connected stream socket; every message is a JSON object on a line of its own.

    Close it, or use it in a `with` block. All methods raise `Lost`.
    """

    def __init__(self, peer: socket.socket, timeout: float | None = None) -> None:
        """`timeout`: seconds that one message may take, None = as long as it takes."""
        self._socket = peer
        self._socket.settimeout(timeout)
        self._lines = peer.makefile("rb")

    def send(self, **message: Any) -> None:
        """Send an object; records in it become objects, sets lists."""
        line = json.dumps(message, default=plain).encode("ascii") + b"\n"
        try:
            self._socket.sendall(line)
        except OSError as error:
            raise Lost(str(error)) from error

    def receive(self) -> dict[str, Any]:
        """Wait for the next object."""
        try:
            message = json.loads(self._lines.readline(LONGEST))
        except (OSError, ValueError) as error:  # an empty line, the end of the stream, is no JSON either
            raise Lost(str(error)) from error
        if not isinstance(message, dict):
            raise Lost("not an object")
        return message

    def wait(self, timeout: float | None) -> None:
        """Change how many seconds a message may take."""
        self._socket.settimeout(timeout)

    def close(self) -> None:
        """End the connection."""
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def plain(value: Any) -> Any:
    """A record as a dictionary, a set as a sorted list, for `json.dumps`; raises `TypeError` for anything else."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} cannot be sent")


def rebuild(kind: Any, value: Any) -> Any:
    """A value of this type from what JSON made of it.

    Raises `TypeError` or `ValueError` when the two do not fit together; plain values are not checked.
    """
    if isinstance(kind, type) and is_dataclass(kind):
        hints = _fields(kind)
        return kind(**{name: rebuild(hints.get(name, Any), item) for name, item in value.items()})
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _rebuild_one_of([option for option in arguments if option is not NoneType], value)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return tuple(rebuild(option, item) for option, item in zip(arguments, value, strict=True))
    if origin in (tuple, frozenset):
        return origin(rebuild(arguments[0], item) for item in value)
    if origin in (dict, Mapping):
        return {key: rebuild(arguments[1], item) for key, item in value.items()}
    return value


def _rebuild_one_of(options: list[Any], value: Any) -> Any:
    """Of a record or nothing: the record. Several plain types need no rebuilding."""
    return rebuild(options[0], value) if value is not None and len(options) == 1 else value


@cache
def _fields(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
