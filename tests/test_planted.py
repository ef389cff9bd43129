"""A defect put into a real component is found by an evaluation, and the first figure that fell names it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import towns

from edgeai.evaluation.regressions import Comparison, compare
from edgeai.evaluation.run import Run, summarise
from edgeai.onnx.encoders import OnnxEmbedder
from edgeai.records import Answer, Chunk, Document
from edgeai.store import Store

DIMENSION = 384


@pytest.fixture(scope="module")
def shared(embedder) -> towns.Remembering:
    return towns.Remembering(embedder)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory, shared) -> Iterator[Store]:
    with towns.index(tmp_path_factory.mktemp("healthy") / "index.db", shared) as store:
        yield store


@pytest.fixture(scope="module")
def before(healthy, shared) -> Run:
    return towns.evaluated(healthy, shared)


def named(comparison: Comparison) -> str:
    return comparison.regressions[0].name if comparison.regressions else ""


def test_without_a_defect_nothing_is_reported(before, healthy, shared):
    comparison = compare(towns.evaluated(healthy, shared), before)
    assert comparison.questions == len(towns.PLACES)
    assert not any(change.worse or change.better for change in comparison.changes)
    assert comparison.cause == ""


def test_wrong_pooling_shows_in_the_vector_list(tmp_path, shared):
    model = token_vectors(shared.spec.model, tmp_path / "model.onnx")
    runs = {}
    for pooling in ("mean", "cls"):
        pooled = OnnxEmbedder(replace(shared.spec, model=model, pooling=pooling))
        remembering = towns.Remembering(pooled)
        with towns.index(tmp_path / f"{pooling}.db", remembering) as store:
            runs[pooling] = towns.evaluated(store, remembering)
        pooled.close()
    comparison = compare(runs["cls"], runs["mean"])
    assert named(comparison) == "vector_mrr"
    assert "pooling" in comparison.cause


def token_vectors(model: str, target: Path) -> str:
    """The shipped embedder without the pooling in its graph: its output is a vector for each token."""
    graph = onnx.load(model)
    nodes = graph.graph.node
    pooling = next(node for node in reversed(nodes) if node.op_type == "MatMul")
    tokens = pooling.input[1]
    del nodes[next(i for i, node in enumerate(nodes) if tokens in node.output) + 1 :]
    del graph.graph.output[:]
    shape = ["batch", "tokens", DIMENSION]
    graph.graph.output.append(onnx.helper.make_tensor_value_info(tokens, onnx.TensorProto.FLOAT, shape))
    onnx.save(graph, target)
    return str(target)


def test_chunk_offsets_that_are_off_by_one_show_in_what_was_chunked(before, tmp_path, shared):
    def shifted(document: Document, chunk: Chunk) -> Chunk:
        start, end = chunk.start + 1, min(chunk.end + 1, len(document.text))
        return replace(chunk, start=start, end=end, text=document.text[start:end])

    parts = [(one, [shifted(one, chunk) for chunk in towns.split(one, shared)]) for one in towns.documents()]
    with towns.index(tmp_path / "index.db", shared, parts) as store:
        after = towns.evaluated(store, shared)
    assert named(compare(after, before)) == "chunked"
    cut = [result.question for result in after.results if "not chunked" in result.lost]
    assert cut == [case.question for number, case in enumerate(towns.cases()) if number % 3 == 0]


def test_swapped_citations_show_in_citation_precision(before, healthy, shared):
    def swapped(answer: Answer) -> Answer:
        others = {one.number: other for one, other in zip(answer.passages, answer.passages[1:], strict=False)}
        citations = [
            replace(one, path=other.path, start=other.start, end=other.end, quote=other.text)
            for one in answer.citations
            if (other := others.get(one.n))
        ]
        return replace(answer, citations=tuple(citations))

    comparison = compare(towns.evaluated(healthy, shared, swapped), before)
    assert named(comparison) == "citation_precision"
    assert "correct" not in {change.name for change in comparison.regressions}


def test_wrong_citation_offsets_show_in_citation_exact(before, healthy, shared):
    def shifted(answer: Answer) -> Answer:
        moved = (replace(one, start=one.start + 1, end=one.end + 1) for one in answer.citations)
        return replace(answer, citations=tuple(moved))

    assert named(compare(towns.evaluated(healthy, shared, shifted), before)) == "citation_exact"


def test_stale_vectors_show_in_the_vectors_themselves(before, tmp_path, shared):
    class Stale:
        """The embedder, a file behind: what each document is stored with is the vector of the one before."""

        spec = shared.spec
        held = shared.embed_passages(["An older text of the first file."])

        def embed_passages(self, texts):
            vectors, self.held = self.held, shared.embed_passages(texts)
            return vectors

        count_tokens = staticmethod(shared.count_tokens)

    with towns.index(tmp_path / "index.db", Stale()) as store:
        comparison = compare(towns.evaluated(store, shared), before)
    assert named(comparison) == "vectors_current"
    assert "stale" in comparison.cause


def test_the_first_run_itself_is_good_enough_to_fall(before):
    figures = summarise(before.results)["all"]
    assert figures["chunked"].value == figures["vectors_current"].value == figures["citation_exact"].value == 1
    assert figures["citation_precision"].value > 0.5
