"""A question to the chunks that fit it best: keyword and vector search side by side, then one fused ranking.

The two lists are joined by weighted reciprocal ranks plus their scores, each brought to a scale on which one constant
weights all questions. It knows neither the question's language nor whether a chunk answers it: `coverage` and
`similarity` say how much of the question was found, and words can be shared without an answer being there.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from edgeai.engines import Embedder
from edgeai.filters import EVERYTHING, Filter
from edgeai.records import Hit, Retrieval
from edgeai.store import Store, StoredChunk
from edgeai.text.terms import query_terms, words

# The fused score of a chunk, in units of a good BM25 score:
#   BM25 / good + best BM25 / good * RANK_WEIGHT * rank_part(keyword rank)
#   + trust * (COSINE_WEIGHT * cosine + RANK_WEIGHT * rank_part(vector rank))
# Ranks alone (RANK_DEPTH 60: Cormack, Clarke & Buettcher, "Reciprocal rank fusion outperforms Condorcet and individual
# rank learning methods", SIGIR 2009) do not say how far ahead the first chunk is; a weighted sum of scores does (Bruch,
# Gai & Ingber, "An analysis of fusion functions for hybrid retrieval", ACM TOIS 42(1), 2023). The cosine enters as it
# is: where an embedder cannot tell passages apart, its cosines hardly differ, and BM25 decides. The weights were fitted
# with the default embedder; one whose cosines all lie close together counts less than it could.
RANK_DEPTH = 60
RANK_WEIGHT = 0.2
COSINE_WEIGHT = 1.5
# A good BM25 score is the best one, or this share of the highest that the question's terms allow (a theoretical maximum
# as in Bruch et al.), so that the best of bad matches does not count as much as a good one: of 1,000 questions asked in
# other words than their passage .58 find it among 8 instead of .53, of 1,000 asked plainly .84 as before; with the
# nearest chunk kept, .61.
GOOD_SHARE = 0.4
BM25_TERM = 2.2  # the highest score of a term in units of its rarity: k1 + 1, with FTS5's k1
# From this trust on the chunk nearest in meaning is among the first hits, whatever its words: the first 5 then hold the
# passage of .55 instead of .50 of the questions in other words, and of .79 as before of those asked plainly.
NEAREST_TRUST, NEAREST_PLACE = 0.8, 5

# An embedder that knows a question's language reads whole words: about this many characters a token. One that cuts
# them to pieces, or into single characters, was not trained on the language, and its list counts that much less.
CHARACTERS_PER_TOKEN = 4.0
# Numbers, codes and names are cut to pieces in any language, so a question with this share of words that hardly any
# other language has is English whatever else is in it: of 2,500 such questions .993 are then read instead of .972, of
# those with a digit .973 instead of .898; of the German, Spanish and French ones no more than before.
ENGLISH_SHARE = 0.15
ENGLISH = frozenset(
    """and are can could did do does for how is many much my of our should the there to what when where which who whom
    whose why with would your""".split()  # noqa: SIM905
)

# Past the cap of its document a chunk counts this much less for every chunk above the cap, so that other documents
# come first unless they hardly fit.
CAP_DISCOUNT = 0.8
ATTEMPTS = 5  # at a consistent view of an index that is being written to; the last one's result stands
POOL = 4  # candidates read for every hit wanted, so that there is something to put in place of copies

# A chunk is a copy when this share of its word triples, and all its numbers, are in a better one (shingles: Broder,
# "On the resemblance and containment of documents", 1997). One changed word in a chunk of usual size is no copy:
# texts that contradict each other must both be seen.
SHINGLE = 3
COPY_SHARE = 0.98

Ranked = Sequence[tuple[int, float]]  # (chunk id, score), best first


@dataclass(frozen=True, slots=True)
class _Found:
    """What the two searches returned; `cosines` covers the chunks of both."""

    keyword: Ranked = ()
    nearest: Ranked = ()
    frequencies: Mapping[str, int] = field(default_factory=dict)  # of the question's terms, in chunks
    chunks: int = 0  # in the index
    cosines: Mapping[int, float] = field(default_factory=dict)
    trust: float = 0.0
    embed_ms: float = 0.0


def search(
    question: str,
    store: Store,
    embedder: Embedder | None,
    *,
    limit: int = 8,
    candidates: int = 50,
    per_document: int = 2,
    where: Filter = EVERYTHING,
) -> Retrieval:
    """The `limit` chunks that fit a question best, best first, from the documents `where` allows.

    `candidates` are taken from each of keyword and vector search; without an embedder from keyword search alone. Past
    `per_document` chunks of one document, chunks of others are preferred; they are not forced in when they hardly
    fit. Copies of better chunks are left out. A question without a single letter or digit finds nothing. Raises what
    the store raises.
    """
    began = time.perf_counter()
    terms = query_terms(question)
    if not terms or limit < 1:
        return Retrieval((), 0.0, 0.0)
    for _ in range(ATTEMPTS):
        found = _find(question, terms, store, embedder, max(candidates, limit), where)
        scores = fuse(found.keyword, found.nearest, found.cosines, found.trust, _highest_bm25(found))
        nearest = [chunk_id for chunk_id, _ in found.nearest[:1] if found.trust >= NEAREST_TRUST]
        best_first = sorted(scores, key=lambda chunk_id: (-scores[chunk_id], chunk_id))[: POOL * limit]
        best_first += [chunk_id for chunk_id in nearest if chunk_id not in best_first]
        stored = store.hydrate(best_first, where=where)
        if len(stored) == len(best_first):
            break  # otherwise a sync replaced one of these documents since they were found
    chosen = _select(scores, stored, limit, per_document, next(iter(nearest), None))
    coverage = _coverage(terms, chosen, found)
    elapsed = (time.perf_counter() - began) * 1000
    best_cosine = found.nearest[0][1] if found.nearest else 0.0
    return Retrieval(_hits(chosen, found), coverage, best_cosine, found.embed_ms, elapsed - found.embed_ms, found.trust)


def fuse(
    keyword: Ranked, nearest: Ranked, cosines: Mapping[int, float], trust: float, highest: float = 0.0
) -> dict[int, float]:
    """The fused score of every chunk of both lists, higher is better; formula and sources at the constants.

    `cosines` should hold a cosine for every chunk, `trust` (0..1) is the weight of all that comes from the embedder,
    `highest` the BM25 score that a chunk could have at most. A chunk that is ahead of another in both lists is never
    behind it in the result.
    """
    best = keyword[0][1] if keyword else 0.0
    good = max(best, trust * GOOD_SHARE * highest)
    share = best / good if good > 0 else 1.0
    scores = dict.fromkeys((chunk_id for chunk_id, _ in (*keyword, *nearest)), 0.0)
    for rank, (chunk_id, bm25) in enumerate(keyword, 1):
        scores[chunk_id] += (bm25 / good if good > 0 else 0.0) + share * RANK_WEIGHT * _rank_part(rank)
    for rank, (chunk_id, _) in enumerate(nearest, 1):
        scores[chunk_id] += trust * RANK_WEIGHT * _rank_part(rank)
    for chunk_id in scores:
        scores[chunk_id] += trust * COSINE_WEIGHT * max(0.0, cosines.get(chunk_id, 0.0))
    return scores


def language_trust(question: str, count_tokens: Callable[[str], int]) -> float:
    """How far an embedder's vector of a question can be relied on, 0..1, by how its tokenizer cuts the question; 1 for
    English.
    """
    said = words(question)
    if said and sum(word in ENGLISH for word in said) >= ENGLISH_SHARE * len(said):
        return 1.0
    foreign = (term for term in query_terms(question) if not term.isascii())
    # A word of which no piece is known becomes one token for "unknown", and stays one when it is written twice.
    unknown = sum(len(term) for term in foreign if count_tokens(term + term) == 1)
    tokens = count_tokens(question) + unknown
    return min(1.0, len(question) / (tokens * CHARACTERS_PER_TOKEN)) if tokens else 0.0


def _highest_bm25(found: _Found) -> float:
    """What a chunk would score that holds nothing but all the question's terms, by the rarity that FTS5 gives them."""
    return sum(BM25_TERM * _rarity(found.chunks, held) for held in found.frequencies.values())


