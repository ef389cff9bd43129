"""Are answers right, short and cited, and are questions refused whose answer is not there?

Every question is put to four passages: its gold one and three that our own index finds for it, or, where the answer is
to be absent, four that the index finds without the gold one. Adversarial questions were written by hand to look as if
their passage answered them. The passages go through the product's own reader, prompt, generator and checks; nothing is
judged by a model. Token F1 and exact match are SQuAD's (edgeai.scores), of the answer without its marks, and count a
refusal as an empty answer. One pass gives three results: what the generator said alone, what the reader says alone, and
what is shown. Nothing is timed; a question costs about a second on two cores. With --development the questions are the
groups that training leaves out, on which constants are fitted. The last line is one JSON document.

    python benchmarks/answers.py --data DIR [--limit 200] [--records FILE] [--development NEGATIVES]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from datasets import Source, passage_set, read_jsonl

from edgeai import chunks, pipeline, prompt, retrieve
from edgeai.budget import Budget, Costs
from edgeai.config import DEFAULT_EMBEDDER, DEFAULT_GENERATOR, DEFAULT_READER, Settings
from edgeai.grounding.cite import MARK
from edgeai.grounding.draft import Draft
from edgeai.llm.generate import LlamaGenerator
from edgeai.onnx.encoders import OnnxEmbedder
from edgeai.onnx.reader import OnnxReader
from edgeai.records import Answer, Chunk, Document, Hit, Retrieval, Turn
from edgeai.registry import Registry
from edgeai.scores import contains, exact_match, token_f1
from edgeai.store import Maker, Store
from tools.corpora import OWN, Text, read_near_misses, read_originals, read_published
from tools.train_reader import DEVELOPMENT

SHOWN = 4  # passages a question is put to
SETS = ("squad2_dev5", "xquad_en", "rgb_fact")
DEPTH = 24  # hits looked through for distractors


@dataclass(frozen=True, slots=True)
class Item:
    """One question with the passages it is put to; `wanted` is empty where a refusal is right."""

    id: str
    set: str
    kind: str  # "answerable", "absent" or "adversarial"
    question: str
    hits: tuple[Hit, ...]
    wanted: tuple[str, ...] = ()
    gold: tuple[str, ...] = ()  # paths of passages that hold the answer
    history: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one way of answering made of an item."""

    refused: bool
    f1: float = 0.0
    exact: bool = False
    contains: bool = False
    cited: bool = False  # every passage it cites is a gold one, and there is one
    words: int = 0


def main() -> None:
    """Run the sets, print a table and, as the last line, JSON."""
    options = _options()
    registry = Registry(offline=True)
    embedder = OnnxEmbedder(registry.embedder(DEFAULT_EMBEDDER))
    reader = OnnxReader(registry.reader(options.reader))
    generator = None if options.model == "none" else _generator(registry, options)
    engines = pipeline.Engines(None, embedder, lambda: generator, lambda: reader)  # type: ignore[arg-type]
    settings = Settings(budget_ms=0, context=options.context, model=options.model)
    rows: list[dict[str, Any]] = []
    for name in ("development",) if options.negatives else options.sets:
        items = list((development_items if name == "development" else evaluation_items)(name, options, embedder))
        began = time.perf_counter()
        for item in items:
            rows.append(ask(item, engines, settings))
        print(f"{name}: {len(items)} items, {time.perf_counter() - began:.0f} s", flush=True)
    if options.records:
        options.records.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    summary = summarise(rows)
    for line in table(summary):
        print(line)
    print(json.dumps({"benchmark": "answers", "model": options.model, "reader": options.reader, "sets": summary}))


def _generator(registry: Registry, options: argparse.Namespace) -> LlamaGenerator:
    spec = registry.generator(options.model)
    return LlamaGenerator(replace(spec, independent=not options.ordinary), context=options.context)


