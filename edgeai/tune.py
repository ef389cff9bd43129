"""How fast this machine reads and generates, and what a time budget buys here.

A few seconds of measuring, on text that no cache has seen. Medians are what a machine does left alone: beside other
programs answers take longer, and the rates that are learnt from real answers follow.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from edgeai.budget import (
    CHECKED_TOKENS,
    FINISH_MS,
    FORWARD_OVERHEAD,
    PAIR_OVERHEAD,
    QUESTION_TOKENS,
    SPARE_FORWARDS,
    Rate,
    Rates,
)
from edgeai.engines import Generator, Reader
from edgeai.prompt import build_prompt
from edgeai.records import Passage

ROUNDS = 5
RETRIEVAL_MS = 15.0  # embedding and searching ten thousand chunks
PAIRS = 4  # passages read together when measuring
ANSWER_TOKENS = 12
SENTENCE = (
    "The {0} office on floor {0} keeps {1} keys, of which {2} open the archive, and the porter notes the name, the "
    "hour and the reason of everyone who takes one after {3} o'clock."
)


class Way(NamedTuple):
    """How a generator may be computed."""

    threads: int
    flash_attention: bool


@dataclass(frozen=True, slots=True)
class Tuned:
    """What one generator does here; `tokens` is what fits of passages besides the question."""

    model: str
    weights: float  # how many it has
    way: Way
    rates: Rates
    tokens: int
    measured: bool = True  # False where it is not installed, and judged by one that is

    @property
    def meets(self) -> bool:
        """Whether at least a sentence of a passage nobody asked about before fits."""
        return self.tokens > 0


def measure_reader(reader: Reader) -> float:
    """Milliseconds per character, of passages with the usual overhead (see `budget.PAIR_OVERHEAD`)."""
    reader.load()
    times = []
    for number in range(ROUNDS + 1):
        passages = [_passage(10 * number + row) for row in range(PAIRS)]
        began = time.perf_counter()
        reader.read(f"Who keeps the {number} keys?", passages)
        units = sum(len(passage.text) + PAIR_OVERHEAD for passage in passages)
        times.append((time.perf_counter() - began) * 1000 / units)
    return statistics.median(times[1:])  # the first one also allocates


def measure_generator(generator: Generator) -> tuple[float, float]:
    """Milliseconds per token of a prompt, and of one forward of the answer."""
    generator.load()
    prefill, forward = [], []
    for number in range(ROUNDS + 1):
        prompt = build_prompt(
            f"Who keeps the {number} keys?",
            [_passage(100 + number)],
            generator.spec.template,
            count=generator.count_tokens,
            context=generator.spec.context,
            max_tokens=ANSWER_TOKENS,
            numbered=not generator.spec.independent,
        )
        last = list(generator.stream(prompt))[-1]
        prefill.append(last.prefill_ms / (last.prompt_tokens - last.cached_tokens + FORWARD_OVERHEAD))
        if last.forwards:
            forward.append(last.generate_ms / last.forwards)
    return statistics.median(prefill[1:]), statistics.median(forward or [0.0])


def measured_rates(generator: Generator, read: float) -> Rates:
    """The rates of a generator beside a reader that takes `read` ms a character, 0 for none."""
    prefill, forward = measure_generator(generator)
    rates = replace(Rates(), prefill=_rate(prefill), **({"forward": _rate(forward)} if forward else {}))
    return replace(rates, read=_rate(read)) if read else rates


def estimated(model: str, weights: float, like: Tuned, budget_ms: float) -> Tuned:
    """A model that is not installed, as if each weight cost what those of `like` do.

    Prompts are bound by arithmetic, two operations a weight and token; answers by the bytes of all weights a token.
    Other types of weights, and a share of them in the vocabulary, make that rough.
    """
    ratio = weights / like.weights
    slower = replace(like.rates, prefill=_times(like.rates.prefill, ratio), forward=_times(like.rates.forward, ratio))
    return Tuned(model, weights, like.way, slower, room(slower, budget_ms), measured=False)


def count_weights(parameters: str) -> float:
    """The number behind "135M" or "1.7B"; 0 for anything else."""
    found = re.fullmatch(r"([\d.]+)\s*([MB])", parameters.strip())
    return float(found.group(1)) * {"M": 1e6, "B": 1e9}[found.group(2)] if found else 0.0


def largest(tuned: Sequence[Tuned]) -> Tuned | None:
    """The largest model that has time for an answer, the first of equals; None when none has."""
    return max((one for one in tuned if one.meets), key=lambda one: one.weights, default=None)


def room(rates: Rates, budget_ms: float) -> int:
    """Tokens of passages that a budget in ms leaves time for, besides a question and its answer; 0 for none."""
    reading = PAIRS * (len(_passage(0).text) + PAIR_OVERHEAD) * rates.read.careful
    left = budget_ms - FINISH_MS - RETRIEVAL_MS - reading - SPARE_FORWARDS * rates.forward.careful
    return max(0, int(left / rates.prefill.careful) - QUESTION_TOKENS - CHECKED_TOKENS - FORWARD_OVERHEAD)


def best(measured: Sequence[Tuned]) -> Tuned:
    """Of one model computed in several ways, the fastest at prompts."""
    return min(measured, key=lambda one: one.rates.prefill.mean)


def thread_counts(physical: int, logical: int) -> Iterator[int]:
    """Numbers of threads worth trying: one, half the cores, all cores, and all that the CPU shows."""
    yield from sorted({1, max(1, physical // 2), physical, logical})


def _times(rate: Rate, factor: float) -> Rate:
    return Rate(rate.mean * factor, rate.deviation * factor)


def _rate(mean: float) -> Rate:
    return Rate(mean, mean / 10)


def _passage(number: int) -> Passage:
    text = " ".join(SENTENCE.format(number, number + row, number * row, row) for row in range(4))
    return Passage(1, text, "tune.md", 0, len(text), title="Keys")
