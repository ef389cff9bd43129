"""The index keeps what it acknowledged, its parts agree, filters hold everywhere, and errors say what to do."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_index import DIMENSION, MAKER, entry, filled, unit

from edgeai.errors import (
    DiskFull,
    EmbedderMismatch,
    IndexBusy,
    IndexMissing,
    IndexUnusable,
    PathNotFound,
    ReadOnly,
)
from edgeai.filters import Filter, parse_filter
from edgeai.records import Chunk
from edgeai.store import Store, database, schema
from edgeai.store.keywords import quote_terms
from edgeai.store.queries import sqlite_glob
from edgeai.store.schema import TEXT_PART, VECTOR_BLOCK

QUICK = settings(deadline=None, max_examples=50)
ANY_TEXT = st.text(st.characters(exclude_categories=()))  # with lone surrogates
posix_only = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")


def child(script: str, *arguments: object) -> list[str]:
    """The command that runs a script which can import what this test can."""
    here = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    return [sys.executable, "-c", here + script, *map(str, arguments)]


def paths(store: Store, where: Filter) -> list[str]:
    """What the filter lets through, which every searching method has to agree on."""
    everything = [chunk_id for path in store.files() for chunk_id, _ in store.chunks_of(path)]
    visible = store.hydrate(everything, where=where)
    assert {i for i, _ in store.matching(["apple"], limit=50, where=where)} == set(visible)
    assert {i for i, _ in store.nearest(unit(1)[0], limit=50, where=where)} == set(visible)
    assert set(store.similarities(unit(1)[0], everything, where=where)) == set(visible)
    assert store.document_frequency(["apple"], where=where) == {"apple": len(visible)}
    return sorted(stored.path for stored in visible.values())


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "index.db", maker=MAKER) as opened:
        yield opened
        if not opened._database._closed:
            assert opened.check() == []


# what goes in comes out ---------------------------------------------------------------------------------------------


def test_a_document_comes_back_as_it_was_put(store):
    document, chunks, vectors = entry(
        "/a.md", "Ein Wörtchen 𝄞𝄞 人工智能. " * 50, tags=("b", "a", "b"), label="l", size=7
    )
    document = replace(document, size=99)
    store.put(document, chunks, vectors)
    assert store.document("/a.md") == document
    assert list(store.documents()) == [document]
    ids, stored = zip(*store.chunks_of("/a.md"), strict=True)
    assert list(stored) == chunks
    assert np.array_equal(store.vectors(ids[::-1]), vectors[::-1])
    hydrated = store.hydrate(ids[5:2:-1])
    assert list(hydrated) == list(ids[5:2:-1])
    first = hydrated[ids[5]]
    assert (first.chunk, first.path, first.title, first.type, first.modified) == (
        chunks[5],
        "/a.md",
        "Title",
        "text",
        1.5,
    )


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    with Store.open(tmp_path_factory.mktemp("scratch") / "index.db", maker=MAKER) as opened:
        yield opened


@QUICK
@given(data=st.data())
def test_offsets_count_characters_of_any_text(scratch, data):
    alphabet = st.one_of(st.characters(codec="utf-8"), st.sampled_from("ab 𝄞é\0\n"))
    text = data.draw(st.text(alphabet, min_size=1, max_size=60)) * data.draw(st.sampled_from([1, TEXT_PART // 20]))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), min_size=2, max_size=9)))
    chunks = [
        Chunk(a, b, text[a:b], tuple(data.draw(st.lists(st.text(max_size=3), max_size=2)))) for a, b in pairwise(cuts)
    ]
    document = replace(entry("/p")[0], text=text, title=data.draw(st.text(max_size=5)))
    scratch.put(document, chunks, unit(len(chunks)))
    assert [chunk for _, chunk in scratch.chunks_of("/p")] == chunks
    assert scratch.document("/p") == document
    assert scratch.check() == []


@pytest.mark.parametrize("start", [0, TEXT_PART - 1, TEXT_PART, 2 * TEXT_PART - 3])
def test_a_chunk_may_cross_the_parts_a_text_is_stored_in(store, start):
    text = "𝄞bcdefg" * TEXT_PART
    for length in (1, 2, TEXT_PART, TEXT_PART + 2):
        chunk = Chunk(start, start + length, text[start : start + length])
        store.put(replace(entry("/p")[0], text=text), [chunk], unit(1))
        assert store.chunks_of("/p")[0][1] == chunk


def test_a_document_without_chunks_is_remembered(store):
    store.put(*entry("/empty", ""))
    assert store.files()["/empty"].chunks == 0
    assert store.document("/empty").text == ""
    assert store.document("/other") is None
    assert store.chunks_of("/other") == ()


def test_files_say_what_sync_compares(store):
    document, chunks, vectors = entry("/a", "x" * 90, tags=("t",), label="l")
    store.put(replace(document, size=7), chunks, vectors)
    state = store.files()["/a"]
    assert (state.path, state.digest, state.size, state.modified) == ("/a", "d/a", 7, 1.5)
    assert (state.type, state.label, state.chunks, state.tags) == ("text", "l", 3, ("t",))


def test_a_new_version_takes_the_place_of_the_old_one(store):
    store.put(*entry("/a", "old words here", tags=("old",)))
    old_ids = {i for i, _ in store.chunks_of("/a")}
    store.put(*entry("/a", "new text there"))
    assert store.matching(["old"], limit=5) == []
    assert len(store.matching(["new"], limit=5)) == 1
    assert store.count_documents() == store.count_chunks() == 1
    assert not old_ids & {i for i, _ in store.chunks_of("/a")}, "an id must never come to mean another text"
    assert store.hydrate(old_ids) == {}
    assert store.similarities(unit(1)[0], old_ids) == {}


def test_ids_are_not_given_again_after_everything_was_removed(store):
    store.put(*entry("/a"))
    (old,) = store.chunks_of("/a")
    assert store.remove(["/a", "/never"]) == 1
    store.vacuum()
    store.put(*entry("/a"))
    assert store.chunks_of("/a")[0][0] > old[0]


def test_put_many_is_all_or_nothing(store):
    good, (document, chunks, vectors) = entry("/good"), entry("/bad")
    with pytest.raises(ValueError, match="norm"):
        store.put_many([good, (document, chunks, vectors * 2)])
    assert store.files() == {}
    store.put_many([good, entry("/second"), entry("/good", "the later one wins")])
    assert [d.text for d in store.documents()] == ["the later one wins", "some words"]


def test_a_moved_document_keeps_its_vectors_and_takes_its_new_title(store):
    document, chunks, vectors = entry("/old.md", "words to keep", title="Zebra")
    store.put(document, chunks, vectors)
    before = store.chunks_of("/old.md")
    store.move("/old.md", "/new.md", modified=9.0)
    assert store.document("/new.md") == replace(document, path="/new.md", modified=9.0)
    store.put(*entry("/newer.md", "in the way"))
    store.move("/new.md", "/newer.md", modified=9.5, title="Giraffe")
    assert list(store.files()) == ["/newer.md"]
    assert store.chunks_of("/newer.md") == before
    assert store.matching(["zebra"], limit=1) == []
    assert store.matching(["giraffe"], limit=1)[0][0] == before[0][0]
    with pytest.raises(PathNotFound, match="edgeai sync"):
        store.move("/old.md", "/newer.md", modified=1.0)
    assert list(store.files()) == ["/newer.md"], "a failed move replaces nothing"


def test_touch_changes_only_time_and_size(store):
    document, chunks, vectors = entry("/a")
    store.put(document, chunks, vectors)
    store.touch("/a", modified=77.25, size=5)
    assert store.document("/a") == replace(document, modified=77.25, size=5)
    with pytest.raises(PathNotFound):
        store.touch("/b", modified=1.0, size=1)


def test_boilerplate_is_remembered(store):
    assert store.boilerplate() == frozenset()
    store.set_boilerplate({"b", "a", "ü"})
    assert store.boilerplate() == {"a", "b", "ü"}


def test_notes_are_remembered_and_forgotten(store):
    assert store.note("a") is None
    store.set_notes({"a": {"x": [1.5, "ü"]}, "maker": 3})
    assert (store.note("a"), store.note("maker")) == ({"x": [1.5, "ü"]}, 3)
    with Store.open(store.status()["path"], maker=MAKER) as other:  # "maker" is a name like any other
        other.set_notes({"a": None, "maker": 4})
    assert (store.note("a"), store.note("maker")) == (None, 4)


def test_status_counts_what_is_there(store):
    status = filled(store).status()
    assert (status["documents"], status["chunks"]) == (4, 4)
    assert status["types"] == {"markdown": 2, "pdf": 1, "text": 1}
    assert status["maker"]["embedder"] == "toy"
    assert status["bytes"] > 10_000


# searching ----------------------------------------------------------------------------------------------------------


def test_nearest_and_similarities_are_the_exact_cosine(store):
    document, chunks, vectors = entry("/a", "x" * 3000, size=10)
    store.put(document, chunks, vectors)
    ids = [i for i, _ in store.chunks_of("/a")]
    query = unit(1, seed=99)[0]
    exact = dict(zip(ids, (vectors @ query).tolist(), strict=True))
    found = store.nearest(query, limit=7)
    assert [i for i, _ in found] == sorted(exact, key=lambda i: -exact[i])[:7]
    assert dict(found) == pytest.approx({i: exact[i] for i, _ in found}, abs=1e-5)
    assert store.similarities(query, ids) == pytest.approx(exact, abs=1e-5)
    assert len(store.nearest(query, limit=10**6)) == len(ids)


def test_matching_prefers_titles_and_rare_words_and_is_positive(store):
    store.put(*entry("/a", "holiday rules and more of it", title="Other"))
    store.put(*entry("/b", "rules about something else at all", title="Holiday"))
    for number in range(8):
        store.put(*entry(f"/{number}", "nothing to see in this one", title="Filler"))
    found = store.matching(["holiday", "rules"], limit=10)
    assert [store.hydrate([i])[i].path for i, _ in found] == ["/b", "/a"]
    assert found[0][1] > found[1][1] > 0
    assert len(store.matching(["holiday", "nothing"], limit=3)) == 3


@pytest.mark.parametrize(
    "term", ["智能", "人工智能", "Rückgabe", "RUCKGABE", "policies", "policy", "e\u0301tude", "wiki"]
)
def test_words_are_found_across_inflection_accents_and_scripts(store, term):
    store.put(*entry("/a", "人工智能很有趣 Rückgaberecht: Rückgabe. The policy. Étude. \uf0b7wiki", size=100))
    assert [i for i, _ in store.matching([term], limit=5)] == [store.chunks_of("/a")[0][0]]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_finds_nothing(store, limit):
    filled(store)
    assert store.matching(["apple"], limit=limit) == store.nearest(unit(1)[0], limit=limit) == []


def test_document_frequency_counts_chunks(store):
    store.put(*entry("/a", "one two three four one two", size=13))
    assert store.document_frequency(["one", "two", "five", "!?", ""]) == {
        "one": 2,
        "two": 2,
        "five": 0,
        "!?": 0,
        "": 0,
    }


@pytest.mark.parametrize(
    "terms",
    [
        ["AND"],
        ["apple NOT pie"],
        ['apple" OR "pie'],
        ["context:apple"],
        ["app*"],
        ["+ apple pear"],
        ["NEAR(apple pie, 9)"],
        ["{context body}: apple"],
        ['"', "'", "\0", "\ud800"],
        [],
        [""],
    ],
)
def test_nothing_a_user_types_is_an_operator(store, terms):
    filled(store)
    assert store.matching(terms, limit=9) == []


def test_very_many_terms_are_no_problem(store):
    filled(store)
    assert len(store.matching([f"word{i}" for i in range(5000)] + ["apple"], limit=9)) == 4


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    with Store.open(tmp_path_factory.mktemp("searched") / "index.db", maker=MAKER) as opened:
        opened.put(*entry("/a", "unmistakable"))
        yield opened


@QUICK
@given(st.lists(ANY_TEXT, max_size=4))
def test_any_text_makes_a_query_without_syntax_error_or_operator(searched, terms):
    quoted = quote_terms(terms)
    assert quoted.count('"') % 2 == 0
    searched.matching(terms, limit=3)
    assert len(searched.matching([*terms, "unmistakable"], limit=3)) == 1


# filters ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (parse_filter(), ["/docs/a.md", "/docs/hr.md", "/docs/sub/b.pdf", "/x/[c].txt"]),
        (parse_filter(types=["pdf", "text"]), ["/docs/sub/b.pdf", "/x/[c].txt"]),
        (parse_filter(tags=["food"]), ["/docs/a.md", "/x/[c].txt"]),
        (parse_filter(tags=["food", "sweet"]), ["/docs/a.md"]),
        (parse_filter(["tag!=sweet"], tags=["food"]), ["/x/[c].txt"]),
        (parse_filter(["tag~s*"]), ["/docs/a.md"]),
        (parse_filter(["path~*.md"]), ["/docs/a.md", "/docs/hr.md"]),
        (parse_filter(["path~docs/?.md"]), ["/docs/a.md"]),
        (parse_filter(["path~[[]c].txt"]), ["/x/[c].txt"]),
        (parse_filter(["path~[c].txt"]), []),
        (parse_filter(["path=/docs/a.md", "path=/x/[c].txt"]), ["/docs/a.md", "/x/[c].txt"]),
        (parse_filter(["title~*e*", "title!=Trees"]), ["/docs/a.md", "/x/[c].txt"]),
        (parse_filter(["label="]), ["/docs/a.md", "/docs/sub/b.pdf"]),
        (parse_filter(["label~h?"]), ["/docs/hr.md"]),
        (parse_filter(newer_than="60h", now=60 * 3600 + 50.0), ["/docs/sub/b.pdf"]),
        (parse_filter(labels=["", "kitchen"]), ["/docs/a.md", "/docs/sub/b.pdf", "/x/[c].txt"]),
        (parse_filter(["label=hr"], labels=["", "kitchen"]), []),
        (parse_filter(labels=[]), []),
        (parse_filter(["title='; DROP TABLE chunks; --"]), []),
    ],
)
def test_a_filter_holds_in_every_way_of_searching(store, where, expected):
    assert paths(filled(store), where) == expected


GLOB = st.lists(st.sampled_from(["a", "b", "^", "-", "!", "[", "[a", "]", "*", "?", "[!a]", "[^b]", "[a-c]", "[^-b]"]))


@settings(deadline=None, max_examples=300)
@given(GLOB.map("".join), st.text("ab^-[]!c/", max_size=6))
def test_globs_mean_what_fnmatch_means(searched, pattern, name):
    if "[]-" in pattern or "[!]-" in pattern:  # a range from "]" is one only to fnmatch
        return
    assert bool(searched._database.value("SELECT ? GLOB ?", (name, sqlite_glob(pattern)))) == fnmatchcase(name, pattern)


# vectors and chunks that do not fit -----------------------------------------------------------------------------------


@QUICK
@given(
    bad=st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1.002, 0.998, 3.4e38]),
    row=st.integers(0, 2),
    column=st.integers(0, DIMENSION - 1),
)
def test_a_vector_that_is_not_finite_and_of_norm_one_is_never_written(searched, bad, row, column):
    document, chunks, vectors = entry("/bad", "x" * 120)
    if np.isfinite(bad) and bad < 2:
        vectors[row] *= bad
    else:
        vectors[row, column] = bad
    with pytest.raises(ValueError, match="norm 1"):
        searched.put(document, chunks, vectors)
    with pytest.raises(ValueError, match="norm 1"):
        searched.nearest(vectors[row], limit=1)
    assert searched.document("/bad") is None


@pytest.mark.parametrize(
    "vectors",
    [
        unit(2),
        unit(3).astype(np.float64),
        unit(3)[:, :4],
        unit(3)[0],
        unit(3).astype(object),
        [],
        np.empty((0, 8), "f4"),
    ],
)
def test_vectors_of_another_shape_or_type_are_refused(store, vectors):
    document, chunks, _ = entry("/a", "x" * 120)
    with pytest.raises(ValueError, match="float32 of shape"):
        store.put(document, chunks, vectors)


@pytest.mark.parametrize("vector", [unit(1), unit(1)[0, :4], unit(1)[0].astype(np.float64), np.float32(1)])
def test_a_query_vector_of_another_shape_or_type_is_refused(store, vector):
    with pytest.raises(ValueError, match="float32 of shape"):
        store.nearest(vector, limit=1)
    with pytest.raises(ValueError, match="float32 of shape"):
        store.similarities(vector, [1])


@pytest.mark.parametrize("chunk", [Chunk(0, 4, "other"), Chunk(2, 2, ""), Chunk(8, 99, "ds"), Chunk(-2, -1, "d")])
def test_a_chunk_that_is_not_a_part_of_the_text_is_refused(store, chunk):
    with pytest.raises(ValueError, match="not a part"):
        store.put(entry("/a")[0], [chunk], unit(1))


@pytest.mark.parametrize("fields", [{"text": "\ud800"}, {"title": "\udcff"}, {"path": "/\udcff"}])
def test_text_that_is_not_unicode_is_refused_whole(store, fields):
    document = replace(entry("/a", "x")[0], **fields)
    with pytest.raises(ValueError, match="surrogates"):
        store.put(document, [Chunk(0, 1, document.text)], unit(1))
    assert store.files() == {}


def test_a_vector_of_an_unknown_chunk_is_a_key_error(store):
    with pytest.raises(KeyError):
        store.vectors([1])
    assert store.vectors([]).shape == (0, DIMENSION)


# opening ------------------------------------------------------------------------------------------------------------


def test_an_index_names_its_maker_and_refuses_another(tmp_path):
    path = tmp_path / "index.db"
    Store.open(path, maker=MAKER).close()
    with Store.open(path, maker=None) as store:
        assert store.maker == MAKER
    for other in (replace(MAKER, embedder="new"), replace(MAKER, digest="f"), replace(MAKER, chunker="2")):
        with pytest.raises(EmbedderMismatch, match="edgeai sync FOLDER --rebuild") as caught:
            Store.open(path, maker=other)
        assert "toy" in str(caught.value)
        assert other.embedder in str(caught.value)


@pytest.mark.parametrize(
    "arguments", [{"maker": None}, {"maker": MAKER, "create": False}, {"maker": MAKER, "read_only": True}]
)
def test_a_missing_index_is_not_made_unless_asked_for(tmp_path, arguments):
    with pytest.raises(IndexMissing, match="edgeai sync"):
        Store.open(tmp_path / "new" / "index.db", **arguments)
    assert list(tmp_path.iterdir()) == []


@posix_only
def test_index_and_its_folder_are_private(tmp_path):
    before = os.umask(0)
    try:
        with Store.open(tmp_path / "new" / "deep" / "index.db", maker=MAKER) as store:
            store.put(*entry("/a"))
            made = list((tmp_path / "new").rglob("*"))
            assert {stat.S_IMODE(p.stat().st_mode) for p in made if p.is_file()} == {0o600}
            assert len(made) >= 3
        assert {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "new", tmp_path / "new" / "deep")} == {0o700}
    finally:
        os.umask(before)


def other_sqlite(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()


def newer_index(path: Path) -> None:
    Store.open(path, maker=MAKER).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (lambda path: path.write_text("dear diary " * 50), "choose another file"),
        (lambda path: path.write_bytes(b"SQLite format 3\0"), "choose another file"),
        (lambda path: path.write_bytes(os.urandom(5000)), "choose another file"),
        (other_sqlite, "choose another file"),
        (newer_index, "pip install --upgrade"),
    ],
)
def test_a_file_that_is_not_our_index_is_refused_untouched(tmp_path, make, remedy):
    path = tmp_path / "index.db"
    make(path)
    content = path.read_bytes()
    for maker in (MAKER, None):
        with pytest.raises(IndexUnusable, match=remedy):
            Store.open(path, maker=maker)
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["index.db"]


def test_a_folder_and_a_path_below_a_file_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file" / "index.db"):
        with pytest.raises(IndexUnusable, match="name a"):
            Store.open(path, maker=MAKER)


def test_an_empty_file_left_by_a_killed_creation_is_used(tmp_path):
    (tmp_path / "index.db").touch()
    with pytest.raises(IndexMissing):
        Store.open(tmp_path / "index.db", maker=None)
    with Store.open(tmp_path / "index.db", maker=MAKER) as store:
        store.put(*entry("/a"))


def test_odd_file_names_are_only_names(tmp_path):
    path = tmp_path / "a b?immutable=1#ü%41.db"
    with Store.open(path, maker=MAKER) as store:
        store.put(*entry("/a"))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


READ_ONLY = """
import sys
from edgeai.errors import ReadOnly
from edgeai.store import Store
from toy_index import DIMENSION, MAKER, entry, filled, unit
import toy_index as t
for read_only in (True, False):
    with Store.open(sys.argv[1], maker=t.MAKER, read_only=read_only) as store:
        t.search_everything(store)
        assert len(store.matching(["apple"], limit=9)) == 4
        assert store.check() == [] and store.status()["read_only"]
        for change in (lambda: store.put(*t.entry("/z")), store.vacuum, lambda: store.remove(["/docs/a.md"])):
            try:
                change()
            except ReadOnly as error:
                assert "writable" in str(error)
            else:
                sys.exit("written")
