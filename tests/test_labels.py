"""Whoever may see documents of some labels learns nothing of the others: 1,000 tries at it, and the ways around."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from zlib import crc32

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_gguf import write_tiny_gguf

import edgeai
from edgeai import pipeline
from edgeai.bench.questions import make_questions
from edgeai.cli import main
from edgeai.config import Settings
from edgeai.errors import NothingToIndex, UsageProblem
from edgeai.evaluation.makeset import draft_questions
from edgeai.filters import Filter, parse_filter
from edgeai.llm.generate import LlamaGenerator
from edgeai.records import Chunk, Document, Turn
from edgeai.retrieve import search
from edgeai.specs import EmbedderSpec
from edgeai.store import Maker, Store
from edgeai.text.terms import words
from edgeai.transfer import export_lines

EXAMPLES, TRIES = 25, 40  # 1,000 tries
LABELS = ("", "hr", "board", "legal")
SUBJECTS = ("pay of Ada", "pay of Bo", "code of the gate", "date of the merger", "name of the buyer", "fine for noise")
SETTINGS = Settings(model="none", reader="none", budget_ms=0)


class WordEmbedder:
    """A text as the sum of random vectors of its words, and a token is a word."""

    spec = EmbedderSpec("words", "", "", "0" * 64, 16)

    def load(self) -> None:
        pass

    def embed_query(self, text):
        drawn = (np.random.default_rng(crc32(word.encode())).standard_normal(16) for word in ("the", *words(text)))
        vector = np.sum(list(drawn), axis=0, dtype=np.float32)
        return vector / np.linalg.norm(vector)

    def embed_passages(self, texts):
        return np.stack([self.embed_query(text) for text in texts])

    def count_tokens(self, text):
        return len(text.split())


EMBEDDER = WordEmbedder()


class World:
    """An index of a few documents that differ in little but their labels, and change while they are searched."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store, self.random = store, Random(seed)
        self.documents: dict[str, tuple[str, str]] = {}  # path to (text, label)
        for number in range(12):
            self.write(number)

    def write(self, number: int) -> None:
        """A document about anything with any label, half of them in words that another may have too."""
        subject, shared = self.random.choice(SUBJECTS), self.random.random() < 0.5
        value = "settled" if shared else f"zq{self.random.randrange(10**6)}x"
        self.put(f"/docs/{number}.md", f"The {subject} is {value} since 2019. It was 40 euros.", self.draw_label())

    def put(self, path: str, text: str, label: str) -> None:
        document = Document(path, text, "markdown", f"Note {text.split()[-6]}", 0.0, path, label=label)
        chunks = [Chunk(0, len(text), text)]
        self.store.put(document, chunks, EMBEDDER.embed_passages([text]))
        self.documents[path] = (text, label)

    def change(self) -> None:
        """What a sync does: relabel, rewrite, move, remove."""
        path = self.random.choice(list(self.documents))
        text, _ = self.documents[path]
        what = self.random.randrange(4)
        if what == 0:
            self.put(path, text, self.draw_label())
        elif what == 1:
            self.write(self.random.randrange(12))
        elif what == 2:
            self.store.move(path, f"{path}x", modified=1.0, title="Moved")
            self.documents[f"{path}x"] = self.documents.pop(path)
        elif len(self.documents) > 6:
            self.store.remove([path])
            del self.documents[path]

    def draw_label(self) -> str:
        return self.random.choice(LABELS)

    def hidden(self, labels: frozenset[str]) -> set[str]:
        """Paths and words that only documents outside of the labels have."""
        visible = " ".join(text for text, label in self.documents.values() if label in labels)
        found = {path for path, (_, label) in self.documents.items() if label not in labels}
        told = {word for text, _ in self.documents.values() for word in text.split() if word.startswith("zq")}
        return found | {word for word in told if word not in visible}


def attempts(world: World, view: Store) -> Iterator[object]:
    """One try of every kind to get at what a view should not show."""
    draw = world.random
    path, (text, label) = draw.choice(list(world.documents.items()))
    questions = (text, f"What is the {draw.choice(SUBJECTS)}?", "How high is it?", "Which exoplanets orbit Trappist?")
    question = draw.choice(questions)
    where = draw.choice((Filter(), parse_filter([f"path={path}"]), parse_filter([f"label={label}"])))
    where = draw.choice((where, replace(where, labels=frozenset(LABELS))))
    history = draw.choice(((), (Turn(f"What is the {draw.choice(SUBJECTS)}?", text),)))
    ids = range(1, 40)
    vector = EMBEDDER.embed_query(text)
    yield search(question, view, EMBEDDER, where=where)
    engines = pipeline.Engines(view, EMBEDDER, lambda: None)
    yield replace(pipeline.ask(question, engines, SETTINGS, where=where, history=history).answer, question="")
    yield view.hydrate(ids, where=where), view.document(path), view.chunks_of(path)
    yield [view.hydrate([i]) for i, _ in view.nearest(vector, limit=50, where=where)]
    yield [view.hydrate([i]) for i in view.similarities(vector, ids, where=where)]
    yield [view.hydrate([i]) for i, _ in view.matching(words(text), limit=50, where=where)]
    yield view.files(), list(view.documents()), view.status(), list(export_lines(view))
    with suppress(NothingToIndex):
        yield draft_questions(view, 20)
        yield make_questions(view, 20)


