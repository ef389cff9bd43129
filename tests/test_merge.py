"""A merged model is the base with its adapter, and files that do not belong together are refused."""

from __future__ import annotations

from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_logits import llama_logits, write_tied_gguf
from tiny_gguf import HIDDEN, WIDTH, write_tiny_gguf

from edgeai.errors import ModelMissing, ModelRejected
from edgeai.registry.merge import merge

IDS = [1, 20, 35, 50, 2, 80, 7, 90, 33, 120, 250, 3]
SHAPES = {  # (out, in)
    "blk.0.attn_q.weight": (WIDTH, WIDTH),
    "blk.0.attn_k.weight": (WIDTH // 2, WIDTH),
    "blk.1.ffn_gate.weight": (HIDDEN, WIDTH),
    "blk.1.ffn_down.weight": (WIDTH, HIDDEN),
}


def write_lora(path: Path, *, rank: int = 4, alpha: float | None = 6.0, shapes=SHAPES, **changes: str) -> Path:
    """An adapter with random matrices; `changes` are keys with "__" for the dot."""
    random = np.random.default_rng(rank)
    keys = {"general.type": "adapter", "adapter.type": "lora"}
    keys |= {key.replace("__", "."): value for key, value in changes.items()}
    writer = gguf.GGUFWriter(path, keys.pop("general.architecture", "llama"))
    for key, value in keys.items():
        writer.add_string(key, value)
    if alpha is not None:
        writer.add_float32("adapter.lora.alpha", alpha)
    for name, (rows, columns) in shapes.items():
        a, b = random.normal(0, columns**-0.5, (rank, columns)), random.normal(0, 0.1, (rows, rank))
        writer.add_tensor(f"{name}.lora_a", a.astype(np.float16))
        writer.add_tensor(f"{name}.lora_b", b.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tied_gguf(tmp_path_factory.mktemp("models") / "base.gguf")


@pytest.mark.parametrize("alpha", [6.0, None])
def test_a_merged_model_says_what_base_and_adapter_say(tmp_path: Path, base: Path, alpha: float | None) -> None:
    adapter = write_lora(tmp_path / "adapter.gguf", alpha=alpha)
    merge(base, adapter, tmp_path / "new" / "merged.gguf")
    expected = llama_logits(base, IDS, adapter)
    assert np.abs(expected - llama_logits(base, IDS)).max() > 0.5
    np.testing.assert_allclose(llama_logits(tmp_path / "new" / "merged.gguf", IDS), expected, atol=0.06)


@settings(max_examples=15, deadline=None)
@given(rank=st.integers(1, 40), alpha=st.floats(0.5, 64, width=32))
def test_every_weight_is_its_old_value_plus_the_scaled_product(
    base: Path, tmp_path_factory: pytest.TempPathFactory, rank: int, alpha: float
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    merge(base, write_lora(folder / "adapter.gguf", rank=rank, alpha=alpha), folder / "merged.gguf")
    before, lora, after = (
        {tensor.name: np.float32(tensor.data) for tensor in gguf.GGUFReader(path).tensors}
        for path in (base, folder / "adapter.gguf", folder / "merged.gguf")
    )
    assert list(after) == list(before)
    for name, weight in before.items():
        if name in SHAPES:
            weight = weight + alpha / rank * lora[f"{name}.lora_b"] @ lora[f"{name}.lora_a"]
        np.testing.assert_allclose(after[name], weight, rtol=1e-3, atol=1e-5, err_msg=name)


def test_metadata_is_kept_and_only_vectors_stay_in_full_precision(tmp_path: Path, base: Path) -> None:
    merge(base, write_lora(tmp_path / "adapter.gguf"), tmp_path / "merged.gguf")
    before, after = gguf.GGUFReader(base), gguf.GGUFReader(tmp_path / "merged.gguf")
    kept = {key: field.contents() for key, field in before.fields.items() if not key.startswith("GGUF.")}
    new = {key: field.contents() for key, field in after.fields.items() if not key.startswith("GGUF.")}
    assert new == kept | {"general.file_type": gguf.LlamaFileType.MOSTLY_F16}
    for key in kept:
        assert after.fields[key].types == before.fields[key].types, key
    for tensor in after.tensors:
        assert tensor.tensor_type.name == ("F16" if len(tensor.shape) == 2 else "F32"), tensor.name


def test_a_quantised_base_is_merged_from_what_its_blocks_stand_for(tmp_path: Path, base: Path) -> None:
    from edgeai.llm.quantise import quantise

    adapter = write_lora(tmp_path / "adapter.gguf")
    quantise(base, tmp_path / "small.gguf", "Q8_0")
    merge(tmp_path / "small.gguf", adapter, tmp_path / "merged.gguf")
    expected = llama_logits(base, IDS, adapter)
    merged = llama_logits(tmp_path / "merged.gguf", IDS)
    assert np.sqrt(np.mean((merged - expected) ** 2)) < 0.1 * expected.std()


REFUSED = {
    "another architecture": ({"general__architecture": "qwen2"}, "'qwen2'.*'llama'"),
    "a control vector": ({"adapter__type": "control"}, "not a LoRA adapter"),
    "a model": ({"general__type": "model"}, "not a LoRA adapter"),
    "no matrices": ({"shapes": {}}, "pairs"),
    "another width": ({"shapes": {"blk.0.attn_q.weight": (WIDTH, 32)}}, "attn_q.weight should be .*32.* but is"),
    "another height": ({"shapes": {"blk.0.attn_k.weight": (WIDTH, WIDTH)}}, "attn_k.weight should be"),
    "more layers": ({"shapes": {"blk.7.attn_q.weight": (WIDTH, WIDTH)}}, "blk.7.attn_q.weight .* not in the model"),
    "a vector": ({"shapes": {"output_norm.weight": (WIDTH, WIDTH)}}, "output_norm.weight should be"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_adapter_that_does_not_fit_is_refused(tmp_path: Path, base: Path, case: str) -> None:
    arguments, message = REFUSED[case]
    adapter = write_lora(tmp_path / "adapter.gguf", **arguments)
    with pytest.raises(ModelRejected, match=message):
        merge(base, adapter, tmp_path / "merged.gguf")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["adapter.gguf"]


def test_matrices_that_do_not_pair_up_are_refused(tmp_path: Path, base: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "adapter.gguf", "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_tensor("blk.0.attn_q.weight.lora_a", np.ones((4, WIDTH), np.float16))
    writer.add_tensor("blk.0.attn_q.weight.lora_b", np.ones((WIDTH, 5), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelRejected, match="do not belong together"):
        merge(base, tmp_path / "adapter.gguf", tmp_path / "merged.gguf")


def test_an_adapter_is_not_merged_into_an_adapter(tmp_path: Path) -> None:
    adapter = write_lora(tmp_path / "adapter.gguf")
    with pytest.raises(ModelRejected, match="not a model"):
        merge(adapter, adapter, tmp_path / "merged.gguf")


@pytest.mark.parametrize("kept", [0, 3, 20, 200, -100])
@pytest.mark.parametrize("damaged", ["base", "adapter"])
def test_a_damaged_file_is_refused(tmp_path: Path, base: Path, damaged: str, kept: int) -> None:
    files = {"base": base, "adapter": write_lora(tmp_path / "adapter.gguf")}
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(files[damaged].read_bytes()[:kept])
    with pytest.raises(ModelRejected, match=r"cut\.gguf"):
        merge(**files | {damaged: cut}, target=tmp_path / "merged.gguf")
    assert not (tmp_path / "merged.gguf").exists()


def test_missing_files_are_named(tmp_path: Path, base: Path) -> None:
    with pytest.raises(ModelMissing, match=r"nowhere\.gguf"):
        merge(base, tmp_path / "nowhere.gguf", tmp_path / "merged.gguf")
    with pytest.raises(ModelMissing, match=r"nowhere\.gguf"):
        merge(tmp_path / "nowhere.gguf", base, tmp_path / "merged.gguf")


def test_a_failure_while_writing_leaves_the_old_target(tmp_path: Path, base: Path) -> None:
    damaged = bytearray(base.read_bytes())
    at = damaged.index("Ġ".encode())  # in the middle of the vocabulary
    damaged[at : at + 2] = b"\xff\xff"
    (tmp_path / "base.gguf").write_bytes(damaged)
    (tmp_path / "merged.gguf").write_bytes(b"old")
    with pytest.raises(ModelRejected, match="not valid text"):
        merge(tmp_path / "base.gguf", write_lora(tmp_path / "adapter.gguf"), tmp_path / "merged.gguf")
    assert (tmp_path / "merged.gguf").read_bytes() == b"old"
    assert not (tmp_path / "merged.gguf.part").exists()


def test_the_base_needs_no_grouped_heads(tmp_path: Path) -> None:
    model = Path(write_tiny_gguf(tmp_path / "tiny.gguf").model)
    adapter = write_lora(tmp_path / "adapter.gguf", shapes={"output.weight": (299, WIDTH)})
    merge(model, adapter, tmp_path / "merged.gguf")
    np.testing.assert_allclose(
        llama_logits(tmp_path / "merged.gguf", IDS), llama_logits(model, IDS, adapter), atol=0.06
    )


PROMPTS = (
    "Parents may take 20 weeks of paid leave for each child, born or adopted. How long is parental leave?",
    "The capital of France is",
    "def fibonacci(n):\n    if n < 2:",
)


@pytest.mark.real
def test_the_merged_default_generator_says_what_llama_cpp_says_with_the_adapter(
    tmp_path: Path, generator_base: Path
) -> None:
    tensors = [tensor for tensor in gguf.GGUFReader(generator_base).tensors if tensor.name.startswith("blk.")]
    shapes = {tensor.name: tuple(map(int, tensor.shape[::-1])) for tensor in tensors if len(tensor.shape) == 2}
    adapter = write_lora(tmp_path / "adapter.gguf", rank=24, alpha=48.0, shapes=shapes)
    merge(generator_base, adapter, tmp_path / "merged.gguf")
    # With weights of 4 bits llama.cpp also rounds what they are multiplied with, which would hide small differences.
    convert_to_half(generator_base, tmp_path / "half.gguf")
    vocabulary = llama_cpp.Llama(str(generator_base), vocab_only=True, verbose=False)
    for prompt in PROMPTS:
        ids = vocabulary.tokenize(prompt.encode(), add_bos=False)
        plain = probabilities(llama_logits(tmp_path / "half.gguf", ids))
        expected = probabilities(llama_logits(tmp_path / "half.gguf", ids, adapter))
        merged = probabilities(llama_logits(tmp_path / "merged.gguf", ids))
        assert np.abs(expected - plain).max() > 0.1
        assert np.abs(merged - expected).max() < 0.01
        np.testing.assert_array_equal(merged.argmax(1), expected.argmax(1))


def convert_to_half(source: Path, target: Path) -> None:
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_F16
    parameters.allow_requantize = True
    assert llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), parameters) == 0


def probabilities(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
