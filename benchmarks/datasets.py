"""Readers for evaluation data kept outside the repository: gzip JSON lines and tab-separated judgements.

Every reader takes the directory that holds the data. Nothing is downloaded, and nothing is judged here: a retrieval set
is documents, questions, and for each question the documents that count as found.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SENTENCE_END = re.compile(r"[.!?\n]\s+")
WINDOW = 1_000  # characters; long texts without documents of their own are cut to a little more than this


@dataclass(frozen=True, slots=True)
class Source:
    """One document of a corpus."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Query:
    """One question and the ids of the documents that answer it."""

    id: str
    text: str
    relevant: frozenset[str]


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """A corpus with judged questions."""

    name: str
    sources: tuple[Source, ...]
    queries: tuple[Query, ...]


def without_copies(data: RetrievalSet) -> RetrievalSet:
    """Sources of the same text (case and white space aside) become the first of them, also in the judgements: which
    copy a search returns says nothing about it.
    """
    first: dict[str, str] = {}
    kept = {source.id: first.setdefault(" ".join(source.text.lower().split()), source.id) for source in data.sources}
    return RetrievalSet(
        data.name,
        tuple(source for source in data.sources if kept[source.id] == source.id),
        tuple(Query(q.id, q.text, frozenset(kept[name] for name in q.relevant)) for q in data.queries),
    )


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a gzip-compressed JSON lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def passage_set(path: Path, roles: Collection[str] = ("true", "noise")) -> RetrievalSet:
    """Questions with their own passages: the corpus is every passage, relevant are the question's own.

    Where passages have a role, the corpus is those with one of `roles` and relevant are the "true" ones. Left out by
    default: falsified copies, which a search ought to find as much as the originals. Questions marked unanswerable
    stay out, their passages stay in. A question asked several times in the same words (of different documents) is one
    query, and each of its passages is relevant.
    """
    records = read_jsonl(path)
    passages = {p["id"]: p for record in records for p in record["passages"] if p.get("role", "true") in roles}
    relevant: dict[str, set[str]] = {}
    for record in records:
        if record["answerable"]:
            found = (passage["id"] for passage in record["passages"] if passage.get("role", "true") == "true")
            relevant.setdefault(record["question"], set()).update(found)
    return RetrievalSet(
        path.name.removesuffix(".jsonl.gz"),
        tuple(Source(p["id"], p["title"], p["text"]) for p in passages.values()),
        tuple(Query(question, question, frozenset(ids)) for question, ids in relevant.items()),
    )


def judged_set(folder: Path) -> RetrievalSet:
    """A folder with `corpus`, `queries` and `qrels`, the layout of the BEIR collections."""
    relevant: dict[str, set[str]] = {}
    with gzip.open(folder / "qrels.tsv.gz", "rt", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            if float(row["score"]) > 0:
                relevant.setdefault(row["query-id"], set()).add(row["corpus-id"])
    return RetrievalSet(
        folder.name,
        tuple(Source(d["id"], d["title"], d["text"]) for d in read_jsonl(folder / "corpus.jsonl.gz")),
        tuple(
            Query(q["id"], q["text"], frozenset(relevant[q["id"]]))
            for q in read_jsonl(folder / "queries.jsonl.gz")
            if q["id"] in relevant
        ),
    )


def span_set(folder: Path) -> RetrievalSet:
    """Questions whose answers are character spans of a few long texts: the texts are cut into windows of whole
    sentences, and a window counts when it overlaps one of the spans.
    """
    sources: list[Source] = []
    windows: dict[str, list[tuple[int, int, str]]] = {}
    for text in read_jsonl(folder / "corpus.jsonl.gz"):
        cuts = windows[text["id"]] = [
            (start, end, f"{text['id']}#{n}") for n, (start, end) in enumerate(_windows(text["text"]))
        ]
        sources += [Source(name, text["title"], text["text"][start:end]) for start, end, name in cuts]
    queries = []
    for query in read_jsonl(folder / "queries.jsonl.gz"):
        spans = [(span["doc"], span["start"], span["start"] + len(span["text"])) for span in query["spans"]]
        relevant = {name for doc, s, e in spans for start, end, name in windows[doc] if start < e and s < end}
        queries.append(Query(query["id"], query["text"], frozenset(relevant)))
    return RetrievalSet(folder.name, tuple(sources), tuple(queries))


def subsample(data: RetrievalSet, *, queries: int, sources: int, seed: int = 0) -> RetrievalSet:
    """At most this many questions, and their relevant documents plus random others up to `sources` documents."""
    chosen = _sample(data.queries, queries, seed)
    needed = {name for query in chosen for name in query.relevant}
    others = [source for source in data.sources if source.id not in needed]
    kept = needed | {source.id for source in _sample(others, max(0, sources - len(needed)), seed)}
    return RetrievalSet(data.name, tuple(source for source in data.sources if source.id in kept), tuple(chosen))


def _sample(items: Iterable[Any], size: int, seed: int) -> list[Any]:
    """A repeatable sample without replacement, in the original order."""
    listed = list(items)
    if len(listed) <= size:
        return listed
    return [listed[i] for i in sorted(random.Random(seed).sample(range(len(listed)), size))]


def _windows(text: str) -> Iterable[tuple[int, int]]:
    """Half-open character ranges that end with a sentence; together they cover the text."""
    start = 0
    while start < len(text):
        match = SENTENCE_END.search(text, start + WINDOW)
        end = match.end() if match else len(text)
        yield start, end
        start = end
