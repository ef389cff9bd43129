"""Forty-eight small files that are hard to tell apart, and a question about each: a corpus for evaluations.

Everything an evaluation runs on is real here: chunker, embedder, store and pipeline, without reader and generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random

import numpy as np

from edgeai import chunks, pipeline
from edgeai.config import Settings
from edgeai.evaluation.judge import DEPTH
from edgeai.evaluation.questions import Case, Source
from edgeai.evaluation.run import Run, Subject, run
from edgeai.indexing import embedded_text
from edgeai.pipeline import Engines
from edgeai.records import Answer, Chunk, Document
from edgeai.retrieve import search
from edgeai.store import Maker, Store

NAMES = ("Aldermoor", "Brackwater", "Cresthaven", "Dunmarrow", "Eastholm", "Fairlough", "Greystead", "Hollinbrook")
# What a service is called in a file, and how a question goes round that name.
SERVICES = {
    "swimming pool": "go for a dip",
    "library": "borrow a novel",
    "bakery": "buy a fresh loaf",
    "post office": "send a parcel",
    "museum": "look at old paintings",
    "ferry": "cross the water by boat",
}
FILLER = (
    *("Bring a coin for the locker.", "Children pay nothing until they are six.", "The upper floor is quiet."),
    *("Rye sells out early.", "Cakes have to be ordered on the day before.", "The clerk also sells bus tickets."),
    *("School classes need a booking.", "The garden is open to everybody.", "Bicycles ride on the lower deck."),
    *("Dogs stay on the lead in the park.", "The market is held on the square.", "Bins are emptied before noon."),
    *("Letters are answered within two weeks.", "Visitors may leave their cars behind the school."),
    *("Fishing needs a permit that the mayor signs.", "The choir looks for new voices every spring."),
)
SETTINGS = Settings(model="none", reader="none", budget_ms=0)
PLACES = [(name, service) for name in NAMES for service in SERVICES]


class Remembering:
    """An embedder that computes the vector of a text once: the evaluations of these tests share their texts."""

    def __init__(self, embedder) -> None:
        self.spec = embedder.spec
        self.load, self.embed_query = embedder.load, embedder.embed_query
        self.count_tokens = embedder.count_tokens
        self._embedder = embedder
        self._known: dict[str, np.ndarray] = {}

    def embed_passages(self, texts: Sequence[str]) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known |= dict(zip(new, self._embedder.embed_passages(new), strict=True)) if new else {}
        return np.stack([self._known[text] for text in texts])


def hour(number: int) -> str:
    return f"{6 + number % 6}:{10 + number}"


def fact(number: int) -> str:
    name, service = PLACES[number]
    return f"The {service} of {name} opens at {hour(number)} every morning."


def documents() -> list[Document]:
    texts = [text(number) for number in range(len(PLACES))]
    return [Document(f"/towns/{i}.txt", text, "text", "", 1.0, f"digest {i}") for i, text in enumerate(texts)]


def text(number: int) -> str:
    """The fact at the start, in the middle or at the end of what all towns could say."""
    random = Random(number)
    others = [f"The road leads on to {random.choice(NAMES)}.", f"Tickets are also sold in {random.choice(NAMES)}."]
    said = [*random.sample(FILLER, 6), *others]
    said.insert((0, 4, len(said))[number % 3], fact(number))
    return " ".join(said)


def cases() -> list[Case]:
    return [
        Case(f"{i}", f"From when on can one {SERVICES[service]} in {name}?", (hour(i),), (Source(f"{i}.txt", fact(i)),))
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
