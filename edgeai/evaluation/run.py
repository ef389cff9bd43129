"""An evaluation: every question is asked as a user would ask it, and what came of it is summed up by kind.

Retrieval is looked at apart from answers: the same question goes to the search alone and to each of its two lists. No
judge model and no network are used. The figures hold for the questions asked and for others like them; questions that
were drafted from the documents are easier than those people ask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Any

import numpy as np

from edgeai.bootstrap import Estimate, Values, resample
from edgeai.engines import Embedder
from edgeai.errors import UsageProblem
from edgeai.evaluation import metrics
from edgeai.evaluation.judge import DEPTH, Judgement, Lookup, judge
from edgeai.evaluation.questions import Case
from edgeai.evaluation.targets import Target, locate
from edgeai.followup import rewrite_question
from edgeai.indexing import embedded_text
from edgeai.records import Answer, Citation, Hit, Passage, Progress, ProgressCallback
from edgeai.store import Store
from edgeai.text.terms import query_terms

FORMAT = "edgeai-eval-1"
# Cosine of a stored vector and the one computed anew, below which it is not the vector of this text. The same machine
# gives 1; the margin is for processors that round int8 sums in another way.
SAME_VECTOR = 0.995
CHECKED_CHUNKS = 3  # of a target, where a source without a quote may have thousands


@dataclass(frozen=True, slots=True)
class Subject:
    """What is evaluated: an index with its embedder, and the two calls that a user makes."""

    store: Store
    embedder: Embedder
    search: Callable[[str], Sequence[Hit]]  # at least `DEPTH` hits, best first
    ask: Callable[[Case], Answer]


@dataclass(frozen=True, slots=True)
class Result:
    """One question with what was expected, what came back, and what it is worth."""

    id: str
    kind: str
    question: str
    expected: tuple[str, ...]
    answer: str
    status: str
    confidence: float
    latency_ms: float
    values: Mapping[str, float]
    lost: tuple[str, ...] = ()  # for each source the stage that lost it, "" = none
    why: str = ""
    draft: bool = False
    tokens: Mapping[str, int] | None = None
    citations: tuple[Citation, ...] = ()  # these two only while the run is in memory: they hold text of the documents
    passages: tuple[Passage, ...] = ()

    @property
    def wrong(self) -> bool:
        """Whether an answer was expected or refused, and it is not what came."""
        return self.values.get("correct") == 0

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values, without text of documents other than the answer's own."""
        record = asdict(self)
        record["citations"] = [[one.path, one.start, one.end] for one in self.citations]
        record["passages"] = [[one.path, one.start, one.end] for one in self.passages]
        return record


@dataclass(frozen=True)
class Run:
    """All questions asked of one configuration at one time."""

    made: str  # ISO 8601, UTC
    context: Mapping[str, Any]  # settings, index, versions: what has to be the same for a repetition
    results: tuple[Result, ...]

    @cached_property
    def summary(self) -> dict[str, dict[str, Estimate]]:
        """Every figure with its interval, for "all" questions and for each kind."""
        return summarise(self.results)

    def as_dict(self) -> dict[str, Any]:
        """The object that `edgeai eval --json` prints."""
        return {
            "format": FORMAT,
            "made": self.made,
            "context": dict(self.context),
            "summary": {kind: _plain(figures) for kind, figures in self.summary.items()},
            "lost": count_lost(self.results),
            "results": [result.as_dict() for result in self.results],
        }


def run_from_dict(record: Any) -> Run:
    """A run out of what `Run.as_dict` gave; raises `UsageProblem` for anything else."""
    try:
        if record["format"] != FORMAT:
            raise KeyError(record["format"])
        results = tuple(_result(one) for one in record["results"])
        return Run(record["made"], record["context"], results)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageProblem("This is not a run of `edgeai eval`; make one with `edgeai eval FILE --json`.") from error


def _result(record: Mapping[str, Any]) -> Result:
    plain = {key: value for key, value in record.items() if key not in ("citations", "passages")}
    return Result(**{**plain, "expected": tuple(plain["expected"]), "lost": tuple(plain["lost"])})


# the run --------------------------------------------------------------------------------------------------------------


def run(
    cases: Sequence[Case],
    subject: Subject,
    *,
    context: Mapping[str, Any] | None = None,
    progress: ProgressCallback = lambda _: None,
) -> Run:
    """Ask every question, in order. Raises what the index and the engines raise."""
    paths = list(subject.store.files())
    text_of = cache(lambda path: document.text if (document := subject.store.document(path)) else "")
    results = []
    for number, case in enumerate(cases, 1):
        answer = subject.ask(case)  # first: the look-ups below would leave it a warm cache, and too short a latency
        lookup = look_up(case, subject, paths)
        results.append(_judged(case, answer, judge(case, lookup, answer, text_of)))
        progress(Progress(number, len(cases), "questions"))
    return Run(datetime.now(UTC).isoformat(timespec="seconds"), context or {}, tuple(results))


