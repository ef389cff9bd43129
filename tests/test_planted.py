"""A defect put into a real component is found by an evaluation, and the first figure that fell names it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import towns

from edgeai.encoders import OnnxEmbedder
from edgeai.evaluate import Run
from edgeai.records import Answer, Chunk, Document
from edgeai.regressions import Comparison, compare
from edgeai.store import Store


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory, embedder) -> Iterator[Store]:
    with towns.index(tmp_path_factory.mktemp("healthy") / "index.db", embedder) as store:
        yield store


@pytest.fixture(scope="module")
def before(healthy, embedder) -> Run:
    return towns.evaluated(healthy, embedder)


def named(comparison: Comparison) -> str:
    return comparison.regressions[0].name if comparison.regressions else ""


def test_without_a_defect_nothing_is_reported(before, healthy, embedder):
    comparison = compare(towns.evaluated(healthy, embedder), before)
    assert comparison.questions == len(towns.PLACES)
    assert not any(change.worse or change.better for change in comparison.changes)
    assert comparison.cause == ""


def test_wrong_pooling_shows_in_the_vector_list(before, tmp_path, embedder):
    wrong = OnnxEmbedder(replace(embedder.spec, pooling="last"))
    with towns.index(tmp_path / "index.db", wrong) as store:
        comparison = compare(towns.evaluated(store, wrong), before)
    wrong.close()
    assert named(comparison) == "vector_mrr"
    assert "pooling" in comparison.cause


def test_chunk_offsets_that_are_off_by_one_show_in_what_was_chunked(before, tmp_path, embedder):
    def shifted(document: Document, chunk: Chunk) -> Chunk:
        start, end = chunk.start + 1, min(chunk.end + 1, len(document.text))
        return replace(chunk, start=start, end=end, text=document.text[start:end])

    parts = [(one, [shifted(one, chunk) for chunk in towns.split(one, embedder)]) for one in towns.documents()]
    with towns.index(tmp_path / "index.db", embedder, parts) as store:
        after = towns.evaluated(store, embedder)
    assert named(compare(after, before)) == "chunked"
    assert {stage for result in after.results for stage in result.lost} == {"not chunked"}


def test_swapped_citations_show_in_citation_precision(before, healthy, embedder):
    def swapped(answer: Answer) -> Answer:
        others = {one.number: other for one, other in zip(answer.passages, answer.passages[1:], strict=False)}
        citations = [
            replace(one, path=other.path, start=other.start, end=other.end, quote=other.text)
            for one in answer.citations
            if (other := others.get(one.n))
        ]
        return replace(answer, citations=tuple(citations))

    comparison = compare(towns.evaluated(healthy, embedder, swapped), before)
    assert named(comparison) == "citation_precision"
    assert "correct" not in {change.name for change in comparison.regressions}


def test_wrong_citation_offsets_show_in_citation_exact(before, healthy, embedder):
    def shifted(answer: Answer) -> Answer:
        moved = (replace(one, start=one.start + 1, end=one.end + 1) for one in answer.citations)
        return replace(answer, citations=tuple(moved))

    assert named(compare(towns.evaluated(healthy, embedder, shifted), before)) == "citation_exact"


def test_stale_vectors_show_in_the_vectors_themselves(before, tmp_path, embedder):
    class Stale:
        """The embedder, a file behind: what each document is stored with is the vector of the one before."""

        spec = embedder.spec
        held = embedder.embed_passages(["An older text of the first file."])

        def embed_passages(self, texts):
            vectors, self.held = self.held, embedder.embed_passages(texts)
            return vectors

        count_tokens = staticmethod(embedder.count_tokens)

    with towns.index(tmp_path / "index.db", Stale()) as store:
        comparison = compare(towns.evaluated(store, embedder), before)
    assert named(comparison) == "vectors_current"
    assert "stale" in comparison.cause


def test_the_first_run_itself_is_good_enough_to_fall(before: Run, tmp_path: Path):
    for name in ("chunked", "vectors_current", "citation_exact", "citation_precision"):
        assert sum(result.values[name] for result in before.results) >= 0.9 * len(before.results), name
