"""Questions that share passages, laid out for the decoder by the product's own prompt.

A group is several passages and many questions over subsets of them: each passage is computed once for all its
questions, which is what independent passages allow, and what makes training on a CPU possible. Which passages a
question sees, and what it should say, is decided here.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from edgeai.prompt import REFUSAL, build_prompt
from edgeai.records import Passage
from edgeai.specs import ChatTemplate
from edgeai.text.sentences import sentences
from tools.corpora import Corpus, Question, Text
from tools.decoder import Group

Tokenise = Callable[[str], Sequence[int]]
Hinter = Callable[["Question", Sequence[Passage]], str]
Half = tuple[Sequence[str], Sequence["Item"]]  # passages, and questions over them

PASSAGES, QUESTIONS = 4, 28  # of one group
SIBLINGS = 6  # passages of one half where questions were written over several
PASSAGE_CHARACTERS = 850  # longer ones are not trained on
ABSENT = 0.14  # of the questions lose their gold passage and become refusals
CROPPED = 0.6  # of the passages show the sentences with the answers only, as when a prompt must be short
ATTACKED = 0.04  # of the passages have an instruction planted in them
SPOKEN_AS_SPAN = frozenset({"single", "numeric", "table", "followup", "injection"})
MAY_LOSE = frozenset({"single", "numeric", "table", "list"})  # kinds that have no answer once their passage is gone
SPAN_WORDS = 14  # a longer span is not a short answer

_MARK = re.compile(r"\s*\{([^}]+)\}")


@dataclass(frozen=True, slots=True)
class Item:
    """One question as asked: the passages it sees and what it should say."""

    question: Question
    uses: tuple[str, ...]
    answer: str  # with "{passage id}" after each claim, or the refusal
    hint: str = ""  # what a reader makes of the passages

    @property
    def refuses(self) -> bool:
        """Whether the right answer is the refusal."""
        return self.answer == REFUSAL


@dataclass(frozen=True, slots=True)
class Layout:
    """How text becomes tokens: the product's template and the model's tokenizer."""

    template: ChatTemplate
    tokenise: Tokenise
    piece: Callable[[int], bytes]
    context: int = 2048

    def text(self, ids: Sequence[int]) -> str:
        """What tokens say; control tokens say nothing."""
        return b"".join(map(self.piece, ids)).decode("utf-8", "replace")

    def ids(self, text: str, special: bool = False) -> list[int]:
        """Token ids of one segment."""
        return [self.template.special_ids[text]] if special else list(self.tokenise(text))

    @property
    def end(self) -> int:
        """The token that ends an answer."""
        assert self.template.end is not None
        return self.template.end


@dataclass
class Grouper:
    """Draws groups from corpora, a different draw every time."""

    corpora: Sequence[Corpus]
    negatives: Mapping[str, Sequence[str]]
    layout: Layout
    seed: int = 0
    attacks: Sequence[str] = ()
    excluded: frozenset[str] = frozenset()  # groups kept for development
    shares: Mapping[str, float] = field(default_factory=dict)
    hints: Hinter = lambda question, passages: ""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._texts: dict[str, Text] = {name: text for corpus in self.corpora for name, text in corpus.texts.items()}
        self._neighbours: dict[str, Sequence[str]] = {}
        for corpus in self.corpora:
            for question in corpus.questions:
                for name in question.gold:
                    self._neighbours.setdefault(name, self.negatives.get(question.id, ()))

    def epoch(self) -> Iterator[tuple[Group, tuple[Item, ...]]]:
        """Every question of the corpora about once, in groups made of two halves with nothing in common."""
        halves = [half for corpus in self.corpora for half in self._halves(corpus)]
        self._random.shuffle(halves)
        for first, second in zip(halves[::2], halves[1::2], strict=False):
            items = [*self._crossed(*first, second[0]), *self._crossed(*second, first[0])]
            if items:
                yield self.group(items)

    def group(self, items: Sequence[Item]) -> tuple[Group, tuple[Item, ...]]:
        """The tensors of some questions, and the questions with their hints."""
        names = dict.fromkeys(name for item in items for name in item.uses)
        shown = {name: self._passage(name, [item.question for item in items]) for name in names}
        hinted = [replace(item, hint=self.hints(item.question, [shown[name] for name in item.uses])) for item in items]
        return assemble(hinted, shown, self.layout), tuple(hinted)

    def _passage(self, name: str, questions: Sequence[Question]) -> Passage:
        text = self._texts[name]
        body = text.text
        if self._random.random() < CROPPED:
            body = self._cropped(text, [question for question in questions if name in question.gold])
        if self.attacks and self._random.random() < ATTACKED:
            body = self._random.choice(("{1}\n{0}", "{0}\n{1}")).format(body, self._random.choice(self.attacks))
        title = f"{text.title} ({text.date})" if text.date else text.title
        return Passage(0, body, name, 0, len(body), title=title)

    def _cropped(self, text: Text, answered: Sequence[Question]) -> str:
        """The sentences from the first answer to the last and perhaps a neighbour; any sentence where none is known."""
        spans = [[span for span in question.spans if span.passage == text.id] for question in answered]
        bounds = sentences(text.text)
        if not bounds or not all(spans):
            return text.text
        start, end = bounds[self._random.randrange(len(bounds))]
        if answered:
            start = min(span.start for found in spans for span in found)
            end = max(span.end for found in spans for span in found)
        inside = [row for row, (first, last) in enumerate(bounds) if first < end and start < last]
        first = max(0, inside[0] - self._random.randrange(2))
        last = min(len(bounds) - 1, inside[-1] + self._random.randrange(2))
        return text.text[bounds[first][0] : bounds[last][1]]

    def _halves(self, corpus: Corpus) -> Iterator[Half]:
        """Passages that the search confuses, with questions over them, until all questions have been taken."""
        share = self.shares.get(corpus.name, 1.0)
        kept = {name for name in corpus.texts if self._random.random() < share}  # by passage: all its questions or none
        chosen = [q for q in corpus.questions if q.group not in self.excluded and q.shown[0] in kept]
        self._random.shuffle(chosen)
        waiting: dict[str, list[Question]] = {}
        for question in chosen:
            for name in question.shown:
                waiting.setdefault(name, []).append(question)
        done: set[str] = set()
        for question in chosen:
            if question.id not in done and all(self._short(name) for name in question.shown):
                names = dict.fromkeys([*question.shown, *self._negatives_of(question)])
                shown = [name for name in names if self._short(name)][: max(PASSAGES // 2, len(question.shown))]
                self._extend(shown, waiting, done)
                yield shown, self._asked(question, shown, waiting, done)

    def _extend(self, names: list[str], waiting: Mapping[str, list[Question]], done: set[str]) -> None:
        """Add the passages that complete most other questions."""
        while len(names) < SIBLINGS:
            lacking = Counter(
                missing.pop()
                for other in {other for name in names for other in waiting.get(name, ()) if other.id not in done}
                if len(missing := set(other.shown) - set(names)) == 1
            )
            best = max(sorted(lacking), key=lacking.__getitem__, default="")
            if not best or not self._short(best):
                return
            names.append(best)

    def _asked(
        self, first: Question, names: Sequence[str], waiting: Mapping[str, list[Question]], done: set[str]
    ) -> list[Item]:
        """A question and others that can be asked over the same passages; they are done then."""
        items: list[Item] = []
        others = [other for name in names for other in waiting.get(name, ())]
        for other in dict.fromkeys([first, *others]):
            if len(items) < QUESTIONS // 2 and other.id not in done and set(other.shown) <= set(names):
                done.add(other.id)
                if item := self._item(other, names):
                    items.append(item)
        return items

    def _negatives_of(self, question: Question) -> Sequence[str]:
        return self.negatives.get(question.id) or [
            name for passage in question.shown for name in self._neighbours.get(passage, ())
        ]

    def _item(self, question: Question, names: Sequence[str]) -> Item | None:
        """A question with distractors where it was written over one passage, sometimes without its answer."""
        mined = set(self.negatives.get(question.id, ()))
        others = [name for name in names if name in mined and name not in question.shown]
        self._random.shuffle(others)
        uses = list(question.shown)
        if len(uses) == 1:
            uses += others[: self._random.choice((0, 1, 2, 2))]
        self._random.shuffle(uses)
        answer = spoken(question, self._texts) if question.answerable else REFUSAL
        if not answer:
            return None
        left = [name for name in uses if name not in question.gold]
        if left and question.kind in MAY_LOSE and self._random.random() < ABSENT:
            return Item(question, tuple(left), REFUSAL)
        return Item(question, tuple(uses), answer)

    def _crossed(self, names: Sequence[str], items: Sequence[Item], strangers: Sequence[str]) -> Iterator[Item]:
        """Questions that see few passages also see some of the other half, where no answer can be."""
        for item in items:
            room = self._random.choice((0, 1, 2, 3)) if len(item.uses) < 3 else 0
            uses = [*item.uses, *self._random.sample(list(strangers), min(room, len(strangers), 4 - len(item.uses)))]
            self._random.shuffle(uses)
            yield replace(item, uses=tuple(uses))

    def _short(self, name: str) -> bool:
        return name in self._texts and len(self._texts[name].text) < PASSAGE_CHARACTERS


def spoken(question: Question, texts: Mapping[str, Text]) -> str:
    """What to say, with passage ids in braces; "" when the corpus has no short answer for it."""
    if question.response and (
        question.kind not in SPOKEN_AS_SPAN or len(question.spans) != 1 or re.match(r"(?:Yes|No)\b", question.response)
    ):
        return question.response
    for span in question.spans:
        words = texts[span.passage].text[span.start : span.end]
        if len(words.split()) <= SPAN_WORDS and "|" not in words and "\n" not in words:
            return f"{words} {{{span.passage}}}"
    return question.response


def assemble(items: Sequence[Item], shown: Mapping[str, Passage], layout: Layout) -> Group:
    """Token tensors of a group: prefix once, passages once, then each question with its answer."""
    order = {name: row for row, name in enumerate(shown)}
    passages: dict[str, list[int]] = {}
    prefix: list[int] = []
    rows: list[list[int]] = []
    begins: list[int] = []
    uses = torch.zeros(len(items), len(shown), dtype=torch.bool)
    for row, item in enumerate(items):
        used = [shown[name] for name in item.uses]
        request = build_prompt(
            item.question.text,
            used,
            layout.template,
            count=lambda text: len(layout.tokenise(text)),
            context=layout.context,
            history=item.question.history,
            numbered=False,
            hint=item.hint,
        )
        parts: dict[str, list[int]] = {"prefix": [], "question": []}
        for segment in request.segments:
            if segment.role != "passage":
                parts["prefix" if segment.role == "prefix" else "question"].extend(
                    layout.ids(segment.text, segment.special)
                )
        texts = [segment.text for segment in request.segments if segment.role == "passage"]
        for name, text in zip(item.uses, texts, strict=True):
            passages.setdefault(name, layout.ids(text))
            uses[row, order[name]] = True
        prefix = parts["prefix"]
        said = _MARK.sub("", item.answer)
        begins.append(len(parts["question"]))
        rows.append([*parts["question"], *layout.ids(said), layout.end])
    targets = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.bool)
    for row, (ids, begin) in enumerate(zip(rows, begins, strict=True)):
        targets[row, begin : len(ids)] = True
    bodies = [passages[name] for name in shown]
    return Group(
        torch.tensor(prefix),
        _padded(bodies),
        torch.tensor([len(ids) for ids in bodies]),
        _padded(rows),
        torch.tensor([len(ids) for ids in rows]),
        uses,
        targets,
    )


def _padded(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    padded = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for row, ids in enumerate(rows):
        padded[row, : len(ids)] = torch.tensor(ids)
    return padded
