"""Does retrieval keep its share of the time, and find the same, as an index grows to a million chunks?

A question costs one forward of the embedder, beside which the keyword index is read; then the vectors are searched, and
what was found is fused. Physics of the vector search, at 384 dimensions:

- exact (up to 48 MiB of vectors): 1,536 bytes a chunk are read once, so 10,000 chunks take 15 MB;
- codes: 48 bytes a chunk, 48 MB at a million (and as many again, of which few are looked at), and at least 100 vectors
  of 1,536 bytes from SQLite.

The floor is those bytes at the bandwidth of this machine's memory, which is measured by adding up a large array; "times
the floor" is how far the search is from it. What lies between is popcounts, selection, and above all SQLite's look-ups,
which follow a list of pages for each vector. Keyword search has no such floor: it scores some 6,000 chunks a question,
and reads 80,000 entries of the lists of its words.

The index: vectors x + s (y - z) of a real vector x and two of its neighbours y and z, with a little noise, so that new
ones lie among the old; texts of sentences drawn from the real ones, so that a word is as frequent as before. Questions
are runs of words of the real texts. Recall is against the product with every vector.

    python benchmarks/scale.py --index INDEX.db [--chunks 10000 100000 1000000] [--questions 200] [--folder DIR]

INDEX is any index of a few thousand chunks, built with the default embedder; it is only read. With --folder, indexes
are kept and used again; a million chunks take about 3 GB of disk and some minutes to make. The last line is one JSON
document.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from edgeai import retrieve
from edgeai.config import DEFAULT_EMBEDDER
from edgeai.onnx.encoders import OnnxEmbedder
from edgeai.records import Chunk, Document
from edgeai.registry import Registry
from edgeai.store import Store, codes, precisions
from edgeai.text.terms import query_terms

if TYPE_CHECKING:
    from edgeai.records import Vectors

T = TypeVar("T")

NEIGHBOURS = 16
NOISE = 0.25  # length of the noise added to a vector of length 1
CHUNKS_PER_DOCUMENT = 20
SENTENCES = 6  # a chunk
BATCH = 500  # documents a transaction
DEPTH = 10  # of recall
READ = 20_000  # vectors at a time
CANDIDATES = 50  # as `retrieve.search` takes
STAGES = ("embed", "keywords", "vectors", "search", "total")


def main() -> None:
    """Measure every size, print a line for each and, as the last line, JSON."""
    options = _options()
    embedder = OnnxEmbedder(Registry(offline=True).embedder(DEFAULT_EMBEDDER))
    source = Source.read(options.index)
    bandwidth = memory_bandwidth()
    questions = source.questions(options.questions, random.Random(1))
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for chunks in options.chunks:
            with grown(source, chunks, options.folder or Path(scratch)) as store:
                rows.append(measure(store, embedder, questions, bandwidth))
                print(_line(rows[-1]), flush=True)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "memory_gb_s": round(bandwidth / 1e9, 1),
    }
    print(json.dumps({"benchmark": "scale", "machine": machine, "questions": len(questions), "sizes": rows}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--index", type=Path, required=True, help="index to grow from; only read")
    parser.add_argument("--chunks", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="keep the grown indexes here")
    return parser.parse_args()


# the index ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """Real sentences and vectors."""

    maker: Any
    sentences: Sequence[str]
    vectors: Vectors
    neighbours: Any = field(repr=False)  # positions in `vectors`, shape (vectors, NEIGHBOURS)

    @classmethod
    def read(cls, path: Path) -> Source:
        """Everything in an index."""
        with Store.open(path, maker=None, read_only=True) as store:
            texts = [document.text for document in store.documents()]
            ids = [chunk_id for name in store.files() for chunk_id, _ in store.chunks_of(name)]
            stored = store.vectors(ids)
            parts = (part.strip() for text in texts for part in re.split(r"(?<=[.?!])\s+|\n+", text))
            sentences = [part for part in parts if 30 < len(part) < 300]
            return cls(store.maker, sentences, stored, _neighbours(stored))

    def questions(self, count: int, chance: random.Random) -> list[str]:
        """Runs of four to ten words; no two are the same."""
        found: dict[str, None] = {}
        while len(found) < count:
            words = chance.choice(self.sentences).split()
            length = chance.randint(4, 10)
            start = chance.randrange(max(1, len(words) - length))
            if query_terms(question := " ".join(words[start : start + length])):
                found[question] = None
        return [*found]

    def grow(self, count: int, chance: np.random.Generator) -> Vectors:
        """New unit vectors among the real ones."""
        which, one, other = (
            chance.integers(len(self.vectors), size=count),
            *chance.integers(NEIGHBOURS, size=(2, count)),
        )
        step = chance.uniform(0.4, 1.0, (count, 1))
        noise = chance.standard_normal((count, self.vectors.shape[1])) * (NOISE / self.vectors.shape[1] ** 0.5)
        apart = self.vectors[self.neighbours[which, one]] - self.vectors[self.neighbours[which, other]]
        moved = self.vectors[which] + step * apart + noise
        unit: Vectors = (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)
        return unit


def _neighbours(stored: Vectors) -> Any:
    """The nearest other vectors of each, in no order."""
    parts = (stored[start : start + 512] @ stored.T for start in range(0, len(stored), 512))
    return np.vstack([np.argpartition(-part, NEIGHBOURS + 1, axis=1)[:, 1 : NEIGHBOURS + 1] for part in parts])


def grown(source: Source, chunks: int, folder: Path) -> Store:
    """An index of this many chunks in the folder, made unless it is there already."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"scale-{chunks}.db"
    if path.exists():
        return Store.open(path, maker=source.maker)
    unfinished = path.with_suffix(".part")
    for left in folder.glob(f"{unfinished.name}*"):
        left.unlink()
    documents = _documents(source, chunks, random.Random(chunks), np.random.default_rng(chunks))
    with Store.open(unfinished, maker=source.maker) as store:
        while batch := list(islice(documents, BATCH)):
            store.put_many(batch)
    unfinished.rename(path)
    return Store.open(path, maker=source.maker)


