"""What each fine-tuning task shows the model, and how its answers are scored.

Grounded questions get the product's own prompt. Labels and JSON have a system sentence of their own and the text as the
user's message, in the same chat template. It does not train: it turns examples into tensors and answers into numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from edgeai import followup
from edgeai.config import DEFAULT_READER
from edgeai.engines import Reader
from edgeai.grounding import read
from edgeai.grounding.cite import MARK
from edgeai.llm.llama import Llama
from edgeai.onnx.reader import OnnxReader
from edgeai.prompt import SYSTEM, build_prompt, is_refusal
from edgeai.records import Segment
from edgeai.registry import Registry
from edgeai.scores import token_f1
from edgeai.specs import GeneratorSpec
from edgeai.structured.forms import JSON_SYSTEM, LABEL_SYSTEM, text_segments
from edgeai.structured.schema import described, mismatches
from tools.checks import ANSWER_TOKENS
from tools.decoder import Decoder, Group
from tools.evidence import Evidence, Example
from tools.groups import Layout

CONTEXT = 2048  # the product's default
AT_ONCE = 8  # examples answered together in an evaluation


@dataclass(frozen=True)
class Task:
    """How one adapter is asked, and by what its answers are judged."""

    name: str  # one of evidence.TASKS
    system: str
    labels: tuple[str, ...] = ()
    schema: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """The base as the product runs it; `reader` gives the hints that a model of ours is shown."""

    spec: GeneratorSpec
    layout: Layout
    reader: Reader | None = None


def task_for(evidence: Evidence) -> Task:
    """The task of a file: its system sentence names the labels or fields."""
    if evidence.task == "label":
        return Task("label", LABEL_SYSTEM.format(", ".join(evidence.labels)), labels=evidence.labels)
    if evidence.task == "json":
        return Task("json", JSON_SYSTEM.format(described(evidence.schema)), schema=evidence.schema)
    return Task("grounded", SYSTEM)


def load_model(name_or_path: str) -> Model:
    """Template and tokenizer of an installed model or a GGUF file, and the default reader where it is needed.

    Raises what `Registry.generator` and `Registry.reader` raise.
    """
    registry = Registry(offline=True)
    spec = registry.generator(name_or_path)
    llama = Llama(spec.model, spec.template.special_ids, threads=1, gpu_layers=0, context=64)
    reader = OnnxReader(registry.reader(DEFAULT_READER)) if spec.independent else None
    return Model(spec, Layout(spec.template, llama.tokenise, llama.piece, min(CONTEXT, spec.context)), reader)


# prompts ------------------------------------------------------------------------------------------------------------


def prompt_segments(example: Example, task: Task, model: Model) -> tuple[Segment, ...]:
    """What the model is shown for one example."""
    layout = model.layout
    if task.name != "grounded":
        return text_segments(task.system, example.text, layout.template)
    return build_prompt(
        example.text,
        example.passages,
        layout.template,
        count=lambda text: len(layout.tokenise(text)),
        context=layout.context,
        max_tokens=ANSWER_TOKENS["grounded"],
        history=example.history,
        numbered=not model.spec.independent,
        hint=_hint(example, model.reader) if model.reader else "",
    ).segments


def _hint(example: Example, reader: Reader) -> str:
    query = followup.rewrite_question(example.text, example.history)
    return read.hint(example.passages, reader.read(query, example.passages)) if example.passages else ""


def as_group(examples: Sequence[Example], task: Task, model: Model, *, answered: bool = True) -> Group:
    """Examples as tensors, with their wanted answers or as far as the model is to continue them.

    Passages that the base reads independently are a part of their own, each text once; others belong to the question.
    """
    prefix: list[int] = []
    bodies: dict[str, list[int]] = {}
    rows, begins, used = [], [], []
    for example in examples:
        parts: dict[str, list[int]] = {"prefix": [], "rest": []}
        seen = []
        for segment in prompt_segments(example, task, model):
            ids = model.layout.ids(segment.text, segment.special)
            if segment.role == "passage" and model.spec.independent:
                bodies[segment.text] = ids
                seen.append(segment.text)
            else:
                parts["prefix" if segment.role == "prefix" else "rest"].extend(ids)
        prefix, row = parts["prefix"], parts["rest"]
        begins.append(len(row))
        used.append(seen)
        wanted = MARK.sub("", example.answer) if model.spec.independent else example.answer  # sees no numbers to cite
        rows.append([*row, *model.layout.ids(wanted), model.layout.end] if answered else row)
    lengths = torch.tensor([len(row) for row in rows])
    steps = torch.arange(int(lengths.max()))
    passages = list(bodies.values()) or [[0]]
    return Group(
        prefix=torch.tensor(prefix),
        passages=_padded(passages)[: len(bodies)],
        passage_lengths=torch.tensor([len(ids) for ids in passages])[: len(bodies)],
        questions=_padded(rows),
        question_lengths=lengths,
        uses=torch.tensor([[text in seen for text in bodies] for seen in used], dtype=torch.bool),
        targets=(steps >= torch.tensor(begins)[:, None]) & (steps < lengths[:, None]),
    )


def _padded(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


# scores -------------------------------------------------------------------------------------------------------------


def score(said: str, example: Example, task: Task) -> dict[str, float]:
    """Measures of one answer, each 0..1; "score" is the one that decides."""
    if task.name == "label":
        right = float(said.strip().casefold() == example.answer.casefold())
        return {"score": right, "accuracy": right}
    if task.name == "json":
        return _score_json(said, example, task)
    if example.refuses:
        right = float(is_refusal(said))
        return {"score": right, "refused": right}
    close = token_f1(MARK.sub("", said), [MARK.sub("", example.answer)])
    marks = float(set(MARK.findall(said)) == set(MARK.findall(example.answer)))
    return {"score": close, "f1": close, "cited": marks, "declined": float(is_refusal(said))}


def _score_json(said: str, example: Example, task: Task) -> dict[str, float]:
    wanted = _leaves(json.loads(example.answer))
    try:
        value = json.loads(said)
    except ValueError:
        return {"score": 0.0, "valid": 0.0, "fields": 0.0}
    valid = isinstance(value, dict) and not list(mismatches(value, task.schema))
    given = _leaves(value) if isinstance(value, dict) else {}
    # Fields made up count as much as fields left out.
    right = sum(name in given and given[name] == inner for name, inner in wanted.items())
    fields = right / max(1, len(wanted.keys() | given.keys()))
    return {"score": fields if valid else 0.0, "valid": float(valid), "fields": fields}


def _leaves(value: Any, place: str = "") -> dict[str, str]:
    """The values inside a JSON value by their place, each written as JSON, so that 1, 1.0, "1" and true differ."""
    if isinstance(value, dict) and value:
        return {k: v for name, inner in value.items() for k, v in _leaves(inner, f"{place}.{name}").items()}
    if isinstance(value, list) and value:
        return {k: v for n, inner in enumerate(value) for k, v in _leaves(inner, f"{place}[{n}]").items()}
    return {place: json.dumps(value, sort_keys=True)}


def evaluate(decoder: Decoder, examples: Sequence[Example], task: Task, model: Model) -> dict[str, float]:
    """Mean measures over examples, answered greedily, with the loss of the wanted answers."""
    rows: list[dict[str, float]] = []
    room = max(len(model.layout.ids(example.answer)) for example in examples) + 8
    for start in range(0, len(examples), AT_ONCE):
        batch = examples[start : start + AT_ONCE]
        asked = as_group(batch, task, model, answered=False)
        with torch.no_grad():
            losses = decoder.log_likelihood(full := as_group(batch, task, model)) / -full.targets.sum(1)
        said = [model.layout.text(ids) for ids in decoder.generate(asked, room, model.layout.end)]
        measured = zip(said, batch, losses.tolist(), strict=True)
        rows += [score(text, example, task) | {"loss": loss} for text, example, loss in measured]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _mean([row[name] for row in rows if name in row]) for name in names}


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)
