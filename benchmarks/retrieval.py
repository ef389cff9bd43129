"""Does the fused ranking find more than keywords alone and vectors alone, and what does a search cost?

BM25 sees words and not meanings, an embedder meanings and not rare words, and only in languages it was trained on; a
fusion is worth its milliseconds if it is never worse than the better of the two, without knowing which one that is.
Time goes to one forward of the embedder (compute-bound) and one scan of all vectors (bandwidth-bound); the keyword
search runs beside them.

Every source of a set is a document put through the product's own chunker, embedder, store and search; it counts as
found at its best chunk, and copies of a source are one source. Keyword and vector rankings are those of the store,
without fusion; "read" is the fused ranking with its first 20 hits put in order by the reader, where the question is in
a language it was trained on. Corpora and questions are subsampled to --sources and --queries. Times are those of a
search with the default limit, and of the reader for one pair. The very last line is one JSON document.

    python benchmarks/retrieval.py --data DIR [--split eval|train] [--cache DIR]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Query, RetrievalSet, Source, judged_set, passage_set, span_set, subsample, without_copies

from edgeai import chunks, indexing, pipeline, retrieve
from edgeai.config import DEFAULT_EMBEDDER, DEFAULT_READER
from edgeai.documents import plain
from edgeai.engines import Embedder, Reader
from edgeai.grounding import read
from edgeai.onnx.encoders import OnnxEmbedder
from edgeai.onnx.reader import OnnxReader
from edgeai.records import Document, Retrieval
from edgeai.registry import Registry
from edgeai.specs import EmbedderSpec
from edgeai.store import Maker, Store
from edgeai.text.terms import query_terms

if TYPE_CHECKING:
    from edgeai.records import Vectors

SETS: dict[str, dict[str, Callable[[Path], RetrievalSet]]] = {
    "eval": {
        "anthropic_docs": judged_set,
        **{f"{name}.jsonl.gz": passage_set for name in ("xquad_en", "xquad_de", "xquad_zh", "squad2_dev5", "rgb_fact")},
    },
    "train": {
        **{f"nomiracl_{language}.jsonl.gz": passage_set for language in ("de", "es", "fr")},
        **{f"{name}.jsonl.gz": passage_set for name in ("squad_train44", "policyqa_dev", "covidqa", "clapnq")},
        "scifact_train": judged_set,
        "chunking_spans": span_set,
    },
}
RECALL_DEPTH = 5
DEPTH = 10  # of MRR and nDCG
CHUNKS = 30  # ranked for the scores, so that 10 documents remain once those with several hits are counted once
METHODS = ("keyword", "vectors", "fused", "read")
READ = 20  # hits of the fused ranking that the reader puts in order; more than `ask` reads, which shows fewer


class CachedEmbedder:
    """The product's embedder, with the vectors of passages kept in a folder between runs; questions are not cached."""

    def __init__(self, embedder: OnnxEmbedder, folder: Path | None) -> None:
        self.spec: EmbedderSpec = embedder.spec
        self.embed_query = embedder.embed_query
        self.count_tokens = embedder.count_tokens
        self._embedder = embedder
        self._folder = folder

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """As `Embedder.embed_passages`."""
        if self._folder is None:
            return self._embedder.embed_passages(texts)
        key = hashlib.sha256("\0".join((self.spec.digest, *texts)).encode()).hexdigest()
        path = self._folder / f"{key[:32]}.npy"
        if not path.exists():
            np.save(path, self._embedder.embed_passages(texts))
        vectors: Vectors = np.load(path)
        return vectors


@dataclass(frozen=True, slots=True)
class Measured:
    """The outcome of one question: per method (recall@5, MRR@10, nDCG@10), and milliseconds."""

    scores: Mapping[str, tuple[float, float, float]]
    embed_ms: float
    search_ms: float
    pair_ms: float  # of the reader, 0 when it was not asked


