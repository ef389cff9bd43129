"""How long answers take, measured in this process, one question after another.

Three parts that do not know each other: where questions come from, the loop that asks them, and the statistics. It
measures time, not whether answers are right; questions made from an index are easier to find than those people ask.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from edgeai import __version__
from edgeai.errors import NothingToIndex, UsageProblem
from edgeai.records import Answer, Chunk, Progress, ProgressCallback, Timings
from edgeai.sentences import sentences
from edgeai.store import Store
from edgeai.terms import query_terms

Ask = Callable[[str], Answer]

STAGES = tuple(field.name for field in fields(Timings))
GATE_QUESTIONS = 100  # with fewer, a 95th percentile rests on less than five of them
QUESTION_TERMS = 3
MOST_SENTENCES = 8  # tried per chunk before an index counts as too small
DISTRIBUTIONS = ("onnxruntime", "llama-cpp-python", "apsw", "sqlite-vec", "numpy", "tokenizers")


# questions ------------------------------------------------------------------------------------------------------------


def read_questions(lines: Iterable[str]) -> list[str]:
    """Questions from text, one a line, or from JSON Lines of objects with "question"; repeated ones are dropped.

    Raises `UsageProblem` naming a line that starts like an object and holds no question.
    """
    found = (_question(line.strip(), number) for number, line in enumerate(lines, 1) if line.strip())
    return list(dict.fromkeys(found))


def _question(line: str, number: int) -> str:
    if not line.startswith("{"):
        return line
    try:
        question = json.loads(line).get("question")
    except ValueError:
        question = None
    if not isinstance(question, str) or not question.strip():
        raise UsageProblem(f'Line {number} of the questions is not an object like {{"question": "…"}}.')
    return question.strip()


def make_questions(store: Store, count: int) -> list[str]:
    """Up to `count` different questions from chunks spread evenly over an index; the same for the same index.

    Each names the terms of one sentence that are rarest in the index. Raises `NothingToIndex` for an empty index.
    """
    if not store.count_chunks():
        raise NothingToIndex("The index is empty, so no questions can be made; fill it with `edgeai sync FOLDER`.")
    found: dict[str, None] = {}
    chunks = list(_spread(store, count))
    for which in range(MOST_SENTENCES):
        for chunk in chunks:
            if question := _question_from(chunk, which, store):
                found.setdefault(question)
            if len(found) == count:
                return list(found)
    return list(found)


def _spread(store: Store, count: int) -> Iterator[Chunk]:
    """At most `count` chunks at even distances, in the order of paths."""
    total = store.count_chunks()
    wanted = {(2 * i + 1) * total // (2 * min(count, total)) for i in range(min(count, total))}
    position = 0
    for file in store.files().values():
        here = range(position, position + file.chunks)
        if not wanted.isdisjoint(here):
            chunks = store.chunks_of(file.path)
            yield from (chunks[i - position][1] for i in here if i in wanted)
        position += file.chunks


def _question_from(chunk: Chunk, which: int, store: Store) -> str:
    """A question on the sentence number `which` of a chunk, longest first; "" when there is none or it says nothing."""
    spans = sorted(sentences(chunk.text), key=lambda span: (span[0] - span[1], span))[which : which + 1]
    terms = [term for start, end in spans for term in query_terms(chunk.text[start:end]) if len(term) > 1]
    frequency = store.document_frequency(terms)
    rarest = sorted(terms, key=lambda term: (frequency.get(term, 0), terms.index(term)))[:QUESTION_TERMS]
    named = [term for term in terms if term in rarest]
    return f"What do the documents say about {' '.join(named)}?" if len(named) == QUESTION_TERMS else ""


# the run --------------------------------------------------------------------------------------------------------------


def run(
    questions: Sequence[str],
    ask: Ask,
    *,
    warmup: int = 5,
    repeat: int = 1,
    progress: ProgressCallback = lambda _: None,
) -> list[Answer]:
    """Ask the first `warmup` questions unmeasured, then all others, in order, the whole list `repeat` times.

    A question that was asked before is answered from warm caches, so none occurs twice unless `repeat` says so.
    Raises `UsageProblem` when the warm-up leaves nothing to measure.
    """
    measured = list(questions[warmup:]) * repeat
    if not measured:
        raise UsageProblem(f"{len(questions)} questions are too few for a warm-up of {warmup}; give more questions.")
    for question in questions[:warmup]:
        ask(question)
    answers = []
    for number, question in enumerate(measured, 1):
        answers.append(ask(question))
        progress(Progress(number, len(measured), "questions"))
    return answers


# statistics -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds of one stage, over the `count` answers in which it ran."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a run showed; shares are 0..1 of all answers, tokens are means over the generated ones."""

    answers: int
    questions: int  # different ones
    stages: Mapping[str, Spread]  # those of `Timings` that ran at all
    refused: float
    extractive: float
    degraded: Mapping[str, float]  # share of the answers with each degradation
    tokens: Mapping[str, float]
    budget_ms: float | None
    within_budget: float | None  # share of answers; None without a budget

    @property
    def met(self) -> bool | None:
        """Whether the 95th percentile of the total met the budget; None without a budget."""
        return None if self.budget_ms is None else self.stages["total"].p95 <= self.budget_ms

    def as_dict(self) -> dict[str, Any]:
        """The object `edgeai bench --json` prints under "report": the fields and "met", times in ms to 0.01."""
        record = asdict(self)
        record["stages"] = {name: _rounded(asdict(spread)) for name, spread in self.stages.items()}
        return {**record, "met": self.met}


