import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeai.text.terms import MAX_TERMS, index_text, query_terms, words

CHINESE = "黑豹队的防守只丢了 308 分，在联赛中排名第六。"
GERMAN = "Die Verteidigung der Panthers gab nur 308 Punkte ab und belegte den sechsten Platz."

unspaced = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), min_size=2, max_size=30)


@pytest.fixture
def index():
    """An FTS5 table with the product's tokeniser."""
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE VIRTUAL TABLE texts USING fts5 (body, tokenize='porter unicode61 remove_diacritics 2')")
    yield connection
    connection.close()


def matches(index, text, term):
    index.execute("DELETE FROM texts")
    index.execute("INSERT INTO texts VALUES (?)", (index_text(text),))
    return bool(index.execute("SELECT 1 FROM texts WHERE texts MATCH ?", (f'"{term}"',)).fetchall())


@given(st.text())
def test_terms_hold_nothing_that_means_something_to_a_query_language(text):
    for term in query_terms(text):
        assert term
        assert not set(term) & set("\"'()*:^+-{}[]~?!,.;@\\/|&<>=#$%` \t\n\0_")


@given(st.text())
def test_terms_are_distinct_bounded_and_in_the_text(text):
    terms = query_terms(text)
    assert len(terms) == len(set(terms)) <= MAX_TERMS
    everything = index_text(text).lower()
    firsts = [everything.find(term) for term in terms]
    assert -1 not in firsts


@given(st.text())
def test_words_do_not_change_with_outer_space(text):
    assert words(f"  {text}\n") == words(text)


@given(st.text())
def test_terms_of_indexed_text_are_the_terms_of_the_text(text):
    assert words(index_text(text)) == words(text)


@given(unspaced, st.data())
def test_any_part_of_a_chinese_sentence_is_made_of_the_sentences_terms(sentence, data):
    start = data.draw(st.integers(0, len(sentence) - 2))
    end = data.draw(st.integers(start + 2, len(sentence)))
    assert set(words(sentence[start:end])) <= set(words(sentence))


@pytest.mark.parametrize(
    ("text", "question"),
    [
        (CHINESE, "黑豹队的防守丢了多少分？"),
        (GERMAN, "Wie viele Punkte gab die Verteidigung ab?"),
        ("パンサーズの守備は三百八点しか許さなかった。", "守備は何点許しましたか"),
        ("팬서스의 수비는 308점을 내주었다.", "수비는 몇 점을 내주었나요?"),
        ("กรุงเทพมหานครเป็นเมืองหลวง", "เมืองหลวงคืออะไร"),
        ("टीम ने तीन सौ आठ अंक दिए।", "टीम ने कितने अंक दिए?"),
        ("L’école de l'été a fermé.", "Quand ferme l'école d'été ?"),
        ("The Wi-Fi password is in max_tokens.", "wifi or Wi-Fi: what's the password?"),
    ],
)
def test_a_question_finds_its_text_in_a_real_index(index, text, question):
    found = [matches(index, text, term) for term in query_terms(question)]
    assert sum(found) >= 2


@given(st.text(st.characters(max_codepoint=0x2FFF, exclude_categories=("Cs", "Cn")), min_size=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_index_finds_a_text_by_every_ascii_term_of_it(index, text):
    terms = query_terms(text)
    assert all(matches(index, text, term) for term in terms if term.isascii())
    for term in terms:
        matches(index, text, term)


def test_runs_of_unspaced_scripts_become_overlapping_pairs():
    assert index_text("中国人WTO").split() == ["中国", "国人", "WTO"]
    assert index_text("A 中 B").split() == ["A", "中", "B"]
    assert index_text("plain text, as it is") == "plain text, as it is"


def test_compatibility_forms_are_unified():
    assert words("ﬁne Ｗｉｄｅ ①") == ("fine", "wide", "1")


@pytest.mark.parametrize(
    ("question", "terms"),
    [
        ("How long is the parental leave?", ("long", "parental", "leave")),
        ("Wie lange dauert die Elternzeit?", ("lange", "dauert", "elternzeit")),
        ("Quelle est la durée du congé parental ?", ("durée", "congé", "parental")),
        ("¿Cuánto dura el permiso parental?", ("dura", "permiso", "parental")),
        ("who won the war", ("won", "war")),
    ],
)
def test_stop_words_are_those_of_the_questions_own_language(question, terms):
    assert query_terms(question) == terms


def test_a_question_of_stop_words_keeps_them():
    assert query_terms("To be, or not to be?") == ("to", "be", "or", "not")


def test_words_fold_accents_and_plurals_but_keep_vowel_signs():
    assert words("Cafés cities classes is gas bus Straße") == ("cafe", "city", "classe", "is", "gas", "bus", "straße")
    assert words("टीम हिंदी") == ("टीम", "हिंदी")


def test_text_without_letters_or_digits_has_no_terms():
    assert query_terms("?! … _ — 🙂") == ()
    assert words(" \n\t") == ()
