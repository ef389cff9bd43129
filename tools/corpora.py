"""Training data as one kind of record, whatever it was published as.

A corpus is passages and questions over them. It reads files and checks that every span is where its file says it is;
it does not judge whether a question is any good. Formats: the folder given by --data (see tools/data/CARD.md for what
each file is and its licence), and this project's own sets in tools/data.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeai.records import Turn

OWN = Path(__file__).parent / "data"
PUBLISHED = ("squad_train44", "policyqa_dev", "covidqa", "clapnq")


@dataclass(frozen=True, slots=True)
class Text:
    """One passage; `group` is the document it belongs to, never split between training and development."""

    id: str
    group: str
    title: str
    text: str
    date: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """An answer inside a passage: `texts[passage].text[start:end]`."""

    passage: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Question:
    """One question with everything it teaches.

    `shown` are passages it was written for; `gold` those that support the answer. `response` holds "{passage id}"
    after each claim, "" where only spans are known. `misses` are passages that look as if they answered it and do not.
    `twin` is the id of a question that its passage does answer and that differs in as little as possible.
    """

    id: str
    corpus: str
    group: str
    kind: str
    text: str
    shown: tuple[str, ...]
    gold: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()
    response: str = ""
    history: tuple[Turn, ...] = ()
    misses: tuple[str, ...] = ()
    twin: str = ""

    @property
    def answerable(self) -> bool:
        """Whether the passages shown hold the answer."""
        return bool(self.gold)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Passages by id, and the questions over them."""

    name: str
    texts: Mapping[str, Text]
    questions: tuple[Question, ...]


def read_published(data: Path, names: Iterable[str] = PUBLISHED) -> list[Corpus]:
    """The published question sets of `data`/train that have answers inside their passages."""
    return [_published(data / "train" / f"{name}.jsonl.gz") for name in names]


def read_originals(folder: Path) -> list[Corpus]:
    """Sets of NAME.passages.jsonl and NAME.examples.jsonl, one corpus each."""
    return [_original(path, path.name.split(".")[0]) for path in sorted(folder.glob("*.passages.jsonl"))]


def read_near_misses(path: Path, corpora: Iterable[Corpus]) -> Corpus:
    """Pairs of an unanswerable question and its answerable twin, written over passages of other corpora."""
    texts = {name: text for corpus in corpora for name, text in corpus.texts.items()}
    questions: list[Question] = []
    for number, pair in enumerate(_lines(path)):
        text = texts.get(pair["passage"])
        if text is None:
            continue
        start = text.text.index(pair["answer"])
        shown, group = (text.id,), text.group.partition("/")[0]  # as its corpus is split
        span = Span(text.id, start, start + len(pair["answer"]))
        asked, twin = pair["miss"], f"hit-{number}"
        miss = Question(f"miss-{number}", "near", group, "near_miss", asked, shown, misses=shown, twin=twin)
        hit = Question(twin, "near", group, "single", pair["hit"], shown, shown, (span,))
        questions += [miss, hit]
    used = {question.shown[0] for question in questions}
    return Corpus("near", {name: text for name, text in texts.items() if name in used}, tuple(questions))


def _published(path: Path) -> Corpus:
    name = path.name.removesuffix(".jsonl.gz")
    records = list(_lines(path))
    texts = {
        p["id"]: Text(p["id"], record["split_group"], p["title"], p["text"])
        for record in records
        for p in record["passages"]
    }
    questions = tuple(question for record in records if (question := _published_question(name, record, texts)))
    return Corpus(name, texts, questions)


def _published_question(name: str, record: Mapping[str, Any], texts: Mapping[str, Text]) -> Question | None:
    evidence = record["answers"] if record["set"] != "clapnq" else record.get("extra", {}).get("evidence", [])
    spans = tuple(dict.fromkeys(_span(answer, texts) for answer in evidence if answer["passage"] is not None))
    if record["answerable"] and not spans:
        return None
    gold = tuple(dict.fromkeys(span.passage for span in spans))
    shown = tuple(passage["id"] for passage in record["passages"])
    kind = ("long" if name == "clapnq" else "single") if gold else "near_miss"
    misses = () if gold else shown
    return Question(
        record["id"], name, record["split_group"], kind, record["question"], shown, gold, spans, misses=misses
    )


def _original(path: Path, name: str) -> Corpus:
    texts = {p["id"]: Text(p["id"], f"{name}/{p['doc']}", p["title"], p["text"], p["date"]) for p in _lines(path)}
    examples = _lines(path.with_name(f"{name}.examples.jsonl"))
    return Corpus(name, texts, tuple(_example(name, example, texts) for example in examples))


def _example(name: str, record: Mapping[str, Any], texts: Mapping[str, Text]) -> Question:
    return Question(
        record["id"],
        name,
        name,  # distractors come from sibling documents: a whole domain is on one side
        record["kind"],
        record["question"],
        tuple(record["passages"]),
        tuple(record["gold"]),
        tuple(_span(answer, texts) for answer in record["answers"]),
        record["response"] if record["answerable"] else "",
        tuple(Turn(turn["question"], turn["answer"]) for turn in record["history"]),
        misses=tuple(record["passages"]) if record["kind"] == "near_miss" else (),
    )


def _span(answer: Mapping[str, Any], texts: Mapping[str, Text]) -> Span:
    start, end = answer["start"], answer["start"] + len(answer["text"])
    if texts[answer["passage"]].text[start:end] != answer["text"]:
        raise ValueError(f"{answer['text']!r} is not at {start} of passage {answer['passage']}.")
    return Span(answer["passage"], start, end)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    yield from (json.loads(line) for line in content.decode("utf-8").split("\n") if line)
