import math
import string
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeai.config import DEFAULT_EMBEDDER
from edgeai.filters import Filter, parse_filter
from edgeai.grounding.read import READABLE
from edgeai.onnx.encoders import OnnxEmbedder
from edgeai.records import Chunk, Document
from edgeai.registry import Registry
from edgeai.retrieve import fuse, language_trust, search
from edgeai.specs import EmbedderSpec
from edgeai.store import Maker, Store


class LetterEmbedder:
    """A text as how often each letter occurs, plus one dimension that is never zero; a token is a word."""

    spec = EmbedderSpec("letters", "", "", "0" * 64, 27)

    def embed_query(self, text):
        counts = [1.0] + [float(text.lower().count(letter)) for letter in string.ascii_lowercase]
        vector = np.array(counts, np.float32)
        return vector / np.linalg.norm(vector)

    def embed_passages(self, texts):
        return np.stack([self.embed_query(text) for text in texts])

    def count_tokens(self, text):
        return len(text.split())


@pytest.fixture
def store(tmp_path):
    spec = LetterEmbedder.spec
    with Store.open(tmp_path / "index.db", maker=Maker(spec.name, spec.digest, spec.dimension, "1")) as opened:
        yield opened


def put(store, path, *texts, embedder=None, title="", label=""):
    """A document whose chunks are these texts."""
    embedder = embedder or LetterEmbedder()
    whole = "\n\n".join(texts)
    chunks, start = [], 0
    for text in texts:
        chunks.append(Chunk(start, start + len(text), text))
        start += len(text) + 2
    store.put(Document(path, whole, "text", title, 0.0, "", label=label), chunks, embedder.embed_passages(list(texts)))


def paths(retrieval):
    return [hit.path for hit in retrieval.hits]


# fusion -----------------------------------------------------------------------------------------------------------


def ranked(ids, low):
    """A list as a search returns it: distinct ids with falling scores not below `low`."""
    scores = st.lists(st.floats(low, 30, allow_nan=False), min_size=len(ids), max_size=len(ids))
    return scores.map(lambda drawn: list(zip(ids, sorted(drawn, reverse=True), strict=True)))


def orders():
    return st.lists(st.integers(0, 20), unique=True, max_size=12)


@st.composite
def searches(draw):
    keyword = draw(orders().flatmap(lambda ids: ranked(ids, 0.0)))
    nearest = [(i, score / 30) for i, score in draw(orders().flatmap(lambda ids: ranked(ids, -30.0)))]
    floor = min((score for _, score in nearest), default=1.0)
    cosines = {i: draw(st.floats(-1, floor)) for i, _ in keyword} | dict(nearest)
    return keyword, nearest, cosines, draw(st.floats(0, 1))


@given(searches(), st.floats(0, 200))
def test_a_chunk_that_is_ahead_in_both_lists_is_never_behind(found, highest):
    keyword, nearest, _, _ = found
    scores = fuse(*found, highest)
    by_words = {i: rank for rank, (i, _) in enumerate(keyword)}
    by_vector = {i: rank for rank, (i, _) in enumerate(nearest)}
    for a in by_words.keys() & by_vector.keys():
        for b in scores:
            if by_words[a] < by_words.get(b, 99) and by_vector[a] < by_vector.get(b, 99):
                assert scores[a] >= scores[b]


@given(searches(), st.permutations(range(21)))
def test_scores_do_not_depend_on_the_ids(found, new):
    keyword, nearest, cosines, trust = found
    renamed = fuse(
        [(new[i], s) for i, s in keyword],
        [(new[i], s) for i, s in nearest],
        {new[i]: s for i, s in reversed(cosines.items())},
        trust,
    )
    assert renamed == {new[i]: score for i, score in fuse(*found).items()}


@given(searches())
def test_without_trust_in_the_embedder_the_keyword_order_stays(found):
    keyword, nearest, cosines, _ = found
    scores = fuse(keyword, nearest, cosines, 0.0)
    order = [scores[i] for i, _ in keyword]
    assert order == sorted(order, reverse=True)
    assert all(scores[i] == 0 for i, _ in nearest if i not in dict(keyword))


