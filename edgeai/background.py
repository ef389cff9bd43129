"""Work that is done before anybody asks for it: one piece at a time, on a thread of its own, kept for one answer.

It ends as soon as something else is wanted, and never runs beside an answer. What a result is worth is not known here;
whether it still holds is up to the state that its maker names.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Generic, TypeVar

Result = TypeVar("Result")
Wait = Callable[[float], None]  # waits so many seconds; raises `Stopped` once no more work is wanted
Work = Callable[[Wait], Iterator[Result]]  # results, each better than the one before


class Stopped(Exception):
    """No more work is wanted."""


class Background(Generic[Result]):
    """The piece of work that was wanted last; may be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the two fields below
        self._piece: _Piece[Result] | None = None
        self._answers = 0  # being computed
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="edgeai-background")

    def begin(self, key: object, work: Work[Result], state: Callable[[], object]) -> None:
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
        """Nothing is worked on in this block; gives the last result for this key, once, if there is one and it holds.

        Work for this key that has begun first goes on to a result, without what it would wait for itself.
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
        self._end(piece, wanted=wanted)
        if not wanted or piece.result is None:
            return None
        return piece.result if self._worker.submit(piece.holds).result() else None

    def _end(self, piece: _Piece[Result], *, wanted: bool) -> None:
        """Wait for the end of a piece. There is one thread: what was begun before has ended then too."""
        piece.end(wanted=wanted)
        if piece.future:
            wait([piece.future])


class _Piece(Generic[Result]):
    """Something to do, the state that it was begun in, and what has come of it so far."""

    def __init__(self, key: object, work: Work[Result], state: Callable[[], object]) -> None:
        self.key = key
        self.future: Future[None] | None = None  # once it is under way
        self.result: Result | None = None
        self._work, self._state = work, state
        self._before: object = None
        self._urgent = threading.Event()
        self._wanted = True

    def run(self) -> None:
        self._wait(0)
        self._before = self._state()
        for result in self._work(self._wait):
            self.result = result
            self._wait(0)

    def holds(self) -> bool:
        """Whether nothing has changed since it was begun."""
        return self._state() == self._before

    def end(self, *, wanted: bool) -> None:
        """Have it stop at the next pause; without pauses until it has a result, if one is wanted."""
        self._wanted = wanted
        self._urgent.set()

    def _wait(self, seconds: float) -> None:
        self._urgent.wait(seconds)
        if self._urgent.is_set() and (self.result is not None or not self._wanted):
            raise Stopped
