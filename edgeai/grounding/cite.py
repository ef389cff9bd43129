"""Which sentence of which passage an answer rests on, by the words and numbers they share.

It compares surface forms: it does not know synonyms, does not translate, and cannot tell "is" from "is not". A citation
says where the words of a statement come from, not that the statement follows from them.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass

from edgeai.records import Citation, Passage
from edgeai.text.sentences import Span, sentences, trim_to_sentences
from edgeai.text.terms import query_terms, words

__all__ = [
    "Content",
    "Evidence",
    "citation",
    "cite",
    "content",
    "evidence",
    "marked_sentences",
    "sentences",
    "trim_to_sentences",
    "with_mark",
]

ATTRIBUTE_FLOOR = (
    0.5  # weighted share of an unmarked sentence's content a passage sentence must hold to be cited for it
)
SECOND_FLOOR = 0.25  # share of it that a second sentence must add to be quoted too
NUMBER_WEIGHT = 2.0  # a number identifies a statement better than a word does

STEM_LENGTH = 6  # words are compared by their first letters (fixed-prefix stemming; Can et al., JASIST 59(3), 2008)
_UNITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NUMBER_WORDS = {word: value for value, word in enumerate(_UNITS)} | {"fifteen": 15, "hundred": 100}
_NUMBER_WORDS |= {word: 10 * value for value, word in enumerate(_TENS, start=2)}
_COMPOUND = re.compile(rf"\b({'|'.join(_TENS)})[- ]({'|'.join(_UNITS[1:10])})\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![A-Za-zÀ-ɏ_])\d+(?:[.,'’\u00a0\u202f]\d+)*")
_GROUPED = re.compile(r"\d{1,3}(?:[.,'’\u00a0\u202f]\d{3})+")
_LIST_NUMBER = re.compile(r"(?m)^\s*\d{1,3}[.)]\s")

_NUMBERS = r"\d{1,2}(?:\s*(?:,|;|&|and)\s*\d{1,2})*"
_CODE = re.compile(r"`[^`\n]*`")
_LOOSE_MARK = re.compile(
    rf"(?P<code>{_CODE.pattern})"
    rf"|(?P<gap>[ \t]*)[\[［【]\s*(?:passages?\s*)?(?P<bracketed>{_NUMBERS})\s*[\]］】]"
    rf"|\(passages?\s+(?P<enclosed>{_NUMBERS})\)"
    rf"|\bpassages?\s+\[?(?P<named>{_NUMBERS})\b\]?",
    re.IGNORECASE,
)
_REPEATED_MARK = re.compile(r"(\[\d{1,2}\])(?:[ \t]*\1)+")
_MARKS_ALONE = re.compile(r"(?<=\S)\s*\n\s*(?=(?:\[\d{1,2}\][ \t]*)+(?:\n|$))")  # on a line below what they cite
_ONLY_MARKS = re.compile(r"(?:\[\d{1,2}\][ \t.]*)+")
MARK = re.compile(r"\s*\[(\d{1,2})\]")
_CLOSING = re.compile(r"[.!?…。！？]*[\"'”’」』)]*$")


@dataclass(frozen=True, slots=True)
class Content:
    """What a text says, as far as it can be compared: stems of its content words, and its numbers in canonical form."""

    stems: frozenset[str]
    numbers: frozenset[str]

    def __len__(self) -> int:
        return len(self.stems) + len(self.numbers)

    def __and__(self, other: Content) -> Content:
        return Content(self.stems & other.stems, self.numbers & other.numbers)

    def __sub__(self, other: Content) -> Content:
        return Content(self.stems - other.stems, self.numbers - other.numbers)

    def __or__(self, other: Content) -> Content:
        return Content(self.stems | other.stems, self.numbers | other.numbers)


def content(text: str) -> Content:
    """What a statement claims: its content words and numbers, without citation marks, list numbers and stop words."""
    bare = _bare(text)
    found = {word for start, end in sentences(bare) for term in query_terms(bare[start:end]) for word in words(term)}
    # "one" is more often a pronoun than a number
    return Content(_stems(found), _numbers(bare, found - {"one"}))


def evidence(text: str) -> Content:
    """What a text offers in support of statements: all its words, and its numbers."""
    bare = _bare(text)
    found = set(words(bare))
    return Content(_stems(found), _numbers(bare, found))


def cite(answer: str, passages: Sequence[Passage]) -> tuple[str, tuple[Citation, ...]]:
    """Clean up an answer's citation marks and resolve them to exact quotes.

    Returns the answer with marks written `[n]`, marks of passages that do not exist removed, and a mark added to each
    unmarked sentence that a passage clearly holds; with one citation per quoted sentence, in order of the marks'
    appearance. `cite` of its own text changes nothing.
    """
    shown = Evidence(passages)
    parts: list[str] = []
    citations: list[Citation] = []
    text = _clean_marks(answer, shown.by_number)
    position = 0
    for start, end in marked_sentences(text):
        sentence = text[start:end]
        said = content(sentence)
        numbers = _marked(sentence, shown.by_number)
        if not numbers and (best := shown.attribute(said)):
            numbers = [best]
            sentence = with_mark(sentence, best)
        parts += [text[position:start], sentence]
        position = end
        citations += (quote for number in numbers for quote in shown.quotes(number, said))
    return "".join(parts).strip(), _in_order(citations)


def citation(passage: Passage, span: Span) -> Citation:
    """The citation of a part of a passage, given as offsets into `passage.text`."""
    start, end = span
    return Citation(
        n=passage.number,
        path=passage.path,
        start=passage.start + start,
        end=passage.start + end,
        quote=passage.text[start:end],
        heading=" > ".join(passage.heading),
        page=passage.page,
    )


class Evidence:
    """The sentences of the passages shown, weighted by how few of them share a word."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.by_number = {passage.number: passage for passage in passages}
        self.sentences = {
            number: [(span, evidence(passage.text[slice(*span)])) for span in sentences(passage.text)]
            for number, passage in self.by_number.items()
        }
        self._frequency = Counter(stem for held in self.sentences.values() for _, text in held for stem in text.stems)

    def attribute(self, said: Content) -> int | None:
        """The passage with the sentence that best holds an unmarked statement, None when none does clearly."""
        ranked = [
            (self.weight(said & held), -number)
            for number, spans in self.sentences.items()
            for _, held in spans
            if said.numbers <= held.numbers
        ]
        share, number = max(ranked, default=(0.0, 0))
        return -number if share and share >= ATTRIBUTE_FLOOR * self.weight(said) else None

    def quotes(self, number: int, said: Content) -> Iterator[Citation]:
        """The one or two sentences of a passage that hold most of a statement.

        A passage that shares no word with the statement is quoted whole: which part was meant is not known.
        """
        passage = self.by_number[number]
        spans = self.sentences[number]
        first = self._best(spans, said)
        if first is None:
            whole = passage.text.strip()
            start = passage.text.index(whole)
            yield citation(passage, (start, start + len(whole)))
            return
        spans_quoted = [first[0]]
        rest = said - first[1]
        second = self._best(spans, rest)
        if second and self.weight(second[1] & rest) >= SECOND_FLOOR * self.weight(said):
            spans_quoted.append(second[0])
        yield from (citation(passage, span) for span in sorted(spans_quoted))

    def _best(self, spans: Iterable[tuple[Span, Content]], said: Content) -> tuple[Span, Content] | None:
        """The sentence with the largest common weight, the shortest of equals, None when nothing is common."""
        ranked = [(self.weight(held & said), -len(held), -span[0], span, held) for span, held in spans]
        best = max(ranked, default=None)
        return (best[3], best[4]) if best and best[0] else None

    def weight(self, common: Content) -> float:
        """How much it says about a statement to have this content in common with it."""
        words_weight = sum(1 / math.sqrt(max(1, self._frequency[stem])) for stem in common.stems)
        return words_weight + NUMBER_WEIGHT * len(common.numbers)


