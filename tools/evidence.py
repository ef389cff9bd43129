"""A user's own failures as training data, read from JSON lines.

Three kinds of line, told apart by their fields; every line needs "licence" and may have "group", which is never split:

    grounded  {"question", "passages": [{"title", "text"}], "answer", "licence"}   answer "" or null = should refuse;
              with [n] after each claim or without; "history": [{"question", "answer"}] is optional
    label     {"text", "label", "licence"}
    json      {"text", "json": {...}, "licence"}   with a schema, see edgeai.structured.schema

It knows the form of a line; whether the lines together are fit to train on is for tools.checks to say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeai.errors import PathNotFound, UsageProblem
from edgeai.grounding.cite import MARK, cite
from edgeai.prompt import REFUSAL, is_refusal
from edgeai.records import Passage, Turn
from edgeai.structured.schema import in_order, read_schema
from edgeai.text.terms import words

TASKS = ("grounded", "label", "json")


@dataclass(frozen=True, slots=True)
class Example:
    """One line of the file."""

    line: int
    text: str  # the question, or the text to label or extract from
    answer: str  # wanted: with [n] after each claim or the refusal; the label; the JSON object on one line
    licence: str = ""
    group: str = ""
    passages: tuple[Passage, ...] = ()
    history: tuple[Turn, ...] = ()

    @property
    def refuses(self) -> bool:
        """Whether the wanted answer is the refusal."""
        return self.answer == REFUSAL

    @property
    def input(self) -> tuple[str, frozenset[str], tuple[str, ...]]:
        """What the model sees, without case and punctuation: the text, then passages and earlier questions."""
        shown = frozenset(" ".join(words(passage.text)) for passage in self.passages)
        return " ".join(words(self.text)), shown, tuple(turn.question for turn in self.history)

    @property
    def cited(self) -> list[Passage]:
        """The passages that the wanted answer cites."""
        marked = {int(number) for number in MARK.findall(self.answer)}
        return [passage for passage in self.passages if passage.number in marked]


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about the data; what is `fatal` keeps it from being trained on."""

    kind: str  # "format", "licence", "size", "duplicate", "conflict", "leakage", "length", "support", "schema"
    text: str
    fatal: bool = True


@dataclass(frozen=True)
class Evidence:
    """A file as read, with what was wrong on the way."""

    task: str
    examples: tuple[Example, ...]
    digest: str  # SHA-256 of the file
    schema: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that occur, sorted."""
        return tuple(sorted({example.answer for example in self.examples})) if self.task == "label" else ()

    @property
    def licences(self) -> tuple[str, ...]:
        """The licences that occur, sorted."""
        return tuple(sorted({example.licence for example in self.examples} - {""}))


# reading ------------------------------------------------------------------------------------------------------------


def read(path: Path, task: str = "", schema: Path | None = None) -> Evidence:
    """Read a file; `task` "" takes that of the first line. Lines that cannot be read become findings.

    Raises `PathNotFound`, and `UsageProblem` when the task is unknown or the schema missing or not supported.
    """
    try:
        data = path.read_bytes()
        lines = data.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise PathNotFound(f"{path} cannot be read ({error.strerror}); give a file of JSON lines.") from None
    except UnicodeDecodeError:
        raise UsageProblem(f"{path} is not UTF-8 text; save it as UTF-8.") from None
    task = task or _task_of(lines)
    wanted = _read_schema(schema) if task == "json" else {}
    examples, findings = [], []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                examples.append(_example(number, line, task, wanted))
            except ValueError as error:
                findings.append(Finding("format", f"Line {number} {error}."))
    return Evidence(task, tuple(examples), hashlib.sha256(data).hexdigest(), wanted, tuple(findings))


def _task_of(lines: Sequence[str]) -> str:
    first = next((line for line in lines if line.strip()), "{}")
    try:
        keys = set(json.loads(first))
    except (ValueError, TypeError):
        keys = set()
    for name, task in (("question", "grounded"), ("label", "label"), ("json", "json")):
        if name in keys:
            return task
    raise UsageProblem('The first line has none of "question", "label" and "json"; see tools/FINETUNING.md.')


def _read_schema(path: Path | None) -> Mapping[str, Any]:
    if path is None:
        raise UsageProblem("JSON extraction needs a schema; give one with --schema FILE.json.")
    schema = read_schema(path)
    if not schema.get("properties"):
        raise UsageProblem('The schema lists no "properties"; name the fields to extract.')
    return schema


def _example(number: int, line: str, task: str, schema: Mapping[str, Any]) -> Example:
    """Raises `ValueError` with the end of a sentence that begins with "Line n"."""
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"is not valid JSON ({error})") from None
    if not isinstance(record, dict):
        raise ValueError("is not a JSON object")
    text = _string(record, "question" if task == "grounded" else "text")
    if not text.strip():
        raise ValueError("has nothing to answer; fill in its question or text")
    # Either spelling: the noun is "licence" in British and "license" in American English.
    licence = _string(record, "licence" if "licence" in record else "license", "")
    group = _string(record, "group", "")
    if task == "grounded":
        passages = _passages(record)
        answer = _answer(record, passages)
        return Example(number, text, answer, licence, group, passages, _history(record))
    if task == "label":
        answer = _string(record, "label").strip()
        if not answer or "\n" in answer:
            raise ValueError('needs a "label" of one line')
        return Example(number, text, answer, licence, group)
    if not isinstance(record.get("json"), dict):
        raise ValueError('needs a "json" object')
    return Example(number, text, in_order(record["json"], schema), licence, group)


def _string(record: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = record.get(name, default)
    if not isinstance(value, str):
        raise ValueError(f'needs "{name}" as a text')
    return value


def _passages(record: Mapping[str, Any]) -> tuple[Passage, ...]:
    given = record.get("passages")
    if not isinstance(given, list) or not given or not all(isinstance(one, dict) for one in given):
        raise ValueError('needs "passages", a list of objects with "title" and "text"')
    texts = [(_string(one, "title", ""), _string(one, "text")) for one in given]
    if not all(text.strip() for _, text in texts):
        raise ValueError("has a passage without text")
    return tuple(Passage(n, text, title, 0, len(text), title) for n, (title, text) in enumerate(texts, start=1))


def _answer(record: Mapping[str, Any], passages: Sequence[Passage]) -> str:
    """The wanted answer with the marks that the product itself would add where there are none."""
    said = "" if record.get("answer", "") is None else _string(record, "answer").strip()
    if not said or is_refusal(said):
        return REFUSAL
    if unknown := {int(number) for number in MARK.findall(said)} - {passage.number for passage in passages}:
        raise ValueError(f"cites passage [{min(unknown)}], but has {len(passages)}")
    return cite(said, passages)[0]


def _history(record: Mapping[str, Any]) -> tuple[Turn, ...]:
    given = record.get("history", [])
    if not isinstance(given, list) or not all(isinstance(turn, dict) for turn in given):
        raise ValueError('needs "history" as a list of objects with "question" and "answer"')
    return tuple(Turn(_string(turn, "question"), _string(turn, "answer")) for turn in given)
