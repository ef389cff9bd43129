"""How far an answer goes where a reader cuts it short: to the end of a list, of opening hours, of "the end of May".

"In which languages?" is answered by "English, Polish or Tagalog" and not by the one of them that a reader likes best.
Pure; knows English only, and of its grammar only commas, "and", "or" and the words that items do not go beyond.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from edgeai.records import Passage, Reading

ITEM_WORDS = 6  # a longer part between commas is a clause
REACH = 60  # characters before a span in which the item before it begins

_SEVERAL = re.compile(
    r"\b(?:which|what)\s+(?:[\w-]+\s+){0,2}?(?:[\w-]{2,}(?<![su])s|people|children|men|women)\s+(?:\w+ly\s+)?"
    r"(?:are|were|do|did|can|could|have|had|must|should|may|will|would)\b(?!.*\b(?:called|termed|known\s+as)\b)"
    r"|\b(?:who|which)\s+(?:are|were)\b"
    r"|\bwhat\s+(?:all\s+)?(?:do|must|should|can|may)\s+(?:i|we|you|they)\s+(?:have\s+to\s+|need\s+to\s+)?"
    r"(?:bring|carry|hand\s+in|have|include|need|pack|pay|provide|send|show|submit|take|wear)\b"
    r"|\b(?:list|name)\s+(?:all|the)\b",
    re.IGNORECASE,
)
_JOINED = re.compile(r"(?:\s*\([^()\n]{1,40}\))?(?:,\s+(?:(?:and|or)\s+)?|\s+(?:and|or|&)\s+)")
_JOINT = re.compile(r"\b(?:and|or)\b|&")
_LEADING = re.compile(r"(?:,\s+(?:(?:and|or)\s+)?|\s+(?:and|or|&)\s+)\Z")
_OUTSIDE = re.compile(
    r"(?:is|are|was|were|be|been|has|have|had|do|does|did|can|could|may|must|shall|should|will|would|who|which|that|where|"
    r"when|while|because|if|but|so|as|to|from|by|at|in|on|for|with|during|after|before|until|than|into|not|then|it|they|"
    r"we|you|he|she|also|including|include|includes|such|like|between|both|either|of|about|every|each|and|or)"
)  # in small letters: May is a month
_TIME = r"\d{1,2}[:.]\d\d(?:\s*[ap]\.?m\b\.?)?"
_HOURS = re.compile(rf"(?<![\d:.]){_TIME}\s*(?:-|–|—|to|until|till)\s*{_TIME}(?!\d)", re.IGNORECASE)
_PART_OF = re.compile(
    r"\b(?:the\s+)?(?:(?:first|second|third|fourth|last|very)\s+)?(?:end|beginning|start|middle|first\s+half|second\s+half"
    r"|weekend|week|(?:mon|tues|wednes|thurs|fri|satur|sun)day)\s+of\s+(?:the\s+)?\Z",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\s,;:.!?()|]+(?:\.\d+)*")


def whole(questions: Sequence[str], passage: Passage, reading: Reading) -> Reading:
    """The reading with its span as long as the answer: enumerations only where one of the questions asks for several.

    Rows of tables stay as they are, their cells are what an answer is.
    """
    start, end = reading.start, reading.end
    line = passage.text[passage.text.rfind("\n", 0, start) + 1 : end]
    if start == end or "|" in line:
        return reading
    if any(map(asks_for_several, questions)):
        start, end = widened(passage.text, start, end)
    start, end = _hours(passage.text, start, end)
    return replace(reading, start=_qualified(passage.text, start), end=end)


def _hours(text: str, start: int, end: int) -> tuple[int, int]:
    """From when to when, where the span is one of the two times."""
    for hours in _HOURS.finditer(text, max(0, start - REACH), end + REACH):
        if hours.start() <= start and end <= hours.end():
            return hours.span()
    return start, end


def _qualified(text: str, start: int) -> int:
    """Where "the end of" and the like begin, if they stand right before a span, else where it does."""
    before = _PART_OF.search(text, max(0, start - REACH), start)
    return before.start() if before else start


def asks_for_several(question: str) -> bool:
    """Whether the answer is more than one thing, as far as the question's words show."""
    return _SEVERAL.search(question) is not None


def widened(text: str, start: int, end: int) -> tuple[int, int]:
    """The enumeration around a span, as offsets; the span where it is one or stands in none."""
    if start == end or _JOINT.search(text[start:end]):
        return start, end
    first, last = _before(text, start, end), _behind(text, end)
    joints = [joint[0] for joint in _JOINED.finditer(text, first, last)]
    clause = len(joints) == 1 and "," in joints[0]  # two things are joined without a comma
    return (start, end) if clause or not any(map(_JOINT.search, joints)) else (first, last)


def _behind(text: str, end: int) -> int:
    """Where the items behind an offset end, the last of which has an "and" or "or" before it."""
    while (joint := _JOINED.match(text, end)) and (item := _item(text, joint.end())) > joint.end():
        end = item
        if _JOINT.search(joint[0]):
            break
    return end


def _item(text: str, start: int) -> int:
    """Where the item that begins here ends, `start` where none does."""
    end = start
    for count, word in enumerate(_WORD.finditer(text, start)):
        if text[end : word.start()].strip(" ") or _OUTSIDE.fullmatch(word[0]):
            break
        if count == ITEM_WORDS:
            return start
        end = word.end()
    return end


def _before(text: str, start: int, end: int) -> int:
    """Where the items before an offset begin, each of as many words at most as the span has."""
    words = len(text[start:end].split())
    while joint := _LEADING.search(text, max(0, start - REACH), start):
        begin = joint.start()
        for word in [*_WORD.finditer(text, max(0, start - REACH), joint.start())][-words:][::-1]:
            if text[word.end() : begin].strip(" ") or _OUTSIDE.fullmatch(word[0]):
                break
            begin = word.start()
        if begin == joint.start():
            break
        start = begin
    return start
