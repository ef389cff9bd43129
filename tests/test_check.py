"""Verdicts: what is refused, what is weak, and what stands in for a refused answer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.grounding.check import answerable, check, extract, keep_supported, support, unsupported_numbers
from edgeai.grounding.cite import cite
from edgeai.prompt import REFUSAL
from edgeai.records import Chunk, Hit, Passage, Retrieval, Verdict

LEAVE = Passage(
    1,
    "# Parental leave\nHow long is parental leave?\nFull-time employees get twelve weeks.\nPart-timers get 6 weeks.",
    "/leave.md",
    50,
    148,
    title="Leave policy",
    heading=("Parental leave",),
)
HARDWARE = Passage(2, "| item | years |\n|---|---|\n| laptop | 4 |\n| phone | 2 |", "/it.md", 0, 54, title="Hardware")
SHOWN = (LEAVE, HARDWARE)
FOUND = Verdict("answered", 0.8)
HIT = Hit(1, Chunk(0, 1, "x"), "/a", "a", "text", 0.0, 1.0)


def judged(answer, shown=SHOWN):
    text, citations = cite(answer, shown)
    return check(text, citations, shown, FOUND)


def test_nothing_found_is_refused():
    verdict = answerable(Retrieval((), 0.0, 0.0))
    assert (verdict.status, verdict.confidence) == ("refused", 0.0)
    assert verdict.reasons


@given(st.floats(0, 1), st.floats(0, 1), st.floats(-1, 1), st.floats(0, 1))
@settings(deadline=None)
def test_confidence_grows_with_both_signals_and_stays_a_probability(coverage, more, similarity, closer):
    low = answerable(Retrieval((HIT,), coverage, similarity))
    high = answerable(Retrieval((HIT,), min(1.0, coverage + more), min(1.0, similarity + closer)))
    assert 0 <= low.confidence <= high.confidence <= 1
    assert not (low.status == "answered" and high.status == "refused")


@pytest.mark.parametrize(
    ("coverage", "similarity", "status"),
    [
        (0.0, 0.1, "refused"),
        (0.2, 0.25, "refused"),
        (1.0, 0.0, "answered"),
        (0.5, 0.5, "answered"),
        (0.0, 0.6, "answered"),
    ],
)
def test_strong_signals_pass_and_weak_ones_do_not(coverage, similarity, status):
    assert answerable(Retrieval((HIT,), coverage, similarity)).status == status


def test_a_supported_answer_stands():
    verdict = judged("Full-time employees get twelve weeks of parental leave [1].")
    assert (verdict.status, verdict.reasons) == ("answered", ())
    assert 0.6 < verdict.confidence <= 0.8


def test_a_number_that_no_cited_passage_holds_is_refused():
    verdict = judged("Full-time employees get fifteen weeks [1].")
    assert verdict.status == "refused"
    assert "15" in verdict.reasons[-1]
    assert judged("A laptop lasts 6 years [2].").status == "refused"  # 6 is in the other passage


def test_an_answer_in_foreign_words_is_refused_and_one_half_supported_is_weak():
    assert judged("Bananas ripen quickly in warm kitchens [1].").status == "refused"
    verdict = judged("Employees get twelve weeks, generously granted worldwide [1].")
    assert (verdict.status, verdict.reasons) == ("answered", ("weakly supported",))


def test_an_answer_without_citations_is_refused():
    verdict = judged("Bananas are yellow.")
    assert (verdict.status, verdict.reasons[-1]) == ("refused", "no passage supports the answer")


@pytest.mark.parametrize("answer", [REFUSAL, f"{REFUSAL} [1]", "", "  "])
def test_a_refusal_of_the_model_is_a_refusal(answer):
    assert judged(answer).status == "refused"


def test_an_earlier_refusal_is_final():
    refused = Verdict("refused", 0.1, ("why",))
    assert check("Twelve weeks [1].", cite("Twelve weeks [1].", SHOWN)[1], SHOWN, refused) == refused


@given(st.text(max_size=60))
@settings(deadline=None)
def test_support_is_a_share_and_complete_for_the_passage_itself(text):
    cited, citations = cite(text, SHOWN)
    assert 0 <= support(cited, citations, SHOWN) <= 1
    assert not unsupported_numbers(LEAVE.text, cite(f"{LEAVE.text} [1]", SHOWN)[1], SHOWN)


def test_only_supported_sentences_are_kept():
    answer = (
        "Full-time employees get twelve weeks [1]. Bananas ripen in warm kitchens [1]. A phone lasts 2 years [2]. Sure."
    )
    text, citations = keep_supported(*cite(answer, SHOWN), SHOWN)
    assert text == "Full-time employees get twelve weeks [1]. A phone lasts 2 years [2]."
    assert [citation.n for citation in citations] == [1, 2]
    assert keep_supported("Bananas.", (), SHOWN) == ("", ())


def test_the_extract_answers_with_the_sentence_after_the_heading_or_question():
    text, citation = extract("How long is parental leave?", SHOWN)
    assert text == "Full-time employees get twelve weeks. [1]"
    assert (
        LEAVE.text[citation.start - 50 : citation.end - 50] == citation.quote == "Full-time employees get twelve weeks."
    )


def test_the_extract_finds_table_rows_and_prefers_numbers_where_one_is_asked_for():
    assert extract("How many years does a laptop last?", SHOWN)[1].quote == "| laptop | 4 |"
    shown = (Passage(1, "Leave must be requested early. Leave lasts 9 weeks.", "/a", 0, 51),)
    assert extract("How long is leave?", shown)[1].quote == "Leave lasts 9 weeks."


@given(st.text(max_size=40), st.text(max_size=80))
@settings(deadline=None)
def test_an_extract_is_an_exact_quote(question, text):
    found = extract(question, [Passage(1, text, "/a", 7, 7 + len(text))])
    if found:
        assert text[found[1].start - 7 : found[1].end - 7] == found[1].quote


def test_a_row_counts_with_the_words_of_its_header():
    call = Passage(1, "A phone call costs 3 cents.", "/a", 0, 27)
    table = Passage(2, "| item | years |\n|---|---|\n| laptop | 4 |\n| phone | 2 |", "/b", 0, 54)
    assert extract("How many years does a phone last?", (call, table))[1].quote == "| phone | 2 |"


def test_nothing_in_common_gives_no_extract():
    assert extract("Bananas?", SHOWN) is None
    assert extract("How long is leave?", ()) is None


def test_a_denial_that_no_quoted_word_makes_is_not_kept():
    passages = [Passage(1, "The canteen opens at 11:30 and closes at 14:00.", "/a.txt", 0, 47)]
    text, citations = cite("The canteen does not close at 14:00 [1].", passages)
    assert keep_supported(text, citations, passages) == ("", ())
    text, citations = cite("The canteen closes at 14:00 [1].", passages)
    assert keep_supported(text, citations, passages)[0] == "The canteen closes at 14:00 [1]."


def test_at_most_two_different_sentences_of_a_talkative_model_are_kept():
    passages = [Passage(1, "Cats purr. Dogs bark. Cows moo.", "/a.txt", 0, 31)]
    said = "Cats purr [1]. Cats purr [1]. Dogs bark [1]. Cows moo [1]."
    assert keep_supported(*cite(said, passages), passages)[0] == "Cats purr [1]. Dogs bark [1]."


TABLE = "| Country | Lunch | Hotel |\n|---|---|---|\n| France | 17 | 150 |\n| Spain | 16 | 120 |\n"


@pytest.mark.parametrize(
    ("text", "header"),
    [(TABLE, ""), ("\n".join(TABLE.splitlines()[2:]), TABLE.splitlines()[0])],
    ids=["header in the passage", "header carried over"],
)
def test_a_table_row_is_said_with_its_column_names_and_quoted_as_it_stands(text, header):
    passages = [Passage(1, text, "/a.md", 0, len(text), header=header)]
    said, quote = extract("What is the hotel limit in Spain?", passages)
    assert said == "Country: Spain, Lunch: 16, Hotel: 120 [1]"
    assert quote.quote == "| Spain | 16 | 120 |"


def test_a_list_item_is_said_without_its_mark():
    passages = [Passage(1, "- Badges are blue.\n- Keys are red.", "/a.md", 0, 34)]
    assert extract("Which colour are keys?", passages)[0] == "Keys are red. [1]"


def test_an_address_that_no_cited_passage_holds_refuses_the_answer():
    text = "Twelve weeks of leave for full-time employees are applied for at https://hr.example/form today."
    passage = Passage(1, text, "/leave.md", 0, len(text), title="Leave")
    assert judged(f"{text[:-1]} [1].", (passage,)).status == "answered"
    verdict = judged("Full-time employees get twelve weeks of leave, see https://hr.example/form?n=12 [1].", (passage,))
    assert verdict.status == "refused"
    assert "https://hr.example/form?n=12" in verdict.reasons[-1]