def leaks(world: World, labels: frozenset[str] | None, tries: int) -> Iterator[str]:
    """What came out of `tries` attempts although it is hidden; with None, of attempts at the whole index."""
    view = world.store if labels is None else world.store.visible_to(labels)
    done = 0
    while done < tries:
        hidden = world.hidden(frozenset({""}) if labels is None else labels)
        for found in attempts(world, view):
            yield from (secret for secret in hidden if secret in repr(found))
            done += 1
        world.change()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("labels")


def opened(folder: Path, seed: int) -> Store:
    spec = EMBEDDER.spec
    file = folder / f"{seed}.db"
    file.unlink(missing_ok=True)
    return Store.open(file, maker=Maker(spec.name, spec.digest, spec.dimension, "1"))


@given(st.integers(0, 10**6), st.sets(st.sampled_from(LABELS)))
@settings(max_examples=EXAMPLES, deadline=None)
def test_nothing_of_other_labels_comes_out_in_a_thousand_tries(folder, seed, labels):
    with opened(folder, seed) as store:
        assert set(leaks(World(store, seed), frozenset(labels), TRIES)) == set()


def test_the_same_tries_find_it_where_nothing_is_hidden(folder):
    with opened(folder, 1) as store:
        assert len(list(leaks(World(store, 1), None, TRIES))) > TRIES


@given(st.integers(0, 10**6), st.sets(st.sampled_from(LABELS)))
@settings(max_examples=10, deadline=None)
def test_counts_are_those_of_an_index_without_the_others(folder, seed, labels):
    with opened(folder, seed) as store:
        world = World(store, seed)
        view = store.visible_to(frozenset(labels))
        seen = [text for text, label in world.documents.values() if label in labels]
        assert view.count_documents() == view.count_chunks() == len(seen)
        assert view.status()["types"] == ({"markdown": len(seen)} if seen else {})
        terms = {word.lower() for text, _ in world.documents.values() for word in words(text)}
        for term, held in view.document_frequency(terms).items():
            assert held == sum(term in words(text) for text in seen), term
        for chunk_id, chunk in store.hydrate(range(1, 40)).items():
            if world.documents[chunk.path][1] in labels:
                assert view.vectors([chunk_id]).shape == (1, 16)
            else:
                with pytest.raises(KeyError):
                    view.vectors([chunk_id])


def test_a_view_of_a_view_sees_what_both_may(folder):
    with opened(folder, 2) as store:
        world = World(store, 2)
        narrow = store.visible_to(frozenset({"hr", ""})).visible_to(frozenset({"hr", "board"}))
        assert set(narrow.files()) == {path for path, (_, label) in world.documents.items() if label == "hr"}


# what an assistant keeps ----------------------------------------------------------------------------------------------

PUBLIC = "# Office\n\nThe office opens at 08:30. The bonus of Ada Lind is paid in May.\n"
SECRET = "# Bonus\n\nThe bonus of Ada Lind is CHF-4711 francs. The bonus of Bo Rask is CHF-5212 francs in 2024.\n"


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "hr").mkdir(parents=True)
    (folder / "office.md").write_text(PUBLIC)
    (folder / "hr" / "bonus.md").write_text(SECRET)
    return folder


@pytest.fixture
def index(tmp_path: Path, docs: Path) -> Path:
    with edgeai.Assistant(tmp_path / "notes.db", model="none") as owner:
        owner.sync(docs / "office.md")
        owner.sync(docs / "hr", label="hr")
    return tmp_path / "notes.db"


def shown(assistant: edgeai.Assistant, docs: Path) -> str:
    """Everything an assistant says of the bonus."""
    history = [edgeai.Turn("What is the bonus of Ada Lind?", "The bonus of Ada Lind is CHF-4711 francs [1].")]
    answers = [
        assistant.ask("What is the bonus of Ada Lind?").answer,
        assistant.ask("And the one of Bo Rask?", history=history).answer,
        assistant.ask("What is the bonus of Bo Rask?", where=Filter(labels=frozenset({"hr"}))).answer,
        assistant.ask("Which francs?").answer,
    ]
    hits = assistant.search("bonus of Ada Lind in francs")
    return repr((answers, hits, assistant.document(docs / "hr" / "bonus.md"), assistant.open_store().files()))


