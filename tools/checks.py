"""Whether a user's lines are fit to train on, and the split that keeps what belongs together on one side.

Pure. The checks find what makes training useless or its scores wrong: too few lines, lines twice or at odds, the same
document on both sides of the split, answers that their passages do not hold. They compare words: whether an answer is
true, a label apt or a licence valid stays the user's to know.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

from edgeai.grounding.check import SUPPORT_FLOOR
from edgeai.grounding.cite import content
from edgeai.grounding.cite import evidence as held_by
from edgeai.prompt import REFUSAL, SYSTEM, passage_text
from edgeai.structured.schema import mismatches
from edgeai.text.terms import words
from tools.evidence import Evidence, Example, Finding

MINIMUM = {"grounded": 30, "json": 30, "label": 20}  # fewer cannot be told from chance on the held-out part
PER_LABEL = 10
ANSWER_TOKENS = {"grounded": 64, "label": 16, "json": 256}  # 64 is the product's default limit of an answer
TEMPLATE_TOKENS = 32  # control tokens, role names and "Question:", generously
NEAR = 0.85  # Jaccard similarity of words from which two inputs count as nearly the same
HELD_OUT = 0.2
LARGEST = 0.6  # share of all lines in one group beyond which too little can be held out
NAMED = 8  # line numbers spelt out in one sentence

Count = Callable[[str], int]


def check(evidence: Evidence, count: Count, context: int) -> list[Finding]:
    """Everything that speaks against training on these lines, what cannot be read first.

    `count` gives the tokens of a text in the model that is to be trained, `context` the tokens it can take.
    """
    found = [*evidence.findings, *_licences(evidence), *_sizes(evidence), *_twice(evidence)]
    found += _lengths(evidence, count, context)
    found += _unsupported(evidence) if evidence.task == "grounded" else ()
    found += _against_schema(evidence) if evidence.task == "json" else ()
    leaks = leakage(evidence.examples)
    # Groups that contradict each other are joined by the split, which then looks too large for another reason.
    return [*found, *(leaks or _in_one_piece(evidence))]


# the split ----------------------------------------------------------------------------------------------------------


def split(examples: Sequence[Example], seed: int) -> tuple[list[Example], list[Example]]:
    """Training and held-out examples: about a fifth of each label, or of answers and refusals, in whole groups.

    What stands together: the declared group; where none is declared, cited passages of one title; and in any case the
    same cited passage and nearly the same question.
    """
    strata: dict[str, list[list[Example]]] = defaultdict(list)
    for group in groups(examples):
        most = Counter(_stratum(example) for example in group).most_common(1)[0][0]
        strata[most].append(group)
    held: list[Example] = []
    left: list[list[Example]] = []
    for name in sorted(strata):
        members = strata[name]
        random.Random(f"{seed} {name}").shuffle(members)
        room = math.ceil(HELD_OUT * sum(map(len, members)))
        for group in members:
            fits = len(group) <= room
            (held.extend if fits else left.append)(group)
            room -= len(group) if fits else 0
    left.sort(key=len)
    while len(left) > 1 and len(held) < HELD_OUT / 2 * len(examples):  # groups larger than a fifth of their stratum
        held += left.pop(0)
    lines = {example.line for example in held}
    return [one for one in examples if one.line not in lines], [one for one in examples if one.line in lines]


def groups(examples: Sequence[Example]) -> list[list[Example]]:
    """The examples in the pieces that a split leaves whole, both in the order of the file."""
    root = list(range(len(examples)))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    first: dict[Hashable, int] = {}
    for i, example in enumerate(examples):
        for key in _ties(example):
            root[find(i)] = find(first.setdefault(key, i))
    for i, j in near_pairs([example.text for example in examples]):
        root[find(i)] = find(j)
    pieces: dict[int, list[Example]] = defaultdict(list)
    for i, example in enumerate(examples):
        pieces[find(i)].append(example)
    return list(pieces.values())


def _stratum(example: Example) -> str:
    """What both sides of the split should have their share of."""
    if example.passages:
        return "refusal" if example.refuses else "answer"
    return "" if example.answer.startswith("{") else example.answer


def _ties(example: Example) -> Iterator[Hashable]:
    if example.group:
        yield "group", example.group
    for passage in example.cited:
        yield "passage", words(passage.text)
        if passage.title and not example.group:
            yield "document", passage.title


def leakage(examples: Sequence[Example]) -> list[Finding]:
    """Lines that were put into different groups although they share what a split by group should keep apart."""
    seen: dict[Hashable, Example] = {}
    found = []
    for example in examples:
        for passage in example.cited:
            other = seen.setdefault(words(passage.text), example)
            if _apart(example, other):
                found.append(_leak(other, example, "answer from the same passage"))
    for i, j in near_pairs([example.text for example in examples]):
        if _apart(examples[i], examples[j]):
            found.append(_leak(examples[i], examples[j], "ask nearly the same"))
    return list(dict.fromkeys(found))


def _apart(one: Example, other: Example) -> bool:
    return bool(one.group and other.group and one.group != other.group)


def _leak(one: Example, other: Example, why: str) -> Finding:
    pair = f"Lines {one.line} and {other.line} {why} but are in the groups {one.group!r} and {other.group!r}"
    return Finding("leakage", f"{pair}; give them one group, so that none is trained on and the other held out.")


def near_pairs(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, of texts with the same numbers and at least `NEAR` of their words in common.

    Two sets that are so similar share one of their rarest words: the prefix filter of Bayardo et al., "Scaling up all
    pairs similarity search", WWW 2007.
    """
    bags = [frozenset(words(text)) for text in texts]
    frequency = Counter(word for bag in bags for word in bag)
    waiting: dict[str, list[int]] = defaultdict(list)
    for j, bag in enumerate(bags):
        rare = sorted(bag, key=lambda word: (frequency[word], word))[: len(bag) - math.ceil(NEAR * len(bag)) + 1]
        for i in sorted({i for word in rare for i in waiting[word]}):
            if len(bag & bags[i]) >= NEAR * len(bag | bags[i]) and not _numbers(bag ^ bags[i]):
                yield i, j
        for word in rare:
            waiting[word].append(j)