def _rarity(chunks: int, held: int) -> float:
    """Inverse document frequency as FTS5 computes it, never negative."""
    return max(0.0, math.log((max(0, chunks - held) + 0.5) / (held + 0.5)))


def _rank_part(rank: int) -> float:
    """1 for an imaginary rank 0, a half at rank `RANK_DEPTH`."""
    return RANK_DEPTH / (RANK_DEPTH + rank)


# The two searches -------------------------------------------------------------------------------------------------


def _find(
    question: str, terms: Sequence[str], store: Store, embedder: Embedder | None, candidates: int, where: Filter
) -> _Found:
    if embedder is None:
        return _keywords(terms, store, candidates, where)
    pool = _pool(os.getpid())
    matching = pool.submit(_keywords, terms, store, candidates, where)
    loading = pool.submit(store.load_vectors)
    jobs: tuple[Future[Any], ...] = (matching, loading)
    try:
        began = time.perf_counter()
        vector = embedder.embed_query(question)
        embed_ms = (time.perf_counter() - began) * 1000
        loading.result()
        nearest = store.nearest(vector, limit=candidates, where=where)
    finally:
        wait(jobs)  # also when this raises: the caller may close the store next
    found = matching.result()
    cosines = dict(nearest)
    cosines |= store.similarities(vector, [i for i, _ in found.keyword if i not in cosines], where=where)
    trust = language_trust(question, embedder.count_tokens)
    return replace(found, nearest=nearest, cosines=cosines, trust=trust, embed_ms=embed_ms)


