"""Where in an index the sources of a question are: the places an answer has to be found in.

It compares characters, white space aside: a quote written from memory is not found. Whether a source really answers its
question is for whoever wrote it down.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from edgeai.evaluation.questions import Source
from edgeai.records import Chunk
from edgeai.store import Store


@dataclass(frozen=True, slots=True)
class Place:
    """A quote in a document, `[start, end)` in its text; the whole document when `end` is None."""

    path: str
    start: int = 0
    end: int | None = None

    def inside(self, path: str, start: int, end: int) -> bool:
        """Whether a stretch of a document holds all of it."""
        return path == self.path and (self.end is None or (start <= self.start and self.end <= end))

    def touches(self, path: str, start: int, end: int) -> bool:
        """Whether a stretch of a document has a character in common with it."""
        return path == self.path and (self.end is None or (start < self.end and self.start < end))


@dataclass(frozen=True, slots=True)
class Target:
    """One source as found in an index: any of the places will do."""

    places: tuple[Place, ...] = ()
    chunks: tuple[tuple[int, Chunk], ...] = ()  # (id, chunk) of those that hold a place, in reading order
    problem: str = ""  # why there are no chunks, in words for the user

    def inside(self, path: str, start: int, end: int) -> bool:
        """Whether a stretch of a document holds what is wanted."""
        return any(place.inside(path, start, end) for place in self.places)

    def touches(self, path: str, start: int, end: int) -> bool:
        """Whether a stretch of a document has something of what is wanted."""
        return any(place.touches(path, start, end) for place in self.places)


def locate(source: Source, store: Store, paths: Sequence[str]) -> Target:
    """Find a source among the documents `paths` of an index."""
    named = [path for path in paths if matches(source.path, path)]
    if not named:
        return Target(problem=f"no file of the index is called {source.path}")
    places = tuple(place for path in named for place in _places(source, store, path))
    if not places:
        return Target(problem=f"the quote is not in the text of {source.path}")
    chunks = tuple(
        (chunk_id, chunk)
        for path in dict.fromkeys(place.path for place in places)
        for chunk_id, chunk in store.chunks_of(path)
        if any(place.inside(path, chunk.start, chunk.end) for place in places)
    )
    return Target(places, chunks, "" if chunks else "no chunk holds the whole quote")


def matches(pattern: str, path: str) -> bool:
    """Whether a path ends in `pattern` (whole parts), or fits it as a glob."""
    return (
        f"/{path}".endswith(f"/{pattern.lstrip('/')}")
        or fnmatchcase(path, pattern)
        or fnmatchcase(path, f"*/{pattern}")
    )


def _places(source: Source, store: Store, path: str) -> Iterator[Place]:
    document = store.document(path)
    if document is None:
        return
    if not source.quote:
        yield Place(path)
        return
    quote = r"\s+".join(re.escape(word) for word in source.quote.split())
    yield from (Place(path, *found.span()) for found in re.finditer(quote, document.text))
