"""Searching vectors in memory finds what SQLite would find, follows every change, and shows nothing it may not."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_index import DIMENSION, MAKER, entry, filled, unit

from edgeai.filters import EVERYTHING, Filter, parse_filter
from edgeai.store import Maker, Store, codes, keywords, precisions, queries, vectors
from edgeai.store.schema import VECTOR_BLOCK

PRECISIONS = [precisions.EXACT, precisions.ROUNDED, precisions.SIGNS]
FILTERS = [
    EVERYTHING,
    Filter(labels=frozenset({""})),
    Filter(labels=frozenset({"hr", "kitchen"})),
    Filter(labels=frozenset()),
    parse_filter(["path~*.md"], labels=["", "hr"]),
    parse_filter(tags=["food"]),
    parse_filter(["type=pdf"]),
    parse_filter(["title=nothing has this title"]),
]


@pytest.fixture(params=PRECISIONS, ids=lambda precision: precision.name)
def precision(request, monkeypatch):
    """Every test runs on vectors held in each precision, and looks up enough to find what an exact search finds."""
    monkeypatch.setattr(precisions, "FIRST", 10_000)
    monkeypatch.setattr(vectors, "choose", lambda count, dimension: request.param)
    return request.param


@pytest.fixture
def store(tmp_path, precision):
    with Store.open(tmp_path / "index.db", maker=MAKER) as opened:
        yield opened


def scanned(store: Store, query: np.ndarray, limit: int, where: Filter = EVERYTHING) -> list[tuple[int, float]]:
    """What the search of sqlite-vec itself finds: all vectors, one by one."""
    condition, values = queries.visible(where)
    chosen = f"SELECT chunks.id FROM chunks JOIN documents ON documents.id = document_id WHERE {condition or 'true'}"
    sql = f"SELECT rowid, distance FROM vectors WHERE embedding MATCH ? AND k = ? AND rowid IN ({chosen})"
    found = store._database.rows(sql, (query.tobytes(), limit, *values))
    return sorted(((row[0], 1 - row[1] ** 2 / 2) for row in found), key=lambda hit: (-hit[1], hit[0]))


def assert_finds_what_sqlite_finds(store: Store, *, limit: int = 20, where: Filter = EVERYTHING) -> None:
    for query in unit(3, seed=99):
        assert store.nearest(query, limit=limit, where=where) == scanned(store, query, limit, where)


@pytest.mark.parametrize("where", FILTERS, ids=str)
def test_filters_and_labels_hold_as_they_do_in_sqlite(store, where):
    filled(store)
    store.put_many(  # documents that lie across blocks
        [
            entry(f"/{n}.md", "text " * 30, label=("", "hr", "secret")[n % 3], seed=n, type=("pdf", "text")[n % 2])
            for n in range(VECTOR_BLOCK)
        ]
    )
    assert_finds_what_sqlite_finds(store, where=where)
    store.touch("/0.md", modified=1.0, size=1)
    assert_finds_what_sqlite_finds(store, where=where)


def test_a_filter_is_asked_again_when_only_the_document_changed(store):
    filled(store)
    where = parse_filter(["path=/docs/new.md"])
    assert store.nearest(unit(1)[0], limit=5, where=where) == []
    with Store.open(store.status()["path"], maker=MAKER) as other:
        other.move("/docs/a.md", "/docs/new.md", modified=1.0)
    assert len(store.nearest(unit(1)[0], limit=5, where=where)) == 1


def test_what_memory_proposes_is_shown_only_if_the_index_allows_it(store, monkeypatch):
    filled(store)
    where = Filter(labels=frozenset({"hr"}))
    monkeypatch.setattr(queries, "visible_ranges", lambda database, where: None)
    found = store.nearest(unit(1)[0], limit=50, where=where)
    assert [stored.path for stored in store.hydrate([i for i, _ in found]).values()] == ["/docs/hr.md"]


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "remove", "vacuum", "abandon"]),
        st.integers(0, 5),  # which document
        st.integers(1, 2 * VECTOR_BLOCK),  # chunks
        st.booleans(),  # through another connection
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=15)
@given(changes=CHANGES, precision=st.sampled_from(PRECISIONS), seed=st.integers(0, 99))
def test_after_any_changes_from_anywhere_it_finds_what_is_there(changes, precision, seed):
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(vectors, "choose", lambda count, dimension: precision)
        patch.setattr(precisions, "FIRST", 10_000)  # all of them, so that the result must be the same
        patch.setattr(precisions, "COMPARED", 10_000)
        path = Path(folder) / "index.db"
        with Store.open(path, maker=MAKER) as store, Store.open(path, maker=MAKER) as other:
            for step, (change, number, count, elsewhere) in enumerate(changes):
                apply(other if elsewhere else store, change, f"/{number}", count, seed + step)
                assert_finds_what_sqlite_finds(store)


def apply(store: Store, change: str, path: str, count: int, seed: int) -> None:
    if change == "put":
        store.put(*entry(path, "x" * count, size=1, seed=seed))
    elif change == "remove":
        store.remove([path])
    elif change == "vacuum":
        store.vacuum()
    else:
        with pytest.raises(ValueError, match="norm 1"):
            store.put_many([entry(path, "y", seed=seed), (*entry(path, "z")[:2], np.zeros((1, DIMENSION), np.float32))])


def test_another_process_is_followed(store):
    filled(store)
    assert_finds_what_sqlite_finds(store)
    script = (
        "import sys, toy_index as t; t.Store.open(sys.argv[1], maker=t.MAKER).put(*t.entry('/new', 'words', seed=9))"
    )
    command = [sys.executable, "-c", script, store.status()["path"]]
    subprocess.run(command, cwd=Path(__file__).parent, check=True, timeout=60)
    assert store.nearest(unit(1, seed=9)[0], limit=1)[0][1] == pytest.approx(1.0)
    assert_finds_what_sqlite_finds(store)


def test_a_change_reads_only_the_blocks_it_touched(store, monkeypatch):
    store.put_many([entry(f"/{number}", "x" * VECTOR_BLOCK, size=1, seed=number) for number in range(9)])
    store.load_vectors()
    read = []
    real = vectors.VectorMemory._read
    monkeypatch.setattr(
        vectors.VectorMemory, "_read", lambda self, blocks, size: (read.extend(blocks), real(self, blocks, size))[1]
    )
    store.nearest(unit(1)[0], limit=3)
    store.touch("/1", modified=2.0, size=2)
    store.nearest(unit(1)[0], limit=3)
    assert read == []
    store.put(*entry("/4", "replaced", seed=50))
    assert_finds_what_sqlite_finds(store)
    assert 1 <= len(read) <= 2


def test_an_index_that_outgrows_a_precision_is_held_in_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(precisions, "HELD_BYTES", 4 * VECTOR_BLOCK * DIMENSION)
    with Store.open(tmp_path / "index.db", maker=MAKER) as store:
        for number, precision in enumerate((precisions.EXACT, *[precisions.ROUNDED] * 3, precisions.SIGNS)):
            store.put(*entry(f"/{number}", "x" * VECTOR_BLOCK, size=1, seed=number))
            assert_finds_what_sqlite_finds(store)
            assert store._memory._held.precision is precision
        store.remove(["/0", "/1", "/2", "/3"])
        store.vacuum()
        assert_finds_what_sqlite_finds(store)
        assert store._memory._held.precision is precisions.EXACT


@pytest.mark.parametrize("precision", PRECISIONS[1:], ids=lambda precision: precision.name)
@pytest.mark.parametrize("dimension", [8, 100, 384])
def test_codes_find_nearly_all_of_the_true_ten_best(tmp_path, monkeypatch, dimension, precision):
    monkeypatch.setattr(vectors, "choose", lambda count, dimension: precision)
    chance = np.random.default_rng(0)
    topics = chance.standard_normal((60, dimension))
    texts = normal(topics[chance.integers(60, size=4000)] + chance.standard_normal((4000, dimension)))
    document, chunks, _ = entry("/a", "x" * 4000, size=1)
    with Store.open(tmp_path / "index.db", maker=Maker("toy", "0", dimension, "1")) as store:
        store.put(document, chunks, texts)
        found = 0
        for query in normal(topics[:40] + 0.7 * chance.standard_normal((40, dimension))):
            exact = {hit for hit, _ in scanned(store, query, 10)}
            found += len(exact & {hit for hit, _ in store.nearest(query, limit=10)})
    assert found / 400 >= (0.98 if dimension > 8 else 0.5)  # eight bits tell little apart


def normal(array: np.ndarray) -> np.ndarray:
    return (array / np.linalg.norm(array, axis=1, keepdims=True)).astype(np.float32)


# codes --------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_distances_and_estimates_are_those_of_the_signs(blocks, size, dimension, seed):
    chance = np.random.default_rng(seed)
    rows = chance.standard_normal((blocks, size, dimension)).astype(np.float32)
    query = chance.standard_normal(dimension).astype(np.float32)
    allowed = chance.random((blocks, size)) < 0.8
    held = codes.encode(rows)
    differ = ((rows > 0) != (query > 0)).sum(axis=2)
    expected = np.where(allowed, differ, codes.UNREACHABLE).reshape(-1)
    assert np.array_equal(codes.distances(held, allowed, query), expected)
    positions = np.flatnonzero(allowed)
    products = (rows.reshape(-1, dimension)[positions] > 0) @ query
    assert np.allclose(codes.estimates(held, positions, query), products, atol=1e-4)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.integers(1, 70))
def test_the_smallest_are_the_first_of_a_sorted_list(values, count):
    found = codes.smallest(np.array(values, np.uint16), count)
    expected = sorted(range(len(values)), key=lambda at: (values[at], at))[:count]
    assert sorted(found.tolist()) == sorted(expected)


def test_very_many_copies_of_one_vector_are_no_problem(store):
    document, chunks, one = entry("/copies", "x" * 5000, size=1)
    store.put(document, chunks, np.repeat(one[:1], 5000, axis=0))
    store.put(*entry("/other", "word", seed=5))
    found = store.nearest(unit(1, seed=5)[0], limit=10)
    assert found[0][1] == pytest.approx(1.0)
    assert len(found) == 10


# keywords -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def worded(tmp_path_factory):
    """Chunks in which the first term is the rarest, and later ones are ever more frequent."""
    chance = np.random.default_rng(3)
    with Store.open(tmp_path_factory.mktemp("words") / "index.db", maker=MAKER) as store:
        texts = []
        for _ in range(200):
            held = [
                f"w{term} " * int(chance.integers(1, 4)) for term in range(6) if chance.random() < 2.0 ** (term - 6)
            ]
            texts.append("filler " * int(chance.integers(1, 9)) + "".join(held))
        store.put_many([entry(f"/{number}", text, size=400) for number, text in enumerate(texts)])
        yield store


TERMS = [f"w{number}" for number in range(7)]  # nothing holds the last one


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(TERMS), min_size=1, unique=True), st.integers(1, 40), st.integers(1, 300))
def test_scoring_only_rare_words_gives_the_same_scores_and_fills_the_list(worded, terms, limit, room):
    everything = worded.matching(terms, limit=1000)
    frequencies = worded.document_frequency(terms)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keywords, "SCORED", room)
        found = worded.matching(terms, limit=limit, frequencies=frequencies)
    assert len(found) == min(limit, len(everything))
    scores = dict(everything)
    assert all(score == pytest.approx(scores[chunk_id]) for chunk_id, score in found)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(TERMS), min_size=1, unique=True))
def test_an_index_small_enough_to_score_whole_is_scored_whole(worded, terms):
    frequencies = worded.document_frequency(terms)
    assert worded.matching(terms, limit=30, frequencies=frequencies) == worded.matching(terms, limit=30)


def test_each_attempt_scores_more_chunks_until_all_are(monkeypatch):
    monkeypatch.setattr(keywords, "SCORED", 10)
    attempts = [*keywords.keyword_queries(["often", "rare", "some", "never"], {"often": 900, "rare": 3, "some": 20})]
    assert attempts == [
        ('("rare") AND ("rare" OR "some" OR "often" OR "some" OR "often")', 2, 3),
        ('("rare" OR "some") AND ("rare" OR "some" OR "often" OR "often")', 2, 23),
        ('"often" OR "rare" OR "some"', 1, 923),
    ]


def test_frequent_words_are_read_as_far_as_the_lists_may_be_long(monkeypatch):
    monkeypatch.setattr(keywords, "POSTINGS", 25)
    monkeypatch.setattr(keywords, "SCORED", 2)
    frequencies = {"often": 900, "rare": 3, "some": 20}
    queries_of = [query for query, _, _ in keywords.keyword_queries([*frequencies], frequencies)]
    assert queries_of[0] == '("rare") AND ("some")'
    assert not any("often" in query for query in queries_of)
    assert [*keywords.keyword_queries(["often"], frequencies)] == [('"often"', 1, 900)]


def test_a_list_stays_short_rather_than_score_half_the_index(worded, monkeypatch):
    terms = ["w0", "w5"]  # in about 3 and in half of the 200 chunks
    frequencies = worded.document_frequency(terms)
    monkeypatch.setattr(keywords, "SCORED", 1)
    monkeypatch.setattr(keywords, "MOST_SCORED", frequencies["w0"] + 1)
    found = worded.matching(terms, limit=50, frequencies=frequencies)
    assert 0 < len(found) <= frequencies["w0"]
    assert len(worded.matching(terms, limit=50)) == 50


def test_frequencies_follow_the_index(tmp_path):
    with Store.open(tmp_path / "index.db", maker=MAKER) as store:
        store.put_many([entry("/a", "apple pie")])
        assert store.document_frequency(["apple", "tart"]) == {"apple": 1, "tart": 0}
        store.put_many([entry("/b", "apple tart")])
        assert store.document_frequency(["apple", "tart"]) == {"apple": 2, "tart": 1}
        with Store.open(tmp_path / "index.db", maker=MAKER) as other:
            other.remove(["/a", "/b"])
        assert store.document_frequency(["apple", "tart"]) == {"apple": 0, "tart": 0}


def test_two_bits_a_number_tell_cosines_apart_better_than_one():
    draw = np.random.default_rng(7)
    vectors = draw.normal(size=(2, 500, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    query = vectors[0, 0] + vectors[0, 1]
    query /= np.linalg.norm(query)
    signs, sizes = codes.encode(vectors), codes.encode_sizes(vectors)
    everywhere = np.ones((2, 500), np.bool_)
    cosines = (vectors @ query).reshape(-1)

    def likeness(found):
        positions, estimates = found
        return np.corrcoef(estimates, cosines[positions])[0, 1]

    one, two = (likeness(codes.ranked(signs, everywhere, query, 1000, second)) for second in (None, sizes))
    assert 0.7 < one < 0.9 < two  # of normal numbers 0.80 and 0.94 (square roots of 0.637 and 0.883)
