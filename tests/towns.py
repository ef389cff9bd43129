"""Forty-eight small files that are hard to tell apart, and a question about each: a corpus for evaluations.

Everything an evaluation runs on is real here: chunker, embedder, store and pipeline, without reader and generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from edgeai import chunks, pipeline
from edgeai.config import Settings
from edgeai.evaluate import Run, Subject, run
from edgeai.judge import DEPTH
from edgeai.pipeline import Engines, embedded_text
from edgeai.questions import Case, Source
from edgeai.records import Answer, Chunk, Document
from edgeai.retrieve import search
from edgeai.store import Maker, Store

NAMES = ("Aldermoor", "Brackwater", "Cresthaven", "Dunmarrow", "Eastholm", "Fairlough", "Greystead", "Hollinbrook")
SERVICES = {
    "swimming pool": "Bring a coin for the locker. Children swim for free until they are six.",
    "library": "Books can be kept for a month. The reading room on the upper floor is quiet.",
    "bakery": "Rye bread is sold out early. Cakes have to be ordered on the day before.",
    "post office": "Parcels are kept for a week. The clerk also sells bus tickets.",
    "museum": "School classes need a booking. The garden behind it is open to everybody.",
    "ferry": "Bicycles ride on the lower deck. In a storm it stays in the harbour.",
}
SETTINGS = Settings(model="none", reader="none", budget_ms=0)
PLACES = [(name, service) for name in NAMES for service in SERVICES]


def hour(number: int) -> str:
    return f"{6 + number % 6}:{10 + number}"


def fact(number: int) -> str:
    name, service = PLACES[number]
    return f"The {service} of {name} opens at {hour(number)} every morning."


def documents() -> list[Document]:
    texts = [f"{fact(number)} {SERVICES[service]}" for number, (_, service) in enumerate(PLACES)]
    return [Document(f"/towns/{i}.txt", text, "text", "", 1.0, f"digest {i}") for i, text in enumerate(texts)]


def cases() -> list[Case]:
    return [
        Case(f"{i}", f"When does the {service} in {name} open?", (hour(i),), (Source(f"{i}.txt", fact(i)),))
        for i, (name, service) in enumerate(PLACES)
    ]


def split(document: Document, embedder) -> tuple[Chunk, ...]:
    return chunks.split(document, embedder.count_tokens)


def index(path: Path, embedder, chunked: Iterable[tuple[Document, Sequence[Chunk]]] | None = None) -> Store:
    """An index of the towns, or of what is given."""
    spec = embedder.spec
    store = Store.open(path, maker=Maker(spec.name, spec.digest, spec.dimension, chunks.CHUNKER))
    given = ((document, split(document, embedder)) for document in documents()) if chunked is None else chunked
    for document, parts in given:
        vectors = embedder.embed_passages([embedded_text(document, chunk) for chunk in parts])
        store.put(document, parts, vectors)
    return store


def evaluated(store: Store, embedder, change: Callable[[Answer], Answer] = lambda answer: answer) -> Run:
    """The run over all questions; `change` is what becomes of an answer on its way out."""
    engines = Engines(store, embedder, lambda: None)

    def ask(case: Case) -> Answer:
        return change(pipeline.ask(case.question, engines, SETTINGS, history=case.history).answer)

    return run(cases(), Subject(store, embedder, lambda query: search(query, store, embedder, limit=DEPTH).hits, ask))
