"""Writes GGUF files of a few hundred kilobytes that llama.cpp runs like any other, where words do not matter.

Architecture "llama" with a byte-level BPE vocabulary of its own. Without a script the weights are random: the text is
nonsense, but it depends on every token before it. With a script the model is a chain in which each token has one
successor, so that it says exactly the script; no token may occur twice in it.
File format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np

from edgeai.specs import ChatTemplate, GeneratorSpec

WIDTH, HEADS, LAYERS, HIDDEN, CONTEXT = 64, 4, 2, 128, 1024
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # token types
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CORPUS = (
    "the passages of the documents do not contain the answer: question, sentence, number and employee leave weeks. " * 4
)

TEMPLATE = ChatTemplate(
    prefix=("<|im_start|>", "system\n", "$system", "<|im_end|>", "\n", "<|im_start|>", "user\n"),
    suffix=("<|im_end|>", "\n", "<|im_start|>", "assistant\n"),
    stop=("<|im_end|>",),
    special_ids={name: number for number, name in enumerate(SPECIALS)},
)


def write_tiny_gguf(path: Path, *, script: str = "", special_type: int = CONTROL, seed: int = 0) -> GeneratorSpec:
    """Write a model and return how it is to be run. `special_type` is the token type of the chat specials."""
    tokens, merges = _vocabulary()
    types = [CONTROL, special_type, CONTROL] + [NORMAL] * (len(tokens) - len(SPECIALS))
    tensors = _tensors(len(tokens), np.random.default_rng(seed))
    if script:
        _teach(tensors, [tokens.index(letter) for letter in _letters(script)], tokens.index(_letters("\n")[0]))
    path.write_bytes(_file(_metadata(tokens, types, merges), tensors))
    return GeneratorSpec(f"tiny-{path.stem}", path.as_posix(), "", TEMPLATE, context=CONTEXT)


def _byte_letters() -> dict[int, str]:
    """The printable letter that stands for each byte in a byte-level vocabulary, as GPT-2 chose them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def _letters(text: str) -> list[str]:
    letters = _byte_letters()
    return [letters[byte] for byte in text.encode()]


def _vocabulary(merge_count: int = 40) -> tuple[list[str], list[str]]:
    """Specials, all bytes, and merges learnt from the corpus by counting pairs, as BPE does."""
    words = [_letters(word) for word in CORPUS.replace(" ", "\n ").split("\n") if word]
    merges: list[str] = []
    tokens = [*SPECIALS, *_byte_letters().values()]
    for _ in range(merge_count):
        pairs = Counter(pair for word in words for pair in pairwise(word))
        first, second = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(f"{first} {second}")
        tokens.append(first + second)
        words = [_merged(word, first, second) for word in words]
    return tokens, merges


def _merged(word: list[str], first: str, second: str) -> list[str]:
    merged: list[str] = []
    for letter in word:
        if merged and merged[-1] == first and letter == second:
            merged[-1] += letter
        else:
            merged.append(letter)
    return merged


def _tensors(vocabulary: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    def weights(rows: int, columns: int) -> np.ndarray:
        return random.normal(0, 2 / columns**0.5, (rows, columns)).astype(np.float32)

    ones = np.ones(WIDTH, np.float32)
    tensors = {"token_embd.weight": weights(vocabulary, WIDTH), "output_norm.weight": ones}
    tensors["output.weight"] = weights(vocabulary, WIDTH)
    for layer in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors[f"blk.{layer}.{name}.weight"] = weights(WIDTH, WIDTH)
        tensors[f"blk.{layer}.ffn_gate.weight"] = weights(HIDDEN, WIDTH)
        tensors[f"blk.{layer}.ffn_up.weight"] = weights(HIDDEN, WIDTH)
        tensors[f"blk.{layer}.ffn_down.weight"] = weights(WIDTH, HIDDEN)
        tensors[f"blk.{layer}.attn_norm.weight"] = tensors[f"blk.{layer}.ffn_norm.weight"] = ones
    return tensors


def _teach(tensors: dict[str, np.ndarray], chain: list[int], start: int) -> None:
    """Silence all layers, and let each token's output row point where its predecessor's embedding points."""
    for name in tensors:
        if name.endswith(("attn_output.weight", "ffn_down.weight")):
            tensors[name] = np.zeros_like(tensors[name])
    if len({start, *chain}) != len(chain) + 1:
        raise ValueError("a byte occurs twice in the script, or it contains a line break")
    embedding, output = tensors["token_embd.weight"], tensors["output.weight"]
    output *= 0.1
    for token, successor in zip([start, *chain], [*chain, SPECIALS.index("<|im_end|>")], strict=True):
        output[successor] = 4 * embedding[token] / np.linalg.norm(embedding[token])


def _metadata(tokens: list[str], types: list[int], merges: list[str]) -> dict[str, object]:
    return {
        "general.architecture": "llama",
        "llama.context_length": CONTEXT,
        "llama.embedding_length": WIDTH,
        "llama.block_count": LAYERS,
        "llama.feed_forward_length": HIDDEN,
        "llama.attention.head_count": HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 2,
    }


def _file(metadata: dict[str, object], tensors: dict[str, np.ndarray], alignment: int = 32) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(_string(key) + _typed(value) for key, value in metadata.items())
    data = b""
    for name, tensor in tensors.items():
        shape = tensor.shape[::-1]  # fastest dimension first
        head += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(data))
        data += tensor.tobytes()
        data += bytes(-len(data) % alignment)
    return head + bytes(-len(head) % alignment) + data


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _typed(value: object) -> bytes:
    """A metadata value with its type: 4 = uint32, 5 = int32, 6 = float32, 8 = string, 9 = array."""
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    assert isinstance(value, list)
    strings = isinstance(value[0], str)
    items = b"".join(_string(item) if strings else struct.pack("<i", item) for item in value)
    return struct.pack("<IIQ", 9, 8 if strings else 5, len(value)) + items
