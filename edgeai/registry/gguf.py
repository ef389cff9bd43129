"""Reads the header of a GGUF file, of a model or a LoRA adapter, and refuses what native code should not be given.

Nothing in the file is trusted: each count, length and offset is checked against a limit and against the file's size
before it is used, so the only error raised is `ModelRejected`. It does not look at the weights themselves, and it
cannot prove that a well-formed model is harmless. Format: the GGUF specification of ggml (docs/gguf.md), version 3.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

from edgeai.errors import ModelRejected

# Decoder-only text models that llama.cpp runs through the ordinary key-value cache, which is all edgeai drives.
ARCHITECTURES = frozenset(
    {"exaone", "gemma", "gemma2", "gemma3", "granite", "internlm2", "llama", "olmo2", "phi2", "phi3", "qwen2", "qwen3"}
    | {"smollm3", "stablelm", "starcoder2"}
)

MAX_TENSORS = 65_536
MAX_KEYS = 4_096
MAX_KEY_BYTES = 65_535  # the specification's limit
MAX_STRING_BYTES = 16 << 20
MAX_STRINGS = 1 << 20  # in one array; the largest vocabularies have about 262,000
MAX_BLOCKS = 512  # llama.cpp's LLAMA_MAX_LAYERS
MAX_CONTEXT = 1 << 24
MAX_HEADER_BYTES = 64 << 20

# Metadata value types by number; 8 is a string, 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_UINT64 = struct.Struct("<Q")
_STRING, _ARRAY, _INT32, _FLOAT32 = 8, 9, 5, 6

# ggml tensor types that are stored in files: number -> (weights per block, bytes per block); ggml/src/ggml.c.
_TENSOR_TYPES = {
    **{0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34)},
    **{10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210)},
    **{16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110)},
    **{22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8)},
    **{29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17)},
}

# What a weight takes at most in a quantised file: 34 bytes for 32 in Q8_0, the largest type; the vocabulary is on top.
QUANTISED_BYTES = 1.1

_CONTROL, _USER_DEFINED = 3, 4  # token types that may stand for specials

# What a LoRA adapter may consist of. llama.cpp compares its shapes with the model's but goes by the names for the rest:
# a pair for the embeddings or for experts, of three dimensions or of whole numbers makes it abort or read elsewhere.
_LORA = re.compile(rb"(?:blk\.\d{1,3}\.(?:attn_(?:q|k|v|qkv|output)|ffn_(?:gate|up|down))|output)\.weight\.lora_[ab]")
_LORA_TYPES = frozenset({0, 1, 8, 30})  # F32, F16, Q8_0, BF16


@dataclass(frozen=True, slots=True)
class Header:
    """What edgeai needs to know of a GGUF file before it is loaded."""

    architecture: str
    name: str
    context: int  # tokens the model was trained for
    vocabulary: int  # number of tokens
    specials: Mapping[str, int]  # text -> id of control and user-defined tokens
    bos: str  # "" when the model does not want one
    eos: str
    tensors: int
    weights: int  # in all tensors together


@dataclass(frozen=True, slots=True)
class _Tensor:
    shape: list[int]  # fastest dimension first
    kind: int


@dataclass(frozen=True, slots=True)
class _Array:
    kind: int
    values: Any  # bytes for scalars, a list of bytes for strings

    def __len__(self) -> int:
        if self.kind == _STRING:
            return len(self.values)
        return len(self.values) // struct.calcsize(_SCALARS[self.kind])


class _Reader:
    """Sequential reads with a window that grows as the header does."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.size = size
        self._window = b""
        self.position = 0

    def require(self, count: int) -> None:
        """Make `count` more bytes available, or say that the file is too short."""
        end = self.position + count
        if end <= len(self._window):
            return
        if end > self.size:
            raise ModelRejected("the file ends inside its header: truncated")
        if end > MAX_HEADER_BYTES:
            raise ModelRejected(f"the header is larger than {MAX_HEADER_BYTES >> 20} MiB")
        self._window += self._file.read(max(end - len(self._window), len(self._window), 1 << 20))
        if end > len(self._window):
            raise ModelRejected("the file ends inside its header: truncated")

    def take(self, count: int) -> bytes:
        self.require(count)
        self.position += count
        return self._window[self.position - count : self.position]

    def scalar(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def text(self, limit: int = MAX_STRING_BYTES) -> bytes:
        length = self.scalar("Q")
        if length > limit:
            raise ModelRejected(f"a string claims {length} bytes; at most {limit} are accepted")
        return self.take(length)

    def strings(self, count: int) -> list[bytes]:
        """`count` strings; the loop is written out because vocabularies make it the slowest part by far."""
        values = []
        for _ in range(count):
            if self.position + 8 > len(self._window):
                self.require(8)
            start = self.position + 8
            (length,) = _UINT64.unpack_from(self._window, self.position)
            if length > MAX_STRING_BYTES:
                raise ModelRejected(f"a string claims {length} bytes; at most {MAX_STRING_BYTES} are accepted")
            if start + length > len(self._window):
                self.require(8 + length)
            self.position = start + length
            values.append(self._window[start : self.position])
        return values


def preflight(path: Path | str, *, special_ids: Mapping[str, int] | None = None) -> Header:
    """Check a GGUF file and describe it.

    `special_ids` are the ids the catalog expects; they must be those of the file's own vocabulary. Raises
    `ModelRejected`, its message starting with the file's name, for anything that is not a model we accept.
    """
    path = Path(path)
    with _refusing(path):
        metadata, _, tensors = _read(path)
        header = _describe(metadata, tensors)
        _compare(header, special_ids or {})
    return header


def preflight_adapter(path: Path) -> None:
    """Check a GGUF file that is to be a LoRA adapter; whether it fits a model is left to llama.cpp.

    Raises `ModelRejected`, its message starting with the file's name, for anything that is not an adapter we accept.
    """
    with _refusing(path):
        metadata, kinds, tensors = _read(path)
        _architecture(metadata)
        if (_text(metadata, "general.type", ""), _text(metadata, "adapter.type", "")) != ("adapter", "lora"):
            raise ModelRejected("it is not a LoRA adapter")
        alpha = metadata.get("adapter.lora.alpha", 0.0)
        if kinds.get("adapter.lora.alpha", _FLOAT32) != _FLOAT32 or not math.isfinite(alpha):
            raise ModelRejected("adapter.lora.alpha is not a number in single precision")
        for name, tensor in tensors.items():
            if not _LORA.fullmatch(name):
                raise ModelRejected(f"the tensor {name!r} is not a LoRA matrix for attention, feed-forward or output")
            if len(tensor.shape) != 2 or tensor.kind not in _LORA_TYPES:
                raise ModelRejected(f"the tensor {name!r} is not a matrix of a type accepted for adapters")


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Errors name the file."""
    try:
        yield
    except ModelRejected as error:
        raise ModelRejected(f"{path.name} was refused: {error}.") from None
    except OSError as error:
        raise ModelRejected(f"{path.name} cannot be read: {error.strerror or error}.") from error


def _compare(header: Header, expected: Mapping[str, int]) -> None:
    for text, number in expected.items():
        if header.specials.get(text) != number:
            found = header.specials.get(text, "absent")
            raise ModelRejected(f"the special token {text} should be {number} but is {found}")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, int], dict[bytes, _Tensor]]:
    """The metadata, the type of each of its values, and the tensors, all of them checked."""
    with path.open("rb") as file:
        reader = _Reader(file, path.stat().st_size)
        if reader.take(4) != b"GGUF":
            raise ModelRejected("it is not a GGUF file")
        version = reader.scalar("I")
        if version not in (2, 3):
            raise ModelRejected(f"GGUF version {version} is not supported (or the file is big-endian)")
        tensors, keys = reader.scalar("Q"), reader.scalar("Q")
        if not 0 < tensors <= MAX_TENSORS:
            raise ModelRejected(f"it claims {tensors} tensors; 1 to {MAX_TENSORS} are accepted")
        if not 0 < keys <= MAX_KEYS:
            raise ModelRejected(f"it claims {keys} metadata keys; 1 to {MAX_KEYS} are accepted")
        metadata, kinds = _metadata(reader, keys)
        return metadata, kinds, _tensors(reader, tensors, _alignment(metadata))


# metadata ---------------------------------------------------------------------------------------------------------


def _metadata(reader: _Reader, count: int) -> tuple[dict[str, Any], dict[str, int]]:
    metadata: dict[str, Any] = {}
    kinds: dict[str, int] = {}
    for _ in range(count):
        key = _decode(reader.text(MAX_KEY_BYTES), "a metadata key")
        if key in metadata:
            raise ModelRejected(f"the metadata key {key[:80]!r} appears twice")
        kinds[key] = reader.scalar("I")
        metadata[key] = _value(reader, kinds[key])
    return metadata, kinds


def _value(reader: _Reader, kind: int) -> Any:
    if kind == _STRING:
        return reader.text()
    if kind == _ARRAY:
        return _array(reader)
    if kind not in _SCALARS:
        raise ModelRejected(f"a metadata value has the unknown type {kind}")
    return reader.scalar(_SCALARS[kind])


def _array(reader: _Reader) -> _Array:
    kind, count = reader.scalar("I"), reader.scalar("Q")
    if kind == _STRING:
        if count > MAX_STRINGS:
            raise ModelRejected(f"an array claims {count} strings; at most {MAX_STRINGS} are accepted")
        if count * 8 > reader.size - reader.position:
            raise ModelRejected(f"an array claims {count} strings, more than the file has left: truncated")
        return _Array(kind, reader.strings(count))
    if kind not in _SCALARS:
        raise ModelRejected(f"an array has elements of the type {kind}, which is not accepted")
    length = count * struct.calcsize(_SCALARS[kind])
    if length > reader.size - reader.position:
        raise ModelRejected(f"an array claims {length} bytes, more than the file has left: truncated")
    return _Array(kind, reader.take(length))


def _alignment(metadata: Mapping[str, Any]) -> int:
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 8 <= alignment <= 1 << 20 or alignment & (alignment - 1):
        raise ModelRejected(f"the alignment {alignment!r} is not a power of two of at least 8")
    return alignment


def _architecture(metadata: Mapping[str, Any]) -> str:
    architecture = _text(metadata, "general.architecture")
    if architecture not in ARCHITECTURES:
        raise ModelRejected(f"the architecture {architecture[:40]!r} is not one of {', '.join(sorted(ARCHITECTURES))}")
    return architecture


def _describe(metadata: Mapping[str, Any], tensors: Mapping[bytes, _Tensor]) -> Header:
    architecture = _architecture(metadata)
    if metadata.get("split.count", 0) not in (0, 1):
        raise ModelRejected("it is one part of a split model; merge the parts with llama-gguf-split first")
    _whole(metadata, f"{architecture}.block_count", MAX_BLOCKS)
    _whole(metadata, f"{architecture}.embedding_length", 1 << 20)
    tokens = _vocabulary(metadata)
    return Header(
        architecture=architecture,
        name=_text(metadata, "general.name", ""),
        context=_whole(metadata, f"{architecture}.context_length", MAX_CONTEXT),
        vocabulary=len(tokens),
        specials=_specials(metadata, tokens),
        bos=_named(metadata, tokens, "bos") if metadata.get("tokenizer.ggml.add_bos_token") is True else "",
        eos=_named(metadata, tokens, "eos"),
        tensors=len(tensors),
        weights=sum(math.prod(tensor.shape) for tensor in tensors.values()),
    )


def _vocabulary(metadata: Mapping[str, Any]) -> list[bytes]:
    tokens = metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, _Array) or tokens.kind != _STRING or not len(tokens):
        raise ModelRejected("it has no vocabulary")
    for key, kind in (("token_type", _INT32), ("scores", _FLOAT32)):
        found = metadata.get(f"tokenizer.ggml.{key}")
        if found is None:
            continue
        if not isinstance(found, _Array) or found.kind != kind or len(found) != len(tokens):
            raise ModelRejected(f"tokenizer.ggml.{key} does not match the vocabulary")
    merges = metadata.get("tokenizer.ggml.merges")
    if merges is not None and (not isinstance(merges, _Array) or merges.kind != _STRING):
        raise ModelRejected("tokenizer.ggml.merges is not an array of strings")
    values: list[bytes] = tokens.values
    return values


def _specials(metadata: Mapping[str, Any], tokens: list[bytes]) -> dict[str, int]:
    found = metadata.get("tokenizer.ggml.token_type")
    if found is None:
        return {}
    kinds = struct.unpack(f"<{len(tokens)}i", found.values)
    return {
        tokens[number].decode("utf-8", "replace"): number
        for number, kind in enumerate(kinds)
        if kind in (_CONTROL, _USER_DEFINED)
    }


def _named(metadata: Mapping[str, Any], tokens: list[bytes], which: str) -> str:
    number = metadata.get(f"tokenizer.ggml.{which}_token_id")
    if number is None:
        return ""
    if type(number) is not int or not 0 <= number < len(tokens):
        raise ModelRejected(f"the {which} token {number!r} is not in the vocabulary")
    return tokens[number].decode("utf-8", "replace")


def _text(metadata: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = metadata.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, bytes):
        raise ModelRejected(f"{key} is not a string")
    return _decode(value, key)


def _decode(value: bytes, what: str) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise ModelRejected(f"{what} is not UTF-8 text") from None


def _whole(metadata: Mapping[str, Any], key: str, limit: int) -> int:
    value = metadata.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= limit:
        raise ModelRejected(f"{key} is {str(value)[:40]}; a number from 1 to {limit} is accepted")
    return value


# tensors ----------------------------------------------------------------------------------------------------------


def _tensors(reader: _Reader, count: int, alignment: int) -> dict[bytes, _Tensor]:
    """Every tensor must be of a known type, aligned, inside the file, and apart from the others."""
    tensors: dict[bytes, _Tensor] = {}
    spans = []
    for _ in range(count):
        name = reader.text(64)
        if name in tensors:
            raise ModelRejected(f"the tensor {name[:64]!r} appears twice")
        tensors[name], length = _tensor(reader)
        offset = reader.scalar("Q")
        if offset % alignment:
            raise ModelRejected(f"the tensor {name[:64]!r} is not aligned to {alignment} bytes")
        spans.append((offset, offset + length))
    start = -(-reader.position // alignment) * alignment
    spans.sort()
    if any(end > following for (_, end), (following, _) in pairwise(spans)):
        raise ModelRejected("two tensors overlap")
    if start + spans[-1][1] > reader.size:
        raise ModelRejected("the file ends before its last tensor: truncated")
    return tensors


def _tensor(reader: _Reader) -> tuple[_Tensor, int]:
    """The next tensor and its length in bytes."""
    dimensions = reader.scalar("I")
    if not 1 <= dimensions <= 4:
        raise ModelRejected(f"a tensor has {dimensions} dimensions")
    shape = [reader.scalar("Q") for _ in range(dimensions)]
    kind = reader.scalar("I")
    if kind not in _TENSOR_TYPES:
        raise ModelRejected(f"a tensor has the unknown type {kind}")
    weights, size = _TENSOR_TYPES[kind]
    elements = math.prod(shape)
    if elements == 0 or elements >= 1 << 62 or shape[0] % weights:
        raise ModelRejected(f"a tensor has the impossible shape {shape}")
    return _Tensor(shape, kind), elements // weights * size
