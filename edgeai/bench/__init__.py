"""How long answers take, measured in this process, one question after another, and what the times come to.

It measures time, not whether answers are right. Where questions come from, statistics, the machine, comparisons, fresh
processes and the drawn page are modules of their own, which do not know each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean
from typing import Any, TypeVar

from edgeai.bench.statistics import Spread, spread
from edgeai.errors import UsageProblem
from edgeai.records import Answer, Progress, ProgressCallback, Timings

Result = TypeVar("Result")

STAGES = tuple(field.name for field in fields(Timings))
GATE_QUESTIONS = 100  # with fewer, a 95th percentile rests on less than five of them


def run(
    questions: Sequence[str],
    ask: Callable[[str], Result],
    *,
    warmup: int = 5,
    repeat: int = 1,
    progress: ProgressCallback = lambda _: None,
) -> list[Result]:
    """Ask the first `warmup` questions unmeasured, then all others, in order, the whole list `repeat` times.

    A question that was asked before is answered from warm caches, so none occurs twice unless `repeat` says so.
    Raises `UsageProblem` when the warm-up leaves nothing to measure.
    """
    measured = list(questions[warmup:]) * repeat
    if not measured:
        raise UsageProblem(f"{len(questions)} questions are too few for a warm-up of {warmup}; give more questions.")
    for question in questions[:warmup]:
        ask(question)
    results = []
    for number, question in enumerate(measured, 1):
        results.append(ask(question))
        progress(Progress(number, len(measured), "questions"))
    return results


@dataclass(frozen=True, slots=True)
class Report:
    """What a run showed; shares are 0..1 of all answers, tokens are means over the generated ones."""

    answers: int
    questions: int  # different ones
    stages: Mapping[str, Spread]  # those of `Timings` that ran at all
    generated: float  # the three add up to 1
    extractive: float
    refused: float
    degraded: Mapping[str, float]  # share of the answers with each degradation
    tokens: Mapping[str, float]
    budget_ms: float | None
    within_budget: float | None  # share of answers; None without a budget

    @property
    def met(self) -> bool | None:
        """Whether the 95th percentile of the total met the budget; None without a budget."""
        return None if self.budget_ms is None else self.stages["total"].p95.value <= self.budget_ms

    def as_dict(self) -> dict[str, Any]:
        """The object `edgeai bench --json` prints under "report": the fields and "met", times in ms to 0.01."""
        record = asdict(self)
        record["stages"] = {name: times.as_dict() for name, times in self.stages.items()}
        return {**record, "met": self.met}


def summarise(answers: Sequence[Answer], *, budget_ms: float | None = None) -> Report:
    """The statistics of at least one answer."""
    times = {name: [value for answer in answers if (value := getattr(answer.timings, name)) > 0] for name in STAGES}
    generated = [answer for answer in answers if answer.tokens]
    reasons = sorted({reason for answer in answers for reason in answer.degraded})
    shown = ["refused" if answer.status == "refused" else answer.mode for answer in answers]
    return Report(
        answers=len(answers),
        questions=len({answer.question for answer in answers}),
        stages={name: spread(values) for name, values in times.items() if values},
        generated=_share(outcome == "generated" for outcome in shown),
        extractive=_share(outcome == "extractive" for outcome in shown),
        refused=_share(outcome == "refused" for outcome in shown),
        degraded={reason: _share(reason in answer.degraded for answer in answers) for reason in reasons},
        tokens={name: fmean(answer.tokens[name] for answer in generated) for name in _token_names(generated)},
        budget_ms=budget_ms,
        within_budget=None if budget_ms is None else _share(total <= budget_ms for total in times["total"]),
    )


def times_ms(answers: Sequence[Answer]) -> dict[str, list[float]]:
    """The times of every answer, in the order asked, to 0.01 ms: what a later run is compared with."""
    names = ("total", "first_token")
    return {name: [round(getattr(answer.timings, name), 2) for answer in answers] for name in names}


def require_gate(questions: int, budget_ms: float | None, baseline: int | None = None) -> None:
    """Raise `UsageProblem` when a verdict on the budget, or on a baseline of so many answers, would mean nothing.

    Of fewer than 100 answers the 95th percentile is little more than the slowest.
    """
    if baseline is None and budget_ms is None:
        raise UsageProblem("A gate needs a budget or a baseline; give --budget MS or --baseline FILE.")
    if questions < GATE_QUESTIONS:
        raise UsageProblem(
            f"A gate needs at least {GATE_QUESTIONS} different questions after the warm-up, there are {questions}; "
            "raise -n, or give more with --questions FILE."
        )
    if baseline is not None and baseline < GATE_QUESTIONS:
        raise UsageProblem(
            f"A gate needs a baseline of at least {GATE_QUESTIONS} answers, this one has {baseline}; "
            f"make one with `edgeai bench -n {GATE_QUESTIONS} --json > FILE`."
        )


def _share(flags: Iterable[bool]) -> float:
    marks = list(flags)
    return sum(marks) / len(marks)


def _token_names(generated: Sequence[Answer]) -> list[str]:
    return list(generated[0].tokens) if generated else []
