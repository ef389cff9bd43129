"""What does a smaller time budget cost, among ten thousand chunks of real text?

The index holds the passages of the evaluation sets and, up to --chunks, those of training sets; questions are those of
the evaluation sets, none of which any model was trained on. At each budget an assistant that has seen none of them is
warmed by questions of the filling and then asked them all once, through the product's own path. Percentiles of the
whole answer, from the question to the last citation, have bootstrap intervals; F1 counts a refusal as an empty answer;
an answer is cited right when every passage that it cites is marked as holding it. With --again each question is asked
twice, with time between to compute its passages, and the second answer counts: everything about it is warm.

Physics: a question costs one forward of the embedder (0.6 GFLOP), some of the reader (3 GFLOP a pair of 140 tokens)
and, of the generator, 0.27 GFLOP for each prompt token that is new and 92 MB of weights read for each forward after it.
Two cores with VNNI reach about 300 GFLOP/s on int8: eight pairs take at least 80 ms.

    python benchmarks/ladder.py --data DIR --folder KEPT [--questions 220] [--budgets 100 150 200 300 500 1000 none]
                                [--again]

The index is kept in --folder and used again. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets import passage_set, read_jsonl
from retrieval import build_index

from edgeai import chunks
from edgeai.assistant import Assistant
from edgeai.bench import machine
from edgeai.bench.statistics import spread
from edgeai.cli.options import parse_budget
from edgeai.config import DEFAULT_GENERATOR, DEFAULT_READER, Settings
from edgeai.grounding.cite import MARK
from edgeai.records import Answer
from edgeai.scores import exact_match, token_f1
from edgeai.store import Maker, Store

SETS = ("squad2_dev5", "xquad_en")
FILLING = ("squad_train44", "covidqa", "policyqa_dev", "clapnq", "nomiracl_de", "nomiracl_es", "nomiracl_fr")
WARM_UP = 20  # questions
PAUSE_S = 1.5  # in which passages that were shown shortened are computed whole
SHARES = ("generated", "asked", "f1", "exact", "answered", "refused", "cited", "degraded")
BUDGETS = ("100", "150", "200", "300", "500", "1000", "none")


@dataclass(frozen=True, slots=True)
class Item:
    """A question; `wanted` is empty where a refusal is right, `gold` are paths of passages that hold the answer."""

    question: str
    wanted: tuple[str, ...]
    gold: frozenset[str]


def main() -> None:
    """Build the index unless it is there, ask at every budget, print a table and, as the last line, JSON."""
    options = _options()
    items = _items(options)
    path = options.folder / f"ladder-{options.chunks}.db"
    if not path.exists():
        _build(path, options)
    rows = []
    print(f"{'budget':>7}{'p50':>8}{'p95':>8}{'interval':>16}" + "".join(f"{name:>11}" for name in SHARES))
    for budget in options.budgets:
        rows.append({"budget": budget, **_ask(items, path, budget, options)})
        print(_line(rows[-1]), flush=True)
    outcome = {"benchmark": "ladder", "machine": machine.describe(), "model": options.model, "reader": options.reader}
    outcome |= {"chunks": options.chunks, "questions": len(items), "again": options.again}
    print(json.dumps({**outcome, "budgets": rows}))


def _ask(items: Sequence[Item], path: Path, budget: str, options: argparse.Namespace) -> dict[str, Any]:
    settings = Settings(
        model=options.model, reader=options.reader, offline=True, budget_ms=parse_budget(budget), kept_states_mb=0
    )
    with Assistant(path, settings=settings) as assistant:
        assistant.warm(wait=True)
        for question in _other_questions(options):
            assistant.ask(question).answer  # noqa: B018
        answers = [_answer(item.question, assistant, options.again) for item in items]
    return _figures(items, answers)


def _answer(question: str, assistant: Assistant, again: bool) -> Answer:
    if again:
        assistant.ask(question).answer  # noqa: B018
        time.sleep(PAUSE_S)
    return assistant.ask(question).answer


def _figures(items: Sequence[Item], answers: Sequence[Answer]) -> dict[str, Any]:
    pairs = list(zip(items, answers, strict=True))
    answerable = [pair for pair in pairs if pair[0].wanted]
    given = [(item, answer) for item, answer in answerable if answer.status != "refused"]
    shown = [answer for answer in answers if answer.status != "refused"]
    times = spread([answer.timings.total for answer in answers])
    words = [MARK.sub("", answer.text).strip() if answer.status != "refused" else "" for _, answer in answerable]
    wanted = [item.wanted for item, _ in answerable]
    return {
        "p50": round(times.p50.value, 1),
        "p95": round(times.p95.value, 1),
        "interval": [round(times.p95.low, 1), round(times.p95.high, 1)],
        "retrieval_p95": round(spread([one.timings.embed + one.timings.search for one in answers]).p95.value, 1),
        "first_token_p95": round(spread([answer.timings.first_token for answer in answers]).p95.value, 1),
        "generated": _share(answer.mode == "generated" for answer in shown),
        "asked": _share(bool(answer.tokens) for answer in shown),
        "f1": round(statistics.fmean(map(token_f1, words, wanted)), 4),
        "exact": round(statistics.fmean(map(exact_match, words, wanted)), 4),
        "answered": _share(answer.status != "refused" for _, answer in answerable),
        "refused": _share(answer.status == "refused" for item, answer in pairs if not item.wanted),
        "cited": _share({quote.path for quote in answer.citations} <= item.gold for item, answer in given),
        "degraded": _share(bool(answer.degraded) for answer in answers),
    }


def _share(flags: Iterable[bool]) -> float | None:
    kept = list(flags)
    return round(sum(kept) / len(kept), 4) if kept else None


def _line(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    cells = "".join(f"{row[name] or 0.0:11.3f}" for name in SHARES)
    return f"{row['budget']:>7}{row['p50']:8.0f}{row['p95']:8.0f}{f'{low:.0f}-{high:.0f}':>16}{cells}"


# the index and the questions ------------------------------------------------------------------------------------------


def _items(options: argparse.Namespace) -> list[Item]:
    """An even draw of the questions of the evaluation sets."""
    found = []
    for name in SETS:
        path = options.data / "eval" / f"{name}.jsonl.gz"
        places = {source.id: f"/{name}/{number}" for number, source in enumerate(passage_set(path).sources)}
        for record in read_jsonl(path):
            gold = frozenset(places[passage["id"]] for passage in record["passages"])
            wanted = (
                tuple(dict.fromkeys(answer["text"] for answer in record["answers"])) if record["answerable"] else ()
            )
            found.append(Item(record["question"], wanted, gold))
    unique = list({item.question: item for item in found}.values())
    return random.Random(options.seed).sample(unique, min(options.questions, len(unique)))


def _other_questions(options: argparse.Namespace) -> list[str]:
    records = read_jsonl(options.data / "train" / f"{FILLING[0]}.jsonl.gz")
    return [record["question"] for record in random.Random(options.seed).sample(records, WARM_UP)]


def _build(path: Path, options: argparse.Namespace) -> None:
    """One document a passage, those of the evaluation sets first, until there are enough chunks."""
    options.folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.unlink(missing_ok=True)
    with Assistant(path, settings=Settings(model="none", offline=True)) as assistant:
        embedder = assistant.embedder
        spec = embedder.spec
        maker = Maker(spec.name, spec.digest, spec.dimension, chunks.CHUNKER)
        with Store.open(unfinished, maker=maker) as store:
            files = [("eval", name) for name in SETS] + [("train", name) for name in FILLING]
            for split, name in files:
                data = passage_set(options.data / split / f"{name}.jsonl.gz")
                left = options.chunks - store.count_chunks()
                if left > 0:
                    build_index(replace(data, sources=data.sources[:left]), store, embedder)
    unfinished.rename(path)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with eval/ and train/")
    parser.add_argument("--folder", type=Path, required=True, help="keep the index here")
    parser.add_argument("--chunks", type=int, default=10_000)
    parser.add_argument("--questions", type=int, default=220)
    parser.add_argument("--budgets", nargs="+", default=BUDGETS, help="milliseconds or 'none'")
    parser.add_argument("--model", default=DEFAULT_GENERATOR)
    parser.add_argument("--reader", default=DEFAULT_READER)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="measure the second of two askings of each question")
    return parser.parse_args()


if __name__ == "__main__":
    main()
