"""How precisely a process holds the vectors of an index, by how many there are, and what it finds worth looking up.

- exact, up to `HELD_BYTES` (32,768 vectors of 384 dimensions): the vectors themselves, and one product with each;
- rounded, up to four times as many: their signs, one bit a dimension, say which to compare, and one byte a dimension
  how close these are;
- signs, beyond: the signs say which to estimate, by two bits a dimension, and SQLite has the cosines of many of these:
  first those of a few, then those of all others that may still be among the best. How many that are depends on how
  close together the vectors lie.

Memory sets the limits: 48 MiB fit beside the models, up to half a million vectors. A precision only proposes chunks,
and `look_up` reads the cosines that count from the index. Measured, the last two find 98 to 100 of 100 of the true ten
best (benchmarks/LOG.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeai.store import codes

if TYPE_CHECKING:
    from edgeai.records import Vectors

    Ids = npt.NDArray[np.int64]
    LookUp = Callable[[Ids], dict[int, float]]  # the cosines of chunks, without those that are gone
    Parts = tuple[Any, ...]  # arrays whose first axis is the block

HELD_BYTES = 48 * 2**20
TIES = 16  # more than wanted by products in memory, whose last bits differ from those of SQLite
COMPARED = 1_200  # candidates by their signs, at least
WANTED_TIMES = 8  # so many times as many as are wanted
LARGEST = 4.0  # standard deviations of a number in a unit vector; what is larger is rounded to this

FIRST = 100  # candidates looked up before the others are judged; 12 us each on a small index, 25 us on a large one
SURE = 10  # of the best are to be the true ones
DEVIATIONS = 3.0  # by which a cosine may exceed what its estimate promises: 2 would find 93 of 100 in dense corpora


@dataclass(frozen=True, slots=True)
class Precision:
    """`encode` makes the parts of vectors of shape (blocks, vectors a block, dimension).

    `closest` gives the cosines of enough allowed chunks to have the `limit` closest among them, from the parts, the ids
    and the mask of what is allowed, both of shape (blocks, vectors a block), the question's vector, `limit`, and a way
    to look cosines up.
    """

    name: str
    encode: Callable[[Vectors], Parts]
    closest: Callable[[Parts, Ids, codes.Mask, Vectors, int, LookUp], dict[int, float]]

    def empty(self, blocks: int, size: int, dimension: int) -> Parts:
        """Parts with room for so many blocks of `size` vectors."""
        like = self.encode(np.empty((0, size, dimension), np.float32))
        return tuple(np.empty((blocks, *part.shape[1:]), part.dtype) for part in like)


def choose(count: int, dimension: int) -> Precision:
    """That in which so many vectors are held."""
    if 4 * dimension * count <= HELD_BYTES:
        return EXACT
    return ROUNDED if dimension * count <= HELD_BYTES else SIGNS


def _closest_exact(
    parts: Parts, ids: Ids, allowed: codes.Mask, vector: Vectors, limit: int, look_up: LookUp
) -> dict[int, float]:
    (matrix,) = parts
    with np.errstate(all="ignore"):  # a damaged file may hold what is not a number; it is never close
        products = np.vecdot(matrix.reshape(-1, len(vector)), vector)
    # Above: on this thread, while those of `@` would spin beside the models for a while.
    products[~(allowed.reshape(-1) & np.isfinite(products))] = -np.inf
    found = _largest(products, limit + TIES)
    return look_up(ids.reshape(-1)[found[np.isfinite(products[found])]])


def _encode_rounded(vectors: Vectors) -> Parts:
    with np.errstate(all="ignore"):
        scaled = np.rint(vectors * (127 * vectors.shape[2] ** 0.5 / LARGEST))
    return codes.encode(vectors), np.nan_to_num(scaled, nan=0.0).clip(-127, 127).astype(np.int8)


def _closest_rounded(
    parts: Parts, ids: Ids, allowed: codes.Mask, vector: Vectors, limit: int, look_up: LookUp
) -> dict[int, float]:
    signs, rounded = parts
    near, _ = codes.ranked(signs, allowed, vector, max(COMPARED, WANTED_TIMES * limit))
    products = np.vecdot(rounded.reshape(-1, len(vector))[near].astype(np.float32), vector)
    return look_up(ids.reshape(-1)[near[_largest(products, limit + TIES)]])


def _closest_by_signs(
    parts: Parts, ids: Ids, allowed: codes.Mask, vector: Vectors, limit: int, look_up: LookUp
) -> dict[int, float]:
    signs, sizes = parts
    near, estimates = codes.ranked(signs, allowed, vector, max(COMPARED, WANTED_TIMES * limit), sizes)
    candidates, first = ids.reshape(-1)[near], max(FIRST, 2 * limit)
    found = look_up(candidates[:first])
    hopeful = _promised(candidates[:first], estimates, found)[first:] >= _least(found)
    return found | look_up(candidates[first:][hopeful])


def _promised(first: Ids, estimates: Vectors, found: dict[int, float]) -> Vectors:
    """The cosine that each estimate may stand for at most, by a straight line through those of the `first` ones."""
    here = np.isin(first, [*found])
    if here.sum() <= SURE:
        return np.ones(len(estimates), np.float32)
    known = estimates[: len(first)][here]
    cosines = np.array([found[chunk] for chunk in first[here].tolist()], np.float32)
    slope = max(0.0, float(np.cov(known, cosines)[0, 1] / max(known.var(ddof=1), 1e-12)))
    error = float(np.std(cosines - slope * known))
    promised: Vectors = cosines.mean() + slope * (estimates - known.mean()) + DEVIATIONS * error
    return promised


def _least(found: dict[int, float]) -> float:
    """The cosine that a vector must exceed to be among the best."""
    return sorted(found.values(), reverse=True)[SURE - 1] if len(found) >= SURE else -1.0


def _largest(values: Vectors, count: int) -> codes.Positions:
    """Positions of the `count` largest values, in no order."""
    if count >= len(values):
        return np.arange(len(values))
    found: codes.Positions = np.argpartition(-values, count - 1)[:count]
    return found


EXACT = Precision("exact", lambda vectors: (vectors,), _closest_exact)
ROUNDED = Precision("rounded", _encode_rounded, _closest_rounded)
SIGNS = Precision("signs", lambda vectors: (codes.encode(vectors), codes.encode_sizes(vectors)), _closest_by_signs)
