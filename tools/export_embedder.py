"""Make the int8 ONNX embedder of edgeai from the original all-MiniLM-L6-v2 weights, and judge it against them.

    python -m tools.export_embedder --safetensors model.safetensors --tokenizer tokenizer.json \\
        --out models/all-minilm-l6-v2 --check texts.txt

`texts.txt` holds one text a line. Writes `model.onnx`, `tokenizer.json` and `golden.json` (float32 vectors of a few
sentences, for the tests); the last line printed is a JSON object with hashes and scores. Exit code 3 when the mean or
the first percentile of the cosine to the float32 original is below 0.99. The result depends on nothing but the
inputs: the same files give the same bytes. Speed is not measured here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from edgeai.onnx.encoders import OnnxEmbedder
from edgeai.specs import EmbedderSpec
from tools.minilm import WIDTH, Array, GraphBuilder, Weights, channel_peaks, encoder, reference

SAFETENSORS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
MAX_TOKENS = 256  # sentence_bert_config.json of the original
GATE = 0.99
GOLDEN = (
    "How many days of parental leave do new employees get?",
    "Parents may take twelve weeks of paid leave in the first year after a birth or an adoption.",
    "The pump is to be drained before the first frost.",
    "Wie viele Tage Elternzeit bekommen neue Mitarbeiter?",
    "新员工有多少天育儿假？",
    "def area(radius: float) -> float:\n    return 3.14159 * radius ** 2",
    "| item | price |\n|---|---|\n| hammer | 12.50 |",
    "🙂",
    "",
    " ".join(f"Shelf {number} holds the ledgers of the year {1700 + number}." for number in range(60)),
)


def main() -> int:
    """Export, check, report; returns the exit code."""
    arguments = _arguments()
    weights = load_file(_verified(arguments.safetensors, SAFETENSORS_SHA256))
    tokenizer_json = _verified(arguments.tokenizer, TOKENIZER_SHA256).read_bytes()
    texts = [line for line in arguments.check.read_text(encoding="utf-8").splitlines() if line.strip()]

    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    (out / "tokenizer.json").write_bytes(tokenizer_json)
    (out / "model.onnx").write_bytes(export(weights))
    (out / "golden.json").write_text(_golden(weights, out), encoding="utf-8")

    scores = compare(_exported(out, texts), _originals(weights, out, texts))
    digest = hashlib.sha256((out / "model.onnx").read_bytes()).hexdigest()
    size = (out / "model.onnx").stat().st_size
    print(json.dumps({"sha256": digest, "bytes": size, "texts": len(texts), "cosine": scores}))
    return 0 if min(scores["mean"], scores["p1"]) >= GATE else 3


def export(weights: Weights) -> bytes:
    """The ONNX file: encoder, mean over the tokens of each text, norm 1.

    The sum stands for the mean: the norm takes the number of tokens out again.
    """
    graph = GraphBuilder()
    hidden = encoder(graph, weights, channel_peaks(weights))
    axis = graph.constant("token_axis", np.array([1]))
    mask = graph.node("Unsqueeze", graph.node("Cast", "attention_mask", to=TensorProto.FLOAT), axis)
    total = graph.node("Squeeze", graph.node("MatMul", mask, hidden), axis)
    output = graph.node("LpNormalization", total, output="sentence_embedding", p=2, axis=-1)
    model = graph.model(["input_ids", "attention_mask"], {output: ["batch", WIDTH]})
    return model.SerializeToString(deterministic=True)


def compare(exported: Array, originals: Array) -> dict[str, float]:
    """Cosines of unit vectors, row by row: mean, first percentile, lowest."""
    cosines = (exported * originals).sum(axis=1)
    summary = {"mean": cosines.mean(), "p1": np.percentile(cosines, 1), "min": cosines.min()}
    return {name: round(float(value), 5) for name, value in summary.items()}


def _exported(out: Path, texts: Sequence[str]) -> Array:
    spec = EmbedderSpec(
        "export", str(out / "model.onnx"), str(out / "tokenizer.json"), "", WIDTH, max_tokens=MAX_TOKENS
    )
    return OnnxEmbedder(spec).embed_passages(texts)


def _originals(weights: Weights, out: Path, texts: Sequence[str]) -> Array:
    tokenizer: Any = Tokenizer.from_file(str(out / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    sums = np.stack([reference(weights, tokenizer.encode(text).ids).sum(axis=0) for text in texts])
    return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True))


def _golden(weights: Weights, out: Path) -> str:
    vectors = _originals(weights, out, GOLDEN)
    entries = (
        {"text": text, "vector": [round(float(value), 5) for value in vector]}
        for text, vector in zip(GOLDEN, vectors, strict=True)
    )
    return "[\n" + ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries) + "\n]\n"


def _verified(path: Path, expected: str) -> Path:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != expected:
        sys.exit(f"{path} is not the pinned file: its SHA-256 is {digest}, expected {expected}.")
    return path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--safetensors", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--check", type=Path, required=True, metavar="TEXTS")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
