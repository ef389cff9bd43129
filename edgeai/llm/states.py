"""Saved states of passages, the ones not used for longest dropped when they take more memory than they may.

It only keeps bytes: whether a state still fits the model is up to whoever saved it.
"""

from __future__ import annotations

from collections import OrderedDict

Ids = tuple[int, ...]


class States:
    """States by the tokens they are of, at most `limit` bytes together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._states: OrderedDict[Ids, bytes] = OrderedDict()

    def __contains__(self, ids: Ids) -> bool:
        return ids in self._states

    def __len__(self) -> int:
        return len(self._states)

    def add(self, ids: Ids, state: bytes) -> None:
        """Keep a state as the one used last; one that is larger than the limit is not kept."""
        self.drop(ids)
        self._states[ids] = state
        self._size += len(state)
        while self._size > self._limit:
            _, dropped = self._states.popitem(last=False)
            self._size -= len(dropped)

    def get(self, ids: Ids) -> bytes:
        """A state that is kept, now the one used last. Raises `KeyError`."""
        self._states.move_to_end(ids)
        return self._states[ids]

    def drop(self, ids: Ids) -> None:
        """Forget a state, if there is one."""
        self._size -= len(self._states.pop(ids, b""))

    def clear(self) -> None:
        """Forget all."""
        self._states.clear()
        self._size = 0