def summarise(answers: Sequence[Answer], *, budget_ms: float | None = None) -> Report:
    """The statistics of at least one answer."""
    times = {name: [value for answer in answers if (value := getattr(answer.timings, name)) > 0] for name in STAGES}
    generated = [answer for answer in answers if answer.tokens]
    reasons = sorted({reason for answer in answers for reason in answer.degraded})
    totals = times["total"]
    return Report(
        answers=len(answers),
        questions=len({answer.question for answer in answers}),
        stages={name: spread(values) for name, values in times.items() if values},
        refused=_share(answer.status == "refused" for answer in answers),
        extractive=_share(answer.mode == "extractive" and answer.status != "refused" for answer in answers),
        degraded={reason: _share(reason in answer.degraded for answer in answers) for reason in reasons},
        tokens={name: _mean([answer.tokens[name] for answer in generated]) for name in _token_names(generated)},
        budget_ms=budget_ms,
        within_budget=None if budget_ms is None else _share(total <= budget_ms for total in totals),
    )


def spread(values: Sequence[float]) -> Spread:
    """Count, mean and percentiles of at least one value."""
    p50, p95, p99 = (percentile(values, share) for share in (0.50, 0.95, 0.99))
    return Spread(len(values), _mean(values), p50, p95, p99)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0..1) of at least one value lie, interpolated linearly.

    Type 7 of Hyndman and Fan, "Sample quantiles in statistical packages", The American Statistician 50(4), 1996;
    what NumPy does by default.
    """
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low, high = ordered[math.floor(position)], ordered[math.ceil(position)]
    return low + (high - low) * (position - math.floor(position))


def require_gate(questions: int, budget_ms: float | None) -> None:
    """Raise `UsageProblem` when a verdict on the budget would not mean anything."""
    if budget_ms is None:
        raise UsageProblem("A gate needs a budget; give one with --budget MS.")
    if questions < GATE_QUESTIONS:
        raise UsageProblem(
            f"A gate needs at least {GATE_QUESTIONS} different questions after the warm-up, there are {questions}; "
            "raise -n, or give more with --questions FILE."
        )


def _share(flags: Iterable[bool]) -> float:
    marks = list(flags)
    return sum(marks) / len(marks)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _token_names(generated: Sequence[Answer]) -> list[str]:
    return list(generated[0].tokens) if generated else []


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}


# the machine ----------------------------------------------------------------------------------------------------------


def describe_machine() -> dict[str, Any]:
    """CPU, cores, system and versions: what a time is worth nothing without."""
    return {
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {"edgeai": __version__, **{name: _version(name) for name in DISTRIBUTIONS}},
    }


def _cpu_name() -> str:
    """As the system calls it; Python itself knows only the architecture on Linux."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.machine()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