def test_fused_scores_can_be_computed_by_hand():
    scores = fuse([(1, 10.0), (2, 5.0)], [(2, 0.8)], {1: 0.4, 2: 0.8}, 0.5)
    assert scores[1] == pytest.approx(1.0 + 0.2 * 60 / 61 + 0.5 * 1.5 * 0.4)
    assert scores[2] == pytest.approx(0.5 + 0.2 * 60 / 62 + 0.5 * (1.5 * 0.8 + 0.2 * 60 / 61))


def test_the_best_of_bad_matches_counts_for_less_than_a_good_one():
    scores = fuse([(1, 10.0), (2, 5.0)], [], {}, 1.0, highest=50.0)  # where 40 % of 50 is good
    assert scores[1] == pytest.approx(0.5 * (1 + 0.2 * 60 / 61))
    assert scores[2] == pytest.approx(0.5 * (0.5 + 0.2 * 60 / 62))
    assert fuse([(1, 10.0)], [], {}, 1.0, highest=20.0) == fuse([(1, 10.0)], [], {}, 1.0)


def test_trust_falls_with_the_pieces_an_embedder_cuts_a_question_into():
    def pieces_of(size):
        return lambda text: -(-len(text) // size)

    question = "parental leave days in Rome?"
    assert language_trust(question, pieces_of(5)) == 1.0
    assert language_trust(question, pieces_of(2)) == pytest.approx(0.5)
    assert language_trust(question, pieces_of(1)) == pytest.approx(0.25)
    assert language_trust("", len) == 0.0


def test_an_english_question_is_trusted_whatever_numbers_and_codes_are_in_it(embedder):
    for question in ("Who signs orders over £18,000?", "Who issues form OR-2?", "What does QV-1151 mean?"):
        assert language_trust(question, embedder.count_tokens) == 1.0
    for question in ("Wer unterschreibt Bestellungen über 18.000 €?", "Was kostet ein Zimmer auf Sandwater?"):
        assert language_trust(question, embedder.count_tokens) < READABLE


def test_words_an_embedder_does_not_know_earn_no_trust():
    def knows_ascii(text):  # any other word is one token, as in WordPiece
        return sum(-(-len(word) // 8) if word.isascii() else 1 for word in text.split())

    assert 0 < language_trust("ఫ్రాన్స్ రాజధాని ఏది", knows_ascii) < 0.3
    assert language_trust("capital of France", knows_ascii) == 1.0


# search -----------------------------------------------------------------------------------------------------------


def test_hits_tell_where_they_came_from(store):
    put(store, "/a", "zebra zebra zebra")
    put(store, "/b", "the otter swims")
    put(store, "/c", "an eagle flies")
    began = time.perf_counter()
    found = search("Which otter swims?", store, LetterEmbedder())
    elapsed = (time.perf_counter() - began) * 1000
    first = found.hits[0]
    assert (first.path, first.keyword_rank, first.vector_rank) == ("/b", 1, 1)
    assert first.keyword_score > 0
    assert first.similarity == pytest.approx(found.similarity, abs=1e-6)
    assert [hit.score for hit in found.hits] == sorted((hit.score for hit in found.hits), reverse=True)
    last = next(hit for hit in found.hits if hit.path == "/a")
    assert (last.keyword_rank, last.keyword_score) == (None, None)
    assert found.embed_ms > 0
    assert found.search_ms > 0
    assert found.embed_ms + found.search_ms <= elapsed


def test_without_an_embedder_keywords_alone_are_searched(store):
    put(store, "/a", "the otter swims in the river")
    put(store, "/b", "an eagle flies over the river")
    found = search("otter", store, None)
    assert paths(found) == ["/a"]
    assert found.similarity == 0.0
    assert found.embed_ms == 0.0
    assert found.hits[0].vector_rank is None
    assert found.hits[0].similarity is None


@pytest.mark.parametrize("question", ["", "  ", "?!", "🙂"])
def test_a_question_without_a_word_finds_nothing(store, question):
    put(store, "/a", "anything")
    assert search(question, store, LetterEmbedder()).hits == ()


@pytest.mark.parametrize("question", ['"otter" AND', "otter*", "NEAR(otter, 2)", "body:otter -swims", "otter\0swims"])
def test_nothing_in_a_question_is_an_operator(store, question):
    put(store, "/a", "the otter swims")
    assert paths(search(question, store, LetterEmbedder())) == ["/a"]


def test_an_empty_index_finds_nothing(store):
    found = search("otter", store, LetterEmbedder())
    assert (found.hits, found.coverage, found.similarity) == ((), 0.0, 0.0)


def test_an_index_of_one_chunk_answers(store):
    put(store, "/a", "the otter swims")
    found = search("Where does the otter swim in?", store, LetterEmbedder())
    assert paths(found) == ["/a"]
    assert found.coverage == pytest.approx(1.0)


def test_copies_are_left_out(store):
    text = "Parental leave lasts fourteen weeks and is paid in full by the employer of the parent."
    put(store, "/a", text)
    put(store, "/copy", text.upper().replace(" ", "  "))
    put(store, "/part", "Parental leave lasts fourteen weeks and is paid in full by the employer")
    put(store, "/other", "Parental leave needs a form.")
    assert sorted(paths(search("parental leave weeks paid employer parent", store, LetterEmbedder()))) == [
        "/a",
        "/other",
    ]


def test_texts_that_contradict_each_other_are_both_kept(store):
    text = "Parental leave lasts {} weeks and is paid in full by the employer of the parent, without exception. " * 5
    put(store, "/old", text.format(*[12] * 5))
    put(store, "/new", text.format(*[14] * 5))
    put(store, "/newest", text.format(*["fourteen"] * 5))
    assert sorted(paths(search("parental leave", store, LetterEmbedder()))) == ["/new", "/newest", "/old"]


ANIMALS = ("otter", "badger", "heron", "newt", "vole", "shrew")


def test_past_the_cap_other_documents_come_first(store):
    put(store, "/big", *(f"river {animal}" for animal in ANIMALS))
    put(store, "/small", "river lynx")
    put(store, "/tiny", "river mole")
    found = search("river", store, LetterEmbedder(), limit=4, per_document=2)
    assert sorted(paths(found)) == ["/big", "/big", "/small", "/tiny"]


def test_one_document_fills_up_past_its_cap(store):
    put(store, "/big", *(f"river {animal}" for animal in ANIMALS))
    assert len(search("river", store, LetterEmbedder(), limit=5, per_document=2).hits) == 5


def test_a_document_that_hardly_fits_does_not_displace_a_good_chunk(store):
    put(store, "/big", *(f"The river {animal} eats fish at night." for animal in ANIMALS))
    put(store, "/noise", "zzz qqq xxx")
    found = search("Which river animal eats fish at night?", store, LetterEmbedder(), limit=4, per_document=1)
    assert paths(found) == ["/big"] * 4


def test_the_chunk_nearest_in_meaning_is_among_the_hits(store):
    for number in range(6):
        put(store, f"/{number}", f"river stone river stone {ANIMALS[number]} river stone")
    put(store, "/nearest", "sentor evir")  # the letters of the question, and none of its words
    found = search("river stone", store, LetterEmbedder(), limit=3)
    assert paths(found)[2] == "/nearest"
    assert [hit.score for hit in found.hits] == sorted((hit.score for hit in found.hits), reverse=True)
    assert paths(search("river stone", store, LetterEmbedder(), limit=7))[4] == "/nearest"
    assert "/nearest" not in paths(search("river stone", store, LetterEmbedder(), limit=1))
    assert "/nearest" not in paths(search("river stone", store, None, limit=8))


def test_filters_hold_for_both_searches(store):
    put(store, "/public/a", "the otter swims")
    put(store, "/secret/b", "the otter swims at night", label="secret")
    for embedder in (LetterEmbedder(), None):
        by_label = search("otter", store, embedder, where=Filter(labels=frozenset({""})))
        by_path = search("otter", store, embedder, where=parse_filter(["path~/secret/*"]))
        assert paths(by_label) == ["/public/a"]
        assert paths(by_path) == ["/secret/b"]


def test_no_more_hits_than_asked_for(store):
    for number in range(12):
        put(store, f"/{number}", f"otter number {number}")
    assert [len(search("otter", store, LetterEmbedder(), limit=limit).hits) for limit in (0, 1, 5, 50)] == [0, 1, 5, 12]


def test_coverage_is_the_share_of_the_question_found_in_one_chunk(store):
    put(store, "/a", "The otter swims in rivers.", title="Mammals")
    put(store, "/b", "The eagle flies.")
    put(store, "/c", "A stone lies still.")
    embedder = LetterEmbedder()
    assert search("Do otters swim?", store, embedder).coverage == pytest.approx(1.0)
    assert search("mammals: the otter", store, embedder).coverage == pytest.approx(1.0)
    assert search("quantum chromodynamics", store, embedder).coverage == 0.0
    assert 0 < search("otter chromodynamics", store, embedder).coverage < 0.5  # the unknown word is the rarer one


def test_a_rare_word_counts_for_more_of_the_coverage(store):
    for name in "abcd":
        put(store, f"/{name}", f"river {name}")
    put(store, "/e", "otter")
    rare, common = math.log1p((5 - 1 + 0.5) / 1.5), math.log1p((5 - 4 + 0.5) / 4.5)
    assert search("otter river", store, None).coverage == pytest.approx(rare / (rare + common))


def test_an_embedder_that_fails_leaves_the_store_usable(store):
    class Failing(LetterEmbedder):
        def embed_query(self, text):
            raise RuntimeError("no memory")

    put(store, "/a", "the otter swims")
    with pytest.raises(RuntimeError, match="no memory"):
        search("otter", store, Failing())
    assert paths(search("otter", store, LetterEmbedder())) == ["/a"]


def test_searches_of_several_threads_agree(store):
    for number in range(20):
        put(store, f"/{number}", f"otter number {number}", f"eagle number {number}")
    questions = [f"otter number {number}" for number in range(20)] * 3
    alone = [search(question, store, LetterEmbedder()).hits for question in questions]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda question: search(question, store, LetterEmbedder()).hits, questions))
    assert together == alone


# the shipped embedder ---------------------------------------------------------------------------------------------


LANGUAGES = ("Wie lange dauert die Elternzeit?", "食堂几点开门？", "เมืองหลวงของประเทศไทยคืออะไร", "የኢትዮጵያ ዋና ከተማ")


def test_the_shipped_embedder_adds_meaning_to_words_in_english_and_does_no_harm_in_other_languages(tmp_path):
    embedder = OnnxEmbedder(Registry(offline=True).embedder(DEFAULT_EMBEDDER))
    spec = embedder.spec
    texts = {
        "/leave": "Employees receive fourteen weeks off with full pay when a child is born.",
        "/travel": "Hotels are reimbursed up to 150 euros a night; book through the portal.",
        "/security": "Lock your screen and report a lost phone to the service desk at once.",
        "/de": "Der Betriebsrat tagt am ersten Montag des Monats im großen Saal.",
        "/zh": "公司食堂每天中午十一点半开门，下午两点关门。",
        "/zh2": "停车场位于大楼北侧，访客需要登记车牌。",
    }
    maker = Maker(spec.name, spec.digest, spec.dimension, "1")
    with Store.open(tmp_path / "index.db", maker=maker) as store:
        for path, text in texts.items():
            put(store, path, text, embedder=embedder)
        assert paths(search("How long is maternity leave?", store, embedder))[0] == "/leave"
        assert paths(search("Wann tagt der Betriebsrat?", store, embedder))[0] == "/de"
        assert paths(search("食堂几点开门？", store, embedder))[0] == "/zh"
        assert paths(search("访客把车停在哪里？", store, embedder))[0] == "/zh2"
        assert search("How long is maternity leave?", store, None).hits == ()
        trusts = [language_trust(text, embedder.count_tokens) for text in ("How long is the leave?", *LANGUAGES)]
        assert trusts[0] > 0.9
        assert max(trusts[1:]) < 0.8
    embedder.close()


def test_hits_do_not_change_with_the_order_of_indexing(tmp_path):
    texts = [
        f"The {animal} lives near the river and eats {food}." for animal, food in zip(ANIMALS, "abcdef", strict=True)
    ]
    seen = []
    for order in (texts, texts[::-1]):
        spec = LetterEmbedder.spec
        with Store.open(
            tmp_path / f"{len(seen)}.db", maker=Maker(spec.name, spec.digest, spec.dimension, "1")
        ) as store:
            for text in order:
                put(store, f"/{text[4:8]}", text)
            seen.append(paths(search("Which animal eats fish: heron or newt?", store, LetterEmbedder(), limit=3)))
    assert seen[0] == seen[1]
