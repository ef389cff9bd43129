"""Where the questions of a benchmark come from: a file, or the index itself.

Questions made from an index name the rarest words of one sentence, so they are easier to find than those people ask.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from edgeai.errors import NothingToIndex, UsageProblem
from edgeai.records import Chunk
from edgeai.text.sentences import sentences
from edgeai.text.terms import query_terms

if TYPE_CHECKING:
    from edgeai.store import Store

QUESTION_TERMS = 3
MOST_SENTENCES = 8  # tried per chunk before an index counts as too small


def read_questions(lines: Iterable[str]) -> list[str]:
    """Questions from text, one a line, or from JSON Lines of objects with "question"; repeated ones are dropped.

    Raises `UsageProblem` naming a line that starts like an object and holds no question.
    """
    found = (_question(line.strip(), number) for number, line in enumerate(lines, 1) if line.strip())
    return list(dict.fromkeys(found))


def _question(line: str, number: int) -> str:
    if not line.startswith("{"):
        return line
    try:
        question = json.loads(line).get("question")
    except ValueError:
        question = None
    if not isinstance(question, str) or not question.strip():
        raise UsageProblem(f'Line {number} of the questions is not an object like {{"question": "…"}}.')
    return question.strip()


def make_questions(store: Store, count: int) -> list[str]:
    """Up to `count` different questions from chunks spread evenly over an index; the same for the same index.

    Each names the terms of one sentence that are rarest in the index. Raises `NothingToIndex` for an empty index.
    """
    if not store.count_chunks():
        raise NothingToIndex("The index is empty, so no questions can be made; fill it with `edgeai sync FOLDER`.")
    found: dict[str, None] = {}
    chunks = list(_spread(store, count))
    for which in range(MOST_SENTENCES):
        for chunk in chunks:
            if question := _question_from(chunk, which, store):
                found.setdefault(question)
            if len(found) == count:
                return list(found)
    return list(found)


def _spread(store: Store, count: int) -> Iterator[Chunk]:
    """At most `count` chunks at even distances, in the order of paths."""
    total = store.count_chunks()
    wanted = {(2 * i + 1) * total // (2 * min(count, total)) for i in range(min(count, total))}
    position = 0
    for file in store.files().values():
        here = range(position, position + file.chunks)
        if not wanted.isdisjoint(here):
            chunks = store.chunks_of(file.path)
            yield from (chunks[i - position][1] for i in here if i in wanted)
        position += file.chunks


def _question_from(chunk: Chunk, which: int, store: Store) -> str:
    """A question on the sentence number `which` of a chunk, longest first; "" when there is none or it says nothing."""
    spans = sorted(sentences(chunk.text), key=lambda span: (span[0] - span[1], span))[which : which + 1]
    terms = [term for start, end in spans for term in query_terms(chunk.text[start:end]) if len(term) > 1]
    frequency = store.document_frequency(terms)
    rarest = sorted(terms, key=lambda term: (frequency.get(term, 0), terms.index(term)))[:QUESTION_TERMS]
    named = [term for term in terms if term in rarest]
    return f"What do the documents say about {' '.join(named)}?" if len(named) == QUESTION_TERMS else ""
