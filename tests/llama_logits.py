"""What llama.cpp computes for a list of tokens with full-precision keys and values, and a model to ask it about."""

from __future__ import annotations

import ctypes
from pathlib import Path

import llama_cpp
import numpy as np
import tiny_gguf

HEADS, KV_HEADS = tiny_gguf.HEADS, 2


def write_tied_gguf(path: Path, seed: int = 0) -> Path:
    """A tiny model with grouped keys and values and tied embeddings, as the default generator has them."""
    tokens, merges = tiny_gguf._vocabulary()
    types = [tiny_gguf.CONTROL] * 3 + [tiny_gguf.NORMAL] * (len(tokens) - 3)
    random = np.random.default_rng(seed)
    tensors = tiny_gguf._tensors(len(tokens), random)
    del tensors["output.weight"]
    for name, tensor in tensors.items():
        if name.endswith(("attn_k.weight", "attn_v.weight")):
            tensors[name] = tensor[: tiny_gguf.WIDTH * KV_HEADS // HEADS].copy()
        elif name.endswith("norm.weight"):
            tensors[name] = random.uniform(0.5, 1.5, tensor.shape).astype(np.float32)
    metadata = tiny_gguf._metadata(tokens, types, merges)
    metadata |= {"llama.attention.head_count_kv": KV_HEADS, "llama.rope.freq_base": 100000.0}
    path.write_bytes(tiny_gguf._file(metadata, tensors))
    return path


def llama_logits(model: Path, ids: list[int], adapter: Path | None = None) -> np.ndarray:
    """Logits (len(ids), vocabulary) under ordinary causal attention, optionally with a LoRA adapter."""
    llama_cpp.llama_log_set(_SILENT, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    loaded = llama_cpp.llama_model_load_from_file(str(model).encode(), llama_cpp.llama_model_default_params())
    assert loaded
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = 256
    parameters.n_threads = parameters.n_threads_batch = 1
    parameters.type_k = parameters.type_v = 0  # GGML_TYPE_F32
    parameters.flash_attn_type = 0  # off: it computes in half precision
    context = llama_cpp.llama_init_from_model(loaded, parameters)
    try:
        if adapter:
            _apply(loaded, context, adapter)
        return _evaluate(loaded, context, ids)
    finally:
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(loaded)


@llama_cpp.llama_log_callback
def _SILENT(level: int, text: bytes, data: object) -> None:  # noqa: N802 a constant for ctypes
    pass


def _apply(model: object, context: object, path: Path) -> None:
    adapter = llama_cpp.llama_adapter_lora_init(model, str(path).encode())
    assert adapter, f"llama.cpp does not accept {path}"
    adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(adapter)
    assert llama_cpp.llama_set_adapters_lora(context, adapters, 1, (ctypes.c_float * 1)(1.0)) == 0


def _evaluate(model: object, context: object, ids: list[int]) -> np.ndarray:
    size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
        batch.seq_id[i][0] = 0
    batch.n_tokens = len(ids)
    assert llama_cpp.llama_decode(context, batch) == 0
    logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (len(ids), size)).copy()
    llama_cpp.llama_batch_free(batch)
    return logits