def _bare(text: str) -> str:
    """Without marks and list numbers, and with compound number words as digits, in plain forms of all characters."""
    bare = unicodedata.normalize("NFKC", _LIST_NUMBER.sub(" ", MARK.sub(" ", text)))
    return _COMPOUND.sub(lambda found: str(_NUMBER_WORDS[found[1].lower()] + _NUMBER_WORDS[found[2].lower()]), bare)


def _stems(found: Iterable[str]) -> frozenset[str]:
    return frozenset(word[:STEM_LENGTH] for word in found if not word.isdigit() and word not in _NUMBER_WORDS)


def _numbers(text: str, found: Iterable[str]) -> frozenset[str]:
    spelled = (str(_NUMBER_WORDS[word]) for word in found if word in _NUMBER_WORDS)
    return frozenset((*spelled, *(_canonical(match.group()) for match in _NUMBER.finditer(text))))


def _canonical(number: str) -> str:
    """One form for the ways a number is written: no grouping, "." before decimals, no superfluous zeros.

    A single group of three ("1.200", "1,200") is read as thousands.
    """
    if _GROUPED.fullmatch(number):
        return re.sub(r"\D", "", number).lstrip("0") or "0"
    whole, dot, decimals = re.sub(r"\D", ".", number).partition(".")
    if "." not in decimals:  # versions and dates keep their zeros
        decimals = decimals.rstrip("0")
    return (whole.lstrip("0") or "0") + (dot + decimals if decimals else "")


