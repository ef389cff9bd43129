"""Does edgeai answer from a folder: find, read, cite, refuse, and show both sides of a contradiction?

Everything a user has takes part: the files are written to a new folder, synced into a new index, and each question goes
through the same calls as `edgeai eval` makes, once for every budget. The files and the questions on them were written
for this, of a company that does not exist, so no model knows an answer by heart; the questions were written before the
first run and are corrected only where the key is wrong. With --data the documents are the passages of published sets
instead, one file each, whose questions have no contradictions, no second documents and no history. What it cannot show
is whether the figures hold for other documents: one writer made up this company. No judge model: an answer is correct
when it contains an accepted one or shares 60 % of its words (F1), so a right answer in words that the key does not have
counts as wrong. Intervals are bootstrapped over questions. With --limit the questions are spread evenly over the file.

Confidence is what the shipped calibration says; none of these questions is used to fit it. The last line is one JSON
document.

    python benchmarks/end_to_end.py [--budget 300 none] [--model NAME|none] [--limit N] [--records FILE] [--data DIR]
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from company_files import QUESTIONS, build_company
from datasets import read_jsonl

from edgeai.assistant import Assistant
from edgeai.bootstrap import Estimate, resample
from edgeai.cli.evaluate import subject_of
from edgeai.cli.options import parse_budget
from edgeai.config import DEFAULT_GENERATOR, DEFAULT_READER, Settings
from edgeai.evaluation import metrics
from edgeai.evaluation import run as evaluate
from edgeai.evaluation.questions import CONFLICT, UNANSWERABLE, Case, Source, read_cases
from edgeai.evaluation.run import Result

SETS = ("squad2_dev5", "xquad_en")  # each of their questions is about one passage


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with what it is to reach, and the kinds of questions it is the mean over."""

    name: str
    column: str  # of a result
    goal: str
    applies: Callable[[str], bool] = lambda _: True


def _agreeing(kind: str) -> bool:
    return kind not in (UNANSWERABLE, CONFLICT)


FIGURES = (
    Figure("correct of answerable", "correct", ">= 0.75", _agreeing),
    Figure("recall@5", "recall@5", ">= 0.95"),
    Figure("refused of unanswerable", "refusal_recall", ">= 0.80"),
    Figure("answered of answerable", "answered", ">= 0.90"),
    Figure("citation precision", "citation_precision", ">= 0.95"),
    Figure("answers with unsupported numbers", "unsupported_numbers", "0"),
    Figure("conflicts showing both", "correct", ">= 0.80", lambda kind: kind == CONFLICT),
)
COLUMNS = ("correct", "recall@5", "answered", "refusal_recall", "citation_precision", "unsupported_numbers")  # of kinds


def main() -> None:
    """Build, sync, ask at each budget; print tables and, as the last line, JSON."""
    options = _options()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "documents"
        cases = _spread(_published(options.data, folder) if options.data else _company(folder), options.limit)
        settings = Settings(model=options.model, reader=options.reader, offline=True)
        with Assistant(Path(place) / "index.db", settings=settings) as assistant:
            report = assistant.sync(folder)
            if report.skipped:
                raise SystemExit(f"Not indexed: {report.skipped[0].path}, {report.skipped[0].reason}")
            assistant.warm()
            assistant.search("warm up")  # opens the embedder's session, which is not to count for the first question
            runs = {budget: _ask(cases, assistant, budget) for budget in options.budgets}
            notices = list(assistant.notices)
    for line in notices:
        print(line)
    for budget, results in runs.items():
        print(f"\nbudget {budget}: {len(results)} questions")
        print("\n".join(table(results)))
    if options.records:
        _write_records(options.records, runs)
    figures = {budget: summarise(results) for budget, results in runs.items()}
    outcome = {"benchmark": "end_to_end", "model": options.model, "documents": len(report.added), "budgets": figures}
    print(json.dumps(outcome))


def _ask(cases: Sequence[Case], assistant: Assistant, budget: str) -> tuple[Result, ...]:
    assistant.reconfigure(budget_ms=parse_budget(budget))
    return evaluate.run(cases, subject_of(assistant)).results


# the questions --------------------------------------------------------------------------------------------------------


def _company(folder: Path) -> list[Case]:
    build_company(folder)
    return read_cases(QUESTIONS.read_text(encoding="utf-8").splitlines())