def _numbers(found: Iterable[str]) -> bool:
    return any(character.isdigit() for word in found for character in word)


# the checks ---------------------------------------------------------------------------------------------------------


def _licences(evidence: Evidence) -> Iterator[Finding]:
    if lacking := [example.line for example in evidence.examples if not example.licence.strip()]:
        verb = "has" if len(lacking) == 1 else "have"
        yield Finding(
            "licence", f'{named(lacking)} {verb} no "licence"; say under what terms each text may be used, or "own".'
        )


def _sizes(evidence: Evidence) -> Iterator[Finding]:
    least, count = MINIMUM[evidence.task], len(evidence.examples)
    if count < least:
        yield Finding("size", f"There are {count} examples; at least {least} are needed, and 100 are a good start.")
    if evidence.task == "label":
        counted = Counter(example.answer for example in evidence.examples)
        if len(counted) < 2:
            yield Finding("size", "There is only one label; at least two are needed to tell texts apart.")
        for label, number in sorted(counted.items()):
            if number < PER_LABEL:
                yield Finding("size", f"The label {label!r} has {number} examples; at least {PER_LABEL} are needed.")
    if evidence.task == "grounded" and count and not any(example.refuses for example in evidence.examples):
        text = "No example should be refused; without some, the model forgets when to say that it does not know."
        yield Finding("size", text, fatal=False)


def _twice(evidence: Evidence) -> Iterator[Finding]:
    """Inputs that occur again: with the same answer they are duplicates, with another one a conflict."""
    seen: dict[Hashable, Example] = {}
    for example in evidence.examples:
        other = seen.setdefault(example.input, example)
        if other is not example:
            yield _repeated(other, example)
    reported = {frozenset((seen[example.input].line, example.line)) for example in evidence.examples}
    for i, j in near_pairs([example.text for example in evidence.examples]):
        one, other = evidence.examples[i], evidence.examples[j]
        if frozenset((one.line, other.line)) in reported or seen[other.input] is not other:
            continue
        if one.input[1:] == other.input[1:]:
            yield _repeated(one, other, nearly=True)


