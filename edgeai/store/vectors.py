"""The vectors nearest to a question, found in memory and confirmed by the index.

SQLite keeps the vectors; scanning them there costs 8 ms at 10,000 chunks and 800 ms at a million. So a process holds a
copy of them, made at its first search and followed block by block as the index changes, in one of three precisions.

What is held only proposes: every chunk that is returned had its cosine read from the index in the same snapshot, with
the caller's filter in the query. What was deleted, or carries another label, cannot come back from memory.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeai.filters import EVERYTHING, Filter
from edgeai.store import codes, queries
from edgeai.store.database import Database, damaged
from edgeai.store.precisions import EXACT, Precision, choose

if TYPE_CHECKING:
    from edgeai.records import Vectors
    from edgeai.store.precisions import Ids, Parts

READ_BLOCKS = 64  # at a time, 12 MB at 384 dimensions

# How sqlite-vec 0.1.9 stores them: a row for each block of vectors, bits that say which positions are in use (the
# lowest first), and the ids. A vector never changes under its id, so a block with the same ids holds the same vectors.
_BLOCKS = "SELECT chunk_id, validity, rowids FROM vectors_chunks ORDER BY chunk_id"
_VECTORS = """
    SELECT stored.vectors FROM json_each(?) AS wanted
    CROSS JOIN vectors_vector_chunks00 AS stored ON stored.rowid = wanted.value ORDER BY wanted.key"""


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """The vectors of one state of the index, block by block."""

    blocks: Ids  # shape (blocks,)
    ids: Ids  # shape (blocks, size), 0 where a position is not in use
    precision: Precision
    parts: Parts


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What a thread last made sure of: `ids` are what its connection sees at `stamp`, `allowed` what `where` allows."""

    stamp: tuple[int, int]
    ids: Ids  # without their vectors, so that an old copy of those can go
    where: Filter
    allowed: codes.Mask


class VectorMemory:
    """The vectors of one index; may be used from several threads. Nothing is read before the first search."""

    def __init__(self, database: Database, dimension: int) -> None:
        self._database = database
        self._dimension = dimension
        self._held = _nothing(EXACT, 0, dimension)
        self._lock = threading.Lock()
        self._thread = threading.local()

    def load(self) -> None:
        """Bring what is held up to date now, so that the next search need not."""
        with self._database.snapshot():
            self._current(EVERYTHING)

    def nearest(self, vector: Vectors, *, limit: int, where: Filter = EVERYTHING) -> list[tuple[int, float]]:
        """Chunks closest to a unit vector, shape (dimension,): (chunk id, cosine), best first."""
        if limit < 1:
            return []
        with self._database.snapshot():
            held, allowed = self._current(where)

            def look_up(chunks: Ids) -> dict[int, float]:
                # In the order of the file: in that of likeness, the look-ups take twice as long.
                return queries.similarities(self._database, vector, np.sort(chunks).tolist(), where=where)

            cosines = held.precision.closest(held.parts, held.ids, allowed, vector, limit, look_up)
        return sorted(cosines.items(), key=lambda found: (-found[1], found[0]))[:limit]

    def _current(self, where: Filter) -> tuple[_Held, codes.Mask]:
        """What this thread's snapshot of the index holds, and which positions of it the filter allows."""
        stamp = self._database.stamp()
        seen: _Seen | None = getattr(self._thread, "seen", None)
        held = self._held
        same = seen is not None and seen.stamp == stamp and seen.ids is held.ids
        if not same:
            with self._lock:
                held = self._held = self._refreshed(self._held)
        if seen is None or not same or seen.where != where:
            seen = self._thread.seen = _Seen(stamp, held.ids, where, self._allowed(held.ids, where))
        return held, seen.allowed

    def _refreshed(self, old: _Held) -> _Held:
        """`old` itself, or a copy in which the blocks that are new or have changed were read again."""
        blocks, ids = _layout(self._database)
        if np.array_equal(blocks, old.blocks) and np.array_equal(ids, old.ids):
            return old
        precision = choose(ids.size, self._dimension)
        if old.ids.shape[1:] != ids.shape[1:] or old.precision is not precision:
            old = _nothing(precision, ids.shape[1], self._dimension)
        parts = precision.empty(len(blocks), ids.shape[1], self._dimension)
        here, there = _unchanged(blocks, ids, old)
        for part, before in zip(parts, old.parts, strict=True):
            part[here] = before[there]
        fresh = np.setdiff1d(np.arange(len(blocks)), here, assume_unique=True)
        for start in range(0, len(fresh), READ_BLOCKS):
            rows = fresh[start : start + READ_BLOCKS]
            for part, read in zip(parts, precision.encode(self._read(blocks[rows], ids.shape[1])), strict=True):
                part[rows] = read
        return _Held(blocks, ids, precision, parts)

    def _read(self, blocks: Ids, size: int) -> Vectors:
        """The vectors of blocks, shape (blocks, size, dimension)."""
        stored = [row[0] for row in self._database.rows(_VECTORS, (json.dumps(blocks.tolist()),))]
        if len(stored) != len(blocks) or any(_length(block) != 4 * size * self._dimension for block in stored):
            raise damaged(self._database.path, "a block of vectors is missing or incomplete")
        return np.frombuffer(b"".join(stored), np.float32).reshape(len(blocks), size, self._dimension)

    def _allowed(self, ids: Ids, where: Filter) -> codes.Mask:
        """Which positions are in use by chunks of documents that `where` allows."""
        ranges = queries.visible_ranges(self._database, where)
        if ranges is None:
            return ids > 0
        first, last = (np.array([row[side] for row in ranges], np.int64) for side in (0, 1))
        if not len(first):
            return np.zeros(ids.shape, np.bool_)
        document = np.searchsorted(first, ids, side="right") - 1
        inside: codes.Mask = (document >= 0) & (ids <= last[document]) & (ids > 0)
        return inside


def _nothing(precision: Precision, size: int, dimension: int) -> _Held:
    return _Held(np.empty(0, np.int64), np.empty((0, size), np.int64), precision, precision.empty(0, size, dimension))


def _layout(database: Database) -> tuple[Ids, Ids]:
    """The blocks and the ids in them, 0 for a position that is not in use; raises `IndexUnusable`."""
    rows = database.rows(_BLOCKS)
    size = _length(rows[0][2]) // 8 if rows else 0
    if any(_length(used) * 8 != size or _length(ids) != size * 8 for _, used, ids in rows):
        raise damaged(database.path, "the list of vectors cannot be read")
    shape = (len(rows), size)
    ids = np.frombuffer(b"".join(row[2] for row in rows), "<i8").reshape(shape)
    bits = np.frombuffer(b"".join(row[1] for row in rows), np.uint8)
    used = np.unpackbits(bits, bitorder="little").reshape(shape)
    return np.array([row[0] for row in rows], np.int64), np.where(used, ids, 0).astype(np.int64, copy=False)


def _length(blob: Any) -> int:
    """Bytes of a blob; -1 for another type, which only a damaged file can hold."""
    return len(blob) if isinstance(blob, bytes) else -1


def _unchanged(blocks: Ids, ids: Ids, old: _Held) -> tuple[codes.Positions, codes.Positions]:
    """Where blocks are that hold the same ids as before, now and in `old`."""
    _, here, there = np.intersect1d(blocks, old.blocks, assume_unique=True, return_indices=True)
    same = (ids[here] == old.ids[there]).all(axis=1)
    return here[same], there[same]