def ask(item: Item, engines: pipeline.Engines, settings: Settings) -> dict[str, Any]:
    """The three ways of answering an item, and the signals they rest on."""
    found = Retrieval(item.hits, 1.0, 1.0)
    candidates = tuple(pipeline.numbered(item.hits))
    draft = Draft(
        item.question,
        item.question,
        candidates,
        found,
        time.perf_counter(),
        Budget(None, 0.0, Costs()),
        engines.embedder,
    )
    reader = engines.reader()
    assert reader is not None
    draft = draft.read(reader, candidates, SHOWN, generating=True)
    alone = draft.extractive(draft.outlook())
    said, both = _run(pipeline.answer(draft, engines, settings, item.history))
    raw = Answer(item.question, said, "refused" if prompt.is_refusal(said) else "answered", "generated")
    paths = {passage.number: passage.path for passage in draft.passages}
    return {
        "id": item.id,
        "set": item.set,
        "kind": item.kind,
        "question": item.question,
        "wanted": item.wanted,
        "said": said,
        "shown": both.text,
        "span": alone.text,
        "mode": both.mode,
        "asked": bool(said),
        "tokens": both.tokens.get("output", 0),
        "readings": [asdict(reading) for reading in draft.readings],
        "gold": [passage.path in item.gold for passage in draft.passages],
        "generator": asdict(judge(raw, item, paths)),
        "reader": asdict(judge(alone, item, paths)),
        "both": asdict(judge(both, item, paths)),
    }