def _keywords(terms: Sequence[str], store: Store, candidates: int, where: Filter) -> _Found:
    """All that the keyword index has to say; needs no embedder, so it runs beside it."""
    frequencies = store.document_frequency(terms, where=where)
    keyword = store.matching(terms, limit=candidates, where=where, frequencies=frequencies)
    return _Found(keyword, frequencies=frequencies, chunks=store.count_chunks())


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads that outlive a search, because the store opens the file once a thread; they do not outlive a fork."""
    return ThreadPoolExecutor(max_workers=4, thread_name_prefix="edgeai-search")


# Choosing among the candidates ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A candidate that became a hit."""

    stored: StoredChunk
    score: float
    words: tuple[str, ...]


def _select(
    scores: Mapping[int, float], stored: Mapping[int, StoredChunk], limit: int, per_document: int, kept: int | None
) -> list[_Chosen]:
    """Best first, without copies, documents past their cap held back; `stored` is best first. The chunk `kept` is put
    at `NEAREST_PLACE`, or last, where it is not before that.
    """
    place = min(limit, NEAREST_PLACE) - 1
    taken: Counter[str] = Counter()
    chosen: list[_Chosen] = []
    seen: list[_Shingles] = []
    waiting = list(stored.values())

    def discounted(candidate: StoredChunk) -> float:
        over = max(0, taken[candidate.path] - per_document + 1)
        return scores[candidate.chunk_id] * CAP_DISCOUNT**over

    while waiting and len(chosen) < limit:
        best = max(waiting, key=discounted)  # the first of equals
        score = discounted(best)
        if len(chosen) == place > 0:
            best = next((one for one in waiting if one.chunk_id == kept), best)
        waiting.remove(best)
        found = words(best.chunk.text)
        shingles = _shingles(found)
        if any(shingles.copies(other) for other in seen):
            continue
        seen.append(shingles)
        chosen.append(_Chosen(best, score, found))
        taken[best.path] += 1
    return chosen


@dataclass(frozen=True, slots=True)
class _Shingles:
    """A text as sets that tell copies apart."""

    triples: frozenset[tuple[str, ...]]
    numbers: frozenset[str]

    def copies(self, other: _Shingles) -> bool:
        """Whether this text says next to nothing that the other one does not."""
        if not self.numbers <= other.numbers:
            return False
        return len(self.triples & other.triples) >= COPY_SHARE * len(self.triples)


def _shingles(found: tuple[str, ...]) -> _Shingles:
    triples = frozenset(found[i : i + SHINGLE] for i in range(max(1, len(found) - SHINGLE + 1)))
    return _Shingles(triples, frozenset(word for word in found if not word.isalpha()))


def _hits(chosen: Iterable[_Chosen], found: _Found) -> tuple[Hit, ...]:
    keyword_ranks = {chunk_id: rank for rank, (chunk_id, _) in enumerate(found.keyword, 1)}
    vector_ranks = {chunk_id: rank for rank, (chunk_id, _) in enumerate(found.nearest, 1)}
    keyword_scores = dict(found.keyword)
    return tuple(
        Hit(
            one.stored.chunk_id,
            one.stored.chunk,
            one.stored.path,
            one.stored.title,
            one.stored.type,
            one.stored.modified,
            one.score,
            keyword_ranks.get(one.stored.chunk_id),
            vector_ranks.get(one.stored.chunk_id),
            keyword_scores.get(one.stored.chunk_id),
            found.cosines.get(one.stored.chunk_id),
        )
        for one in chosen
    )


# How much of the question was found -------------------------------------------------------------------------------


def _coverage(terms: Sequence[str], chosen: Sequence[_Chosen], found: _Found) -> float:
    """The largest share of the question's terms, weighted by rarity, that one of the hits holds."""
    if not chosen:
        return 0.0
    total = found.chunks
    weights = {
        term: math.log1p((max(0, total - held) + 0.5) / (held + 0.5)) for term, held in found.frequencies.items()
    }
    forms = {term: frozenset(words(term)) for term in terms}
    return max(_share(weights, forms, one) for one in chosen)


def _share(weights: Mapping[str, float], forms: Mapping[str, frozenset[str]], one: _Chosen) -> float:
    held = {*one.words, *words(f"{one.stored.title}\n{one.stored.chunk.context}")}
    return sum(weight for term, weight in weights.items() if forms[term] <= held) / sum(weights.values())
