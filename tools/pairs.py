"""Questions and passages as the reader sees them: token ids, and where the answer is.

Pure given the tokenizer and a random generator. Which passages a question is paired with, what each pair teaches, and
how questions are altered so that their passage no longer answers them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from edgeai import followup
from edgeai.text.sentences import sentences
from edgeai.text.terms import query_terms
from tools.corpora import Corpus, Question, Span, Text
from tools.encoder import Pairs

QUESTION_TOKENS, PAIR_TOKENS = 48, 192
CLS, SEP = 101, 102
CUT = 0.25  # of the passages are also shown without the sentence that answers
LONG = 40  # tokens: a longer gold span says where to look, not what to answer
TITLE_DROPPED = 0.3  # of the pairs, so that the reader does not rely on titles
CROPPED = 0.2  # of the pairs show one to three sentences only, as a note or a table row is
KEYWORDS = 0.1  # of the questions are asked as bare keywords, as people type into a search box

TYPED = frozenset({"single", "numeric", "near_miss"})  # kinds that survive as keywords
SAID_ONCE = frozenset({"single", "numeric", "table"})  # kinds whose answer is in one place
REPEATED = frozenset({"policyqa_dev", "covidqa", "clapnq"})  # corpora whose passages say things several times

_NAME = re.compile(r"(?<=[\w,] )[A-Z][\w'’-]+(?: (?:of |the )?[A-Z][\w'’-]+)*")
_NUMBER = re.compile(r"\b\d[\d,.]*\b")


@dataclass(frozen=True, slots=True)
class Pair:
    """One (question, passage); None where the pair teaches nothing about a head."""

    ids: tuple[int, ...]
    passage: str  # its id
    passage_from: int  # first token of the passage
    relevant: bool | None
    answerable: bool | None
    spans: tuple[tuple[int, int], ...]  # token indices, inclusive; () for nowhere
    teaches_span: bool
    unit: int  # pairs of one question share it


class Encoder:
    """The tokenizer with the layout of a pair: [CLS] question [SEP] title, passage [SEP]."""

    def __init__(self, tokenizer: Any) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer

    def pair(self, question: str, title: str, text: str, span: Span | None = None) -> tuple[list[int], int, int, Any]:
        """Ids, index of the first passage token, index of the first token of `text`, and its encoding's offsets."""
        asked = self._ids(question)[:QUESTION_TOKENS]
        head = self._ids(title)[:32] if title else []
        body = self._tokenizer.encode(text, add_special_tokens=False)
        room = PAIR_TOKENS - len(asked) - len(head) - 3
        first = 0
        if len(body.ids) > room and span is not None:  # a window around the answer
            at = body.char_to_token(span.start) or 0
            first = max(0, min(at - room // 2, len(body.ids) - room))
        kept = body.ids[first : first + room]
        ids = [CLS, *asked, SEP, *head, *kept, SEP]
        return ids, len(asked) + 2, len(asked) + 2 + len(head) - first, body

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


class Sampler:
    """Draws, for a question, the pairs that teach most, a different draw every time."""

    def __init__(
        self, corpora: Sequence[Corpus], negatives: Mapping[str, Sequence[str]], encoder: Encoder, seed: int
    ) -> None:
        self._texts: dict[str, Text] = {name: text for corpus in corpora for name, text in corpus.texts.items()}
        self._negatives = negatives
        self._encoder = encoder
        self._random = random.Random(seed)
        self._names: dict[str, list[str]] = {}
        for corpus in corpora:
            for question in corpus.questions:
                self._names.setdefault(question.group, []).extend(_NAME.findall(question.text))
                self._names[question.group].extend(_NUMBER.findall(question.text))

    def pairs(self, question: Question, unit: int, *, negatives: int = 1, swap: float = 0.0) -> Iterator[Pair]:
        """Gold passages, ones that only look right or were found; at times an altered question, or a cut passage."""
        if question.kind in TYPED and self._random.random() < KEYWORDS:
            question = replace(question, text=" ".join(query_terms(question.text)) or question.text)
        for name in question.gold:
            yield self._pair(question, name, unit, relevant=True, answerable=True)
        others = [name for name in question.shown if name not in question.gold]
        found = [name for name in self._negatives.get(question.id, ())[:6] if name not in others]
        self._random.shuffle(others)
        for name in others[:2]:
            relevant = None if name in question.misses else False
            yield self._pair(question, name, unit, relevant=relevant, answerable=False)
        if found:
            for name in self._random.sample(found, min(negatives, len(found))):
                yield self._pair(question, name, unit, relevant=False, answerable=False)
        if question.gold and self._random.random() < swap and (altered := self._altered(question)):
            yield self._pair(altered, question.gold[0], unit, relevant=None, answerable=False)
        if question.gold and self._random.random() < CUT and (rest := self._without_answer(question)):
            yield self._pair(question, question.gold[0], unit, relevant=None, answerable=False, text=rest)

    def _altered(self, question: Question) -> Question | None:
        """The question about another name or number of the same document, which its passage does not mention."""
        matches = [*_NAME.finditer(question.text), *_NUMBER.finditer(question.text)]
        if not matches or not question.spans:
            return None
        match = self._random.choice(matches)
        text = self._texts[question.spans[0].passage]
        numeric = match[0][0].isdigit()
        choices = {
            name
            for name in self._names[question.group]
            if name[0].isdigit() == numeric and name not in question.text and name not in text.text
        }
        if not choices or match[0] not in text.text:
            return None
        other = self._random.choice(sorted(choices))
        return replace(question, text=question.text[: match.start()] + other + question.text[match.end() :])

    def _without_answer(self, question: Question) -> Text | None:
        """The first gold passage without the sentences (or table row) of its answer; None where more may answer."""
        if question.kind not in SAID_ONCE or question.corpus in REPEATED or len(question.spans) != 1:
            return None
        span = question.spans[0]
        text = self._texts[span.passage]
        bounds = sentences(text.text)
        inside = [(start, end) for start, end in bounds if start < span.end and span.start < end]
        if not inside or len(bounds) - len(inside) < 2:
            return None
        rest = text.text[: inside[0][0]] + text.text[inside[-1][1] :]
        return None if text.text[span.start : span.end] in rest else replace(text, text=rest)

    def _pair(
        self,
        question: Question,
        name: str,
        unit: int,
        *,
        relevant: bool | None,
        answerable: bool,
        text: Text | None = None,
    ) -> Pair:
        text = text or self._texts[name]
        spans = [span for span in question.spans if span.passage == name] if answerable else []
        text, spans = self._cropped(text, spans) if (spans or not answerable) else (text, spans)
        title = "" if self._random.random() < TITLE_DROPPED else text.title
        query = followup.rewrite_question(question.text, question.history)
        ids, passage_from, offset, body = self._encoder.pair(query, title, text.text, spans[0] if spans else None)
        found = []
        for span in spans:
            first, last = body.char_to_token(span.start), body.char_to_token(span.end - 1)
            if (
                first is not None
                and last is not None
                and last + offset < len(ids) - 1
                and first + offset >= passage_from
            ):
                found.append((first + offset, last + offset))
        short = all(last - first < LONG for first, last in found)
        # Of a near miss's twin the words of the answer are known, but not where they stand if they do so twice.
        sure = question.corpus != "near" or all(text.text.count(text.text[s.start : s.end]) == 1 for s in spans)
        teaches = not answerable or (bool(found) and short and sure and question.kind not in ("long", "yesno"))
        return Pair(tuple(ids), name, passage_from, relevant, answerable, tuple(found[:1]), teaches, unit)

    def _cropped(self, text: Text, spans: list[Span]) -> tuple[Text, list[Span]]:
        """Sometimes only a few sentences around the first span, or around any place where there is none."""
        if self._random.random() >= CROPPED:
            return text, spans
        at = spans[0] if spans else None
        bounds = sentences(text.text)
        inside = [n for n, (start, end) in enumerate(bounds) if at is None or (start <= at.start and at.end <= end)]
        if not inside:
            return text, spans
        row = self._random.choice(inside)
        first = max(0, row - self._random.choice((0, 0, 1)))
        last = min(len(bounds) - 1, row + self._random.choice((0, 0, 1)))
        start, end = bounds[first][0], bounds[last][1]
        moved = [replace(at, start=at.start - start, end=at.end - start)] if at else []
        return replace(text, text=text.text[start:end]), moved


def batch_of(pairs: Sequence[Pair], rows: int = 0, length: int = 0) -> Pairs:
    """Pairs padded to the longest, or to `rows` rows of `length` tokens; added rows are empty."""
    length = length or max(len(pair.ids) for pair in pairs)
    ids = torch.zeros(max(rows, len(pairs)), length, dtype=torch.long)
    types = torch.zeros_like(ids)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for row, pair in enumerate(pairs):
        ids[row, : len(pair.ids)] = torch.tensor(pair.ids)
        types[row, pair.passage_from : len(pair.ids)] = 1
        mask[row, : len(pair.ids)] = True
    return Pairs(ids, types, mask)