@pytest.mark.parametrize("labels", [(), ("sales",), ("HR",), ("",)])
def test_an_assistant_without_the_label_says_nothing(index, docs, labels):
    with edgeai.Assistant(index, model="none", labels=labels) as assistant:
        told = shown(assistant, docs)
        assert not any(word in told for word in ("CHF-4711", "CHF-5212", "bonus.md"))
        assert "office.md" in told
        assert assistant.status()["documents"] == 1
        assert assistant.remove(docs) == 1  # of what it sees
    with edgeai.Assistant(index, model="none", labels=["hr"]) as assistant:
        assert "CHF-5212" in shown(assistant, docs)


def test_neither_setting_nor_parameter_widens_the_other(index, docs):
    for setting, labels in (("sales", ["hr", "sales"]), ("hr", []), ("hr,sales", ["sales"])):
        with edgeai.Assistant(index, settings=Settings(model="none", labels=setting), labels=labels) as assistant:
            assert "CHF-4711" not in shown(assistant, docs)


def test_an_open_assistant_keeps_its_labels(index):
    with edgeai.Assistant(index, model="none", labels=[]) as assistant:
        with pytest.raises(UsageProblem, match="open another"):
            assistant.reconfigure(labels="hr")
        with pytest.raises(UsageProblem, match="list"):
            edgeai.Assistant(index, labels="hr")


def test_a_sync_that_relabels_holds_from_the_next_question_on(index, docs):
    with (
        edgeai.Assistant(index, model="none") as owner,
        edgeai.Assistant(index, model="none", labels=[]) as assistant,
    ):
        assert "CHF-4711" not in shown(assistant, docs)
        owner.sync(docs / "hr", label="")
        assert "CHF-4711" in shown(assistant, docs)
        owner.sync(docs / "hr", label="hr")
        assert "CHF-4711" not in shown(assistant, docs)


def test_no_sync_of_a_restricted_assistant_takes_a_label_away(index, docs):
    with edgeai.Assistant(index, model="none", labels=[]) as assistant:
        (docs / "hr" / "bonus.md").write_text(SECRET + "\nMore.\n")
        assistant.sync(docs)
        assert "CHF-4711" not in shown(assistant, docs)
        (docs / "hr" / "bonus.md").rename(docs / "hr" / "pay.md")
        assistant.sync(docs)
        assert "CHF-4711" not in shown(assistant, docs)
        assistant.sync(docs, rebuild=True)
        assert "CHF-4711" not in shown(assistant, docs)


@pytest.mark.parametrize("command", [("eval", "--make", "20", "--out", "{out}"), ("export", "{out}")])
def test_what_is_written_for_others_holds_no_more_than_may_be_seen(index, tmp_path, monkeypatch, command):
    for labels, told in (("sales", False), ("hr", True)):
        monkeypatch.setenv("EDGEAI_LABELS", labels)
        out = tmp_path / f"{labels}.jsonl"
        arguments = [part.replace("{out}", str(out)) for part in command]
        result = CliRunner().invoke(main, [*arguments, "--index", str(index)])
        assert (result.exit_code, result.output.count("Traceback")) == (0, 0) or not told
        written = out.read_text() if out.exists() else ""
        assert ("francs" in written) is told


def test_passages_computed_for_one_caller_do_not_change_what_another_gets(tmp_path):
    spec = replace(write_tiny_gguf(tmp_path / "tiny.gguf"), independent=True)
    settings = Settings(budget_ms=0, reader="none", max_tokens=8, context=spec.context)

    def said(generator: LlamaGenerator, labels: frozenset[str]) -> tuple[str, int]:
        engines = pipeline.Engines(store.visible_to(labels), EMBEDDER, lambda: generator)
        reply = pipeline.ask("What is the pay of Ada?", engines, settings)
        tokens = reply.answer.tokens
        return "".join(piece.text for piece in reply), tokens["prompt"]

    with opened(tmp_path, 3) as store:
        world = World(store, 3)
        world.put("/docs/a.md", "The pay of Ada is zq1x since 2019. It was 40 euros.", "hr")
        world.put("/docs/b.md", "The pay of Ada is secret since 2019. It was 40 euros.", "")
        used, unused = (LlamaGenerator(spec, threads=1, gpu_layers=0, context=settings.context) for _ in range(2))
        said(used, frozenset({"", "hr"}))
        assert said(used, frozenset({""})) == said(unused, frozenset({""}))
        used.close()
        unused.close()
