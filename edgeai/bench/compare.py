"""Two sets of times against each other: a run and an earlier one, or two systems asked in turns.

It compares times and names what else differs between two runs; it cannot tell which difference made them slower.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, TypeVar

from edgeai.bench.statistics import paired_percentile_ratio, paired_ratio, percentile_ratio, ratio_as_dict, verdict
from edgeai.bootstrap import Estimate
from edgeai.errors import UsageProblem

First = TypeVar("First")
Second = TypeVar("Second")

TOLERANCE = 1.1  # a gate lets p95 grow by a tenth: two runs on one shared machine differ by as much
# What should be the same in two runs, as paths into the object `--json` prints.
CONDITIONS = ("machine.cpu", "machine.cpus", "model", "embedder", "index.chunks", "repeat")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ratios of this run's percentiles of the total to those of an earlier run: below 1 is faster."""

    p50: Estimate
    p95: Estimate
    different: tuple[str, ...]  # conditions that were not the same

    @property
    def regressed(self) -> bool:
        """Whether p95 grew beyond doubt by more than the tolerance."""
        return self.p95.low > TOLERANCE

    def as_dict(self) -> dict[str, Any]:
        """The object `edgeai bench --json` prints under "baseline"."""
        ratios = {"p50": self.p50, "p95": self.p95}
        return {
            **{name: {**ratio_as_dict(ratio), "verdict": verdict(ratio)} for name, ratio in ratios.items()},
            "regressed": self.regressed,
            "different": list(self.different),
        }


def read_baseline(text: str) -> dict[str, Any]:
    """What `edgeai bench --json` printed; raises `UsageProblem` for anything else."""
    try:
        record = json.loads(text)
        totals = record["times_ms"]["total"]
        usable = len(totals) > 0 and all(isinstance(total, int | float) and total > 0 for total in totals)
    except (ValueError, KeyError, TypeError):
        usable = False
    if not usable:
        raise UsageProblem("The baseline holds no times; make one with `edgeai bench --json > FILE`.")
    return dict(record)


def with_baseline(record: Mapping[str, Any], baseline: Mapping[str, Any]) -> Comparison:
    """Compare two objects of `edgeai bench --json`, the earlier one second."""
    new, old = (one["times_ms"]["total"] for one in (record, baseline))
    return Comparison(
        percentile_ratio(new, old, 0.50), percentile_ratio(new, old, 0.95), tuple(_differences(record, baseline))
    )


def _differences(record: Mapping[str, Any], baseline: Mapping[str, Any]) -> Iterator[str]:
    settings = [f"settings.{name}" for name in record.get("settings", {})]
    for path in (*CONDITIONS, *settings):
        if _at(record, path) != _at(baseline, path):
            yield path


def _at(record: Any, path: str) -> Any:
    for name in path.split("."):
        record = record.get(name) if isinstance(record, Mapping) else None
    return record


def alternately(
    first: Callable[[str], First], second: Callable[[str], Second]
) -> Callable[[str], tuple[First, Second]]:
    """A function that asks both; each goes before the other every second time.

    Whatever slows the machine down hits both alike, and so does what the other leaves in the caches of the system.
    """
    turns = cycle((True, False))

    def ask(question: str) -> tuple[First, Second]:
        if next(turns):
            ahead = first(question)
            return ahead, second(question)
        behind = second(question)
        return first(question), behind

    return ask


def speedups(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Estimate]:
    """How many times faster ours are than theirs, question by question in the same order.

    "pairs" is the geometric mean over the pairs, "p50" and "p95" are ratios of percentiles.
    """
    return {
        "pairs": paired_ratio(theirs, ours),
        "p50": paired_percentile_ratio(theirs, ours, 0.50),
        "p95": paired_percentile_ratio(theirs, ours, 0.95),
    }
