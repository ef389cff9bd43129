"""Passages that our own retriever finds for a question and that do not answer it.

    python -m tools.negatives --data DIR --out negatives.json

Writes, for every question of every corpus, the ids of the passages found for it, best first, without its gold ones and
without those that hold its answer's words. Only what the search ranks high is worth a reader's time: random passages
teach it nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from edgeai import chunks, followup, retrieve
from edgeai.config import DEFAULT_EMBEDDER
from edgeai.onnx.encoders import OnnxEmbedder
from edgeai.records import Chunk, Document
from edgeai.registry import Registry
from edgeai.store import Maker, Store
from tools.corpora import Corpus, Question, Text, read_originals, read_published

FOUND = 12  # passages kept a question
BATCH = 256
SHORT = 3  # characters: an answer up to this long is in many passages without being answered there


def main() -> None:
    """Mine every corpus and write one file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train/")
    parser.add_argument("--own", type=Path, help="folder with more sets in the format of train/original")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    corpora = [*read_published(options.data), *read_originals(options.data / "train" / "original")]
    corpora += read_originals(options.own) if options.own else []
    embedder = OnnxEmbedder(Registry(offline=True).embedder(DEFAULT_EMBEDDER))
    found: dict[str, list[str]] = {}
    for corpus in corpora:
        began = time.perf_counter()
        found |= mine(corpus, embedder)
        print(f"{corpus.name}: {len(corpus.questions)} questions, {time.perf_counter() - began:.0f} s", flush=True)
    options.out.write_text(json.dumps(found), encoding="utf-8")


def mine(corpus: Corpus, embedder: OnnxEmbedder) -> dict[str, list[str]]:
    """Passage ids by question id, best first."""
    spec = embedder.spec
    maker = Maker(spec.name, spec.digest, spec.dimension, chunks.CHUNKER)
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "index.db", maker=maker) as store:
        texts = list(corpus.texts.values())
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            vectors = embedder.embed_passages([f"{text.title}\n{text.text}" for text in batch])
            store.put_many([(_document(text), [_chunk(text)], vectors[i : i + 1]) for i, text in enumerate(batch)])
        return {
            question.id: _mine(question, corpus, lambda query: _search(query, store, embedder))
            for question in corpus.questions
        }


def _mine(question: Question, corpus: Corpus, search: Callable[[str], list[str]]) -> list[str]:
    answers = [corpus.texts[span.passage].text[span.start : span.end].casefold() for span in question.spans]
    answers = [answer for answer in answers if len(answer) > SHORT]
    query = followup.rewrite_question(question.text, question.history)
    return [
        name
        for name in search(query)
        if name not in question.gold and not any(answer in corpus.texts[name].text.casefold() for answer in answers)
    ][:FOUND]


def _search(query: str, store: Store, embedder: OnnxEmbedder) -> list[str]:
    found = retrieve.search(query, store, embedder, limit=FOUND + 4, candidates=30, per_document=FOUND)
    return [hit.path for hit in found.hits]


def _document(text: Text) -> Document:
    return Document(text.id, text.text, "text", text.title, 0.0, "")


def _chunk(text: Text) -> Chunk:
    return Chunk(0, len(text.text), text.text)


if __name__ == "__main__":
    main()
