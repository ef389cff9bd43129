"""Which answer is shown: the model's words, those of the passages, or none."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from edgeai import prompt
from edgeai.budget import (
    ATTENDED,
    CHECKED_TOKENS,
    FINISH_MS,
    FORWARD_OVERHEAD,
    QUESTION_TOKENS,
    SENTENCE_TOKENS,
    SPARE_FORWARDS,
    Budget,
    Costs,
    Rate,
    Rates,
)
from edgeai.grounding.calibrated import ALL_SHOWN, SHIPPED, Calibration
from edgeai.grounding.draft import PORTION, Draft
from edgeai.records import Chunk, Hit, Passage, Piece, Reading, Retrieval
from edgeai.specs import ChatTemplate, GeneratorSpec

TEXTS = (
    "A double room costs 84 euros a night. Dogs stay free.",
    "In 2019 a double room cost 84 euros, today 97 euros.",
)
SPEC = GeneratorSpec("ours", "", "", ChatTemplate((), (), (), {}), independent=True)


def passage(number: int) -> Passage:
    text = TEXTS[number - 1]
    return Passage(number, text, f"/{number}.md", 0, len(text))


def reading(number: int, words: str, answerable: float) -> Reading:
    start = TEXTS[number - 1].index(words)
    return Reading(0.5, answerable, start, start + len(words), 0.5)


def draft(first: float = 0.9, second: float = 0.2) -> Draft:
    question = "How much is a double room?"
    found = Retrieval((), 1.0, 1.0)
    readings = (reading(1, "84 euros", first), reading(2, "97 euros", second))
    budget = Budget(None, time.perf_counter(), Costs())
    return Draft(question, question, (passage(1), passage(2)), found, time.perf_counter(), budget, None, readings)


def answer(draft: Draft, said: str):
    pieces = [Piece(said), Piece("", "stop", prompt_tokens=50, output_tokens=5)]
    return draft.generated(pieces, draft.passages, draft.outlook(), SPEC, draft.began)


@pytest.mark.parametrize("said", ["84 euros", "84 euros a night.", "A double room costs 84 euros."])
def test_words_around_the_readers_span_cite_its_passage(said):
    for likelier in (1, 2):
        one = draft() if likelier == 1 else draft(0.1, 0.9)
        given = answer(one, said.replace("84", "84" if likelier == 1 else "97"))
        assert given.mode == "generated"
        assert [citation.n for citation in given.citations] == [likelier]
        assert f"[{likelier}]" in given.text


def test_a_span_of_one_passage_beside_a_claim_of_another_cites_both():
    given = answer(draft(), "A double room costs 84 euros a night. In 2019 it cost 84 euros, today 97 euros.")
    assert {citation.n for citation in given.citations} == {1, 2}


def test_words_that_no_passage_holds_give_way_to_the_readers():
    given = answer(draft(), "It costs 120 euros.")
    assert (given.mode, given.text, given.degraded) == ("extractive", "84 euros [1]", ("unsupported",))


@pytest.mark.parametrize(
    ("said", "mode"), [("euros", "generated"), ("97 euros", "extractive"), ("Dogs.", "extractive")]
)
def test_where_model_and_reader_differ_the_reader_is_believed(said, mode):
    given = answer(draft(), said)
    assert (given.mode, "84 euros [1]" in given.text) == (mode, mode == "extractive")
    assert given.degraded == (() if mode == "generated" else ("not what the reader found",))


@pytest.mark.parametrize(
    ("question", "independent", "read", "asks"),
    [
        ("Is it 84 euros a night?", True, True, False),
        ("Is it 84 euros a night?", False, True, True),
        ("Is it 84 euros a night?", True, False, True),
        ("How much is it a night?", True, True, True),
    ],
)
def test_a_small_model_is_not_asked_about_a_yes_or_no_that_was_read(question, independent, read, asks):
    one = replace(draft(), question=question, readings=draft().readings if read else ())
    assert one.asks(replace(SPEC, independent=independent)) is asks


def test_of_several_cells_of_a_table_the_row_is_shown():
    text = "| Country | Lunch | Hotel |\n|---|---|---|\n| France | €18 | €145 |"
    start = text.index("€18 | €145")
    one = replace(
        draft(),
        passages=(Passage(1, text, "/rates.md", 40, 40 + len(text)),),
        readings=(Reading(0.5, 0.9, start, start + 10, 0.5),),
    )
    given = one.extractive(one.outlook())
    assert given.text == "Country: France, Lunch: €18, Hotel: €145 [1]"
    assert given.citations[0].quote == "| France | €18 | €145 |"


def test_of_one_cell_of_a_table_the_row_is_shown_while_it_is_short():
    for filler, shown in (("Paris", "Country: France, Town: Paris, Hotel: €145 [1]"), ("in town " * 12, "€145 [1]")):
        text = f"| Country | Town | Hotel |\n|---|---|---|\n| France | {filler} | €145 |"
        start = text.index("€145")
        passages = (Passage(1, text, "/rates.md", 40, 40 + len(text)),)
        one = replace(draft(), passages=passages, readings=(Reading(0.5, 0.9, start, start + 4, 0.5),))
        assert one.extractive(one.outlook()).text == shown


@pytest.mark.parametrize(
    ("question", "whole"),
    [
        ("Do dogs stay free?", True),
        ("And may dogs stay?", True),
        ("Is it 84 euros or 97 euros?", False),
        ("What does a room cost?", False),
    ],
)
def test_a_yes_or_no_is_answered_by_the_sentence(question, whole):
    one = replace(draft(), question=question)
    assert one.extractive(one.outlook()).text == (f"{TEXTS[0].split('. ')[0]} [1]." if whole else "84 euros [1]")


def test_the_model_declines_where_the_reader_is_not_sure():
    assert draft(0.38, 0.1).extractive(draft().outlook()).status == "answered"
    assert answer(draft(0.38, 0.1), prompt.REFUSAL).status == "refused"
    sure = answer(draft(0.999, 0.1), prompt.REFUSAL)
    assert (sure.status, sure.degraded) == ("answered", ("the model declined",))


def test_a_model_that_never_learnt_to_decline_does_not_overrule_the_reader():
    one = draft()
    pieces = [Piece(prompt.REFUSAL), Piece("", "stop")]
    given = one.generated(pieces, one.passages, one.outlook(), replace(SPEC, independent=False), one.began)
    assert (given.text, given.degraded) == ("84 euros [1]", ("the model declined",))


def test_an_answer_cut_off_by_the_clock_is_the_readers():
    one = draft()
    given = one.generated([Piece("A double"), Piece("", "cancelled")], one.passages, one.outlook(), SPEC, one.began)
    assert (given.mode, given.text, given.degraded) == ("extractive", "84 euros [1]", ("out of time",))


def test_resident_tokens_count_a_little_in_what_a_prompt_has_cost():
    costs = Costs(Rates(prefill=Rate(1.0, 0.0)))
    one = replace(draft(), budget=Budget(None, time.perf_counter(), costs))
    took_ms = 2.0 * (50 + ATTENDED * 100 + FORWARD_OVERHEAD)  # two milliseconds a token
    last = Piece("", "stop", prompt_tokens=150, cached_tokens=100, output_tokens=3, prefill_ms=took_ms)
    one.generated([Piece("84 euros"), last], one.passages, one.outlook(), SPEC, one.began)
    assert costs.rates.prefill.mean == pytest.approx(Rate(1.0, 0.0).updated(2.0).mean)


class Judgements:
    """A reader whose judgements are given, and which tells what it was asked to read."""

    def __init__(self, answerable: list[float]) -> None:
        self.answerable, self.read_ = answerable, []

    def read(self, question, passages, checkpoint):
        self.read_ += [passage.number for passage in passages]
        return tuple(Reading(0.5, self.answerable[passage.number - 1], 0, 5, 0.5) for passage in passages)


def candidates(count: int) -> tuple[Draft, list[Passage]]:
    texts = [f"Room {number} is blue." for number in range(count)]
    hits = tuple(
        Hit(n, Chunk(0, len(t), t), f"/{n}", "", "text", 0.0, 1.0 / n, n, n, 1.0, 0.5) for n, t in enumerate(texts, 1)
    )
    empty = replace(draft(), passages=(), readings=(), found=Retrieval(hits, 1.0, 1.0, trust=1.0))
    return empty, [Passage(n, t, f"/{n}", 0, len(t)) for n, t in enumerate(texts, 1)]


@pytest.mark.parametrize(("plain", "read"), [(1, PORTION), (PORTION, PORTION), (PORTION + 1, 2 * PORTION), (None, 8)])
def test_reading_ends_where_a_passage_plainly_holds_the_answer(plain, read):
    start, passages = candidates(8)
    reader = Judgements([0.95 if number == plain else 0.3 for number in range(1, 9)])
    read_ = start.read(reader, passages, 4, generating=False)
    assert reader.read_ == [*range(1, read + 1)]
    assert read_.cut == ()
    assert len(read_.passages) == min(4, read) == len(read_.readings)


def test_what_there_was_no_time_to_read_is_told():
    start, passages = candidates(8)
    late = replace(start, budget=replace(start.budget, ms=1.0))
    assert late.read(Judgements([0.3] * 8), passages, 4, generating=False).cut == ("2 of 8 passages read",)
    assert late.read(Judgements([0.9] * 8), passages, 4, generating=False).cut == ()


@pytest.mark.parametrize(
    ("answerable", "generating", "spare", "read"),
    [(0.6, True, 15, PORTION), (0.6, True, 60, 8), (0.6, False, 15, 8), (0.4, True, 15, 8), (0.6, True, -50, 8)],
)
def test_a_probable_answer_ends_the_reading_where_more_leaves_no_time_to_generate(answerable, generating, spare, read):
    start, passages = candidates(8)
    rates = Rates(read=Rate(0.1, 0), prefill=Rate(2, 0), forward=Rate(10, 0))  # 14 ms a passage
    answer = 2 * (QUESTION_TOKENS + SENTENCE_TOKENS + CHECKED_TOKENS + FORWARD_OVERHEAD) + 10 * SPARE_FORWARDS
    budget = Budget(FINISH_MS + answer + spare, time.perf_counter(), Costs(rates))
    reader = Judgements([answerable] * 8)
    read_ = replace(start, budget=budget).read(reader, passages, 4, generating=generating)
    assert len(reader.read_) == read
    assert read_.cut == (() if read == 8 else (f"{read} of 8 passages read",))


# how well an answer is supported


def test_an_answer_is_strong_weak_or_refused_as_its_confidence_falls():
    outcomes = [draft(sure, 0.05).extractive(draft().outlook()) for sure in (0.9, 0.35, 0.1)]
    assert [one.support for one in outcomes] == ["strong", "weak", "none"]
    assert [one.status for one in outcomes] == ["answered", "answered", "refused"]


def test_words_that_are_only_partly_in_the_passage_are_weak_support():
    surely = draft(0.999, 0.1)
    given = answer(surely, "A double room at the seaside costs 84 euros a night, breakfast and towels included.")
    assert (given.mode, given.support) == ("generated", "weak")


def test_a_refusal_offers_the_closest_passages_and_an_answer_none():
    refused = draft(0.05, 0.05).extractive(draft().outlook())
    assert [one["path"] for one in refused.as_dict()["closest"]] == ["/1.md", "/2.md"]
    assert refused.as_dict()["closest"][0]["text"] == TEXTS[0]
    answered = draft().extractive(draft().outlook())
    assert (answered.as_dict()["support"], answered.as_dict()["closest"]) == ("strong", [])


@pytest.mark.parametrize(("floor", "status"), [(0.9, "refused"), (0.2, "answered")])
def test_a_calibration_moves_the_floor_and_the_confidence(floor, status):
    fitted = Calibration(slope=2.0, offset=-1.0, floor=floor, basis="reader")
    plain, moved = (replace(draft(0.6, 0.1), calibration=one) for one in (ALL_SHOWN, fitted))
    before, after = (one.extractive(one.outlook()) for one in (plain, moved))
    assert after.status == status
    assert after.confidence == pytest.approx(fitted.probability(before.confidence))


def test_without_a_calibration_of_its_index_an_answer_has_the_general_confidence():
    raw, general = (replace(draft(0.9, 0.1), calibration=one) for one in (ALL_SHOWN, None))
    before, after = (one.extractive(one.outlook()).confidence for one in (raw, general))
    assert after == pytest.approx(SHIPPED.probability(before))
    assert after < before  # a passage may hold the answer, and the words shown be others


def test_a_calibration_of_other_signals_changes_nothing():
    fitted = Calibration(slope=2.0, offset=-1.0, floor=0.9, basis="search")
    given = replace(draft(0.6, 0.1), calibration=fitted).extractive(draft().outlook())
    assert given == replace(draft(0.6, 0.1).extractive(draft().outlook()), timings=given.timings)


def test_with_no_floor_even_a_hopeless_question_is_answered():
    one = replace(draft(0.0001, 0.0001), calibration=ALL_SHOWN)
    assert one.outlook().status == "answered"
    assert one.extractive(one.outlook()).status == "answered"
