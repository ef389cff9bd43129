"""A small index for the tests of the store, also for those that run it in processes of their own."""

from __future__ import annotations

import numpy as np

from edgeai.filters import Filter, parse_filter
from edgeai.records import Chunk, Document
from edgeai.store import Maker, Store

DIMENSION = 8
MAKER = Maker("toy", "0123456789abcdef", DIMENSION, "1")


def unit(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def entry(path: str, text: str = "some words", *, size: int = 40, seed: int = 0, **fields):
    """A document cut into chunks of `size` characters, with random vectors."""
    values = {"type": "text", "title": "Title", "modified": 1.5, "digest": "d" + path, **fields}
    document = Document(path, text, **values)
    starts = range(0, len(text), size)
    chunks = [Chunk(at, min(at + size, len(text)), text[at : at + size], ("Part", "Section"), "", 2) for at in starts]
    return document, chunks, unit(len(chunks), seed)


def filled(store: Store) -> Store:
    """Four documents that differ in every field a filter knows."""
    store.put(*entry("/docs/a.md", "apple pie recipe", type="markdown", title="Apple", tags=("food", "sweet"), seed=1))
    store.put(*entry("/docs/sub/b.pdf", "apple tree care", type="pdf", title="Trees", modified=100.0, seed=2))
    store.put(*entry("/docs/hr.md", "apple salary secret", type="markdown", title="Pay", label="hr", seed=3))
    store.put(*entry("/x/[c].txt", "apple juice press", title="Juice", tags=("food",), label="kitchen", seed=4))
    return store


def search_everything(store: Store) -> None:
    """Every kind of search, on an index that may hold anything."""
    where = parse_filter(["path~*.md"], tags=["food"], labels=["", "hr"])
    for condition in (Filter(), where):
        ids = [i for i, _ in store.matching(["apple"], limit=9, where=condition)]
        ids += [i for i, _ in store.nearest(unit(1)[0], limit=9, where=condition)]
        store.hydrate([*ids, 1, 2, 3], where=condition)
        store.similarities(unit(1)[0], [*ids, 1, 2, 3], where=condition)
        store.document_frequency(["apple"], where=condition)
    for path in store.files():
        store.chunks_of(path)