def _published(data: Path, folder: Path) -> list[Case]:
    """The passages of published sets as files, and their questions; `data` holds `eval/`."""
    folder.mkdir()
    cases, names = [], dict[str, str]()
    for record in (record for name in SETS for record in read_jsonl(data / "eval" / f"{name}.jsonl.gz")):
        for passage in record["passages"]:
            if passage["id"] not in names:
                names[passage["id"]] = f"{len(names):05}.md"
                text = f"# {passage['title']}\n\n{passage['text']}\n"
                (folder / names[passage["id"]]).write_text(text, encoding="utf-8")
        answers = tuple(dict.fromkeys(answer["text"] for answer in record["answers"]))
        if record["answerable"]:
            sources = tuple(Source(names[passage["id"]]) for passage in record["passages"])
            cases.append(Case(record["id"], record["question"], answers, sources))
        else:
            cases.append(Case(record["id"], record["question"], kind=UNANSWERABLE))
    return cases


def _spread(cases: Sequence[Case], limit: int | None) -> list[Case]:
    count = min(limit or len(cases), len(cases))
    return [cases[number * len(cases) // count] for number in range(count)]


# the figures ----------------------------------------------------------------------------------------------------------


def figures_of(results: Sequence[Result]) -> Iterator[tuple[str, str, Estimate]]:
    """Name, goal and value of each figure that some question has."""
    for figure in FIGURES:
        chosen = [result for result in results if figure.applies(result.kind)]
        values = evaluate.column(chosen, figure.column)
        if not np.isnan(values).all():
            yield figure.name, figure.goal, metrics.estimate_mean(values, resample(len(values)))
    sure = evaluate.shown(results)
    if not np.isnan(sure[0] + sure[1]).all():
        draws = resample(len(results))
        error = metrics.estimate(metrics.expected_calibration_error, sure, draws)
        yield "expected calibration error", "<= 0.05", error


def summarise(results: Sequence[Result]) -> dict[str, Any]:
    """Plain values for JSON: the figures, those of each kind, and where sources were lost."""
    return {
        "figures": {name: _plain(estimate) for name, _, estimate in figures_of(results)},
        "kinds": {
            kind: {name: _rounded(figures[name].value) for name in COLUMNS if name in figures}
            | {"questions": _count(results, kind)}
            for kind, figures in evaluate.summarise(results).items()
        },
        "lost": evaluate.count_lost(results),
    }


def _plain(estimate: Estimate) -> dict[str, float | None]:
    return {key: _rounded(value) for key, value in asdict(estimate).items()}


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def table(results: Sequence[Result]) -> Iterator[str]:
    """Lines for a person: every figure with its interval and its goal, then the kinds."""
    for name, goal, one in figures_of(results):
        yield f"{name:<34}{one.value:6.3f}   {one.low:.3f} - {one.high:.3f}   of {one.count:<5} goal {goal}"
    yield f"\n{'kind':<16}{'questions':>10}" + "".join(f"{name:>21}" for name in COLUMNS)
    for kind, figures in evaluate.summarise(results).items():
        cells = (f"{figures[name].value:21.3f}" if name in figures else " " * 21 for name in COLUMNS)
        yield f"{kind:<16}{_count(results, kind):>10}" + "".join(cells)
    lost = evaluate.count_lost(results).items()
    yield "sources lost: " + (", ".join(f"{stage} {count}" for stage, count in lost) or "none")


def _count(results: Sequence[Result], kind: str) -> int:
    return sum(kind in ("all", result.kind) for result in results)


def _write_records(path: Path, runs: Mapping[str, Sequence[Result]]) -> None:
    lines = [
        json.dumps({"budget": budget} | result.as_dict(), ensure_ascii=False)
        for budget, results in runs.items()
        for result in results
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--budget", dest="budgets", nargs="+", default=["300", "none"], help="milliseconds or 'none'")
    parser.add_argument("--model", default=DEFAULT_GENERATOR, help="generator, by name or path, or 'none'")
    parser.add_argument("--reader", default=DEFAULT_READER, help="reader, by name or path")
    parser.add_argument("--limit", type=int, help="at most this many questions")
    parser.add_argument("--records", type=Path, help="write every question with its answer here, as JSON lines")
    parser.add_argument("--data", type=Path, help="folder with eval/, to use published sets instead")
    return parser.parse_args()


if __name__ == "__main__":
    main()
