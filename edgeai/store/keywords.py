"""The keyword index: which chunks hold the words of a question, and how rare the words are.

Reading only, and nothing but the documents that `where` allows. What a question costs here is bounded, however large
the index: FTS5 takes 0.6 us for every chunk that it scores, and 0.07 us for every entry of a list that it reads
(measured at 100,000 chunks: benchmarks/LOG.md). Up to `SCORED` chunks that is the whole of BM25.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from edgeai.filters import EVERYTHING, Filter
from edgeai.store.database import Database
from edgeai.store.queries import visible
from edgeai.text.terms import index_text

CONTEXT_WEIGHT = 2.0  # of a word in title or headings, for BM25
BODY_WEIGHT = 1.0
# Only chunks that hold one of the rarest terms are scored, about so many, and more only where they are too few for the
# list; where even the next ones would be more than `MOST_SCORED`, the list stays short.
SCORED = 6_000
MORE_SCORED = 4  # times as many at every further attempt
MOST_SCORED = 24_000
POSTINGS = 80_000  # read from the lists of the terms, of the rarest ones first, but always of two
REMEMBERED = 10_000  # frequencies a thread

_OF_CHUNK = "JOIN chunks ON chunks.id = fts.rowid JOIN documents ON documents.id = chunks.document_id"


def matching(
    database: Database,
    terms: Sequence[str],
    *,
    limit: int,
    where: Filter = EVERYTHING,
    frequencies: Mapping[str, int] | None = None,
) -> list[tuple[int, float]]:
    """Chunks that hold any of the terms: (chunk id, BM25 as a positive number), best first.

    With `frequencies`, how many chunks hold each term, the most frequent terms may not count and chunks that hold no
    other be left out, so that the cost is bounded.
    """
    found: list[tuple[int, float]] = []
    if not quote_terms(terms) or limit < 1:
        return found
    for query, times, scored in keyword_queries(terms, frequencies or {}):
        if len(found) >= limit or (found and scored > MOST_SCORED):
            break
        found = [(row, score / times) for row, score in _ranked(database, query, limit, where)]
    return found


def keyword_queries(terms: Sequence[str], frequencies: Mapping[str, int]) -> Iterator[tuple[str, int, int]]:
    """FTS5 queries that score more and more chunks, each with its factor on BM25 and how many it scores at most.

    FTS5 adds up BM25 over all strings of a query. To require a rare term without counting it more than others, every
    term is written twice: "(rare) AND (rare OR frequent OR frequent)" scores twice what "rare OR frequent" does.
    """
    held = sorted((term for term in terms if frequencies.get(term)), key=lambda term: frequencies[term])
    sums = [*accumulate(frequencies[term] for term in held)]
    held = held[: max(2, bisect_right(sums, POSTINGS))]
    if len(held) > 1 and sums[0] > SCORED:  # each counts once as it is
        yield f"({quote_terms(held[:1])}) AND ({quote_terms(held[1:])})", 1, sums[0]
    room, count = SCORED, 0
    while (count := max(count + 1, bisect_right(sums, room))) < len(held):
        rare, frequent = held[:count], held[count:]
        yield f"({quote_terms(rare)}) AND ({quote_terms((*rare, *frequent, *frequent))})", 2, sums[count - 1]
        room *= MORE_SCORED
    yield quote_terms([term for term in terms if term in held] or terms), 1, sums[len(held) - 1] if held else 0


def quote_terms(terms: Iterable[str]) -> str:
    """The FTS5 query for chunks that hold any of the terms; "" when there is nothing to look for.

    The only way from a user's words into a query. A term becomes one string in the sense of FTS5
    (https://www.sqlite.org/fts5.html#full_text_query_syntax), in which nothing is an operator; it is prepared like
    indexed text, and a term of several words is a phrase.
    """
    prepared = (index_text(term).replace("\0", " ").replace('"', '""') for term in terms)
    encodable = (term.encode(errors="replace").decode() for term in prepared)
    return " OR ".join(f'"{term}"' for term in encodable if term.strip())


def _ranked(database: Database, query: str, limit: int, where: Filter) -> list[tuple[int, float]]:
    condition, values = visible(where)
    join, restriction = (_OF_CHUNK, f"AND {condition}") if condition else ("", "")
    # `ORDER BY rank LIMIT` lets FTS5 sort before anything is joined.
    sql = f"""
        SELECT fts.rowid, -fts.rank FROM fts {join}
        WHERE fts MATCH ? AND fts.rank MATCH 'bm25({CONTEXT_WEIGHT}, {BODY_WEIGHT})' {restriction}
        ORDER BY fts.rank LIMIT ?"""
    return [(row[0], row[1]) for row in database.rows(sql, (query, *values, limit))]


class Frequencies:
    """How many chunks hold a term: counted once for each state of the index, by each thread that asks.

    A count reads the whole list of a term, which for the words that many questions share costs more than the search.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._thread = threading.local()

    def of(self, terms: Iterable[str], where: Filter = EVERYTHING) -> dict[str, int]:
        """For each term, how many of the chunks that `where` allows hold it."""
        known = self._known()
        found: dict[str, int] = {}
        for term in terms:
            if (where, term) not in known:
                known[where, term] = _count(self._database, term, where)
            found[term] = known[where, term]
        return found

    def _known(self) -> dict[tuple[Filter, str], int]:
        """What this thread has counted in the index as it is now."""
        stamp = self._database.stamp()
        known: dict[tuple[Filter, str], int] = getattr(self._thread, "known", {})
        if getattr(self._thread, "stamp", None) != stamp or len(known) > REMEMBERED:
            known = {}
        self._thread.stamp, self._thread.known = stamp, known
        return known


def _count(database: Database, term: str, where: Filter) -> int:
    condition, values = visible(where)
    join, restriction = (_OF_CHUNK, f"AND {condition}") if condition else ("", "")
    sql = f"SELECT count(*) FROM fts {join} WHERE fts MATCH ? {restriction}"
    return int(database.value(sql, (quote_terms((term,)) or '""', *values)))
