"""Questions that take two: one that names a thing by another fact, and two that are joined by "and".

"How many seats has the room in which the beekeepers meet?" is asked as "In which room the beekeepers meet?" first, and
then with the find in place of its description. Pure; English only; a heuristic over words that parses nothing, so the
questions it makes are often clumsy: what becomes of them is for a reader to judge.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST = 300  # characters: what is longer is a text with a question in it

_AUXILIARIES = "are|can|could|did|do|does|had|has|have|is|may|must|shall|should|was|were|will|would"
_DETERMINER = re.compile(r"\b(?:the|our|my)\b")
_NO_AUXILIARY = rf"(?!(?:{_AUXILIARIES})\b)"
_NOUN = (
    rf"(?:the|our|my)\s+(?P<noun>(?:{_NO_AUXILIARY}[\w'’-]+\s+){{0,3}}?{_NO_AUXILIARY}[a-z][\w'’-]*)"  # at last no name
)
_RELATIVE = re.compile(
    rf"{_NOUN},?\s+(?P<relative>that|which|who|whom|whose|where|(?:at|by|for|from|in|on|to|with) which)\s+"
    r"(?P<clause>.+)"
)
_CONTACT = re.compile(  # "the room we booked", "the plan Ada chose", where a verb can be told by its ending
    rf"{_NOUN}\s+(?P<clause>(?:(?:I|you|he|she|we|they)\s+\w+"
    rf"|[A-Z][\w’-]+(?:\s[A-Z][\w’-]+)?\s+[a-z]\w+(?:s|ed)\b).*)"
)
_PARTICIPLE = re.compile(  # "the course taught by Ada"
    rf"{_NOUN}\s+(?P<clause>(?:[a-z]{{3,}}ed|bought|built|cut|found|given|held|kept|led|lent|lost|made|run|sent|shown|sold"
    rf"|taken|taught|written)\s+(?:after|as|at|before|between|by|during|for|from|in|into|of|on|to|under|with)\b.+)"
)
_ASKS_IT = re.compile(  # "What is the name of", where the thing described is asked for itself
    r"\b(?:who|what|which(?:\s+[\w'’-]+)?)\s+(?:is|are|was|were)\s+(?P<named>the\s+(?:names?|term|titles?)\s+(?:for|of)\s+)?$",
    re.IGNORECASE,
)
_PASSIVE = re.compile(r"\b(?:is|are|was|were)\s+$", re.IGNORECASE)  # "When is the room cleaned by Ada?" describes none
_AUXILIARY = re.compile(rf"\b(?:{_AUXILIARIES})\s+$", re.IGNORECASE)
_MAIN_VERBS = frozenset(
    """accept allow appear apply arrive ask be bear become begin belong bought built carry charge choose clean cleaned
    close closed come contain cost cover cut deliver delivered drive earn end expire favour find finish finished fit
    found get give go have held hold inspected installed introduced keep kept last lead leave live look made measure
    meet moved need offer open opened own pay play poured print provide published put reach receive repaired replaced
    run say see sell sent serve serviced set shrink signed sit sold stand start stay stop stored take teach use wear
    weigh win work written""".split()  # noqa: SIM905
)
_PEOPLE = frozenset({"colleague", "employee", "lady", "man", "member", "one", "people", "person", "someone", "woman"})

_QUESTION_WORD = (
    r"(?:(?:at|by|for|from|in|on|since|to|until|with|within)\s+)?(?:how|what|when|where|which|who|whom|whose|why)\b"
)
_ASKS = re.compile(rf"\W*{_QUESTION_WORD}", re.IGNORECASE)
_AND_ASKS = re.compile(rf",?\s+and\s+(?={_QUESTION_WORD})", re.IGNORECASE)
_OF_BOTH = re.compile(
    r"(?P<head>.+?\s(?P<preposition>at|for|from|in|of|on|to|with))\s(?P<one>[^,]+?),?\s+and,?\s+(?P=preposition)\s"
    r"(?P<other>.+)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Bridge:
    """A question whose subject is described: what to ask first, what kind of thing that is, and the rest of it."""

    first: str
    noun: str
    before: str
    after: str

    def then(self, find: str) -> str:
        """The question with what was found in place of its description."""
        return f"{self.before}{find}{self.after}?"


def bridge(question: str) -> Bridge | None:
    """What to ask first, None where no thing is described at the end of the question."""
    question = _plain(question)
    places = [place.start() for place in _DETERMINER.finditer(question) if place.start()]
    for pattern, asked in ((_RELATIVE, _of_relative), (_CONTACT, _of_contact), (_PARTICIPLE, _of_participle)):
        for place in reversed(places):  # the last one is the innermost
            if match := pattern.match(question, place):
                before = question[:place]
                noun, clause, verb = _without_verb(before, match["noun"], match["clause"])
                passive = pattern is _PARTICIPLE and not verb and _PASSIVE.search(before)
                if passive or _asks_it(before, noun):
                    return None
                return Bridge(asked(match, noun, clause), noun, before, f" {verb}" if verb else "")
    return None


def _plain(question: str) -> str:
    """The question on one line, with single blanks and nothing behind its last word; "" for more than a question."""
    plain = " ".join(question.split()).rstrip("?.! ")
    return plain if len(plain) <= LONGEST else ""


def _asks_it(before: str, noun: str) -> bool:
    """Whether the thing described is asked for itself; "the name of the person who" may be more than who that is."""
    asks_it = _ASKS_IT.search(before)
    return asks_it is not None and not (asks_it["named"] and noun in _PEOPLE)


def _without_verb(before: str, noun: str, clause: str) -> tuple[str, str, str]:
    """Noun, clause, and the main verb with what follows it, which may stand behind either: "does the plan cost that
    includes", "does the man who cleans the hall take over".
    """
    if not _AUXILIARY.search(before):
        return noun, clause, ""
    if split := _split(noun.split(), first=True):
        return split[0], clause, split[1]
    if split := _split(clause.split(), first=False):
        return noun, *split
    return noun, clause, ""


def _split(words: list[str], *, first: bool) -> tuple[str, str] | None:
    """What stands before the first (else the last) main verb, and the rest from there on; None without one."""
    places = [place for place, word in enumerate(words) if place and word in _MAIN_VERBS]
    if not places:
        return None
    place = places[0 if first else -1]
    return " ".join(words[:place]), " ".join(words[place:])


def _of_relative(match: re.Match[str], noun: str, clause: str) -> str:
    relative = match["relative"]
    if relative in ("that", "which", "who", "whom"):
        return f"{_which(noun)} {clause}?"
    if relative == "whose":
        return f"Which {noun}'s {clause}?"
    return f"{'In' if relative == 'where' else relative.split()[0].capitalize()} which {noun} {clause}?"


def _of_contact(_: re.Match[str], noun: str, clause: str) -> str:
    return f"{_which(noun)} {clause}?"


def _of_participle(_: re.Match[str], noun: str, clause: str) -> str:
    return f"{_which(noun)} is {clause}?"


def _which(noun: str) -> str:
    return "Who" if noun.split()[-1] in _PEOPLE else f"Which {noun}"


def halves(question: str) -> tuple[str, str] | None:
    """The two questions that one asks, None where it asks one."""
    question = _plain(question)
    if not _ASKS.match(question):
        return None
    parts = _AND_ASKS.split(question)
    if len(parts) == 2 and all(len(part.split()) > 1 for part in parts):  # not "when and where"
        return f"{parts[0]}?", f"{parts[1]}?"
    if match := _OF_BOTH.match(question):
        return f"{match['head']} {match['one']}?", f"{match['head']} {match['other']}?"
    return None