"""


@posix_only
def test_a_read_only_folder_can_be_searched_but_not_written():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Store.open(folder / "index.db", maker=MAKER) as store:
            filled(store)
        (folder / "index.db").chmod(0o444)
        folder.chmod(0o555)
        bound = []
        if os.geteuid() == 0:  # permissions do not bind the superuser, unless it gives up its capabilities
            bound = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
            if shutil.which("setpriv") is None:
                pytest.skip("running as root without setpriv")
        try:
            command = [*bound, *child(READ_ONLY, folder / "index.db")]
            run = subprocess.run(command, capture_output=True)
            assert run.returncode == 0, run.stderr.decode()
            assert [p.name for p in folder.iterdir()] == ["index.db"]
        finally:
            folder.chmod(0o755)


def test_opened_for_reading_beside_a_writer_it_sees_new_commits(store):
    with Store.open(store.status()["path"], maker=MAKER, read_only=True) as reader:
        assert reader.files() == {}
        store.put(*entry("/a"))
        assert list(reader.files()) == ["/a"]
        with pytest.raises(ReadOnly):
            reader.put(*entry("/b"))


# several threads and processes ----------------------------------------------------------------------------------------


def test_threads_write_and_search_at_once(store):
    failures = []

    def work(number: int) -> None:
        try:
            for i in range(10):
                store.put(*entry(f"/{number}/{i}", f"common words by{number}"))
                assert store.matching([f"by{number}"], limit=20)
                assert store.nearest(unit(1)[0], limit=3)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.count_documents() == 40
    threading.Thread(target=store.count_chunks).start()
    assert len(store._database._connections) <= 3, "connections of ended threads are closed"


def test_a_closed_store_says_so(store):
    store.close()
    store.close()
    with pytest.raises(ValueError, match="closed"):
        store.count_chunks()


def test_closing_ends_the_searches_of_other_threads_cleanly(tmp_path):
    store = Store.open(tmp_path / "index.db", maker=MAKER)
    store.put(*entry("/a", "some words " * 5000))
    searching, outcome = threading.Event(), []

    def search() -> None:
        try:
            while True:
                store.nearest(unit(1)[0], limit=1000)
                store.matching(["words"], limit=1000)
                searching.set()
        except (IndexUnusable, ValueError) as error:
            outcome.append(str(error))

    thread = threading.Thread(target=search)
    thread.start()
    assert searching.wait(10)
    store.close()
    thread.join(10)
    assert len(outcome) == 1
    assert "was closed" in outcome[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_is_told_to_open_the_index_again(store):
    store.put(*entry("/a"))
    child = os.fork()
    if child == 0:
        try:
            store.count_chunks()
        except RuntimeError as error:
            store.close()
            os._exit(0 if "fork" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    store.put(*entry("/b"))


WRITER = """
import sys
import toy_index as t
with t.Store.open(sys.argv[1], maker=t.MAKER) as store:
    for number in range(int(sys.argv[3])):
        path = f"/{sys.argv[2]}/{number}"
        store.put_many([t.entry(path, f"document {path} " * 30), t.entry("/shared", "version " + path)])
        print(path, flush=True)
