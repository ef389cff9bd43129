"""What an acronym stands for, where that is the question and a passage says so in so many words.

Pure. A reader looks for what such a thing does or is like; the words behind the letters are found by their initials.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgeai.grounding.cite import citation, with_mark
from edgeai.records import Citation, Passage
from edgeai.text.acronyms import acronyms, definition
from edgeai.text.sentences import touched

SURE = 0.95  # that an answer found by its initials is right

_ASKS = re.compile(
    r"\W*(?:and\s+)?what(?:\s+(?:is|are|was|does|do)|['’]s)\s+(?:an?\s+|the\s+)?(?:(?:abbreviation|acronym|letters?)\s+)?"
    r"[\"“'‘*_]*(?P<acronym>[A-Za-z][A-Za-z0-9]{1,5})[\"”'’*_]*"
    r"(?:\s+(?:stand(?:s|ing)?\s+for|mean(?:ing)?|short\s+for|(?:an?\s+)?(?:abbreviation|acronym)\s+(?:of|for)))?\s*\??\s*",
    re.IGNORECASE,
)


def asked(question: str) -> str:
    """The acronym whose meaning is the whole question, in capitals; "" where something else is asked."""
    match = _ASKS.fullmatch(question)
    word = match["acronym"] if match else ""
    return word.upper() if word.isupper() or acronyms(word) else ""


def find(question: str, passages: Sequence[Passage]) -> tuple[str, Citation] | None:
    """The words an acronym stands for with their mark, and the sentence that says so, from the first passage that does.

    None where the question is another one, or none says so.
    """
    if not (acronym := asked(question)):
        return None
    for passage in passages:
        if meaning := definition(acronym, passage.text):
            return with_mark(meaning, passage.number), citation(passage, _sentence(passage.text, acronym, meaning))
    return None


def _sentence(text: str, acronym: str, meaning: str) -> tuple[int, int]:
    """From the beginning of the sentence in which the words stand to the end of the one in which the letters do."""
    said = re.compile(r"\s+".join(map(re.escape, meaning.split())))
    places = [found.span() for found in said.finditer(text)]
    letters = [found.span() for found in re.finditer(rf"\b{re.escape(acronym)}", text)]
    one, other = min(((a, b) for a in places for b in letters), key=lambda pair: abs(pair[0][0] - pair[1][0]))
    return touched(text, min(one[0], other[0]), max(one[1], other[1]))
