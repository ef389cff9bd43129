"""No GGUF file that breaks the format reaches native code, and no file makes the check itself fail."""

from __future__ import annotations

import struct
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.errors import ModelRejected
from edgeai.registry.gguf import preflight

UINT8, INT8, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 0, 1, 4, 5, 6, 7, 8, 9, 10
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "a", "b", "ab"]


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return u64(len(data)) + data


def entry(key: str | bytes, kind: int, value: bytes) -> bytes:
    return text(key) + u32(kind) + value


def strings(values: list[str]) -> bytes:
    return u32(STRING) + u64(len(values)) + b"".join(text(value) for value in values)


def metadata() -> dict[str, bytes]:
    """The keys of a small but complete llama model."""
    types = [3, 3, 3, 1, 1, 1]
    return {
        "architecture": entry("general.architecture", STRING, text("llama")),
        "name": entry("general.name", STRING, text("tiny")),
        "blocks": entry("llama.block_count", UINT32, u32(1)),
        "width": entry("llama.embedding_length", UINT32, u32(32)),
        "context": entry("llama.context_length", UINT32, u32(512)),
        "tokens": entry("tokenizer.ggml.tokens", ARRAY, strings(TOKENS)),
        "types": entry("tokenizer.ggml.token_type", ARRAY, u32(INT32) + u64(6) + struct.pack("<6i", *types)),
        "merges": entry("tokenizer.ggml.merges", ARRAY, strings(["a b"])),
        "bos": entry("tokenizer.ggml.bos_token_id", UINT32, u32(1)),
        "add_bos": entry("tokenizer.ggml.add_bos_token", BOOL, b"\x01"),
        "eos": entry("tokenizer.ggml.eos_token_id", UINT32, u32(2)),
    }


def tensor(name: str, shape: list[int], kind: int, offset: int) -> bytes:
    return text(name) + u32(len(shape)) + b"".join(map(u64, shape)) + u32(kind) + u64(offset)


TENSORS = [tensor("token_embd.weight", [32, 6], 0, 0), tensor("output_norm.weight", [32], 0, 768)]


def build(
    keys: dict[str, bytes] | None = None,
    tensors: list[bytes] | None = None,
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    key_count: int | None = None,
    tensor_count: int | None = None,
    data: int = 896,
) -> bytes:
    keys = metadata() if keys is None else keys
    tensors = TENSORS if tensors is None else tensors
    head = magic + u32(version)
    head += u64(len(tensors) if tensor_count is None else tensor_count)
    head += u64(len(keys) if key_count is None else key_count)
    head += b"".join(keys.values()) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(data)


VALID = build()


def check(path: Path, content: bytes):
    path.write_bytes(content)
    return preflight(path)


def test_a_complete_file_is_described(tmp_path):
    header = check(tmp_path / "tiny.gguf", VALID)
    assert (header.architecture, header.name, header.context, header.vocabulary) == ("llama", "tiny", 512, 6)
    assert header.specials == {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2}
    assert (header.bos, header.eos, header.tensors) == ("<|im_start|>", "<|im_end|>", 2)


def test_version_2_is_accepted(tmp_path):
    assert check(tmp_path / "tiny.gguf", build(version=2)).vocabulary == 6


def test_special_ids_are_compared_with_the_vocabulary(tmp_path):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(VALID)
    assert preflight(path, special_ids={"<|im_start|>": 1}).vocabulary == 6
    with pytest.raises(ModelRejected, match="should be 2 but is 1"):
        preflight(path, special_ids={"<|im_start|>": 2})
    with pytest.raises(ModelRejected, match="absent"):
        preflight(path, special_ids={"<|eot_id|>": 2})
    with pytest.raises(ModelRejected, match="absent"):
        preflight(path, special_ids={"a": 3})  # an ordinary token is no special


def with_key(name: str, value: bytes) -> bytes:
    return build({**metadata(), name: value})


def without_key(name: str) -> bytes:
    return build({key: value for key, value in metadata().items() if key != name})


def with_second(shape: list[int], kind: int = 0, offset: int = 768, name: str = "output_norm.weight") -> bytes:
    return build(tensors=[TENSORS[0], tensor(name, shape, kind, offset)])