"""


def writer(path: Path, name: str, count: int) -> subprocess.Popen:
    return subprocess.Popen(child(WRITER, path, name, count), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_create_and_write_one_index_at_once(tmp_path):
    path = tmp_path / "index.db"
    running = [writer(path, name, 40) for name in "abc"]
    for process in running:
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
        assert len(output.split()) == 40
    with Store.open(path, maker=MAKER) as store:
        assert store.count_documents() == 121
        assert store.check() == []


def test_what_was_acknowledged_survives_kill_9(tmp_path):
    with ThreadPoolExecutor() as pool:
        acknowledged = list(pool.map(lambda seed: write_and_be_killed(tmp_path / f"{seed}.db", seed), range(3)))
    assert all(len(paths) > 5 for paths in acknowledged), "killed too early to have shown anything"


def write_and_be_killed(path: Path, seed: int) -> set[str]:
    """Five times: write until killed at a random moment, then open the index and compare with the oracle.

    Returns the paths that were acknowledged.
    """
    chance = random.Random(seed)
    acknowledged: set[str] = set()
    for attempt in range(5):
        with writer(path, f"{seed}.{attempt}", 10_000) as process:
            lines = [process.stdout.readline() for _ in range(chance.randrange(8))]
            threading.Timer(chance.random() * 0.02, process.kill).start()
            lines += process.stdout.readlines()
        acknowledged.update(line.strip() for line in lines if line.endswith("\n"))
        if not schema.exists(path):
            continue  # killed before there was an index
        with Store.open(path, maker=MAKER) as store:
            assert store.check() == []
            stored = store.files()
            assert acknowledged <= stored.keys() - {"/shared"}
            assert len(stored) <= len(acknowledged) + attempt + 2, "more than one unacknowledged write a kill"
            for name in stored.keys() - {"/shared"}:
                assert store.document(name).text == f"document {name} " * 30
    return acknowledged


# errors -------------------------------------------------------------------------------------------------------------


def test_a_long_write_of_another_process_is_reported_as_busy(store, monkeypatch):
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 50)
    with Store.open(store.status()["path"], maker=MAKER) as other, store._database.transaction():
        assert other.count_chunks() == 0, "readers do not wait"
        with pytest.raises(IndexBusy, match="try again"):
            other.put(*entry("/a"))


def test_a_full_disk_loses_nothing_and_the_index_goes_on_afterwards(store):
    store.put(*entry("/kept", "kept words"))
    pages = store._database.value("PRAGMA page_count")
    connection = store._database.connection()
    for extra in range(0, 40, 3):
        connection.pragma("max_page_count", pages + extra)
        with pytest.raises(DiskFull, match="free some space"):
            store.put(*entry("/large", "large words " * 40_000, size=400))
        assert list(store.files()) == ["/kept"]
        assert store.check() == []
    connection.pragma("max_page_count", 1_000_000)
    store.put(*entry("/large", "large words " * 40_000, size=400))
    assert store.matching(["kept"], limit=1)


DAMAGE = """
import random, sys
from pathlib import Path
import toy_index as t
from edgeai.errors import EdgeAIError
original, target = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
outcomes = {"error": 0, "found": 0, "unnoticed": 0}
for seed in range(int(sys.argv[3])):
    chance, data = random.Random(seed), bytearray(original)
    kind = seed % 4
    for _ in range(chance.choice((1, 20, 400))):
        at = chance.randrange(len(data))
        page = at // 4096 * 4096
        if kind == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[page : page + 100] = bytes(len(data[page : page + 100]))
        elif kind == 2:
            data[page + 8 : page + 40] = chance.randbytes(len(data[page + 8 : page + 40]))
        elif len(data) > 4096:
            del data[chance.randrange(len(data) // 2, len(data)) :]
    for side in target.parent.glob(target.name + "*"):
        side.unlink()
    target.write_bytes(data)
    print(seed, file=sys.stderr, flush=True)
    try:
        with t.Store.open(target, maker=t.MAKER) as store:
            found = store.check()
            uses = (
                lambda: t.search_everything(store),
                lambda: list(store.documents()),
                lambda: store.status() and store.boilerplate(),
                lambda: store.put(*t.entry("/docs/a.md", "apple words")),
                lambda: store.remove(["/docs/hr.md"]),
                lambda: store.move("/x/[c].txt", "/y", modified=1.0, title="New"),
                lambda: store.vacuum(),
            )
            for use in uses:
                try:
                    use()
                except EdgeAIError:
                    found.append("error")
            outcomes["found" if found else "unnoticed"] += 1
    except EdgeAIError:
        outcomes["error"] += 1
print(outcomes)
"""


def test_a_damaged_file_never_raises_anything_but_our_errors(tmp_path):
    path = tmp_path / "index.db"
    with Store.open(path, maker=MAKER) as store:
        filled(store)
        store.put(*entry("/long", "many words of text " * 3000, size=300))
    command = child(DAMAGE, path, tmp_path / "damaged.db", 100)
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-3000:]
    outcomes = eval(run.stdout)
    assert outcomes["error"] + outcomes["found"] > 50


# check --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sabotage", "finding"),
    [
        ("DELETE FROM fts WHERE rowid = 2", "chunks missing from the keyword index"),
        ("INSERT INTO fts (rowid, context, body) VALUES (99, '', 'x')", "keyword entries without a chunk"),
        ("DELETE FROM vectors WHERE rowid = 2", "chunks without a vector"),
        ("INSERT INTO vectors (rowid, embedding) SELECT 99, embedding FROM vectors WHERE rowid = 1", "vectors without"),
        ("UPDATE vectors_vector_chunks00 SET vectors = zeroblob(length(vectors))", "missing or not of norm 1"),
        ("UPDATE vectors_chunks SET validity = zeroblob(length(validity))", "search does not see"),
        ("UPDATE vectors_rowids SET chunk_offset = 3 WHERE rowid = 2", "search does not see"),
        ("DELETE FROM chunks WHERE id = 2", "keyword entries without a chunk"),
        ("UPDATE chunks SET stop = 99999 WHERE id = 2", "outside of their document"),
        ("UPDATE chunks SET start = start + 1 WHERE id = 2", "not found by their words"),
        ("UPDATE texts SET text = 'other' WHERE document_id = 2", "text has gaps"),
        ("DELETE FROM texts WHERE document_id = 2", "text has gaps"),
        ("PRAGMA foreign_keys = OFF; DELETE FROM documents WHERE id = 2", "belong to no document"),
        ("DELETE FROM fts_data WHERE id = 10", "is damaged"),
    ],
)
def test_check_names_every_disagreement(tmp_path, sabotage, finding):
    with Store.open(tmp_path / "index.db", maker=MAKER) as store:
        assert filled(store).check() == []
        store._database.connection().execute(sabotage)
    with Store.open(tmp_path / "index.db", maker=MAKER) as store:
        assert finding in " ".join(store.check())


# deleted means gone -------------------------------------------------------------------------------------------------


def test_after_vacuum_nothing_of_a_removed_document_is_left_in_any_file(tmp_path):
    document, chunks, vectors = entry("/secret.txt", "before xqzcanaryxqz after", title="qqtitlecanary", seed=5)
    with Store.open(tmp_path / "index.db", maker=MAKER) as store:
        for number in range(300):
            store.put(*entry(f"/{number}", f"ordinary text number{number}", seed=number + 10))
        store.put(document, chunks, vectors)
        needles = [b"xqzcanaryxqz", b"qqtitlecanary", b"/secret.txt", vectors[0].tobytes()]
        content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert all(needle in content for needle in needles)
        store.remove(["/secret.txt", *(f"/{number}" for number in range(0, 300, 3))])
        store.vacuum()
        content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert not any(needle in content for needle in needles)
        assert store.check() == []
        assert len(store.nearest(unit(1)[0], limit=1000)) == 200


def test_vacuum_gives_space_back_and_other_threads_search_on(tmp_path):
    with (
        Store.open(tmp_path / "index.db", maker=MAKER) as store,
        Store.open(tmp_path / "index.db", maker=None) as other,
    ):
        batch = [entry(f"/{number}", f"text number{number} " * 60, size=50, seed=number) for number in range(100)]
        store.put_many(batch)
        assert store.count_chunks() > 10 * VECTOR_BLOCK
        assert other.nearest(unit(1)[0], limit=5) == store.nearest(unit(1)[0], limit=5)
        store.remove([f"/{number}" for number in range(90)])
        store.vacuum()
        assert other.nearest(unit(1)[0], limit=5) == store.nearest(unit(1)[0], limit=5)
        assert other.matching(["number95"], limit=5)
        with Store.open(tmp_path / "fresh.db", maker=MAKER) as fresh:
            fresh.put_many(batch[90:])
            fresh.vacuum()
            assert store.status()["bytes"] <= 1.2 * fresh.status()["bytes"]