def main() -> None:
    """Run the sets of a split, print a table and, as the last line, JSON."""
    options = _options()
    registry = Registry(offline=True)
    embedder = OnnxEmbedder(registry.embedder(DEFAULT_EMBEDDER))
    reader = OnnxReader(registry.reader(options.reader))
    if options.cache:
        options.cache.mkdir(parents=True, exist_ok=True)
    rows = []
    print(
        f"{'set':<15}{'n':>5}{'chunks':>8}"
        + "".join(f"{method:>22}" for method in METHODS)
        + f"{'embed':>13}{'search':>13}{'pair':>13}"
    )
    for data in _sets(options):
        rows.append(_measure(data, CachedEmbedder(embedder, options.cache), reader))
        print(_line(rows[-1]), flush=True)
    print("per method: recall@5, MRR@10, nDCG@10; milliseconds: p50/p95")
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }
    print(json.dumps({"benchmark": "retrieval", "split": options.split, "machine": machine, "sets": rows}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and eval/")
    parser.add_argument("--split", choices=tuple(SETS), default="eval")
    parser.add_argument("--only", default="", help="run the sets whose name contains this")
    parser.add_argument("--reader", default=DEFAULT_READER, help="reader, by name or path")
    parser.add_argument("--cache", type=Path, help="keep passage vectors here between runs")
    parser.add_argument("--queries", type=int, default=500, help="at most this many questions a set")
    parser.add_argument("--sources", type=int, default=1500, help="at most this many documents a set")
    return parser.parse_args()


def _sets(options: argparse.Namespace) -> Iterator[RetrievalSet]:
    for name, reads in SETS[options.split].items():
        if options.only in name:
            data = without_copies(reads(options.data / options.split / name))
            yield subsample(data, queries=options.queries, sources=options.sources)


def build_index(data: RetrievalSet, store: Store, embedder: Embedder) -> dict[str, str]:
    """Put every source of a set into the store; returns source ids by document path."""
    documents = {f"/{data.name}/{number}": source for number, source in enumerate(data.sources)}
    parts = (
        (document, chunks.split(document, embedder.count_tokens))
        for document in (_document(path, source) for path, source in documents.items())
    )
    indexing.store_chunked(parts, store, embedder, lambda done: None)
    return {path: source.id for path, source in documents.items()}


def open_store(folder: str, embedder: Embedder) -> Store:
    """A new index for this embedder."""
    spec = embedder.spec
    return Store.open(Path(folder) / "index.db", maker=Maker(spec.name, spec.digest, spec.dimension, chunks.CHUNKER))


def _document(path: str, source: Source) -> Document:
    extracted = plain.prose(source.text)
    return Document(path, extracted.text, "text", source.title, 0.0, "", extracted.blocks)


def _measure(data: RetrievalSet, embedder: Embedder, reader: Reader) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, open_store(folder, embedder) as store:
        ids = build_index(data, store, embedder)
        retrieve.search("warm up", store, embedder)
        measured = [_ask(query, store, embedder, reader, ids) for query in data.queries]
        return {
            "set": data.name,
            "queries": len(measured),
            "documents": len(data.sources),
            "chunks": store.count_chunks(),
            **{method: _means([m.scores[method] for m in measured]) for method in METHODS},
            "embed_ms": _percentiles([m.embed_ms for m in measured]),
            "search_ms": _percentiles([m.search_ms for m in measured]),
            "pair_ms": _percentiles([m.pair_ms for m in measured]),
        }


def _ask(query: Query, store: Store, embedder: Embedder, reader: Reader, ids: Mapping[str, str]) -> Measured:
    timed = retrieve.search(query.text, store, embedder)  # first, because the embedder remembers questions
    found = retrieve.search(query.text, store, embedder, limit=CHUNKS)
    keyword = [chunk_id for chunk_id, _ in store.matching(query_terms(query.text), limit=50)]
    nearest = [chunk_id for chunk_id, _ in store.nearest(embedder.embed_query(query.text), limit=50)]
    rankings = {
        "keyword": _paths(store, keyword),
        "vectors": _paths(store, nearest),
        "fused": [h.path for h in found.hits],
    }
    rankings["read"], pair_ms = _read(query.text, found, reader)
    judge = partial(_score, relevant=query.relevant)
    return Measured(
        {method: judge([ids[path] for path in paths]) for method, paths in rankings.items()},
        timed.embed_ms,
        timed.search_ms,
        pair_ms,
    )


def _read(question: str, found: Retrieval, reader: Reader) -> tuple[list[str], float]:
    """Paths as the product would rank them if it read the first hits, and milliseconds a pair."""
    hits = found.hits[:READ]
    if found.trust < read.READABLE or not hits:
        return [hit.path for hit in found.hits], 0.0
    began = time.perf_counter()
    readings = reader.read(question, list(pipeline.numbered(hits)))
    pair_ms = (time.perf_counter() - began) * 1000 / len(hits)
    order = read.order([hit.score for hit in hits], readings, found.trust)
    return [hits[row].path for row in order] + [hit.path for hit in found.hits[READ:]], pair_ms


def _paths(store: Store, chunk_ids: Sequence[int]) -> list[str]:
    return [stored.path for stored in store.hydrate(chunk_ids).values()]


def _score(ranking: Iterable[str], relevant: frozenset[str]) -> tuple[float, float, float]:
    """Recall@5 (of at most 5), reciprocal rank of the first relevant document, nDCG with binary gains, both to 10."""
    gains = [source in relevant for source in dict.fromkeys(ranking)][:DEPTH]
    recall = sum(gains[:RECALL_DEPTH]) / min(RECALL_DEPTH, len(relevant))
    reciprocal = next((1 / rank for rank, gain in enumerate(gains, 1) if gain), 0.0)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(DEPTH, len(relevant)) + 1))
    return recall, reciprocal, sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1)) / ideal


def _means(scores: Sequence[tuple[float, float, float]]) -> dict[str, float]:
    names = (f"recall@{RECALL_DEPTH}", f"mrr@{DEPTH}", f"ndcg@{DEPTH}")
    return {
        name: round(statistics.fmean(column), 4) for name, column in zip(names, zip(*scores, strict=True), strict=True)
    }


def _percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    return {f"p{p}": round(float(np.percentile(milliseconds, p)), 2) for p in (50, 95)}


def _line(row: Mapping[str, Any]) -> str:
    methods = "".join(f"{' / '.join(f'{value:.3f}' for value in row[method].values()):>22}" for method in METHODS)
    times = "".join(f"{row[name]['p50']:>7.1f}/{row[name]['p95']:.1f}" for name in ("embed_ms", "search_ms", "pair_ms"))
    return f"{row['set']:<15}{row['queries']:>5}{row['chunks']:>8}{methods}{times}"


if __name__ == "__main__":
    main()
