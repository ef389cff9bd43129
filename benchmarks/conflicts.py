"""Are contradictions between documents found, and how often is one claimed where there is none?

The reader and edgeai/grounding/conflict.py alone, on passages put together as in answers.py: no question of its sets
has a contradiction in its passages, so whatever is found there is a false alarm (a few of them are none: nobody
checked that news articles agree). With --originals the sets of this project's own format are added, every passage as a
document of its own: of their kinds, "conflict" and "superseded" have two values each. Shares are of the questions
answered. Nothing is timed. The last line is one JSON document.

    python benchmarks/conflicts.py --data DIR [--limit 60] [--originals] [--development NEGATIVES] [--verbose]
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from answers import SETS, Item, development_items, evaluation_items

from edgeai import pipeline
from edgeai.config import DEFAULT_EMBEDDER, DEFAULT_READER
from edgeai.grounding import conflict, read
from edgeai.onnx.encoders import OnnxEmbedder
from edgeai.onnx.reader import OnnxReader
from edgeai.records import Chunk, Hit
from edgeai.registry import Registry
from tools.corpora import Question, Text, read_originals

TRUE = ("conflict", "superseded")


def main() -> None:
    """Run the sets, print a table and, as the last line, JSON."""
    options = _options()
    registry = Registry(offline=True)
    reader = OnnxReader(registry.reader(options.reader))
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for item in _items(options, OnnxEmbedder(registry.embedder(DEFAULT_EMBEDDER))):
        counts[f"{item.set} {item.kind}"].update(judged(item, reader, verbose=options.verbose))
    for name, counted in counts.items():
        print(f"{name:<28}" + "  ".join(f"{key} {count}" for key, count in counted.items()))
    print(json.dumps({"benchmark": "conflicts", "reader": options.reader, "sets": shares(counts)}))


def judged(item: Item, reader: OnnxReader, *, verbose: bool) -> Iterator[str]:
    """What to count of an item: "questions", "answered", "conflict" or "superseded", and "both" where both are gold."""
    passages = tuple(pipeline.numbered(item.hits))
    readings = reader.read(item.question, passages)
    yield "questions"
    if not readings:
        return
    if read.verdict(readings[read.chosen(passages, readings)], read.UNHEARD).status == "refused":
        return
    yield "answered"
    found = conflict.find(item.question, passages, readings)
    if found is None:
        return
    yield found.kind
    if {passages[found.first].path, passages[found.second].path} <= set(item.gold):
        yield "both"
    if verbose:
        print(f"{item.kind}: {item.question} -> {conflict.told(found, passages, readings)[0]}")


def shares(counts: Mapping[str, Counter[str]]) -> dict[str, dict[str, float]]:
    """Per set and kind: the questions answered, and which share of them is said to have two values."""
    return {
        name: {
            "answered": counted["answered"],
            **{kind: round(counted[kind] / max(1, counted["answered"]), 4) for kind in (*TRUE, "both")},
        }
        for name, counted in counts.items()
    }


def _items(options: argparse.Namespace, embedder: OnnxEmbedder) -> Iterator[Item]:
    for name in options.sets:
        yield from evaluation_items(name, options, embedder)
    if options.negatives:
        yield from development_items("development", options, embedder)
    if options.originals:
        yield from _originals(options)


def _originals(options: argparse.Namespace) -> Iterator[Item]:
    """All questions with two values, and `limit` others of each domain."""
    draw = random.Random(options.seed)
    for corpus in read_originals(options.data / "train" / "original"):
        others = [question for question in corpus.questions if question.kind not in TRUE]
        twofold = [question for question in corpus.questions if question.kind in TRUE]
        for question in (*twofold, *draw.sample(others, min(options.limit, len(others)))):
            yield _original(question, corpus.texts)


def _original(question: Question, texts: Mapping[str, Text]) -> Item:
    hits = []
    for text in (texts[name] for name in question.shown):
        title = f"{text.title} ({text.date})" if text.date else text.title
        hits.append(Hit(0, Chunk(0, len(text.text), text.text), text.id, title, "text", 0.0, 0.0))
    return Item(question.id, "original", question.kind, question.text, tuple(hits), gold=question.gold)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with eval/")
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--limit", type=int, default=60, help="at most this many questions of a kind and set")
    parser.add_argument("--reader", default=DEFAULT_READER, help="reader, by name or path")
    parser.add_argument("--originals", action="store_true", help="add train/original, with its conflicts")
    parser.add_argument(
        "--development", dest="negatives", type=Path, help="training questions left out; the file of tools.negatives"
    )
    parser.add_argument("--verbose", action="store_true", help="print what is said of every difference found")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
