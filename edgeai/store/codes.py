"""Vectors as one or two bits a dimension: small enough to scan by the million, good enough to say which ones to read.

A code holds the signs of a vector. The Hamming distance of two codes follows their angle (Charikar, "Similarity
estimation techniques from rounding algorithms", STOC 2002), and a question need not be rounded at all: its product with
a code's signs (+1, -1) orders candidates better than any distance between two codes. Neither is a cosine: both only
choose what is worth looking up. Pure functions on arrays; they do not know where vectors come from.

Codes come in blocks: uint64, shape (blocks, words, vectors a block), so that one word of many vectors lies together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from edgeai.records import Vectors

    Codes = npt.NDArray[np.uint64]
    Mask = npt.NDArray[np.bool_]
    Positions = npt.NDArray[np.intp]

WORD = 64  # bits
# Candidates by Hamming distance for each one that is kept by the estimate; twice as many find nothing more.
WIDER = 10
SCANNED_BLOCKS = 128  # at a time: their codes (786 kB at 384 dimensions) stay in the second-level cache
# Of a number with mean 0 and variance 1: where the outer ranges begin, and (b - a) / (b + a) for the levels a and b.
LARGE, SIZES = 0.9816, (1.510 - 0.4528) / (1.510 + 0.4528)
UNREACHABLE = np.iinfo(np.uint16).max
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, np.newaxis], axis=1).astype(np.float32)


def words(dimension: int) -> int:
    """64-bit words of a code."""
    return -(-dimension // WORD)


def encode(vectors: Vectors) -> Codes:
    """The codes of vectors of shape (blocks, vectors a block, dimension)."""
    blocks, size, dimension = vectors.shape
    signs = np.zeros((blocks, size, words(dimension) * WORD // 8), np.uint8)
    packed = np.packbits(vectors > 0, axis=2)
    signs[:, :, : packed.shape[2]] = packed
    return np.ascontiguousarray(signs.view(np.uint64).transpose(0, 2, 1))


def encode_sizes(vectors: Vectors) -> Codes:
    """A second code of unit vectors: where a number is large, its sign, and where it is small, the other one.

    Together both say in which of four ranges each number lies, and signs + `SIZES` * sizes are the levels that lose
    least of a normal distribution in two bits (J. Max, "Quantizing for minimum distortion", IRE Trans. Inform. Theory
    6, 1960).
    """
    large = np.abs(vectors) > LARGE / vectors.shape[2] ** 0.5
    return encode(np.where(large == (vectors > 0), np.float32(1), np.float32(-1)))


def ranked(
    codes: Codes, allowed: Mask, query: Vectors, count: int, sizes: Codes | None = None
) -> tuple[Positions, Vectors]:
    """The `count` allowed vectors that are likely closest, best first: positions, counted through all blocks, and
    estimates, which grow with the cosine on a scale of their own.

    `allowed` has shape (blocks, vectors a block), `query` (dimension,); with the codes of `sizes` they are closer.
    """
    near = smallest(distances(codes, allowed, query), count * WIDER)
    near = near[allowed.reshape(-1)[near]]
    found = estimates(codes, near, query)
    if sizes is not None:
        found += SIZES * estimates(sizes, near, query)
    best = np.argsort(-found, kind="stable")[:count]
    return near[best], found[best]


def distances(codes: Codes, allowed: Mask, query: Vectors) -> npt.NDArray[np.uint16]:
    """Hamming distances, one for every position; `UNREACHABLE` where it is not allowed."""
    code = encode(query[np.newaxis, np.newaxis])[0]
    found = np.empty(allowed.shape, np.uint16)
    for start in range(0, len(codes), SCANNED_BLOCKS):
        part = slice(start, start + SCANNED_BLOCKS)
        np.bitwise_count(codes[part] ^ code).sum(axis=1, dtype=np.uint16, out=found[part])
    found[~allowed] = UNREACHABLE
    return found.reshape(-1)


def smallest(values: npt.NDArray[np.uint16], count: int) -> Positions:
    """Positions of the `count` smallest values, the first ones among equals."""
    if count >= len(values):
        return np.arange(len(values))
    limit = np.partition(values, count - 1)[count - 1]
    below = np.flatnonzero(values < limit)
    return np.concatenate((below, np.flatnonzero(values == limit)[: count - len(below)]))


def estimates(codes: Codes, positions: Positions, query: Vectors) -> Vectors:
    """Products of the query with the codes at `positions`, a set bit counting 1 and others 0.

    For every byte of a code, the sum that each of its 256 values stands for is looked up.
    """
    block, within = np.divmod(positions, codes.shape[2])
    values = np.ascontiguousarray(np.ascontiguousarray(codes[block, :, within]).view(np.uint8).T)
    padded = np.zeros(8 * len(values), np.float32)
    padded[: len(query)] = query
    sums = np.vecdot(padded.reshape(-1, 1, 8), _BITS)  # shape (bytes, 256); on this thread, as in `vectors`
    found = np.zeros(len(positions), np.float32)
    for row, value in zip(sums, values, strict=True):
        found += row[value]
    return found
