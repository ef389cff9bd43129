"""Which of two passages is the newer version of what they say, as far as titles, file names, headings and words tell.

Pure. A file's modification time is never a reason: copying a folder changes it. English words only, and digits. A
passage that is newer and wrong is still preferred, and a version that does not say that it is one is not recognised.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from edgeai.grounding.values import Date, dates
from edgeai.records import Passage
from edgeai.scores import contains
from edgeai.text.sentences import sentences
from edgeai.text.terms import words

_YEAR = re.compile(r"(?<!\d)((?:19|20)\d\d)(?!\d)")
_NUMBER = re.compile(
    r"\b(?:v|version|rev(?:ision)?\.?|edition|release)\s*(\d+(?:\.\d+)*)\b|\b(\d+)(?:st|nd|rd|th)\s+edition\b", re.I
)
_STATED = re.compile(
    r"\b(?:as of|as from|effective(?: from)?|in force (?:since|from)|valid (?:since|from)|(?:last )?updated|with effect"
    r" from|applies from|dated?|published|version of|stand)\b[:\s]*(?P<when>[^.;\n|]{4,24})",
    re.IGNORECASE,
)
_OUTDATED = re.compile(  # "old" only where it is no part of a name ("Old Mill")
    r"\b(?:archived?|obsolete|outdated|deprecated|superseded|expired|withdrawn|no longer valid)\b|\bold\b(?=[\s)\]]*$)"
    r"|[(\[]old\b|^old (?:version|edition|copy)",
    re.IGNORECASE,
)
# What a document says of itself as a whole.
_REPLACES = re.compile(
    r"\b(?:replac(?:es?|ing)|supersed(?:es?|ing)|amend(?:s|ing)?)\b[^.;\n]{0,60}\b(?:version|edition|rules?|rulebook|terms"
    r"|tariffs?|guide|handbook|policy|circular|conditions|text|statutes|regulations?|memo|agreement|19\d\d|20\d\d)\b",
    re.IGNORECASE,
)
_REPLACED = re.compile(
    r"\b(?:(?:has|have|was|were|is|are) (?:been )?(?:replaced|superseded|withdrawn|rescinded)|no longer (?:valid|in"
    r" force|applies|apply))\b",
    re.IGNORECASE,
)
# What the sentence with the value says.
_CHANGES = re.compile(
    r"\b(?:no longer|instead of|in place of|not what is printed|rescinded|replac(?:es|ing)|supersed(?:es|ing)"
    r"|(?:changed?|changes|corrected|amended|raised|rises?|lowered|reduced|cut|moved?|moves|put back"
    r"|brought forward|postponed|extended|shortened|increase[sd]?|goes up|goes down|takes over|succeeds)\b[^.;\n]{0,40}"
    r"\b(?:to|from|by|until|as)|becomes?|formerly|previously|until now|up to now|was \S+ before)\b",
    re.IGNORECASE,
)
# Only together with dates in the same order.
_CURRENT = re.compile(
    r"\b(?:now|new|currently|from now on|as of|as from|since|with effect from|from (?:the )?\d|from (?:[A-Z]\w+|20\d\d)"
    r"|starting|update[ds]?|correct(?:ed|ions?)|change[ds]?|amend\w+)\b",
    re.IGNORECASE,
)
# What a sentence says of a value that was true before.
_RETRACTS = re.compile(
    r"\b(?:former(?:ly)?|no longer|not any ?more|previous(?:ly)?|used to be|until now|up to now|instead of|in place of"
    r"|rather than|replac(?:es?|ing)|discontinued)\b",
    re.IGNORECASE,
)
_VERSION_WORDS = frozenset(
    """version edition revision rev release v draft final update updated new old archive archived obsolete outdated
    deprecated superseded expired former previous current copy st nd rd th first second third fourth fifth january
    february march april may june july august september october november december jan feb mar apr jun jul aug sep sept
    oct nov dec""".split()  # noqa: SIM905
)


def date_of(passage: Passage) -> Date | None:
    """The date that title, headings, file name, folder or the text give the passage, None for none with a year."""
    for text in _names(passage):
        known = [date for date in dates(text) if date[0]]
        known += [(int(year), None, None) for year in _YEAR.findall(text)]
        if known:
            return max(known, key=lambda date: sum(part is not None for part in date))
    for match in _STATED.finditer(passage.text):
        if known := [date for date in dates(match["when"]) if date[0]]:
            return known[0]
    return None


def replaces(newer: Passage, said: str, older: Passage, other: str) -> bool:
    """Whether `newer`, whose value stands in the sentence `said`, replaces what `older` says in the sentence `other`.

    Never true both ways round.
    """
    return _reason(newer, said, older, other) > _reason(older, other, newer, said)


def retracts(passage: Passage, said: str) -> bool:
    """Whether a sentence of a passage calls these words something that was true before."""
    return any(
        contains(sentence, [said]) and _RETRACTS.search(sentence)
        for start, end in sentences(passage.text)
        if (sentence := passage.text[start:end])
    )


def _reason(newer: Passage, said: str, older: Passage, other: str) -> int:
    """How strong a reason there is, 0 for none: it is called so, numbered so, or says so."""
    order = _order(newer, older)
    if order < 0:
        return 0
    if _outdated(older) and not _outdated(newer):
        return 4
    if order > 0 and series(newer) & series(older):
        return 3
    if _CHANGES.search(said) or _REPLACES.search(newer.text) or _REPLACED.search(other):
        return 2 + (order > 0)
    return 1 if order > 0 and _CURRENT.search(f"{said} {' '.join(_names(newer))}") else 0


def _order(one: Passage, other: Passage) -> int:
    """1 when the first is the later one by version number or date, -1 when the earlier one, 0 when that is unknown."""
    numbers = _number(one), _number(other)
    if all(numbers) and numbers[0] != numbers[1]:
        return 1 if numbers[0] > numbers[1] else -1
    first, second = date_of(one), date_of(other)
    if first is None or second is None:
        return 0
    for mine, theirs in zip(first, second, strict=True):
        if mine is None or theirs is None:
            return 0
        if mine != theirs:
            return 1 if mine > theirs else -1
    return 0


def series(passage: Passage) -> frozenset[tuple[str, ...]]:
    """What the versions of a document have in common: the words of its title, and those of its file name."""
    kept = (
        tuple(word for word in words(name) if not any(sign.isdigit() for sign in word) and word not in _VERSION_WORDS)
        for name in (passage.title, _file(passage))
    )
    return frozenset(name for name in kept if name)


def _outdated(passage: Passage) -> bool:
    return any(_OUTDATED.search(name) for name in _names(passage))


def _number(passage: Passage) -> tuple[int, ...]:
    for name in _names(passage):
        if match := _NUMBER.search(name):
            return tuple(int(part) for part in (match[1] or match[2]).split("."))
    return ()


def _names(passage: Passage) -> tuple[str, ...]:
    """Where a version is named: title, headings from the innermost, file name, folder."""
    folder = PurePosixPath(passage.path).parent.name.replace("_", " ")
    return (passage.title, *reversed(passage.heading), _file(passage), folder)


def _file(passage: Passage) -> str:
    return PurePosixPath(passage.path).stem.replace("_", " ")