def _repeated(one: Example, other: Example, *, nearly: bool = False) -> Finding:
    lines, same = f"Lines {one.line} and {other.line}", "nearly the same" if nearly else "the same"
    if " ".join(words(one.answer)) != " ".join(words(other.answer)):
        text = f"{lines} have {same} input but want different answers; correct one of them."
        return Finding("conflict", text, fatal=not nearly)
    return Finding("duplicate", f"{lines} are {same}; keep one of them.", fatal=not nearly)


def _lengths(evidence: Evidence, count: Count, context: int) -> Iterator[Finding]:
    limit = ANSWER_TOKENS[evidence.task]
    for example in evidence.examples:
        answer = count(example.answer)
        if answer > limit:
            text = f"Line {example.line} wants an answer of {answer} tokens; {limit} are the limit for {evidence.task}."
            yield Finding("length", text)
        shown = [SYSTEM, example.text, *(passage_text(passage) for passage in example.passages)]
        shown += [f"Q: {turn.question}\nA: {turn.answer}\n" for turn in example.history]
        total = TEMPLATE_TOKENS + answer + sum(map(count, shown))
        if total > context:
            mend = "leave out passages" if example.passages else "shorten the text"
            yield Finding("length", f"Line {example.line} takes {total} tokens of the {context} there are; {mend}.")


def _unsupported(evidence: Evidence) -> Iterator[Finding]:
    """Answers that teach to make things up."""
    for example in evidence.examples:
        if example.answer == REFUSAL:
            continue
        shown = held_by("\n".join(passage_text(passage) for passage in example.cited or example.passages))
        said = content(example.answer)
        if missing := sorted(said.numbers - shown.numbers):
            text = f"Line {example.line} wants the number {missing[0]}, which the passages it cites do not hold."
            yield Finding("support", text)
        elif len(said) and len(said & shown) < SUPPORT_FLOOR * len(said):
            text = f"Line {example.line} wants an answer most of whose words are not in the passages it cites."
            yield Finding("support", text)
        elif not example.cited:
            text = f"Line {example.line} cites no passage and none clearly holds its answer; put [n] after each claim."
            yield Finding("support", text)


def _against_schema(evidence: Evidence) -> Iterator[Finding]:
    for example in evidence.examples:
        value = json.loads(example.answer)
        for problem in mismatches(value, evidence.schema):
            yield Finding("schema", f"Line {example.line}: {problem}.")
        shown = f" {' '.join(words(example.text))} "
        for name, inner in value.items():
            if isinstance(inner, str) and inner and f" {' '.join(words(inner))} " not in shown:
                listed = "enum" in evidence.schema.get("properties", {}).get(name, {})
                if not listed:
                    text = f"Line {example.line} wants {name} = {inner!r}, whose words are not in the text."
                    yield Finding("support", text, fatal=False)


def _in_one_piece(evidence: Evidence) -> Iterator[Finding]:
    pieces = groups(evidence.examples)
    largest = max(pieces, key=len, default=[])
    if len(largest) > max(2.0, LARGEST * len(evidence.examples)):
        start = f"{len(largest)} of {len(evidence.examples)} examples hang together"
        why = "by group, document, cited passage or nearly the same question, so too little can be held out"
        yield Finding("leakage", f'{start} {why}; add others, or a "group" to each line.')


def named(lines: Sequence[int]) -> str:
    """ "Line 3", "Lines 3 and 9", "Lines 1, 2, 3, ... and 12 more"."""
    if len(lines) == 1:
        return f"Line {lines[0]}"
    shown = [str(line) for line in lines[:NAMED]]
    last = f"{len(lines) - NAMED} more" if len(lines) > NAMED else shown.pop()
    return f"Lines {', '.join(shown)} and {last}"
