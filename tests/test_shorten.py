"""What of the passages a prompt shows when time is short."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from edgeai.grounding.read import chosen
from edgeai.records import Passage, Reading
from edgeai.shorten import DROPPED, LUXURY, NEIGHBOURS, SHORTENED, around, excerpt, fit

WORDS = [
    "The room holds twelve.",
    "Ask Ada for the key.",
    "It opens at nine.",
    "Lunch is at noon.",
    "Dogs are welcome.",
]


def cost(passage: Passage) -> int:
    return len(passage.text)


def passage(number: int, sentences: list[str]) -> Passage:
    text = " ".join(sentences)
    return Passage(number, text, f"file{number}.md", 100 * number, 100 * number + len(text))


def reading(text: str, words: str, answerable: float = 0.5) -> Reading:
    start = text.index(words)
    return Reading(0.5, answerable, start, start + len(words), 0.5)


@st.composite
def shown(draw):
    passages, readings = [], []
    for number in range(1, draw(st.integers(1, 4)) + 1):
        sentences = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4, unique=True))
        passages.append(passage(number, sentences))
        words = draw(st.sampled_from(sentences)).split()[-1].rstrip(".")
        readings.append(reading(passages[-1].text, words, draw(st.floats(0.01, 0.99))))
    return passages, readings


@given(shown(), st.floats(-10, 400))
def test_no_more_is_shown_than_there_is_room_for(drawn, room):
    passages, readings = drawn
    kept, cuts = fit(passages, readings, cost, room)
    by_number = {one.number: one for one in passages}
    assert sum(map(cost, kept)) <= max(room, 0)
    assert [one.number for one in kept] == sorted(one.number for one in kept)
    for one in kept:
        source = by_number[one.number]
        assert source.text[one.start - source.start : one.end - source.start] == one.text
    whole = [one.number for one in kept if one == by_number[one.number]]
    assert (SHORTENED in cuts) == (len(whole) < len(kept))
    assert (DROPPED in cuts) == (0 < len(kept) < len(passages))


@given(shown(), st.floats(1, 400))
def test_only_the_sentences_with_the_likeliest_answer_may_take_most_of_the_room(drawn, room):
    passages, readings = drawn
    kept, _ = fit(passages, readings, cost, room)
    best = chosen(passages, readings)
    least = around(passages[best], readings[best], min(NEIGHBOURS))
    pair = passages[best], readings[best]
    shorter = [(excerpt(*pair),), *((around(*pair, words),) for words in NEIGHBOURS)]
    assert kept in ((), *shorter) or sum(map(cost, kept)) <= room * LUXURY
    assert bool(kept) == (cost(least) <= room)


@given(shown(), st.integers(1, 6))
def test_words_around_an_answer_are_of_its_sentences_and_hold_it(drawn, words):
    for one, its in zip(*drawn, strict=True):
        part, whole = around(one, its, words), excerpt(one, its)
        assert whole.start <= part.start <= one.start + its.start <= one.start + its.end <= part.end <= whole.end
        assert part.text == one.text[part.start - one.start : part.end - one.start]
        assert len(part.text.split()) <= 2 * words + len(one.text[its.start : its.end].split()) + 2


@given(shown())
def test_with_room_for_all_nothing_is_cut(drawn):
    passages, readings = drawn
    assert fit(passages, readings, cost, 1e9) == (tuple(passages), ())


@given(shown(), st.floats(0, 400))
def test_the_likeliest_answer_is_always_among_what_is_shown(drawn, room):
    passages, readings = drawn
    kept, _ = fit(passages, readings, cost, room)
    best = chosen(passages, readings)
    answer = passages[best].text[readings[best].start : readings[best].end]
    assert not kept or any(answer in one.text for one in kept if one.number == passages[best].number)


def test_an_excerpt_is_the_sentence_with_the_answer():
    whole = passage(1, WORDS)
    part = excerpt(whole, reading(whole.text, "Ada"))
    assert part == replace(whole, text="Ask Ada for the key.", start=whole.start + 23, end=whole.start + 43)


def test_a_passage_that_costs_nothing_is_shown_where_others_no_longer_fit():
    first, second = passage(1, WORDS[:2]), passage(2, WORDS[2:])
    readings = [reading(first.text, "twelve", 0.9), reading(second.text, "nine", 0.1)]
    kept, cuts = fit([first, second], readings, lambda one: 0 if one.number == 2 else cost(one), 25)
    assert [one.number for one in kept] == [1, 2]
    assert kept[1] == second
    assert cuts == (SHORTENED,)


def test_without_a_reader_passages_are_whole_or_not_there():
    first, second = passage(1, WORDS[:2]), passage(2, WORDS[2:])
    assert fit([first, second], (), cost, cost(first) + 5) == ((first,), (DROPPED,))