def _documents(
    source: Source, chunks: int, chance: random.Random, numbers: np.random.Generator
) -> Iterator[tuple[Document, list[Chunk], Vectors]]:
    for start in range(0, chunks, CHUNKS_PER_DOCUMENT):
        count = min(CHUNKS_PER_DOCUMENT, chunks - start)
        parts = [" ".join(chance.choices(source.sentences, k=SENTENCES)) for _ in range(count)]
        text = "\n".join(parts)
        ends = np.cumsum([len(part) + 1 for part in parts]).tolist()
        pieces = [Chunk(end - 1 - len(part), end - 1, part) for end, part in zip(ends, parts, strict=True)]
        title = " ".join(chance.choice(source.sentences).split()[:5])
        yield Document(f"/scale/{start}", text, "text", title, 0.0, str(start)), pieces, source.grow(count, numbers)


# measuring ----------------------------------------------------------------------------------------------------------


def measure(store: Store, embedder: OnnxEmbedder, questions: Sequence[str], bandwidth: float) -> dict[str, Any]:
    """Times, recall and memory at one size."""
    embedder.close()  # and forget the questions, which were asked of the last size
    embedder.embed_query("open the session before memory is counted")
    gc.collect()
    before = resident_mb()
    load_ms, _ = timed(store.load_vectors)
    loaded = resident_mb()
    retrieve.search("warm up", store, embedder)
    samples: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for question in questions:  # before `embed_query` below: the embedder remembers questions
        total, found = timed(partial(retrieve.search, question, store, embedder))
        for stage, value in (("embed", found.embed_ms), ("search", found.search_ms), ("total", total)):
            samples[stage].append(value)
    asked = np.stack([embedder.embed_query(question) for question in questions])
    nearest: list[list[int]] = []
    for question, vector in zip(questions, asked, strict=True):
        samples["keywords"].append(timed(partial(keywords, store, question))[0])
        elapsed, hits = timed(partial(store.nearest, vector, limit=CANDIDATES))
        samples["vectors"].append(elapsed)
        nearest.append([chunk_id for chunk_id, _ in hits])
    size = store.count_chunks()
    percentiles = {f"{stage}_ms": _percentiles(values) for stage, values in samples.items()}
    recall = {f"recall@{depth}": value for depth, value in recalls(store, size, asked, nearest).items()}
    read = bytes_read(size, asked.shape[1])
    floor_ms = read / bandwidth * 1000
    return {
        "chunks": size,
        **percentiles,
        **recall,
        "load_ms": round(load_ms, 1),
        "resident_mb": {"before": before, "vectors_loaded": loaded, "after": resident_mb()},
        "bytes_read": read,
        "floor_ms": round(floor_ms, 3),
        "times_floor": round(percentiles["vectors_ms"]["p50"] / floor_ms, 1),
    }


def keywords(store: Store, question: str) -> None:
    """What `retrieve.search` asks of the keyword index."""
    terms = query_terms(question)
    store.matching(terms, limit=CANDIDATES, frequencies=store.document_frequency(terms))


def recalls(store: Store, size: int, asked: Vectors, nearest: Sequence[Sequence[int]]) -> dict[int, float]:
    """Share of the true best that a search found, at two depths; reads every vector."""
    products = np.full((len(asked), CANDIDATES), -2.0, np.float32)
    best = np.zeros((len(asked), CANDIDATES), np.int64)
    for start in range(1, size + 1, READ):
        ids = np.arange(start, min(start + READ, size + 1))  # a new index numbers its chunks from 1
        every = np.hstack((products, asked @ store.vectors(ids.tolist()).T))
        numbers = np.hstack((best, np.broadcast_to(ids, (len(asked), len(ids)))))
        kept = np.argsort(-every, axis=1, kind="stable")[:, :CANDIDATES]
        products, best = np.take_along_axis(every, kept, 1), np.take_along_axis(numbers, kept, 1)
    return {
        depth: round(
            sum(len({*true[:depth].tolist()} & {*found}) for true, found in zip(best, nearest, strict=True))
            / (depth * len(asked)),
            4,
        )
        for depth in (DEPTH, CANDIDATES)
    }


def bytes_read(chunks: int, dimension: int) -> int:
    """What a search of the vectors cannot do without."""
    if precisions.choose(chunks, dimension) is precisions.EXACT:
        return 4 * dimension * chunks
    return 8 * codes.words(dimension) * chunks + 4 * dimension * precisions.FIRST


def memory_bandwidth() -> float:
    """Bytes a second at which one thread reads memory: the best of ten sums over 256 MB."""
    array = np.ones(32 * 2**20)
    return array.nbytes / min(timed(array.sum)[0] for _ in range(10)) * 1000


def resident_mb() -> int | None:
    """Memory of this process, of which the models take the most; None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Milliseconds, and what came of it."""
    began = time.perf_counter()
    result = work()
    return (time.perf_counter() - began) * 1000, result


def _percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    return {f"p{p}": round(float(np.percentile(milliseconds, p)), 2) for p in (50, 95)}


def _line(row: dict[str, Any]) -> str:
    times = "  ".join(f"{stage} {row[f'{stage}_ms']['p50']}/{row[f'{stage}_ms']['p95']}" for stage in STAGES)
    return f"{row['chunks']:>8} chunks, p50/p95 ms: {times}  recall@{DEPTH} {row[f'recall@{DEPTH}']}"


if __name__ == "__main__":
    main()