def judge(answer: Answer, item: Item, paths: Mapping[int, str]) -> Outcome:
    """Score an answer; `paths` are those of the numbers it may cite."""
    if answer.status == "refused":
        return Outcome(True)
    bare = MARK.sub("", answer.text).strip()
    cited = [paths.get(int(number), "") for number in MARK.findall(answer.text)]
    return Outcome(
        False,
        token_f1(bare, item.wanted) if item.wanted else 0.0,
        exact_match(bare, item.wanted) if item.wanted else False,
        contains(bare, item.wanted),
        bool(cited) and all(path in item.gold for path in cited),
        len(bare.split()),
    )


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Per set and way of answering: the figures of the table."""
    names = [*dict.fromkeys(row["set"] for row in rows)]
    return {
        name: {
            way: _figures([row for row in rows if row["set"] == name], way) for way in ("generator", "reader", "both")
        }
        for name in names
    }


def table(summary: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[str]:
    """Lines for a person."""
    for name, ways in summary.items():
        for way, figures in ways.items():
            yield f"{name:<14}{way:<11}" + "  ".join(f"{key} {value:.3f}" for key, value in figures.items())


def _figures(rows: Sequence[Mapping[str, Any]], way: str) -> dict[str, float]:
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        kinds.setdefault(row["kind"], []).append(row[way])
    answerable = kinds.get("answerable", [])
    given = [outcome for outcome in answerable if not outcome["refused"]]
    figures = {
        "f1": _mean([outcome["f1"] for outcome in answerable]),
        "exact": _mean([outcome["exact"] for outcome in answerable]),
        "contains": _mean([outcome["contains"] for outcome in answerable]),
        "answered": _mean([not outcome["refused"] for outcome in answerable]),
        "cited": _mean([outcome["cited"] for outcome in given]),
        "words": _mean([outcome["words"] for outcome in given]),
    }
    for kind in ("absent", "adversarial"):
        if kind in kinds:
            figures[f"{kind} refused"] = _mean([outcome["refused"] for outcome in kinds[kind]])
    return figures | {"n": float(len(rows))}


def _mean(values: Sequence[float]) -> float:
    return round(statistics.fmean(values), 4) if values else 0.0


def _run(streamed: Any) -> tuple[str, Answer]:
    """The words streamed and the answer returned."""
    said = []
    while True:
        try:
            said.append(next(streamed).text)
        except StopIteration as stop:
            return "".join(said).strip(), stop.value


# the items --------------------------------------------------------------------------------------------------------


def evaluation_items(name: str, options: argparse.Namespace, embedder: OnnxEmbedder) -> Iterator[Item]:
    """The questions of a set in the folder eval/, each with passages that an index of the whole set finds."""
    path = options.data / "eval" / f"{name}.jsonl.gz"
    records = read_jsonl(path)
    with tempfile.TemporaryDirectory() as folder:
        search = index(passage_set(path, ("true", "noise")).sources, Path(folder), embedder)
        draw = random.Random(options.seed)
        answerable = [record for record in records if record["answerable"]]
        adversarial = [record for record in records if not record["answerable"]]
        for record in draw.sample(answerable, min(options.limit, len(answerable))):
            yield from _answerable(name, record, search, draw)
        for record in draw.sample(adversarial, min(options.limit, len(adversarial))):
            own = {passage["id"] for passage in record["passages"]}
            hits = search(record["question"])
            shown = [hit for hit in hits if hit.path in own][:1] + [hit for hit in hits if hit.path not in own]
            yield Item(record["id"], name, "adversarial", record["question"], _shuffled(shown[:SHOWN], draw))


def _answerable(
    name: str, record: Mapping[str, Any], search: Callable[[str], Sequence[Hit]], draw: random.Random
) -> Iterator[Item]:
    """The question with one gold passage, and without any."""
    wanted = tuple(dict.fromkeys(record.get("extra", {}).get("accepted") or [a["text"] for a in record["answers"]]))
    gold = {passage["id"] for passage in record["passages"] if passage.get("role", "true") == "true"}
    hits = search(record["question"])
    others = [hit for hit in hits if hit.path not in gold]
    silent = [hit for hit in others if not contains(hit.chunk.text, wanted)]
    found = [hit for hit in hits if hit.path in gold]
    if found:
        shown = _shuffled([found[0], *others[: SHOWN - 1]], draw)
        yield Item(record["id"], name, "answerable", record["question"], shown, wanted, tuple(gold))
        yield Item(f"{record['id']}-absent", name, "absent", record["question"], _shuffled(silent[:SHOWN], draw))


def development_items(name: str, options: argparse.Namespace, _: OnnxEmbedder) -> Iterator[Item]:
    """The questions that training left out, with passages written or found for them."""
    corpora = [
        *read_published(options.data),
        *read_originals(options.data / "train" / "original"),
        *read_originals(OWN),
    ]
    corpora.append(read_near_misses(OWN / "near_misses.jsonl", corpora))
    texts = {text_id: text for corpus in corpora for text_id, text in corpus.texts.items()}
    negatives = json.loads(options.negatives.read_text(encoding="utf-8"))
    draw = random.Random(options.seed)
    questions = [q for corpus in corpora for q in corpus.questions if q.group in DEVELOPMENT]
    for question in draw.sample(questions, min(options.limit, len(questions))):
        others = [passage for passage in negatives.get(question.id, ()) if passage not in question.shown]
        shown = [*question.shown, *others][:SHOWN]
        wanted = tuple(texts[span.passage].text[span.start : span.end] for span in question.spans)
        kind = "answerable" if question.answerable else "absent" if question.kind == "absent" else "adversarial"
        yield Item(
            question.id, name, kind, question.text, _hits(shown, texts, draw), wanted, question.gold, question.history
        )
        left = [passage for passage in [*question.shown, *others] if passage not in question.gold][:SHOWN]
        if question.answerable and question.kind in ("single", "numeric", "table") and left:
            yield Item(f"{question.id}-absent", name, "absent", question.text, _hits(left, texts, draw))


def _hits(names: Sequence[str], texts: Mapping[str, Text], draw: random.Random) -> tuple[Hit, ...]:
    """Passages as hits without a rank."""
    found = (texts[name] for name in draw.sample(list(names), len(names)))
    return tuple(
        Hit(
            0,
            Chunk(0, len(text.text), text.text),
            text.id,
            f"{text.title} ({text.date})" if text.date else text.title,
            "text",
            0.0,
            0.0,
        )
        for text in found
    )


def index(sources: Sequence[Source], folder: Path, embedder: OnnxEmbedder) -> Callable[[str], Sequence[Hit]]:
    """An index with one chunk a passage, and its search."""
    spec = embedder.spec
    store = Store.open(folder / "index.db", maker=Maker(spec.name, spec.digest, spec.dimension, chunks.CHUNKER))
    for start in range(0, len(sources), 256):
        part = sources[start : start + 256]
        vectors = embedder.embed_passages([f"{source.title}\n{source.text}" for source in part])
        store.put_many(
            [
                (
                    Document(source.id, source.text, "text", source.title, 0.0, ""),
                    [Chunk(0, len(source.text), source.text)],
                    vectors[row : row + 1],
                )
                for row, source in enumerate(part)
            ]
        )
    return lambda question: retrieve.search(question, store, embedder, limit=DEPTH, per_document=DEPTH).hits


def _shuffled(hits: Sequence[Hit], draw: random.Random) -> tuple[Hit, ...]:
    """Any order: where the gold passage stands must not matter."""
    return tuple(draw.sample(list(hits), len(hits)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with eval/")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--limit", type=int, default=200, help="at most this many questions of a kind and set")
    parser.add_argument("--model", default=DEFAULT_GENERATOR, help="generator, by name or path")
    parser.add_argument("--reader", default=DEFAULT_READER, help="reader, by name or path")
    parser.add_argument("--ordinary", action="store_true", help="passages see each other, as in an ordinary prompt")
    parser.add_argument(
        "--development", dest="negatives", type=Path, help="training questions left out; the file of tools.negatives"
    )
    parser.add_argument("--records", type=Path, help="write every question with its outcomes here, as JSON lines")
    parser.add_argument("--context", type=int, default=3072)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
