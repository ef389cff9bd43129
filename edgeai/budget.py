"""How much of a question's time is left, and what the next stage may still do with it.

Costs are rates of this machine, learnt from every answer. They foretell the usual, not the worst: beside a busy program
a stage may take several times longer, which is why the deadline itself is enforced as well.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate

SMOOTHING = 0.1  # of a new observation in the weighted means
CAUTION = 1.0  # mean deviations that are added to a mean when something is planned
OUTLIER = 4.0  # an observation counts as at most so many times the mean: a stalled machine is not a slow one
# What is not tried is not learnt either. Rates for which there was no time are lowered a little each time, until it is
# tried again; one at which the deadline passed is raised much more (as TCP does with its window, RFC 5681).
HOPE, REGRET = 0.98, 1.25

# What a unit of work costs beside its size: the overhead of a call, in the unit's own measure.
PAIR_OVERHEAD = 120  # characters: the question, the title, and the padding to the longest
FORWARD_OVERHEAD = 4  # tokens
# What a resident token costs: each of the 35 or so new ones looks at it, for 2.3 us beside 1.1 ms for itself.
ATTENDED = 0.07  # tokens

SEARCH_MS = 20.0  # of a question among some 10,000 chunks, on two cores
PASSAGE_CHARACTERS = 600  # of one that is found, in the middle
LEAST_READ = 2  # passages, however late it is

# What a generated answer takes at least.
QUESTION_TOKENS, SENTENCE_TOKENS, CHECKED_TOKENS = 35, 45, 8
SPARE_FORWARDS = 1  # beyond the first, for words that no draft foretold: three of four answers need none
# A forward that is seldom needed is seldom measured, and one slow hour would be remembered for long: it is planned as
# no dearer than so many tokens of a prompt (17 ms beside 1.5 on two cores).
SPARE_TOKENS = 12
WORDY_FORWARDS = 30  # of a model that has not learnt to answer in a few words
FINISH_MS = 14.0  # a forward that is being computed ends, then citing, checking, and handing over


@dataclass(frozen=True, slots=True)
class Rate:
    """Milliseconds per unit: exponentially weighted mean and mean absolute deviation (Jacobson, SIGCOMM 1988)."""

    mean: float
    deviation: float

    def updated(self, observed: float) -> Rate:
        """With one more observation."""
        error = min(observed, OUTLIER * self.mean) - self.mean
        return Rate(self.mean + SMOOTHING * error, self.deviation + SMOOTHING * (abs(error) - self.deviation))

    @property
    def careful(self) -> float:
        """What to plan with."""
        return self.mean + CAUTION * self.deviation


@dataclass(frozen=True, slots=True)
class Rates:
    """Milliseconds per character read, token prefilled and forward of a few tokens; at first of two quick cores."""

    read: Rate = Rate(0.02, 0.002)
    prefill: Rate = Rate(1.2, 0.1)
    forward: Rate = Rate(8.0, 1.0)


class Costs:
    """The rates of this machine, kept up to date; safe to use from several threads."""

    def __init__(self, rates: Rates | None = None) -> None:
        self.rates = rates or Rates()
        self._lock = threading.Lock()

    def note(self, **observed: tuple[float, float]) -> None:
        """What took how long: for each rate by name, (units, milliseconds); nothing is learnt from no units."""
        with self._lock:
            new = {
                name: getattr(self.rates, name).updated(ms / units) for name, (units, ms) in observed.items() if units
            }
            self.rates = Rates(**{**{name: getattr(self.rates, name) for name in Rates.__slots__}, **new})

    def missed(self, tokens: int, ms: float) -> None:
        """The deadline passed, after `ms`, before a prompt of so many new tokens was computed."""
        with self._lock:
            prefill = self.rates.prefill
            slower = max(prefill.mean * REGRET, ms / max(1, tokens))
            self.rates = replace(self.rates, prefill=Rate(min(slower, prefill.mean * OUTLIER), prefill.deviation))

    def untried(self) -> None:
        """There was no time to generate, as far as is known."""
        with self._lock:
            prefill, forward = (
                Rate(rate.mean * HOPE, rate.deviation * HOPE) for rate in (self.rates.prefill, self.rates.forward)
            )
            self.rates = replace(self.rates, prefill=prefill, forward=forward)

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Plain JSON-ready values."""
        return asdict(self.rates)

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, float]]) -> Costs:
        """The inverse of `as_dict`. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        rates = {name: Rate(float(values[name]["mean"]), float(values[name]["deviation"])) for name in Rates.__slots__}
        if not all(0 < rate.mean < math.inf and 0 <= rate.deviation < math.inf for rate in rates.values()):
            raise ValueError("rates must be positive")
        return cls(Rates(**rates))


@dataclass(frozen=True, slots=True)
class Budget:
    """The time for one answer: `ms` milliseconds from `began` (`time.perf_counter()`), None for any time."""

    ms: float | None
    began: float
    costs: Costs

    @property
    def deadline(self) -> float | None:
        """The `time.perf_counter()` at which the model must be done."""
        return None if self.ms is None else self.began + (self.ms - FINISH_MS) / 1000

    def left(self) -> float:
        """Milliseconds that may still be spent, at least 0; infinite without a limit."""
        return math.inf if self.deadline is None else max(0.0, (self.deadline - time.perf_counter()) * 1000)

    def pairs(self, lengths: Sequence[int]) -> int:
        """How many of the passages of these lengths (characters), best first, there is time to read.

        `LEAST_READ` are read in any case: without a reader's judgement there is nothing to refuse with.
        """
        costs, left = accumulate(map(self._reading, lengths)), self.left()
        return max(sum(cost <= left for cost in costs), min(LEAST_READ, len(lengths)))

    def part(self, of: int) -> Budget:
        """A budget that ends after the first of so many equal parts of the time that is left."""
        if self.ms is None:
            return self
        spent = (time.perf_counter() - self.began) * 1000
        return replace(self, ms=spent + self.left() / of + FINISH_MS)

    def leaves_step(self) -> bool:
        """Whether there is time for another search, and for reading the first passages that it finds."""
        return self.left() > SEARCH_MS + LEAST_READ * self._reading(PASSAGE_CHARACTERS)

    def leaves_no_answer(self, lengths: Sequence[int]) -> bool:
        """Whether there is time to generate an answer now, and there is none after passages of these lengths."""
        spare = self.left() - self._least_generation()
        return 0 <= spare < sum(map(self._reading, lengths))

    def _reading(self, length: int) -> float:
        return self.costs.rates.read.careful * (length + PAIR_OVERHEAD)

    def room(self, others: int, forwards: int = SPARE_FORWARDS) -> float:
        """How many tokens of passages there is time to compute, besides `others` that must be; negative for none.

        `forwards` is how many the answer takes beyond the first.
        """
        rates = self.costs.rates
        left = self.left() - (forwards * rates.forward.careful if forwards > SPARE_FORWARDS else self._spare())
        return left / rates.prefill.careful - others - CHECKED_TOKENS - FORWARD_OVERHEAD

    def _least_generation(self) -> float:
        rates = self.costs.rates
        tokens = QUESTION_TOKENS + SENTENCE_TOKENS + CHECKED_TOKENS + FORWARD_OVERHEAD
        return tokens * rates.prefill.careful + self._spare()

    def _spare(self) -> float:
        rates = self.costs.rates
        return SPARE_FORWARDS * min(rates.forward.careful, SPARE_TOKENS * rates.prefill.careful)
