"""Questions asked with nothing withheld, for a calibration to be fitted on.

Some answerable questions are asked a second time with the documents of their sources left out: what is then found are
their nearest neighbours, which look like an answer and hold none. Whether an answer is right is judged by words, as in
any evaluation; that a left-out document has no copy elsewhere is taken from the answer not being among those accepted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from edgeai.evaluation.calibration import Trial
from edgeai.evaluation.judge import Lookup, judge
from edgeai.evaluation.questions import Case
from edgeai.evaluation.targets import locate
from edgeai.filters import EVERYTHING, Condition, Filter
from edgeai.grounding.calibrated import ALL_SHOWN, Basis, Calibration
from edgeai.records import Answer, Progress, ProgressCallback
from edgeai.store import Store

UNANSWERABLE_SHARE = 0.25  # of the questions; as many are added by leaving their documents out, where they are fewer

Ask = Callable[[Case, Filter, Calibration], Answer]


@dataclass(frozen=True, slots=True)
class Asking:
    """A question to ask, of the documents that `where` allows; `held_out` when those with the answer are not."""

    case: Case
    where: Filter = EVERYTHING
    held_out: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of it."""

    asking: Asking
    trial: Trial
    basis: Basis


def plan(cases: Iterable[Case], store: Store) -> list[Asking]:
    """All questions whose answers can be judged, and as many of them again, held out, as the share asks for."""
    judged = [case for case in cases if case.answers or not case.answerable]
    paths = list(store.files())
    possible = [asking for case in judged if case.answerable and (asking := _held_out(case, store, paths))]
    answerable = sum(case.answerable for case in judged)
    wanted = math.ceil(answerable * UNANSWERABLE_SHARE / (1 - UNANSWERABLE_SHARE)) - (len(judged) - answerable)
    chosen = _spread(possible, max(0, min(wanted, len(possible))))
    return [*(Asking(case) for case in judged), *chosen]


def _held_out(case: Case, store: Store, paths: Sequence[str]) -> Asking | None:
    """The question without the documents its sources stand in; None where they are not known."""
    found = [place.path for source in case.sources for place in locate(source, store, paths).places]
    conditions = tuple(Condition("path", "!=", path) for path in dict.fromkeys(found))
    return Asking(case, Filter(conditions), held_out=True) if conditions else None


def _spread(askings: Sequence[Asking], count: int) -> list[Asking]:
    return [askings[number * len(askings) // count] for number in range(count)]


def ask_all(askings: Sequence[Asking], ask: Ask, *, progress: ProgressCallback = lambda _: None) -> Iterator[Asked]:
    """Ask with nothing withheld; a question held out whose accepted answer came all the same is left out.

    Raises what the index and the engines raise.
    """
    for number, asking in enumerate(askings, 1):
        answer = ask(asking.case, asking.where, ALL_SHOWN)
        right = answered_right(asking.case, answer)
        if not (asking.held_out and right):
            basis: Basis = "reader" if answer.timings.read else "search"
            shown = answer.status != "refused"
            yield Asked(asking, Trial(asking.case.id, answer.confidence, right, shown), basis)
        progress(Progress(number, len(askings), "questions"))


def answered_right(case: Case, answer: Answer) -> bool:
    """Whether an answer is shown and one of those accepted."""
    nowhere = Lookup((), ())
    values = judge(case, nowhere, answer, lambda _: "").values
    return answer.status != "refused" and values.get("correct") == 1


def matching(asked: Iterable[Asked], basis: Basis) -> list[Asked]:
    """Those whose confidence rests on these signals; others, such as questions no reader understands, cannot be mixed
    with them.
    """
    return [one for one in asked if one.basis == basis]