def _clean_marks(answer: str, known: Container[int]) -> str:
    """Every way of naming a passage becomes `[n]`; bracketed numbers that name none are removed. Code is left alone."""

    def replacement(match: re.Match[str]) -> str:
        if match["code"]:
            return match.group()
        named = re.findall(r"\d+", match["bracketed"] or match["enclosed"] or match["named"])
        marks = "".join(f"[{int(number)}]" for number in dict.fromkeys(named) if int(number) in known)
        if not marks:
            return "" if match["bracketed"] else match.group()
        return (match["gap"] or "") + marks

    while (cleaned := _LOOSE_MARK.sub(replacement, answer)) != answer:  # a removed mark can leave another behind
        answer = cleaned
    return _REPEATED_MARK.sub(r"\1", _MARKS_ALONE.sub(" ", answer)).strip()


def marked_sentences(text: str) -> list[Span]:
    """Sentences, each with the marks that stand alone behind it."""
    spans: list[Span] = []
    for start, end in sentences(text):
        if spans and _ONLY_MARKS.fullmatch(text[start:end]):
            start = spans.pop()[0]
        spans.append((start, end))
    return spans


def _marked(sentence: str, known: Container[int]) -> list[int]:
    """The passages a sentence cites; brackets in code are no marks."""
    return [int(number) for number in MARK.findall(_CODE.sub("", sentence)) if int(number) in known]


def with_mark(sentence: str, number: int) -> str:
    """The sentence with the mark `[number]` in front of its closing punctuation."""
    cut = len(_CLOSING.sub("", sentence)) or len(sentence)
    gap = "" if sentence[cut - 1 : cut] >= "\u3000" else " "
    return f"{sentence[:cut]}{gap}[{number}]{sentence[cut:]}"


def _in_order(citations: Iterable[Citation]) -> tuple[Citation, ...]:
    """Without repetitions, grouped by passage in the order in which the passages are first cited."""
    unique = dict.fromkeys(citations)
    first = {number: rank for rank, number in enumerate(dict.fromkeys(quote.n for quote in unique))}
    return tuple(sorted(unique, key=lambda quote: first[quote.n]))