HUGE = 2**64 - 1

REJECTED = {
    # the file
    "empty": b"",
    "magic only": b"GGUF",
    "other magic": build(magic=b"FUGG"),
    "old ggml magic": build(magic=b"ggml"),
    "version 0": build(version=0),
    "version 1": build(version=1),
    "version 4": build(version=4),
    "big-endian version": build(version=0x03000000),
    "no tensors": build(tensors=[], tensor_count=0),
    "too many tensors": build(tensor_count=65_537),
    "tensor count -1": build(tensor_count=HUGE),
    "more tensors than there are": build(tensor_count=3),
    "no keys": build({}, key_count=0),
    "too many keys": build(key_count=4_097),
    "key count -1": build(key_count=HUGE),
    "more keys than there are": build(key_count=12),
    # keys
    "key length overflows": with_key("name", u64(HUGE) + b"x"),
    "key too long": with_key("name", entry(b"k" * 65_536, STRING, text("x"))),
    "key not UTF-8": with_key("name", entry(b"\xff\xfe", STRING, text("x"))),
    "duplicate key": with_key("again", metadata()["name"]),
    "unknown value type": with_key("name", entry("x", 13, u32(0))),
    "value type -1": with_key("name", entry("x", 2**32 - 1, u32(0))),
    # values
    "string length overflows": with_key("name", entry("general.name", STRING, u64(HUGE) + b"x")),
    "string over 16 MiB": with_key("name", entry("general.name", STRING, u64((16 << 20) + 1) + b"x")),
    "string beyond the file": with_key("name", entry("general.name", STRING, u64(100_000) + b"x")),
    "array of arrays": with_key("name", entry("x", ARRAY, u32(ARRAY) + u64(1) + u32(UINT8) + u64(1) + b"x")),
    "array of unknown type": with_key("name", entry("x", ARRAY, u32(99) + u64(1) + b"x")),
    "array size overflows": with_key("name", entry("x", ARRAY, u32(UINT64) + u64(2**61 + 1) + b"x" * 8)),
    "array beyond the file": with_key("name", entry("x", ARRAY, u32(UINT8) + u64(100_000) + b"x")),
    "string array beyond the file": with_key("name", entry("x", ARRAY, u32(STRING) + u64(100_000) + text("x"))),
    "string array size overflows": with_key("name", entry("x", ARRAY, u32(STRING) + u64(HUGE) + text("x"))),
    "string in array overflows": with_key("name", entry("x", ARRAY, u32(STRING) + u64(2) + text("x") + u64(HUGE))),
    # what must be known
    "no architecture": without_key("architecture"),
    "architecture not a string": with_key("architecture", entry("general.architecture", UINT32, u32(1))),
    "architecture not UTF-8": with_key("architecture", entry("general.architecture", STRING, text(b"\xff"))),
    "unknown architecture": with_key("architecture", entry("general.architecture", STRING, text("plamo2"))),
    "no context length": without_key("context"),
    "context length 0": with_key("context", entry("llama.context_length", UINT32, u32(0))),
    "context length a float": with_key("context", entry("llama.context_length", FLOAT32, struct.pack("<f", 512))),
    "context length a bool": with_key("context", entry("llama.context_length", BOOL, b"\x01")),
    "context length a string": with_key("context", entry("llama.context_length", STRING, text("512"))),
    "context length huge": with_key("context", entry("llama.context_length", UINT64, u64(HUGE))),
    "513 blocks": with_key("blocks", entry("llama.block_count", UINT32, u32(513))),
    "part of a split model": with_key("split", entry("split.count", UINT32, u32(2))),
    # the vocabulary
    "no vocabulary": without_key("tokens"),
    "vocabulary not strings": with_key(
        "tokens", entry("tokenizer.ggml.tokens", ARRAY, u32(UINT8) + u64(6) + b"abcdef")
    ),
    "vocabulary a string": with_key("tokens", entry("tokenizer.ggml.tokens", STRING, text("abc"))),
    "vocabulary empty": with_key("tokens", entry("tokenizer.ggml.tokens", ARRAY, strings([]))),
    "token types too few": with_key(
        "types", entry("tokenizer.ggml.token_type", ARRAY, u32(INT32) + u64(1) + struct.pack("<i", 1))
    ),
    "token types of another type": with_key(
        "types", entry("tokenizer.ggml.token_type", ARRAY, u32(UINT8) + u64(6) + b"\x01" * 6)
    ),
    "scores of another type": with_key(
        "scores", entry("tokenizer.ggml.scores", ARRAY, u32(INT32) + u64(6) + bytes(24))
    ),
    "merges not strings": with_key("merges", entry("tokenizer.ggml.merges", ARRAY, u32(UINT8) + u64(1) + b"x")),
    "end token outside the vocabulary": with_key("eos", entry("tokenizer.ggml.eos_token_id", UINT32, u32(6))),
    "end token negative": with_key("eos", entry("tokenizer.ggml.eos_token_id", INT32, struct.pack("<i", -1))),
    # alignment
    "alignment 0": with_key("alignment", entry("general.alignment", UINT32, u32(0))),
    "alignment not a power of two": with_key("alignment", entry("general.alignment", UINT32, u32(48))),
    "alignment of another type": with_key("alignment", entry("general.alignment", STRING, text("32"))),
    # tensors
    "tensor name too long": with_second([32], name="x" * 65),
    "duplicate tensor": with_second([32], name="token_embd.weight"),
    "tensor of no dimension": with_second([]),
    "tensor of five dimensions": with_second([1, 1, 1, 1, 32]),
    "tensor with a zero dimension": with_second([32, 0]),
    "tensor shape overflows": with_second([2**32, 2**32, 2**32, 2**32]),
    "tensor shape negative": with_second([HUGE]),
    "tensor rows not whole blocks": with_second([33], kind=8),
    "tensor of unknown type": with_second([32], kind=4),
    "tensor of type -1": with_second([32], kind=2**32 - 1),
    "tensor not aligned": with_second([32], offset=776),
    "tensor offset beyond the file": with_second([32], offset=1 << 40),
    "tensor offset overflows": with_second([32], offset=2**64 - 32),
    "tensor larger than the file": with_second([1 << 30]),
    "tensors overlap": with_second([32], offset=736),
    "last tensor cut short": VALID[:-1],
}


