"""The shipped embedder against its float32 original, and small hand-made graphs for what it does not show."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.errors import EngineMissing, ModelMissing, ModelRejected
from edgeai.onnx.encoders import OnnxEmbedder, pool
from edgeai.onnx.onnxfile import batches, pad
from edgeai.specs import EmbedderSpec

FOLDER = Path(__file__).parents[1] / "models" / "all-minilm-l6-v2"
SPEC = EmbedderSpec("all-minilm-l6-v2", str(FOLDER / "model.onnx"), str(FOLDER / "tokenizer.json"), "", 384)
GOLDEN = json.loads((FOLDER / "golden.json").read_text(encoding="utf-8"))
ORIGINALS = np.array([entry["vector"] for entry in GOLDEN], dtype=np.float32)
LENGTHS = st.lists(st.integers(0, 300), max_size=60)


@pytest.fixture(scope="module")
def embedder():
    return OnnxEmbedder(SPEC, threads=2)


@pytest.mark.parametrize("number", range(len(GOLDEN)))
def test_vectors_stay_close_to_the_float32_original(embedder, number):
    text = GOLDEN[number]["text"]
    vector = embedder.embed_query(text)
    assert vector @ ORIGINALS[number] >= (0.99 if text else 0.985)  # [CLS] [SEP] alone is all outliers: 0.9898
    np.testing.assert_allclose(vector, ORIGINALS[number], atol=0.03)


def test_similarities_between_texts_stay_close_to_the_float32_original(embedder):
    vectors = embedder.embed_passages([entry["text"] for entry in GOLDEN])
    np.testing.assert_allclose(vectors @ vectors.T, ORIGINALS @ ORIGINALS.T, atol=0.03)


def test_a_vector_does_not_depend_on_the_texts_it_shares_a_batch_with(embedder):
    texts = [entry["text"] for entry in GOLDEN]
    together = embedder.embed_passages(texts)
    for text, vector in zip(texts, together, strict=True):
        assert embedder.embed_query(text) @ vector >= 0.9999


def test_passages_come_back_in_the_order_given(embedder):
    texts = ["word " * count for count in (90, 3, 250, 1, 40, 700, 2)]
    forward = embedder.embed_passages(texts)
    backward = embedder.embed_passages(texts[::-1])
    assert np.diag(forward @ backward[::-1].T).min() >= 0.9999
    for text, vector in zip(texts, forward, strict=True):
        assert embedder.embed_query(text) @ vector >= 0.9999


def test_meaning_beats_wording(embedder):
    question = embedder.embed_query("How do I get my money back?")
    near, far = embedder.embed_passages(["Refunds are paid within two weeks.", "I get up and walk my dog back home."])
    assert question @ near > question @ far


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=4))
def test_every_text_gets_a_finite_unit_vector(embedder, texts):
    vectors = embedder.embed_passages(texts)
    assert vectors.shape == (len(texts), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("text", ["", " \n", "🙂", "東京の天気", "caf\udce9.txt", "a\x00b", "[CLS] [PAD] [SEP]"])
def test_odd_text_gets_a_unit_vector(embedder, text):
    assert np.linalg.norm(embedder.embed_query(text)) == pytest.approx(1, abs=1e-5)


def test_long_text_is_cut_at_the_limit_of_the_model(embedder):
    kept = embedder.embed_query("apple " * 254)
    np.testing.assert_allclose(embedder.embed_query("apple " * 254 + "zebra " * 500), kept, atol=1e-6)


def test_tokens_are_counted_without_specials_and_without_a_limit(embedder):
    assert embedder.count_tokens("") == 0
    assert embedder.count_tokens("apple " * 1000) == 1000


def test_prefixes_go_in_front_of_the_text(embedder):
    prefixed = OnnxEmbedder(replace(SPEC, query_prefix="query: ", passage_prefix="passage: "))
    np.testing.assert_allclose(prefixed.embed_query("rain"), embedder.embed_query("query: rain"), atol=1e-6)
    np.testing.assert_allclose(prefixed.embed_passages(["rain"])[0], embedder.embed_query("passage: rain"), atol=1e-2)


def test_a_repeated_question_costs_no_forward(embedder):
    first = embedder.embed_query("asked twice?")
    spent = embedder.seconds
    assert embedder.embed_query("asked twice?") is first
    assert embedder.seconds == spent
    assert not first.flags.writeable


def test_close_frees_the_model_and_a_later_call_loads_it_again():
    embedder = OnnxEmbedder(SPEC)
    before = embedder.embed_query("rain")
    embedder.close()
    np.testing.assert_array_equal(embedder.embed_query("rain"), before)


def test_threads_may_share_an_embedder():
    embedder = OnnxEmbedder(SPEC, threads=2)
    texts = [f"Note number {number} about the harbour." for number in range(8)]
    found = {}
    threads = [
        threading.Thread(target=lambda text=text: found.update({text: embedder.embed_query(text)})) for text in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = OnnxEmbedder(SPEC, threads=1)
    for text in texts:
        np.testing.assert_allclose(found[text], alone.embed_query(text), atol=1e-6)


def test_onnxruntime_is_imported_with_telemetry_off():
    script = "import os, edgeai.onnx.onnxfile as o; o.import_runtime(); print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "1"


# batching and pooling ---------------------------------------------------------------------------------------------


@given(LENGTHS)
def test_every_text_is_in_exactly_one_batch(lengths):
    assert sorted(index for batch in batches(lengths) for index in batch) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 500))
def test_batches_grow_in_length_and_keep_to_the_limit(lengths, limit):
    groups = list(batches(lengths, limit))
    for batch in groups:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= limit
    for shorter, longer in pairwise(groups):
        assert max(lengths[i] for i in shorter) <= min(lengths[i] for i in longer)


def test_padding_is_masked():
    token_ids, mask = pad([[5, 6, 7], [8]])
    assert token_ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_pooling_ignores_padding():
    hidden = np.array([[[1.0, 0], [3, 2], [9, 9]], [[5, 5], [9, 9], [9, 9]]])
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    assert pool(hidden, mask, "mean").tolist() == [[2, 1], [5, 5]]
    assert pool(hidden, mask, "cls").tolist() == [[1, 0], [5, 5]]
    assert pool(hidden, mask, "last").tolist() == [[3, 2], [5, 5]]


# other graphs than the shipped one --------------------------------------------------------------------------------

TOKEN_VECTORS = """
<ir_version: 9, opset_import: ["": 18]>
tokens (int64[b, l] input_ids, int64[b, l] attention_mask, int32[b, l] token_type_ids)
  => (float[b, l, 3] last_hidden_state)
