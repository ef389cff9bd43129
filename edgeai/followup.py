"""A follow-up question of a chat becomes one that can be searched for.

A heuristic over words: it recognises short, elliptic and pronoun-laden questions of a few languages and adds the topic
of the turn before. It resolves nothing: which of two things "it" means is left to the search.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgeai.records import Turn
from edgeai.text.terms import query_terms

SHORT_QUESTION = 2  # a question with at most this many content words has no topic of its own
BORROWED_QUESTION = 8  # content words taken from the previous question
BORROWED_ANSWER = 3  # and from its answer

# Words that point back, as whole words.
_POINTS_BACK = re.compile(
    r"""\b(?: it | its | they | them | their | theirs | he | him | his | she | her | hers | that | those | these | this
      | ones? | there | then | same | other | others | another | former | latter | else | instead
      | (?:the\ )?(?:first|second|third|last|next|previous)\ one
      | dies(?:e[rsmn]?)? | davon | dazu | dafür | damit | deren | dessen | es | ihn | ihm
      | cela | ceux | celles? | celui | ça | eso | esos | esas | ese | esa )\b""",
    re.VERBOSE | re.IGNORECASE,
)
_OPENS_BACK = re.compile(
    r"^\s*(?:and|but|or|so|also|what about|how about|what if|und|aber|oder|was ist mit|et|mais|ou|y|pero|e se)\b",
    re.IGNORECASE,
)
_OPENS_BACK_CJK = re.compile(r"^\s*(?:那|它|他们|她|这个|那个|这些|那些|それ|その|これ|では)")
_NUMERIC = re.compile(r"\d")


def rewrite_question(question: str, history: Sequence[Turn]) -> str:
    """The question as it should be searched for, given the earlier turns, oldest first.

    A follow-up gets the content words of the previous question and a few of its answer appended (no numbers: they
    would pull the search to whatever else holds them). A self-contained question comes back as it is.
    """
    if not history or not _is_follow_up(question):
        return question
    own = set(query_terms(question))
    previous = history[-1]
    topic = [term for term in query_terms(previous.question) if term not in own][:BORROWED_QUESTION]
    named = [term for term in _names(previous.answer) if term not in own and term not in topic][:BORROWED_ANSWER]
    borrowed = " ".join(topic + named)
    return f"{question.strip()} {borrowed}" if borrowed else question


def _is_follow_up(question: str) -> bool:
    if _OPENS_BACK.match(question) or _OPENS_BACK_CJK.match(question) or _POINTS_BACK.search(question):
        return True
    return len(query_terms(question)) <= SHORT_QUESTION


def _names(answer: str) -> list[str]:
    """Content words of an answer that look like names or are long enough to be its topic, without numbers."""
    capitalised = {word.casefold() for word in re.findall(r"(?<=[\w,] )[A-Z]\w+", answer)}
    terms = [term for term in query_terms(answer) if not _NUMERIC.search(term)]
    return sorted(terms, key=lambda term: (term not in capitalised, -len(term)))
