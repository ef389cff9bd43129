"""What would help most, by rules over a run and a few facts: prompt, retrieval, fine-tuning or a mix; and its cost.

Pure. The rules are rules of thumb, written out below, not something that was fitted: they turn measured figures into
a starting point, and the next evaluation decides whether it helped. Costs are computed from the user's own prices and
measured times and tokens, and every step of the arithmetic is shown.
"""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from edgeai.errors import UsageProblem
from edgeai.evaluation.judge import NOT_CHUNKED, NOT_READ, NOT_RETRIEVED
from edgeai.evaluation.run import Result, Run

KNOWLEDGE, BEHAVIOUR, ACCURACY = "knowledge", "behaviour", "accuracy"
PROMPT, RETRIEVAL, TUNING, ANY = "prompt", "retrieval", "fine-tuning", "any"
GOOD_RECALL = 0.95  # of the sources among the first five hits, above which better retrieval gains little
TUNING_EXAMPLES = 200  # good examples, with fewer of which a prompt is the cheaper way to the same behaviour

TEMPLATE = """\
# Facts about your workload for `edgeai advise`. All numbers are yours: change them, and run it again.
# Money is in any one currency.

questions_per_month = 1000
changes_per_month = 10         # documents added, edited or deleted
citations_required = true
strict_format = false          # answers have to follow a fixed format or wording
good_examples = 0              # questions with answers exactly as they should be, that could be trained on
latency_ms = 2000              # an answer that takes longer is too late
data_may_leave = false         # whether documents and questions may go to somebody else's computer

# The API you would use instead: price of a million tokens. 0 tokens = as measured in the run.
api_input_price = 0.0
api_output_price = 0.0
api_input_tokens = 0           # of one question with its passages
api_output_tokens = 0          # of one answer

# This device: what it costs because of edgeai; 0 for hardware that is there anyway.
device_price = 0.0
device_months = 36             # over which the price is spread
device_watts = 30              # more than idle, while it answers
kwh_price = 0.30
upkeep_hours_per_month = 0.0
upkeep_hour_price = 0.0
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """The workload, the prices of an API, and the costs of this device; units are in `TEMPLATE`."""

    questions_per_month: float
    changes_per_month: float
    citations_required: bool
    strict_format: bool
    good_examples: float
    latency_ms: float
    data_may_leave: bool
    api_input_price: float
    api_output_price: float
    api_input_tokens: float
    api_output_tokens: float
    device_price: float
    device_months: float
    device_watts: float
    kwh_price: float
    upkeep_hours_per_month: float
    upkeep_hour_price: float


def read_facts(text: str) -> Facts:
    """The facts of a TOML file; what it leaves out is as in `TEMPLATE`. Raises `UsageProblem` for anything else."""
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageProblem(
            f"The facts are not valid TOML ({error}); start anew with `edgeai advise --init FILE`."
        ) from error
    merged: dict[str, Any] = tomllib.loads(TEMPLATE) | given
    if unknown := sorted(set(given) - {field.name for field in fields(Facts)}):
        raise UsageProblem(f"There is no fact {unknown[0]!r}; `edgeai advise --init FILE` writes all there are.")
    for field in fields(Facts):
        value, wants_flag = merged[field.name], field.type == "bool"
        if isinstance(value, bool) != wants_flag or not (wants_flag or _is_amount(value)):
            raise UsageProblem(f"The fact {field.name} cannot be {value!r}; give {_kind(wants_flag)}.")
    if not merged["device_months"]:
        raise UsageProblem("The fact device_months cannot be 0; give the months over which the price is spread.")
    return Facts(**merged)


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value < math.inf


def _kind(flag: bool) -> str:
    return "true or false" if flag else "a number that is not negative"


# the gap --------------------------------------------------------------------------------------------------------------


def gap_of(result: Result, strict_format: bool) -> str:
    """What a question lacked, "" when nothing.

    Knowledge: a source did not reach the passages shown. Behaviour: it did, or there is none, and the decision to
    answer was wrong, or the answer is right and not in the words wanted. Accuracy: it did, and the answer is wrong.
    """
    correct = result.values.get("correct")
    if correct is None or (correct == 1 and not strict_format):
        return ""
    if correct == 1:
        return BEHAVIOUR if result.values.get("exact_match") == 0 else ""
    if {NOT_CHUNKED, NOT_RETRIEVED, NOT_READ} & set(result.lost):
        return KNOWLEDGE
    return BEHAVIOUR if 0 in (result.values.get("answered"), result.values.get("refusal_recall")) else ACCURACY


def count_gaps(results: Sequence[Result], strict_format: bool) -> dict[str, int]:
    """How many questions lacked what, the most frequent first."""
    found = Counter(gap for result in results if (gap := gap_of(result, strict_format)))
    return dict(found.most_common())


# the costs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Costs:
    """Per question and month, and the questions a month above which this device is cheaper (None: never)."""

    api_per_question: float
    device_per_question: float
    device_per_month: float
    break_even: float | None
    arithmetic: tuple[str, ...]


def costs(results: Sequence[Result], facts: Facts) -> Costs:
    """The bill of an API beside that of this device."""
    asked, said = _tokens(results, facts)
    seconds = sum(result.latency_ms for result in results) / len(results) / 1000
    api = (asked * facts.api_input_price + said * facts.api_output_price) / 1e6
    device = facts.device_watts * seconds / 3.6e6 * facts.kwh_price
    upkeep = facts.upkeep_hours_per_month * facts.upkeep_hour_price
    monthly = facts.device_price / facts.device_months + upkeep
    even = monthly / (api - device) if api > device else None
    arithmetic = (
        f"API, a question: ({asked:g} x {facts.api_input_price:g} + {said:g} x {facts.api_output_price:g}) / 1,000,000"
        f" = {api:.6g}",
        f"device, a question: {facts.device_watts:g} W x {seconds:.3g} s / 3,600,000 x {facts.kwh_price:g}"
        f" = {device:.6g}",
        f"device, a month: {facts.device_price:g} / {facts.device_months:g} + {facts.upkeep_hours_per_month:g} x "
        f"{facts.upkeep_hour_price:g} = {monthly:.6g}",
        "break-even: never, the API costs no more per question than the power does"
        if even is None
        else f"break-even: {monthly:.6g} / ({api:.6g} - {device:.6g}) = {even:,.0f} questions a month",
    )
    return Costs(api, device, monthly, even, arithmetic)


def _tokens(results: Sequence[Result], facts: Facts) -> tuple[float, float]:
    """Tokens of a question with its passages and of an answer, as given or else as measured where a model ran."""
    measured = [result.tokens for result in results if result.tokens]
    given = (facts.api_input_tokens, facts.api_output_tokens)
    means = [
        value or round(sum(one[name] for one in measured) / len(measured), 1) if measured else value
        for value, name in zip(given, ("prompt", "output"), strict=True)
    ]
    return means[0], means[1]


# the advice -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dimension:
    """What one point of view speaks for, and why."""

    name: str
    method: str
    reason: str


@dataclass(frozen=True, slots=True)
class Advice:
    """The largest gap, the methods that close it, and the reasons."""

    gap: str  # "" when no question was answered wrongly
    gaps: dict[str, int]
    methods: tuple[str, ...]  # the most important first
    dimensions: tuple[Dimension, ...]
    costs: Costs

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values."""
        return asdict(self)