def look_up(case: Case, subject: Subject, paths: Sequence[str]) -> Lookup:
    """Where the sources of a question are, and what each search finds for it."""
    query = rewrite_question(case.question, case.history)
    targets = tuple(locate(source, subject.store, paths) for source in case.sources)
    keyword = subject.store.matching(query_terms(query), limit=DEPTH)
    nearest = subject.store.nearest(subject.embedder.embed_query(query), limit=DEPTH)
    return Lookup(
        targets,
        tuple(subject.search(query)[:DEPTH]),
        tuple(chunk_id for chunk_id, _ in keyword),
        tuple(chunk_id for chunk_id, _ in nearest),
        _share_current(targets, subject),
        tuple(locate(source, subject.store, paths) for source in case.also),
    )


def _share_current(targets: Iterable[Target], subject: Subject) -> float | None:
    """Share of the targets' chunks whose stored vector is the one their text has now; None without chunks."""
    current = []
    for target in targets:
        for chunk_id, chunk in target.chunks[:CHECKED_CHUNKS]:
            stored = subject.store.hydrate([chunk_id])[chunk_id]
            document = subject.store.document(stored.path)
            if document is not None:
                anew = subject.embedder.embed_passages([embedded_text(document, chunk)])[0]
                current.append(float(subject.store.vectors([chunk_id])[0] @ anew) >= SAME_VECTOR)
    return sum(current) / len(current) if current else None


def _judged(case: Case, answer: Answer, judgement: Judgement) -> Result:
    return Result(
        case.id,
        case.kind,
        case.question,
        case.answers,
        answer.text,
        answer.status,
        round(answer.confidence, 4),
        round(answer.timings.total, 2),
        judgement.values,
        judgement.lost,
        judgement.why,
        case.draft,
        dict(answer.tokens),
        answer.citations,
        answer.passages,
    )


# the summary ----------------------------------------------------------------------------------------------------------


def names(results: Sequence[Result]) -> list[str]:
    """The per-question figures that occur, in the order in which they are shown."""
    found = {name for result in results for name in result.values}
    return [name for name in ORDER if name in found]


ORDER = (
    *("recall@1", "recall@5", "recall@10", "mrr", "ndcg@10", "keyword_mrr", "vector_mrr"),
    *("vectors_current", "chunked", "retrieved", "read", "used"),
    *("correct", "exact_match", "f1", "containment", "citation_precision", "citation_recall", "citation_exact"),
    *("unsupported_numbers", "answered", "refusal_precision", "refusal_recall", "freshness"),
)


def column(results: Sequence[Result], name: str) -> Values:
    """One figure of every question, NaN where it does not apply."""
    return np.array([result.values.get(name, math.nan) for result in results], dtype=np.float64)


def shown(results: Sequence[Result]) -> tuple[Values, Values]:
    """Confidence and correctness of the answers that were shown, NaN for refusals and where right is not known."""
    confidence = [math.nan if result.status == "refused" else result.confidence for result in results]
    return np.array(confidence, dtype=np.float64), column(results, "correct")


def summarise(results: Sequence[Result]) -> dict[str, dict[str, Estimate]]:
    """Every figure with its interval, for "all" questions and for each kind; raises `UsageProblem` without results."""
    kinds = sorted({result.kind for result in results})
    groups = {"all": list(results)} | {kind: [one for one in results if one.kind == kind] for kind in kinds}
    return {kind: _figures(group) for kind, group in groups.items()}


def _figures(results: Sequence[Result]) -> dict[str, Estimate]:
    draws = resample(len(results))
    figures = {name: metrics.estimate_mean(column(results, name), draws) for name in names(results)}
    sure = shown(results)
    if not np.isnan(sure[0] + sure[1]).all():
        figures["aurc"] = metrics.estimate(metrics.area_under_risk_coverage, sure, draws)
        figures["ece"] = metrics.estimate(metrics.expected_calibration_error, sure, draws)
    times = (np.array([result.latency_ms for result in results]),)
    figures["latency_ms_p50"] = metrics.estimate(np.median, times, draws)
    figures["latency_ms_p95"] = metrics.estimate(_p95, times, draws)
    return figures


def _p95(values: Values) -> float:
    return float(np.quantile(values, 0.95)) if len(values) else math.nan


def count_lost(results: Iterable[Result]) -> dict[str, int]:
    """How many sources each stage lost."""
    found = [stage for result in results for stage in result.lost if stage]
    return {stage: found.count(stage) for stage in sorted(set(found))}


def worst(results: Iterable[Result], count: int = 20) -> list[Result]:
    """The cases most worth a look: made-up numbers, then wrong answers, the surest of them on top, then the rest."""
    return sorted((one for one in results if one.why), key=_badness, reverse=True)[:count]


def _badness(result: Result) -> tuple[bool, bool, float]:
    said = result.status != "refused"
    return bool(result.values.get("unsupported_numbers")), result.wrong and said, result.confidence + 2 * result.wrong


def _plain(figures: Mapping[str, Estimate]) -> dict[str, dict[str, float | None]]:
    """JSON knows no NaN."""
    return {name: {key: _number(value) for key, value in asdict(one).items()} for name, one in figures.items()}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
