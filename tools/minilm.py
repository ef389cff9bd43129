"""MiniLM (a BERT encoder: 384 wide, 12 heads) twice: as an int8 ONNX graph and as a float32 reference.

The two share nothing but the weights, so that the reference can judge the graph. Weights are the arrays of the
original safetensors file, under their own names. Dropout and the pooler are left out: neither is used here.

How the int8 product works, and why it is not the usual dynamic quantisation:

- Activations are scaled per token, `x ~ s[token] * (q - 128)`, not per tensor. A text's vector then does not depend on
  the texts it shares a batch with, and one outlier token does not cost all the others their precision.
- Weights are scaled per output channel to 7 bits, -63..63. x86 CPUs without VNNI multiply u8 by s8 in pairs into
  saturating 16 bits; 2 * 255 * 63 = 32130 fits, so every CPU computes the same integers.
- Before it is scaled, each channel of a LayerNorm's output is divided by a power of two that its weights are multiplied
  with (SmoothQuant, arXiv:2211.10438, alpha 0.5): a few channels are far larger than the rest in every text.
- Only operators that ONNX Runtime has had on all its CPU builds since 1.20 at the latest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
Weights = Mapping[str, Array]

HEADS, WIDTH = 12, 384
EPSILON = 1e-12  # of every LayerNorm, as in the original config.json
WEIGHT_LIMIT, ACTIVATION_LIMIT = 63, 127
START, END, FIRST_WORD = 101, 102, 1000  # [CLS], [SEP], and where ordinary word pieces begin in BERT's vocabulary


class GraphBuilder:
    """Collects nodes and constants of an ONNX graph; every method returns the name of what it made."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: Array) -> str:
        """A constant tensor; the same name gives the first one again."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def node(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """One node with one output; "microsoft:X" is ONNX Runtime's own operator X."""
        return self.nodes_with(
            operator, inputs, [output or f"{operator.split(':')[-1]}_{len(self.nodes)}"], attributes
        )[0]

    def nodes_with(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str], attributes: Mapping[str, Any]
    ) -> Sequence[str]:
        """One node with the outputs named."""
        name = operator.removeprefix("microsoft:")
        domain = "com.microsoft" if name != operator else ""
        self.nodes.append(helper.make_node(name, inputs, outputs, name=outputs[0], domain=domain, **attributes))
        return outputs

    def model(self, inputs: Sequence[str], outputs: Mapping[str, Sequence[str | int]]) -> onnx.ModelProto:
        """The finished model: int64 inputs (batch, length), float32 outputs of the shapes given."""
        graph = helper.make_graph(
            self.nodes,
            "minilm",
            [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in inputs],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            list(self.constants.values()),
        )
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="edgeai")
        onnx.checker.check_model(model)
        return model


def depth(weights: Weights) -> int:
    """Layers of an encoder."""
    return 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer."))


def encoder(graph: GraphBuilder, weights: Weights, peaks: Sequence[Array], *, pairs: bool = False) -> str:
    """Add the encoder for inputs `input_ids`, `attention_mask` and, for `pairs` of texts, `token_type_ids`.

    Returns its token vectors (batch, length, 384). `peaks` are those of `channel_peaks`, or measured on texts of one's
    own. Between the attentions everything is (tokens, 384): the products need no batch dimension.
    """
    graph.constant("rows", np.array([-1, WIDTH]))
    shape = graph.node("Shape", "input_ids")
    hidden = _embeddings(graph, weights, pairs)
    mask = graph.node("Cast", "attention_mask", to=TensorProto.INT32)
    for layer in range(depth(weights)):
        name = f"encoder.layer.{layer}"
        hidden = _attention(graph, weights, name, hidden, mask, shape, peaks[2 * layer])
        hidden = _feed_forward(graph, weights, name, hidden, peaks[2 * layer + 1])
    width = graph.constant("width", np.array([WIDTH]))
    return graph.node("Reshape", hidden, graph.node("Concat", shape, width, axis=0))


