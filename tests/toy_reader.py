"""A reader small enough to see through: a hand-made graph with the shipped embedder's tokenizer.

It finds the answer between the words "alpha" and "omega", wherever they are, and says as its two judgements how long
the passage's segment and the whole pair are, in thousands of tokens.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import onnx.parser

from edgeai.records import Reading
from edgeai.specs import ReaderSpec

TOKENIZER = Path(__file__).parents[1] / "models" / "all-minilm-l6-v2" / "tokenizer.json"
STRENGTH = 30  # logit of the words it looks for, 0 for all others
GRAPH = f"""
<ir_version: 9, opset_import: ["": 18]>
toy (int64[b, l] input_ids, int64[b, l] attention_mask, int64[b, l] token_type_ids)
  => (float[b, 2] judged, float[b, l, 2] spans)
<int64 alpha = {{6541}}, int64 omega = {{14827}}, float strength = {{{STRENGTH}}}, float unit = {{1000}},
 int64[1] tokens = {{1}}, int64[1] last = {{2}}>
{{
  is_alpha = Equal(input_ids, alpha)
  is_omega = Equal(input_ids, omega)
  start = Cast<to = 1>(is_alpha)
  end = Cast<to = 1>(is_omega)
  start3 = Unsqueeze(start, last)
  end3 = Unsqueeze(end, last)
  both = Concat<axis = 2>(start3, end3)
  spans = Mul(both, strength)
  passage = ReduceSum<keepdims = 1>(token_type_ids, tokens)
  pair = ReduceSum<keepdims = 1>(attention_mask, tokens)
  counts = Concat<axis = 1>(passage, pair)
  lengths = Cast<to = 1>(counts)
  judged = Div(lengths, unit)
}}
"""


def write_reader(folder: Path, graph: str = GRAPH) -> ReaderSpec:
    """Make the folder of a reader."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(onnx.parser.parse_model(graph).SerializeToString())
    shutil.copyfile(TOKENIZER, folder / "tokenizer.json")
    return ReaderSpec("toy", str(folder / "model.onnx"), str(folder / "tokenizer.json"), "")


def lengths(reading: Reading) -> tuple[int, int]:
    """Tokens of the passage's segment, and of the whole pair, out of the toy's two judgements."""
    return tuple(round(1000 * math.log(p / (1 - p))) for p in (reading.relevance, reading.answerable))
