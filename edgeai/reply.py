"""A reply that runs while it is read.

It knows nothing of retrieval or models: it replays what a generator function yields. Iterating streams the pieces,
`.answer` forces them; both may be used, in any order and more than once, and the work happens once.
"""

from __future__ import annotations

import threading
from collections.abc import Generator as GeneratorFunction
from collections.abc import Iterator

from edgeai.records import Answer, Piece


class Reply:
    """The lazy result of `ask`.

    The pieces are what the model says as it says it; `answer` is the checked text with verified citations, so the
    two can differ. `close()` (or leaving a `with` block) stops a computation that is no longer wanted.
    """

    def __init__(self, run: GeneratorFunction[Piece, None, Answer]) -> None:
        self._run = run
        self._pieces: list[Piece] = []
        self._answer: Answer | None = None
        self._lock = threading.Lock()
        self._closed = False

    def __iter__(self) -> Iterator[Piece]:
        """Yield every piece from the first on, computing those that are not there yet."""
        position = 0
        while position < len(self._pieces) or self._advance():
            yield self._pieces[position]
            position += 1

    @property
    def answer(self) -> Answer:
        """The complete answer; computes what is left of it.

        Raises whatever the computation raises, and `RuntimeError` when the reply was closed before its end.
        """
        while self._advance():
            pass
        if self._answer is None:
            raise RuntimeError("The reply was closed before its answer was complete.")
        return self._answer

    def close(self) -> None:
        """Stop computing; pieces already there stay readable.

        From the thread that iterates this takes effect at once, from another one at the next piece.
        """
        self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                self._run.close()
            finally:
                self._lock.release()

    def __enter__(self) -> Reply:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _advance(self) -> bool:
        with self._lock:
            if self._closed:
                self._run.close()
                return False
            try:
                self._pieces.append(next(self._run))
            except StopIteration as stop:
                if stop.value is not None:
                    self._answer = stop.value
                return False
            return True