@pytest.mark.parametrize("content", REJECTED.values(), ids=REJECTED.keys())
def test_a_file_that_breaks_a_rule_is_refused_by_name(tmp_path, content):
    with pytest.raises(ModelRejected, match=r"^bad\.gguf was refused: "):
        check(tmp_path / "bad.gguf", content)


def test_a_truncated_file_is_called_truncated(tmp_path):
    with pytest.raises(ModelRejected, match="ends before its last tensor: truncated"):
        check(tmp_path / "cut.gguf", VALID[:-100])


def test_every_shorter_file_is_called_truncated_too(tmp_path):
    for length in range(0, len(VALID), 7):
        with pytest.raises(ModelRejected, match="truncated"):
            check(tmp_path / "cut.gguf", VALID[:length])


def test_a_missing_file_is_refused_too(tmp_path):
    with pytest.raises(ModelRejected, match="cannot be read"):
        preflight(tmp_path / "absent.gguf")


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """The valid file with a few bytes overwritten, cut out or put in."""
    content = bytearray(VALID)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content) - 1))
        match draw(st.sampled_from(["byte", "word", "cut", "insert"])):
            case "byte":
                content[at] = draw(st.integers(0, 255))
            case "word":
                content[at : at + 8] = u64(draw(st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**63, HUGE])))
            case "cut":
                del content[at : at + draw(st.integers(1, 64))]
            case "insert":
                content[at:at] = draw(st.binary(min_size=1, max_size=16))
        content = content or bytearray(b"G")
    return bytes(content)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("mutations") / "mutated.gguf"


@settings(max_examples=500, deadline=None)
@given(mutations())
def test_a_mutated_file_passes_or_is_rejected_and_quickly(scratch, content):
    scratch.write_bytes(content)

    def seconds() -> float:
        start = time.process_time()
        with suppress(ModelRejected):
            preflight(scratch)
        return time.process_time() - start

    # A garbage collection of the whole test run can fall into one reading, not into three.
    assert any(seconds() < 0.1 for _ in range(3))
