"""What readings lead to: order, refusal, and the span that is shown with the sentence it stands in."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.grounding import read
from edgeai.records import Passage, Reading

PROBABILITY = st.floats(0.0, 1.0)


def reading(answerable: float, span: float = 0.5, *, relevance: float = 0.5, start: int = 0, end: int = 0) -> Reading:
    return Reading(relevance, answerable, start, end, span)


def passage(text: str, number: int = 1, offset: int = 0) -> Passage:
    return Passage(number, text, "/notes.md", offset, offset + len(text))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 3.0), PROBABILITY), min_size=1, max_size=8), st.floats(0.0, 1.0))
def test_order_is_a_permutation_and_never_puts_worse_on_both_counts_first(pairs, trust):
    scores = [score for score, _ in pairs]
    readings = [reading(0.5, relevance=relevance) for _, relevance in pairs]
    order = read.order(scores, readings, trust)
    assert sorted(order) == list(range(len(pairs)))
    for place, row in enumerate(order):
        for later in order[place + 1 :]:
            assert not (pairs[later][0] > pairs[row][0] + 1e-9 and pairs[later][1] > pairs[row][1] + 1e-9)


def test_without_trust_in_the_reader_the_fused_order_stands():
    readings = [reading(0.5, relevance=0.01), reading(0.5, relevance=0.99)]
    assert read.order([2.0, 1.9], readings, trust=0.0) == [0, 1]
    assert read.order([2.0, 1.9], readings, trust=1.0) == [1, 0]


def test_equal_hits_keep_their_order():
    assert read.order([1.0, 1.0, 1.0], [reading(0.5)] * 3, 1.0) == [0, 1, 2]


@settings(deadline=None)
@given(PROBABILITY)
def test_log_odds_are_finite_and_rise(probability):
    assert math.isfinite(read.log_odds(probability))
    assert read.log_odds(probability) <= read.log_odds(min(1.0, probability + 0.01))


@settings(deadline=None)
@given(PROBABILITY)
def test_a_witness_moves_the_confidence_its_way(answerable):
    best = reading(answerable)
    declined, unheard, stated = (
        read.verdict(best, witness).confidence for witness in (read.DECLINED, read.UNHEARD, read.STATED)
    )
    assert 0.0 <= declined <= unheard <= stated <= 1.0


def test_a_passage_that_surely_answers_is_answered_and_one_that_surely_does_not_is_refused():
    assert read.verdict(reading(0.99, 0.9), read.STATED).status == "answered"
    assert read.verdict(reading(0.01, 0.001), read.DECLINED).status == "refused"


def test_the_generator_is_asked_unless_there_is_no_hope():
    assert read.verdict(reading(0.3, 0.1)).status == "answered"
    assert read.verdict(reading(0.0, 0.0)).status == "refused"


def test_the_span_is_shown_with_the_sentence_it_stands_in():
    text = "Rooms are booked by phone. A double costs 84 euros a night. Dogs stay free."
    start = text.index("84 euros")
    shown, citation = read.extract(passage(text, 3, 10), reading(0.9, start=start, end=start + 8))
    assert shown == "84 euros [3]"
    assert citation.quote == "A double costs 84 euros a night."
    assert (citation.start, citation.end) == (10 + 27, 10 + 27 + len(citation.quote))


def test_the_best_passage_is_the_one_that_most_likely_holds_an_answer_with_a_clear_span():
    readings = [reading(0.1, 0.9, end=4), reading(0.9, 0.3, end=4), reading(0.9, 0.1, end=4)]
    assert read.chosen([passage("Text one.", n) for n in (1, 2, 3)], readings) == 1


def witnesses(*said: tuple[str, str, float]) -> tuple[list[Passage], list[Reading]]:
    """Passages of files with their text, the whole of which is the answer, as likely as given."""
    passages = [Passage(n, text, path, 0, len(text)) for n, (path, text, _) in enumerate(said, 1)]
    return passages, [reading(answerable, end=len(text)) for _, text, answerable in said]


def test_two_documents_outweigh_one_that_sounds_surer():
    assert read.chosen(*witnesses(("a", "40 euros", 0.9), ("b", "25 euros", 0.8), ("c", "the 25 euros.", 0.8))) == 1


def test_a_document_is_one_witness_however_often_it_says_so():
    assert read.chosen(*witnesses(("a", "40", 0.9), ("b", "25", 0.8), ("b", "25 ", 0.8))) == 0


def test_a_copy_of_a_document_is_no_witness():
    assert read.chosen(*witnesses(("a", "40", 0.9), ("b", "25", 0.8), ("copy of b", "25", 0.8))) == 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["1", "2", "", "1 2"]), PROBABILITY), min_size=1))
def test_what_is_chosen_is_a_passage_and_no_worse_than_another_that_says_the_same(said):
    passages, readings = witnesses(*said)
    row = read.chosen(passages, readings)
    twins = [
        one.answerable
        for p, one in zip(passages, readings, strict=True)
        if (p.path, p.text) == (said[row][0], said[row][1])
    ]
    assert read.log_odds(readings[row].answerable) == read.log_odds(max(twins))  # which of two near 0 is all the same


def test_a_passage_without_text_gives_no_answer():
    assert read.extract(passage(""), reading(0.9)) is None


@pytest.mark.parametrize("gap", ["\n", "  ", "\t\n"])
def test_white_space_inside_a_span_is_made_one_space(gap):
    text = f"Call Ada{gap}Lovelace."
    shown, citation = read.extract(passage(text), reading(0.9, start=5, end=len(text) - 1))
    assert shown == "Ada Lovelace [1]"
    assert citation.quote in text


def test_an_answer_that_another_document_calls_former_gives_way():
    old = Passage(1, "When the alarm rings, go to the north gate.", "/2023.txt", 0, 43)
    new = Passage(2, "It is now on the Coal Quay. The former one at the north gate is not used.", "/2025.txt", 0, 73)
    mine = Reading(0.9, 0.94, old.text.index("north"), old.text.index("north") + 10, 0.5)
    theirs = Reading(0.9, 0.6, new.text.index("on the"), new.text.index("on the") + 16, 0.1)
    assert read.hint([old, new], [mine, theirs]) == "on the Coal Quay"
    assert read.hint([old, replace(new, path="/2023.txt")], [mine, theirs]) == "north gate"  # of one document
    assert read.hint([old, new], [mine, replace(theirs, answerable=0.2)]) == "north gate"  # which has no answer itself
