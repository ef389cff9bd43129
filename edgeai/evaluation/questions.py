"""The questions of an evaluation: what is asked, which answers are accepted, and where they stand.

Pure. One JSON object a line:

    {"question": "How long is parental leave?",
     "answers": ["20 weeks"],                    any of them is accepted; none: the documents do not hold the answer
     "sources": [{"path": "leave.md", "quote": "20 weeks of paid parental leave"}],
     "kind": "answerable",                       any word, figures are given for each; three of them mean something:
                                                 "unanswerable" is to be refused, "conflict" has to show all answers,
                                                 and "answerable" is what a question without a kind is
     "also": [{"path": "leave-2019.md"}],        may be cited as well, such as the version before
     "history": [{"question": "…", "answer": "…"}], "fresh": true, "id": "leave-1", "draft": true, "note": "…"}

Only "question" is required. A path is the end of a file's path or a glob; a quote stands in the text of the file, where
white space does not count. All sources are wanted: questions that need two documents list two. "fresh" marks questions
about text that was just edited. Without an "id" it is made from question and history, so that it survives reordering.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgeai.errors import UsageProblem
from edgeai.records import Turn

UNANSWERABLE, CONFLICT, ANSWERABLE = "unanswerable", "conflict", "answerable"
_KEYS = {"id", "question", "answers", "sources", "also", "kind", "history", "fresh", "draft", "note"}


@dataclass(frozen=True, slots=True)
class Source:
    """Where an answer stands; without a quote anywhere in the file."""

    path: str
    quote: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One question with what is expected of it."""

    id: str
    question: str
    answers: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    also: tuple[Source, ...] = ()
    kind: str = ANSWERABLE
    history: tuple[Turn, ...] = ()
    fresh: bool = False
    draft: bool = False

    @property
    def answerable(self) -> bool:
        """Whether the documents hold an answer."""
        return self.kind != UNANSWERABLE


def read_cases(lines: Iterable[str]) -> list[Case]:
    """The questions of a file; raises `UsageProblem` naming the line that cannot be one, or a repeated id."""
    cases: dict[str, Case] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        case = _case(_parse(line, number), number)
        if case.id in cases:
            raise UsageProblem(f"Line {number} repeats the question or id {case.id!r}; give it an id of its own.")
        cases[case.id] = case
    if not cases:
        raise UsageProblem("There is no question in the file; draft some with `edgeai eval --make 50 --out FILE`.")
    return list(cases.values())


def _parse(line: str, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("question"), str) or not record["question"].strip():
        raise UsageProblem(f'Line {number} is not an object like {{"question": "…", "answers": ["…"]}}.')
    # A key nobody reads is a slip of the pen that would turn a question into another one.
    if unknown := sorted(set(record) - _KEYS):
        raise UsageProblem(f"Line {number} has the unknown key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}.")
    return record


def _case(record: Mapping[str, Any], number: int) -> Case:
    question = record["question"].strip()
    answers = tuple(str(one) for one in _listed(record, "answers", (str, int, float), number))
    sources = tuple(_source(one, number) for one in _listed(record, "sources", (dict,), number))
    also = tuple(_source(one, number) for one in _listed(record, "also", (dict,), number))
    history = tuple(_turn(one, number) for one in _listed(record, "history", (dict,), number))
    kind = record.get("kind") or (ANSWERABLE if answers or sources else UNANSWERABLE)
    if not isinstance(kind, str):
        raise UsageProblem(f'Line {number}: "kind" has to be a word.')
    if kind == UNANSWERABLE and answers:
        raise UsageProblem(f"Line {number} is unanswerable and has answers; take out one of the two.")
    if kind == CONFLICT and len(answers) < 2:
        raise UsageProblem(f"Line {number} is a conflict; list the answers that contradict each other, at least two.")
    fresh, draft = record.get("fresh") is True, record.get("draft") is True
    return Case(_identity(record, question, history), question, answers, sources, also, kind, history, fresh, draft)


def _listed(record: Mapping[str, Any], key: str, kinds: tuple[type, ...], number: int) -> list[Any]:
    values = record.get(key) or []
    if not isinstance(values, list) or not all(isinstance(one, kinds) for one in values):
        raise UsageProblem(f'Line {number}: "{key}" has to be a list of {"texts" if str in kinds else "objects"}.')
    return values


def _source(record: Mapping[str, Any], number: int) -> Source:
    path, quote = record.get("path"), record.get("quote", "")
    if not isinstance(path, str) or not path.strip() or not isinstance(quote, str):
        raise UsageProblem(f'Line {number}: a source is an object like {{"path": "leave.md", "quote": "20 weeks"}}.')
    return Source(path.strip(), quote.strip())


def _turn(record: Mapping[str, Any], number: int) -> Turn:
    question, answer = record.get("question"), record.get("answer")
    if not isinstance(question, str) or not isinstance(answer, str):
        raise UsageProblem(f'Line {number}: a turn of the history is an object with "question" and "answer".')
    return Turn(question, answer)


def _identity(record: Mapping[str, Any], question: str, history: tuple[Turn, ...]) -> str:
    if record.get("id") not in (None, ""):
        return str(record["id"])
    said = "\n".join([question, *(f"{turn.question}\n{turn.answer}" for turn in history)])
    return hashlib.sha256(said.encode(errors="surrogatepass")).hexdigest()[:12]
