"""Work that is done before anybody asks for it: one piece at a time, on a thread of its own, kept for one answer.

It ends as soon as something else is wanted, and never runs beside an answer. What a piece is worth is not known here;
whether its result still holds is up to the state that its maker names.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Generic, TypeVar

Result = TypeVar("Result")
Wait = Callable[[float], None]  # waits so many seconds; raises `Stopped` once the work is not wanted any more


class Stopped(Exception):
    """The work is not wanted any more."""


class Background(Generic[Result]):
    """The piece of work that was wanted last; may be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the two fields below
        self._piece: _Piece[Result] | None = None
        self._answers = 0  # being computed
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="edgeai-background")

    def begin(self, key: object, work: Callable[[Wait], Result], state: Callable[[], object]) -> None:
        """Begin with `work` in place of any other, unless the last was for an equal key; returns at once.

        `state` gives what the result rests on besides its key. Both are called on one and the same thread; nobody
        hears of what they raise. While an answer is computed nothing begins before that is done.
        """
        with self._lock:
            if self._piece and self._piece.key == key:
                return
            if self._piece:
                self._piece.end(wanted=False)
            self._piece = _Piece(key, work, state)
            self._start()

    @contextmanager
    def answering(self, key: object) -> Iterator[Result | None]:
        """Nothing is worked on in this block; gives the result for this key, once, if there is one and it still holds.

        Work for this key that has begun is waited for, without what it would wait for itself; any other ends.
        """
        with self._lock:
            self._answers += 1
            piece, self._piece = self._piece, None
        try:
            yield self._result(piece, key) if piece else None
        finally:
            with self._lock:
                self._answers -= 1
                self._start()

    def stop(self) -> None:
        """End the work and forget its result; returns when nothing runs any more."""
        with self._lock:
            piece, self._piece = self._piece, None
        if piece:
            self._end(piece, wanted=False)

    def _start(self) -> None:
        """Begin with what waits for its turn, if there is any; to be called with the lock held."""
        if self._piece and self._piece.future is None and not self._answers:
            self._piece.future = self._worker.submit(self._piece.run)

    def _result(self, piece: _Piece[Result], key: object) -> Result | None:
        wanted = piece.key == key
        ended = self._end(piece, wanted=wanted)
        if not wanted or ended is None or ended.exception():
            return None
        return ended.result() if self._worker.submit(piece.holds).result() else None

    def _end(self, piece: _Piece[Result], *, wanted: bool) -> Future[Result] | None:
        """The outcome of a piece, None when it had not begun. There is one thread: what came before has ended too."""
        piece.end(wanted=wanted)
        if piece.future:
            wait([piece.future])
        return piece.future


class _Piece(Generic[Result]):
    """Something to do, and the state that it was begun in."""

    def __init__(self, key: object, work: Callable[[Wait], Result], state: Callable[[], object]) -> None:
        self.key = key
        self.future: Future[Result] | None = None  # once it is under way
        self._work, self._state = work, state
        self._before: object = None
        self._urgent = threading.Event()
        self._wanted = True

    def run(self) -> Result:
        self._wait(0)
        self._before = self._state()
        return self._work(self._wait)

    def holds(self) -> bool:
        """Whether nothing has changed since it was begun."""
        return self._state() == self._before

    def end(self, *, wanted: bool) -> None:
        """Have it go on without a pause, or stop at the next one when it is not wanted."""
        self._wanted = wanted
        self._urgent.set()

    def _wait(self, seconds: float) -> None:
        self._urgent.wait(seconds)
        if not self._wanted:
            raise Stopped
