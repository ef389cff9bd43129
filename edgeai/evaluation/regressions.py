"""Two runs over the same questions: what moved, whether that can be chance, and which stage it points to.

The rule of the gate: for each of the figures in `GATED` the difference over the questions both runs asked is resampled
(paired bootstrap). A figure counts as worse when the interval of its difference lies wholly on the wrong side of 0. The
intervals are wide enough that, with nothing changed, one run in twenty at most fails (Bonferroni: the error of 5 % is
shared among the figures). Latency and calibration are shown but not gated: the first depends on the machine, the second
on few answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgeai.bootstrap import Draws, Estimate, resample
from edgeai.errors import UsageProblem
from edgeai.evaluation import metrics
from edgeai.evaluation.run import Result, Run, column

# In the order of the pipeline: what is worse first is the likeliest cause of what is worse after it.
GATED: Mapping[str, str] = {
    "chunked": "chunking or extraction: the sources are no longer whole in any chunk",
    "vectors_current": "stale vectors: those stored are not those of the text",
    "vector_mrr": "the embedder: its model, pooling or prefixes",
    "keyword_mrr": "keyword search: how terms are cut or matched",
    "retrieved": "fusion: one of the lists has the source, the hits do not",
    "read": "the reader, or the choice of passages shown",
    "citation_exact": "the offsets of citations",
    "citation_precision": "citations: they point to the wrong passages",
    "used": "the answer: the source is shown and not cited",
    "unsupported_numbers": "the check of numbers",
    "answered": "refusal: too much is refused",
    "refusal_recall": "refusal: too little is refused",
    "correct": "the words of the answers",
}
LOWER_IS_BETTER = {"unsupported_numbers"}
ERROR = 0.05  # that the gate fails although nothing has changed
LEAST_QUESTIONS = 20  # in common; with fewer, a few questions decide


@dataclass(frozen=True, slots=True)
class Change:
    """How one figure moved, with the interval of the gate."""

    name: str
    before: float
    after: float
    difference: Estimate
    worse: bool
    better: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed from one run to another."""

    questions: int  # asked by both
    changes: tuple[Change, ...]

    @property
    def regressions(self) -> tuple[Change, ...]:
        """The figures that are worse, the likeliest cause first."""
        return tuple(change for change in self.changes if change.worse)

    @property
    def cause(self) -> str:
        """The stage that the first of the regressions points to; "" without one."""
        return GATED[self.regressions[0].name] if self.regressions else ""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values."""
        return {**asdict(self), "cause": self.cause}


def compare(new: Run, old: Run) -> Comparison:
    """Pair the questions of two runs by id and wording; raises `UsageProblem` when they have too few in common."""
    pairs = _pairs(new.results, old.results)
    if len(pairs) < LEAST_QUESTIONS:
        raise UsageProblem(
            f"The two runs have {len(pairs)} questions in common, a comparison needs {LEAST_QUESTIONS}; "
            "evaluate both with the same, longer file of questions."
        )
    draws = resample(len(pairs))
    return Comparison(len(pairs), tuple(_changes(pairs, draws)))


def _pairs(new: Sequence[Result], old: Sequence[Result]) -> list[tuple[Result, Result]]:
    known = {(result.id, result.question): result for result in old}
    return [(result, known[key]) for result in new if (key := (result.id, result.question)) in known]


def _changes(pairs: Sequence[tuple[Result, Result]], draws: Draws) -> list[Change]:
    level = 1 - ERROR / len(GATED)
    changes = []
    for name in GATED:
        after, before = (column([pair[side] for pair in pairs], name) for side in (0, 1))
        if np.isnan(after).all() or np.isnan(before).all():
            continue
        moved = metrics.paired_difference(after, before, draws, level)
        up, down = moved.low > 0, moved.high < 0
        worse, better = (up, down) if name in LOWER_IS_BETTER else (down, up)
        changes.append(Change(name, float(np.nanmean(before)), float(np.nanmean(after)), moved, worse, better))
    return changes