def advise(run: Run, facts: Facts) -> Advice:
    """Advice for a run with at least one question."""
    gaps = count_gaps(run.results, facts.strict_format)
    gap = next(iter(gaps), "")
    bill = costs(run.results, facts)
    dimensions = _dimensions(run, facts, gap, bill)
    wanted = [*filter(None, (_closing(gap, facts),)), *(one.method for one in dimensions)]
    return Advice(gap, gaps, tuple(dict.fromkeys(one for one in wanted if one != ANY)), dimensions, bill)


def _closing(gap: str, facts: Facts) -> str:
    """The method that closes a gap."""
    behaving = TUNING if facts.good_examples >= TUNING_EXAMPLES else PROMPT
    return {KNOWLEDGE: RETRIEVAL, BEHAVIOUR: behaving, ACCURACY: behaving}.get(gap, "")


def _dimensions(run: Run, facts: Facts, gap: str, bill: Costs) -> tuple[Dimension, ...]:
    figures = run.summary["all"]
    recall = figures["recall@5"].value if "recall@5" in figures else None
    return (
        _freshness(facts),
        _long_tail(recall, gap, facts),
        _latency(figures["latency_ms_p95"].value, facts),
        _cost(facts, bill),
        _control(facts),
        _compliance(facts),
        Dimension("evaluability", RETRIEVAL, f"each of {len(run.results)} answers here can be held against its source"),
    )


def _freshness(facts: Facts) -> Dimension:
    if facts.changes_per_month:
        reason = f"{facts.changes_per_month:g} changes a month: a trained model knows only what it was trained on"
        return Dimension("freshness", RETRIEVAL, reason)
    return Dimension("freshness", ANY, "the documents do not change")


def _long_tail(recall: float | None, gap: str, facts: Facts) -> Dimension:
    if recall is not None and recall < GOOD_RECALL:
        return Dimension("long-tail accuracy", RETRIEVAL, f"recall@5 is {recall:.2f}: what is not found cannot be said")
    found = "no sources are given" if recall is None else f"recall@5 is {recall:.2f}"
    return Dimension("long-tail accuracy", _closing(gap, facts) or ANY, f"{found}: what is missing is not the passages")


def _latency(measured: float, facts: Facts) -> Dimension:
    wanted = f"95 % of the answers took at most {measured:.0f} ms, {facts.latency_ms:g} are wanted"
    if measured <= facts.latency_ms:
        return Dimension("latency", ANY, wanted)
    return Dimension("latency", TUNING, f"{wanted}: a smaller, trained model with a short prompt, or `-m none`")


def _cost(facts: Facts, bill: Costs) -> Dimension:
    if bill.break_even is None:
        return Dimension("cost", ANY, "at these prices the API costs no more than the power here")
    here = facts.questions_per_month >= bill.break_even
    where = "this device is cheaper" if here else "an API is cheaper"
    return Dimension("cost", ANY, f"{where} at {facts.questions_per_month:,g} a month; even at {bill.break_even:,.0f}")


def _control(facts: Facts) -> Dimension:
    if not facts.strict_format:
        return Dimension(
            "control", PROMPT, "the format is free: a sentence in the prompt is enough, and is undone at once"
        )
    enough = facts.good_examples >= TUNING_EXAMPLES
    many = f"{facts.good_examples:g} good examples, {TUNING_EXAMPLES} make training worth it"
    return Dimension("control", TUNING if enough else PROMPT, f"the format is strict; {many}")


def _compliance(facts: Facts) -> Dimension:
    stay = "" if facts.data_may_leave else "; documents and questions may not leave, so no API"
    if facts.citations_required:
        return Dimension("compliance", RETRIEVAL, f"only passages that were retrieved can be cited{stay}")
    return Dimension("compliance", ANY, f"no citations are required{stay}")
