"""Acronyms of a question, and what a text says they stand for.

Pure. Only definitions whose words begin with the letters of the acronym, one after the other, and stand right beside it
are believed: "HWP (hot work permit)", "Hot Work Permit (HWP)", "HWP stands for ...". Schwartz and Hearst ("A simple
algorithm for identifying abbreviation definitions in biomedical text", PSB 2003) also take letters from inside of
words; that finds more, and things that are none.
"""

from __future__ import annotations

import re

SHORTEST, LONGEST = 2, 6  # letters

_CAPITALS = re.compile(rf"\b([A-Z][A-Z0-9]{{{SHORTEST - 1},{LONGEST - 1}}})s?\b")
_NO_VOWELS = re.compile(rf"\b([b-df-hj-np-tv-xz]{{3,{LONGEST}}})\b")  # as typed in haste: "hwp"
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_SMALL = frozenset("a an and at by for from in of on or the to with".split())  # noqa: SIM905
_OPENS = re.compile(
    r"""s?["”’'*_]*\s*(?:[(|:=–—]|,\s*(?:or\b|short\ for\b)?|\s-\s|(?:stands|is\ short)\ for\b|means\b|is\b)\s*
    (?:(?:the|a|an)\b\s*)?["“‘'*_]*""",
    re.VERBOSE,
)
_CLOSES = re.compile(r"""["”’'*_]*(?:\s*\((?:the\s|or\s|“|"|‘|'|\*)*|,\s(?:or|in\sshort)\s(?:the\s)?)$""")
_REACH = 120  # characters at either side of an acronym in which its words may stand


def acronyms(question: str) -> tuple[str, ...]:
    """The acronyms of a question in capitals, in order, each once; of words in small letters those without a vowel.

    A question all in capitals has none that could be told from its words.
    """
    found = [] if question.isupper() else list(_CAPITALS.finditer(question))
    found += _NO_VOWELS.finditer(question)
    return tuple(dict.fromkeys(match[1].upper() for match in sorted(found, key=lambda match: match.start())))


def definition(acronym: str, text: str) -> str:
    """What the text says the acronym stands for, "" where it does not say; `acronym` in capitals."""
    for match in re.finditer(rf"\b{re.escape(acronym)}(?=s?\b)", text):
        before, after = text[max(0, match.start() - _REACH) : match.start()], text[match.end() : match.end() + _REACH]
        if found := _behind(acronym, after) or _in_front(acronym, before):
            return found
    return ""


def spelled_out(question: str, acronym: str, meaning: str) -> str:
    """The question with the meaning in brackets behind the acronym, in small letters only where it has no capitals."""
    typed = rf"\b{re.escape(acronym)}s?\b"
    found = re.search(typed, question) or re.search(typed, question, re.IGNORECASE)
    return f"{question[: found.end()]} ({meaning}){question[found.end() :]}" if found else question


def _behind(acronym: str, after: str) -> str:
    opening = _OPENS.match(after)
    if not opening:
        return ""
    rest = after[opening.end() :]
    words = list(_WORD.finditer(rest))
    for count in range(2, 2 * len(acronym) + 1):
        if _initials([word[0] for word in words[:count]], acronym):
            return _plain(rest[: words[count - 1].end()]) if count <= len(words) else ""
    return ""


def _in_front(acronym: str, before: str) -> str:
    closing = _CLOSES.search(before)
    if not closing:
        return ""
    rest = before[: closing.start()]
    words = list(_WORD.finditer(rest))
    for count in range(2, min(len(words), 2 * len(acronym)) + 1):
        if _initials([word[0] for word in words[-count:]], acronym):
            return _plain(rest[words[-count].start() :])
    return ""


def _initials(words: list[str], acronym: str) -> bool:
    """Whether the letters are the initials of the words, of which small ones may count or not, but not at the ends."""
    if not words or words[0][0].upper() != acronym[0] or words[-1][0].upper() != acronym[-1]:
        return False
    ways = {""}
    for word in words:
        longer = {way + word[0].upper() for way in ways}
        ways = {way for way in (longer | ways if word in _SMALL else longer) if acronym.startswith(way)}
    return acronym in ways


def _plain(text: str) -> str:
    """On one line, nothing where the words are not side by side."""
    return "" if re.search(r"[.!?;:|()\n]\s", text) else " ".join(text.split())
