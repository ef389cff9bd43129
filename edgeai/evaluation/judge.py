"""What one answer is worth beside what was expected of it, figure by figure, and where its sources were lost.

Pure, and without a judge model: words, numbers and places are compared. It does not know synonyms, so a right answer in
other words than those accepted counts as wrong, and a citation counts as right where it touches a source or holds an
accepted answer, whatever else it says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgeai import scores
from edgeai.evaluation import metrics
from edgeai.evaluation.questions import CONFLICT, Case
from edgeai.evaluation.targets import Target
from edgeai.grounding.check import unsupported_numbers
from edgeai.grounding.cite import MARK
from edgeai.records import Answer, Citation, Hit

DEPTH = 10  # hits that are looked at
CORRECT_F1 = 0.6  # an answer is right when it contains an accepted one, or shares this much of its words with it
NOT_CHUNKED, NOT_RETRIEVED, NOT_READ, NOT_USED = "not chunked", "not retrieved", "not read", "not used"
_LOST = {
    NOT_CHUNKED: "no chunk of the index holds the source",
    NOT_RETRIEVED: f"the source is not among the first {DEPTH} hits",
    NOT_READ: "the source was found, but is not among the passages shown",
    NOT_USED: "the source was shown, but is not cited",
}
_SAYS_LITTLE = {"yes", "no"}  # stand in many quotes by accident

Values = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Lookup:
    """What the index gave for one question: the fused hits, and both lists behind them, best first, as chunk ids."""

    targets: tuple[Target, ...]
    hits: tuple[Hit, ...]
    keyword: tuple[int, ...] = ()
    nearest: tuple[int, ...] = ()
    current: float | None = None  # share of the targets' chunks whose vectors are those of their text
    also: tuple[Target, ...] = ()  # what may be cited as well


@dataclass(frozen=True, slots=True)
class Judgement:
    """The figures that apply to one question, 0..1 each, and for each source the stage that lost it ("" = cited)."""

    values: Values
    lost: tuple[str, ...]
    why: str  # what went wrong, in words; "" when nothing did


def judge(case: Case, lookup: Lookup, answer: Answer, text_of: Callable[[str], str]) -> Judgement:
    """Score one answer; `text_of` gives the indexed text of a path."""
    lost = tuple(_stage(target, lookup, answer) for target in lookup.targets)
    shown = answer.status != "refused"
    values: dict[str, float] = {}
    if lookup.targets:
        values |= _retrieval(lookup) | _survival(lost)
    values |= _refusal(case, shown)
    if shown:
        values |= _evidence(case, lookup, answer, text_of)
    if case.answers or not case.answerable:
        values |= _answer(case, answer, shown)
    return Judgement(values, lost, "; ".join(_reasons(case, lookup, lost, values, shown)))


# retrieval ------------------------------------------------------------------------------------------------------------


def _retrieval(lookup: Lookup) -> dict[str, float]:
    hits = [(hit.path, hit.chunk.start, hit.chunk.end) for hit in lookup.hits]
    ranks = [_rank(target.inside(*hit) for hit in hits) for target in lookup.targets]
    values = {f"recall@{depth}": metrics.recall_at(ranks, depth) for depth in (1, 5, DEPTH)}
    values |= {"mrr": metrics.reciprocal_rank(ranks, DEPTH), "ndcg@10": metrics.ndcg_at(ranks, DEPTH)}
    for name, listed in (("keyword", lookup.keyword), ("vector", lookup.nearest)):
        held = [{chunk_id for chunk_id, _ in target.chunks} for target in lookup.targets]
        found = [_rank(chunk_id in wanted for chunk_id in listed) for wanted in held]
        values[f"{name}_mrr"] = metrics.reciprocal_rank(found, DEPTH)
    if lookup.current is not None:
        values["vectors_current"] = lookup.current
    return values


def _rank(wanted: Iterator[bool]) -> int | None:
    return next((rank for rank, found in enumerate(wanted, 1) if found), None)


def _stage(target: Target, lookup: Lookup, answer: Answer) -> str:
    """The stage that lost a source, "" when it is cited."""
    shown = any(target.inside(one.path, one.start, one.end) for one in answer.passages)
    if not target.chunks:
        return NOT_CHUNKED
    if not shown and not any(target.inside(hit.path, hit.chunk.start, hit.chunk.end) for hit in lookup.hits):
        return NOT_RETRIEVED
    if not shown:
        return NOT_READ
    return "" if any(target.touches(one.path, one.start, one.end) for one in answer.citations) else NOT_USED


def _survival(lost: Sequence[str]) -> dict[str, float]:
    """For each stage the share of the sources reaching it that it kept; stages nothing reached are left out."""
    values = {}
    reached = list(lost)
    for name, stage in (("chunked", NOT_CHUNKED), ("retrieved", NOT_RETRIEVED), ("read", NOT_READ), ("used", NOT_USED)):
        if reached:
            values[name] = sum(one != stage for one in reached) / len(reached)
        reached = [one for one in reached if one != stage]
    return values


# answers --------------------------------------------------------------------------------------------------------------


def _refusal(case: Case, shown: bool) -> dict[str, float]:
    """Whether to answer at all; the mean of each over the questions that have it is the metric of its name."""
    values = {"answered" if case.answerable else "refusal_recall": float(shown == case.answerable)}
    if not shown:
        values["refusal_precision"] = float(not case.answerable)
    return values


def _answer(case: Case, answer: Answer, shown: bool) -> dict[str, float]:
    said = MARK.sub("", answer.text) if shown else ""
    values = {}
    if case.kind == CONFLICT:
        values["correct"] = float(shown and all(scores.contains(said, [one]) for one in case.answers))
    elif not case.answerable:
        values["correct"] = float(not shown)
    else:
        contained = shown and scores.contains(said, case.answers)
        f1 = scores.token_f1(said, case.answers) if shown else 0.0
        values["exact_match"] = float(shown and scores.exact_match(said, case.answers))
        values |= {"f1": f1, "containment": float(contained), "correct": float(contained or f1 >= CORRECT_F1)}
    if case.fresh:
        values["freshness"] = values["correct"]
    return values


def _evidence(case: Case, lookup: Lookup, answer: Answer, text_of: Callable[[str], str]) -> dict[str, float]:
    """What an answer that is shown rests on; citations can only be judged where sources or answers are known."""
    missing = unsupported_numbers(answer.text, answer.citations, answer.passages)
    values = {"unsupported_numbers": float(bool(missing))}
    if answer.citations:
        exact = [text_of(one.path)[one.start : one.end] == one.quote for one in answer.citations]
        values["citation_exact"] = sum(exact) / len(exact)
        if lookup.targets or case.answers:
            right = [_right(one, case, (*lookup.targets, *lookup.also)) for one in answer.citations]
            values["citation_precision"] = sum(right) / len(right)
    if lookup.targets:
        cited = [
            any(target.touches(one.path, one.start, one.end) for one in answer.citations) for target in lookup.targets
        ]
        values["citation_recall"] = sum(cited) / len(cited)
    return values


def _right(citation: Citation, case: Case, targets: Sequence[Target]) -> bool:
    if any(target.touches(citation.path, citation.start, citation.end) for target in targets):
        return True
    telling = [one for one in case.answers if one.strip().lower() not in _SAYS_LITTLE]
    return scores.contains(citation.quote, telling)


# in words -------------------------------------------------------------------------------------------------------------


def _reasons(case: Case, lookup: Lookup, lost: Sequence[str], values: Values, shown: bool) -> Iterator[str]:
    if shown and not case.answerable:
        yield "answered, although the documents do not hold the answer"
    elif not shown and case.answerable:
        yield "refused, although the documents hold the answer"
    elif values.get("correct") == 0:
        yield "not all of the contradicting answers are shown" if case.kind == CONFLICT else "not an accepted answer"
    if values.get("unsupported_numbers"):
        yield "a number of the answer is in no passage it cites"
    if values.get("citation_exact", 1) < 1:
        yield "a quote is not in the document at its offsets"
    if values.get("citation_precision", 1) < 1:
        yield "a citation supports something else"
    for target, stage in zip(lookup.targets, lost, strict=True):
        if stage and not (stage == NOT_USED and not shown):
            yield f"{stage}: {target.problem or _LOST[stage]}"