def _embeddings(graph: GraphBuilder, weights: Weights, pairs: bool) -> str:
    table = weights["embeddings.word_embeddings.weight"]
    scale = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-8) / ACTIVATION_LIMIT
    words = graph.constant("words", np.rint(table / scale).astype(np.int8))
    scales = graph.constant("word_scales", scale.astype(np.float32))
    token = graph.node("Cast", graph.node("Gather", words, "input_ids"), to=TensorProto.FLOAT)
    token = graph.node("Mul", token, graph.node("Gather", scales, "input_ids"))
    types = weights["embeddings.token_type_embeddings.weight"]
    positions = weights["embeddings.position_embeddings.weight"]
    if pairs:
        token = graph.node("Add", token, graph.node("Gather", graph.constant("types", types), "token_type_ids"))
    else:  # the token type is always 0, its vector is part of every position
        positions = positions + types[0]
    length = graph.node("Shape", "input_ids", start=1, end=2)
    zero = graph.constant("zero", np.array([0]))
    position = graph.node("Slice", graph.constant("positions", positions), zero, length, zero)
    total = graph.node("Reshape", graph.node("Add", token, position), "rows")
    return _layer_norm(graph, weights, "embeddings.LayerNorm", total)


def _attention(
    graph: GraphBuilder, weights: Weights, name: str, hidden: str, mask: str, shape: str, peaks: Array
) -> str:
    parts = [_dense(weights, f"{name}.attention.self.{part}") for part in ("query", "key", "value")]
    kernel, bias = (np.concatenate(arrays, axis=-1) for arrays in zip(*parts, strict=True))
    joined = graph.node(
        "Add", *_product(graph, f"{name}.qkv", *_smooth(graph, f"{name}.qkv", hidden, kernel, peaks), bias)
    )
    width = graph.constant("width3", np.array([3 * WIDTH]))
    joined = graph.node("Reshape", joined, graph.node("Concat", shape, width, axis=0))
    sizes = graph.constant("thirds", np.array([WIDTH] * 3))
    split = graph.nodes_with("Split", [joined, sizes], [f"{name}.{part}" for part in "qkv"], {"axis": -1})
    attended = graph.node("microsoft:MultiHeadAttention", *split, "", mask, num_heads=HEADS)
    attended = graph.node("Reshape", attended, "rows")
    kernel, bias = _dense(weights, f"{name}.attention.output.dense")
    attended = graph.node("Add", *_product(graph, f"{name}.out", attended, kernel, bias))
    return _layer_norm(graph, weights, f"{name}.attention.output.LayerNorm", graph.node("Add", attended, hidden))


def _feed_forward(graph: GraphBuilder, weights: Weights, name: str, hidden: str, peaks: Array) -> str:
    kernel, bias = _dense(weights, f"{name}.intermediate.dense")
    inner = _product(graph, f"{name}.up", *_smooth(graph, f"{name}.up", hidden, kernel, peaks), bias)
    inner = graph.node("microsoft:BiasGelu", *inner)
    outer = graph.node("Add", *_product(graph, f"{name}.down", inner, *_dense(weights, f"{name}.output.dense")))
    return _layer_norm(graph, weights, f"{name}.output.LayerNorm", graph.node("Add", outer, hidden))


def _smooth(graph: GraphBuilder, name: str, x: str, kernel: Array, peaks: Array) -> tuple[str, Array]:
    # Powers of two lose no bit, and hide the last digits of `peaks`, which differ from CPU to CPU.
    factors = np.exp2(np.rint(np.log2(np.abs(kernel).max(axis=1) / peaks) / 2)).astype(np.float32)
    return graph.node("Mul", x, graph.constant(f"{name}.factors", factors)), kernel / factors[:, None]


def _product(graph: GraphBuilder, name: str, x: str, kernel: Array, bias: Array) -> tuple[str, str]:
    """`x @ kernel` in int8 (see the module's first paragraphs), and the bias that is still to be added."""
    one = graph.constant("one", np.float32(1))
    middle = graph.constant("middle", np.uint8(128))
    limit = graph.constant("limit", np.float32(ACTIVATION_LIMIT))
    peak = graph.node("ReduceMax", graph.node("Abs", x), graph.constant("last_axis", np.array([-1])), keepdims=1)
    scaled = graph.node("Mul", x, graph.node("Div", limit, peak))
    quantised = graph.node("QuantizeLinear", scaled, one, middle)
    scale = (np.abs(kernel).max(axis=0) / WEIGHT_LIMIT).astype(np.float32)
    product = graph.node(
        "microsoft:MatMulIntegerToFloat",
        quantised,
        graph.constant(f"{name}.weight", np.rint(kernel / scale).astype(np.int8)),
        one,
        graph.constant(f"{name}.scale", scale / np.float32(ACTIVATION_LIMIT)),
        middle,
    )
    return graph.node("Mul", product, peak), graph.constant(f"{name}.bias", bias)


