"""Which sentence of which passage each value inside a JSON value rests on, and what is left without those on none.

Texts and numbers are looked up as `cite` looks up a sentence; a value of an `enum` that holds no number is a judgement
and need not be in the text, and true, false and null are never looked up. A sign is not compared, nor what a number
counts: that it stands in a passage does not prove that it belongs to the field. The number 1 must be there as a digit,
because "one" is more often a pronoun.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from edgeai.grounding.cite import Evidence, content
from edgeai.records import Citation, Passage
from edgeai.structured.schema import Schema, allows_null

_BRACKETS = re.compile(r"[\[\]]")  # "[2]" in a value is a number, not a citation
_ONE = re.compile(r"(?<!\d)0*1(?!\d)")
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Traced:
    """What may be shown of a value; `value` None where nothing may."""

    value: Any
    sources: dict[str, tuple[Citation, ...]] = field(default_factory=dict)  # by JSON Pointer (RFC 6901)
    dropped: int = 0  # texts and numbers that no passage holds

    @property
    def citations(self) -> tuple[Citation, ...]:
        """All quotes, each once, grouped by passage."""
        quotes = dict.fromkeys(quote for found in self.sources.values() for quote in found)
        return tuple(sorted(quotes, key=lambda quote: (quote.n, quote.start)))


def trace(value: Any, schema: Schema, passages: Sequence[Passage]) -> Traced:
    """Look up a value that is valid against a schema.

    A text or number that no passage holds becomes null where its schema allows null; otherwise its field is left out
    where it is not required, and its item out of a list; otherwise what it is a part of has the same fate. A value of
    which nothing could be looked up with success, but something without, is not shown at all.
    """
    search = _Search(Evidence(passages))
    kept = search.keep(value, schema, "")
    if kept is _MISSING or not _says_something(kept) or (search.dropped and not search.found):
        return Traced(None, {}, search.dropped)
    return Traced(kept, dict(search.found), search.dropped)


def _says_something(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_says_something, value.values() if isinstance(value, dict) else value))
    return value is not None and value != ""


class _Search:
    def __init__(self, shown: Evidence) -> None:
        self._shown = shown
        self.found: list[tuple[str, tuple[Citation, ...]]] = []
        self.dropped = 0

    def keep(self, value: Any, schema: Schema, place: str) -> Any:
        """What is left of a value, `_MISSING` if nothing may stand at its place."""
        before = len(self.found)
        if isinstance(value, dict):
            kept = self._keep_fields(value, schema, place)
        elif isinstance(value, list):
            kept = self._keep_items(value, schema, place)
        else:
            kept = self._keep_leaf(value, schema, place)
        if kept is _MISSING:
            del self.found[before:]
        return None if kept is _MISSING and allows_null(schema) else kept

    def _keep_fields(self, value: dict[str, Any], schema: Schema, place: str) -> Any:
        kept = {}
        for name, inner in value.items():
            pointer = f"{place}/{name.replace('~', '~0').replace('/', '~1')}"
            kept[name] = self.keep(inner, schema.get("properties", {}).get(name, schema), pointer)
        if any(kept.get(name) is _MISSING for name in schema.get("required", [])):
            return _MISSING
        return {name: inner for name, inner in kept.items() if inner is not _MISSING}

    def _keep_items(self, value: list[Any], schema: Schema, place: str) -> Any:
        kept: list[Any] = []
        for inner in value:
            item = self.keep(inner, schema.get("items", schema), f"{place}/{len(kept)}")
            kept += [] if item is _MISSING else [item]
        return kept

    def _keep_leaf(self, value: Any, schema: Schema, place: str) -> Any:
        if value is None or isinstance(value, bool):
            return value
        said = content(_written(value))
        number = self._shown.attribute(said) if len(said) else None
        quotes = () if number is None else tuple(self._shown.quotes(number, said))
        if quotes and ("1" not in said.numbers or any(_ONE.search(quote.quote) for quote in quotes)):
            self.found.append((place, quotes))
        elif said.numbers or (len(said) and "enum" not in schema):
            self.dropped += 1
            return _MISSING
        return value


def _written(value: Any) -> str:
    """A text or number as a passage would have it; what is in front keeps "3. May" from being taken for a list."""
    text = value if isinstance(value, str) else format(Decimal(repr(value)), "f")
    return ": " + " ".join(_BRACKETS.sub(" ", text).split())