<int64[1] axis = {2}>
{
  id = Cast<to = 1>(input_ids)
  mask = Cast<to = 1>(attention_mask)
  type = Cast<to = 1>(token_type_ids)
  id3 = Unsqueeze(id, axis)
  mask3 = Unsqueeze(mask, axis)
  type3 = Unsqueeze(type, axis)
  last_hidden_state = Concat<axis = 2>(id3, mask3, type3)
}
"""
ALL_ZERO = """
<ir_version: 9, opset_import: ["": 18]>
zero (int64[b, l] input_ids) => (float[b, d] vectors)
{
  id = Cast<to = 1>(input_ids)
  vectors = Sub(id, id)
}
"""
PICTURES = """
<ir_version: 9, opset_import: ["": 18]>
pictures (float[b, 3] pixels) => (float[b, 3] vectors)
{
  vectors = Identity(pixels)
}
"""


@pytest.fixture
def graph(tmp_path):
    def write(text, **changes):
        path = tmp_path / "graph.onnx"
        path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
        return OnnxEmbedder(replace(SPEC, name="other", model=str(path), **changes))

    return write


# "a" is token 1037; the tokenizer puts 101 before it and 102 behind it
@pytest.mark.parametrize(("pooling", "first"), [("mean", (101 + 1037 + 102) / 3), ("cls", 101), ("last", 102)])
def test_token_vectors_are_pooled_as_the_spec_says(graph, pooling, first):
    expected = np.array([first, 1, 0]) / np.hypot(first, 1)
    embedder = graph(TOKEN_VECTORS, dimension=3, pooling=pooling)
    np.testing.assert_allclose(embedder.embed_query("a"), expected, rtol=1e-5)
    np.testing.assert_allclose(embedder.embed_passages(["a", "a " * 9])[0], expected, rtol=1e-5)


def test_a_graph_of_another_dimension_is_rejected(graph):
    with pytest.raises(ModelRejected, match="gives 3 dimensions instead of 384"):
        graph(TOKEN_VECTORS).embed_query("a")


def test_a_graph_of_another_dimension_that_does_not_declare_it_is_rejected(graph):
    with pytest.raises(ModelRejected, match="gives 3 dimensions instead of 384"):
        graph(ALL_ZERO).embed_query("a")


def test_vectors_without_a_direction_are_rejected(graph):
    with pytest.raises(ModelRejected, match="zero or not finite"):
        graph(ALL_ZERO, dimension=3).embed_query("a")


def test_a_graph_that_does_not_take_text_is_rejected(graph):
    with pytest.raises(ModelRejected, match="its inputs are pixels"):
        graph(PICTURES, dimension=3).embed_query("a")


@pytest.mark.parametrize("size", [0, 1000, 5_000_000])
def test_a_truncated_model_is_rejected(tmp_path, size):
    path = tmp_path / "model.onnx"
    path.write_bytes(Path(SPEC.model).read_bytes()[:size])
    with pytest.raises(ModelRejected, match=r"not a valid ONNX model.*edgeai models pull all-minilm-l6-v2"):
        OnnxEmbedder(replace(SPEC, model=str(path))).embed_query("a")


def test_a_damaged_tokenizer_is_rejected(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text('{"model": ', encoding="utf-8")
    with pytest.raises(ModelRejected, match="tokenizer"):
        OnnxEmbedder(replace(SPEC, tokenizer=str(path)))


@pytest.mark.parametrize("field", ["model", "tokenizer"])
def test_a_missing_file_is_named_with_the_command_that_fetches_it(tmp_path, field):
    with pytest.raises(ModelMissing, match=r"gone.*edgeai models pull all-minilm-l6-v2"):
        OnnxEmbedder(replace(SPEC, **{field: str(tmp_path / "gone")})).embed_query("a")


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers"])
def test_a_missing_engine_is_named_with_the_command_that_installs_it(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EngineMissing, match=f"pip install --force-reinstall {package}"):
        OnnxEmbedder(SPEC).embed_query("a")
