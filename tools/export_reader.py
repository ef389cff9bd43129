"""Make the int8 ONNX reader from a trained checkpoint, calibrated, and judge it against the float32 original.

    python -m tools.export_reader --reader reader.pt --tokenizer tokenizer.json --out models/reader-6 \\
        --data DIR --negatives negatives.json

The two probabilities are calibrated by temperature and bias on the development groups (Guo et al., "On calibration of
modern neural networks", ICML 2017), which no training step has seen; both become part of the graph's last layer. Writes
`model.onnx`; the last line printed is a JSON object with its hash, its agreement with PyTorch and its calibration.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tools.encoder import Reader
from tools.logistic import calibration_error, fit, sigmoid
from tools.minilm import Array, GraphBuilder, Weights, channel_peaks, encoder
from tools.pairs import Pair, batch_of
from tools.train_reader import Material, load_material, load_reader

BATCH = 32


def main() -> None:
    """Export, calibrate, report."""
    options = _options()
    reader = load_reader(options.reader)
    pairs = development_pairs(load_material(options), options.pairs)
    logits = _judgements(reader, pairs)
    calibration, report = [], {}
    for column, name in enumerate(("relevant", "answerable")):
        labels = [getattr(pair, name) for pair in pairs]
        rows = [row for row, label in enumerate(labels) if label is not None]
        truth = np.array([bool(labels[row]) for row in rows])
        calibration.append(platt(logits[rows, column], truth))
        report[name] = _calibrated(logits[rows, column], truth)
    weights = {name: value.numpy() for name, value in reader.state_dict().items()}
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "model.onnx"
    path.write_bytes(export(weights, calibration))
    report |= {"agreement": _agreement(path, reader, pairs[:BATCH], calibration)}
    print(json.dumps({"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size} | report))


def export(weights: Weights, calibration: Sequence[tuple[float, float]]) -> bytes:
    """The ONNX file: int8 encoder, then the two heads in float32.

    Outputs: `judged` (batch, 2), the calibrated logits of relevance and answerable; `spans` (batch, length, 2), the
    logits of start and end, [CLS] standing for "nowhere".
    """
    graph = GraphBuilder()
    body = {name: value for name, value in weights.items() if not name.startswith(("judge", "span"))}
    hidden = encoder(graph, body, channel_peaks(body), pairs=True)
    first = graph.node("Gather", hidden, graph.constant("first", np.array([0])), axis=1)
    first = graph.node("Reshape", first, "rows")
    scales = np.array([scale for scale, _ in calibration], dtype=np.float32)
    kernel = (weights["judge.weight"] * scales[:, None]).T
    bias = weights["judge.bias"] * scales + np.array([bias for _, bias in calibration], dtype=np.float32)
    judged = graph.node("MatMul", first, graph.constant("judge.weight", kernel))
    graph.node("Add", judged, graph.constant("judge.bias", bias), output="judged")
    spans = graph.node("MatMul", hidden, graph.constant("span.weight", weights["span.weight"].T))
    graph.node("Add", spans, graph.constant("span.bias", weights["span.bias"]), output="spans")
    inputs = ["input_ids", "attention_mask", "token_type_ids"]
    model = graph.model(inputs, {"judged": ["batch", 2], "spans": ["batch", "length", 2]})
    return model.SerializeToString(deterministic=True)


def development_pairs(material: Material, limit: int) -> list[Pair]:
    """Pairs of the development groups as training would draw them, cut passages too, but no altered questions."""
    pairs: list[Pair] = []
    for unit, question in enumerate(material.development):
        pairs += material.sampler.pairs(question, unit, negatives=2)
    step = max(1, len(pairs) // limit)
    return pairs[::step]


def platt(logits: Array, truth: Array) -> tuple[float, float]:
    """Scale and bias of a logit that make its logistic the probability of `truth` (Platt scaling)."""
    scale, bias = fit(np.stack([logits, np.ones_like(logits)], axis=1), truth)
    return float(scale), float(bias)


def _calibrated(logits: Array, truth: Array) -> dict[str, float]:
    """Calibration error before and after; fitted on one half, measured on the other, and the other way round."""
    halves = np.arange(len(truth)) // 40 % 2  # neighbours share a document: whole runs go to one side
    probability = np.empty(len(truth))
    for side in (0, 1):
        scale, bias = platt(logits[halves == side], truth[halves == side])
        probability[halves != side] = sigmoid(scale * logits[halves != side] + bias)
    errors = {
        "before": calibration_error(sigmoid(logits), truth),
        "after": calibration_error(probability, truth),
        "positive": truth.mean(),
    }
    return {name: round(float(value), 4) for name, value in errors.items()} | {"pairs": len(truth)}


def _judgements(reader: Reader, pairs: Sequence[Pair]) -> Array:
    """Logits (pairs, 2)."""
    order = sorted(range(len(pairs)), key=lambda row: len(pairs[row].ids))
    logits = np.zeros((len(pairs), 2))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            reading = reader(batch_of([pairs[row] for row in rows]))
            logits[rows] = torch.stack([reading.relevance, reading.answerable], -1).float().numpy()
    return logits


def _agreement(
    path: Path, reader: Reader, pairs: Sequence[Pair], calibration: Sequence[tuple[float, float]]
) -> dict[str, float]:
    """Largest and mean difference of the judgements, as probabilities, between the ONNX file and float32 PyTorch."""
    import onnxruntime

    batch = batch_of(pairs)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds = {
        "input_ids": batch.ids.numpy(),
        "attention_mask": batch.mask.long().numpy(),
        "token_type_ids": batch.types.numpy(),
    }
    (judged,) = session.run(["judged"], feeds)
    with torch.no_grad():
        reading = reader(batch)
    wanted = torch.stack([reading.relevance, reading.answerable], -1).numpy()
    wanted = wanted * np.array([scale for scale, _ in calibration]) + np.array([bias for _, bias in calibration])
    gap = np.abs(sigmoid(judged) - sigmoid(wanted))
    return {"max": round(float(gap.max()), 4), "mean": round(float(gap.mean()), 4)}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", type=Path, required=True, help="checkpoint of tools.train_reader")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/")
    parser.add_argument("--own", type=Path, default=Path(__file__).parent / "data")
    parser.add_argument("--negatives", type=Path, required=True, help="made by tools.negatives")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=2500, help="at most about this many to calibrate on")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