def _layer_norm(graph: GraphBuilder, weights: Weights, name: str, x: str) -> str:
    gain = graph.constant(f"{name}.weight", weights[f"{name}.weight"])
    bias = graph.constant(f"{name}.bias", weights[f"{name}.bias"])
    return graph.node("LayerNormalization", x, gain, bias, epsilon=EPSILON)


def _dense(weights: Weights, name: str) -> tuple[Array, Array]:
    return weights[f"{name}.weight"].T, weights[f"{name}.bias"]


# the float32 reference --------------------------------------------------------------------------------------------


def reference(weights: Weights, token_ids: Sequence[int], types: Sequence[int] = ()) -> Array:
    """Token vectors (tokens, 384) of one text in float32; `types` are all 0 when not given."""
    return trace(weights, token_ids, types)[-1]


def trace(weights: Weights, token_ids: Sequence[int], types: Sequence[int] = ()) -> list[Array]:
    """Every LayerNorm's output (tokens, 384), by the formulas of BERT (arXiv:1810.04805, post-norm).

    The embeddings come first, then for each layer the one after its attention and the one after its feed-forward part.
    """
    hidden = weights["embeddings.word_embeddings.weight"][list(token_ids)]
    hidden = hidden + weights["embeddings.position_embeddings.weight"][: len(token_ids)]
    hidden = hidden + weights["embeddings.token_type_embeddings.weight"][list(types) or [0] * len(token_ids)]
    states = [_normalise(weights, "embeddings.LayerNorm", hidden)]
    for layer in range(depth(weights)):
        name = f"encoder.layer.{layer}"
        attended = _apply(weights, f"{name}.attention.output.dense", _attend(weights, name, states[-1]))
        states.append(_normalise(weights, f"{name}.attention.output.LayerNorm", states[-1] + attended))
        inner = _gelu(_apply(weights, f"{name}.intermediate.dense", states[-1]))
        outer = _apply(weights, f"{name}.output.dense", inner)
        states.append(_normalise(weights, f"{name}.output.LayerNorm", states[-1] + outer))
    return states


def channel_peaks(weights: Weights, samples: int = 64, longest: int = 64, seed: int = 0) -> list[Array]:
    """Highest absolute value of each channel (384,) in each state of `trace`, over texts of random word pieces.

    Which channels are large is a property of the weights, hardly of the text, so no data set is needed.
    """
    random = np.random.default_rng(seed)
    peaks = [np.zeros(WIDTH, dtype=np.float32)] * (2 * depth(weights) + 1)
    for length in random.integers(0, longest, samples):
        pieces = random.integers(FIRST_WORD, len(weights["embeddings.word_embeddings.weight"]), length)
        states = trace(weights, [START, *pieces, END])
        peaks = [np.maximum(peak, np.abs(state).max(axis=0)) for peak, state in zip(peaks, states, strict=True)]
    return peaks


def _attend(weights: Weights, name: str, hidden: Array) -> Array:
    def heads(part: str) -> Array:
        return (
            _apply(weights, f"{name}.attention.self.{part}", hidden).reshape(-1, HEADS, WIDTH // HEADS).swapaxes(0, 1)
        )

    scores = heads("query") @ heads("key").swapaxes(1, 2) / np.float32(np.sqrt(WIDTH // HEADS))
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = shares / shares.sum(axis=-1, keepdims=True) @ heads("value")
    return np.asarray(mixed.swapaxes(0, 1).reshape(-1, WIDTH))


def _apply(weights: Weights, name: str, x: Array) -> Array:
    return np.asarray(x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])


def _normalise(weights: Weights, name: str, x: Array) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)
    return np.asarray(scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"])


def _gelu(x: Array) -> Array:
    # numpy has no erf: Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7
    z = np.abs(x) / np.float32(np.sqrt(2))
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.copysign(1 - series * np.exp(-z * z), x)
    return np.asarray(0.5 * x * (1 + erf), dtype=np.float32)
