"""Where the values of an answer come from, and what becomes of those that come from nowhere."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.records import Passage
from edgeai.structured.schema import mismatches
from edgeai.structured.trace import trace

TEXTS = (
    "Tom Reed returned 3 lamps on 12 May 2024. The case is closed.",
    "Ann Webb ordered 1,200 bulbs at 0.5 euros. Parents get 20 weeks of leave.",
)
PASSAGES = [Passage(n, text, f"/{n}.md", 100, 100 + len(text)) for n, text in enumerate(TEXTS, 1)]
NUMBER, TEXT = {"type": "number"}, {"type": "string"}
ORDER = {
    "type": "object",
    "properties": {
        "customer": TEXT,
        "quantity": {"type": ["integer", "null"]},
        "status": {"enum": ["open", "closed", "lost"]},
        "items": {"type": "array", "items": TEXT},
        "paid": {"type": "boolean"},
    },
    "required": ["customer", "quantity"],
}


def test_each_value_is_cited_from_the_sentence_that_holds_it():
    traced = trace({"customer": "Ann Webb", "quantity": 1200, "status": "closed"}, ORDER, PASSAGES)
    assert traced.value == {"customer": "Ann Webb", "quantity": 1200, "status": "closed"}
    assert {place: {quote.n for quote in quotes} for place, quotes in traced.sources.items()} == {
        "/customer": {2},
        "/quantity": {2},
        "/status": {1},
    }
    for quote in traced.citations:
        assert TEXTS[quote.n - 1][quote.start - 100 : quote.end - 100] == quote.quote
    assert "1,200 bulbs" in traced.sources["/quantity"][0].quote


def test_a_number_in_no_passage_becomes_null_where_that_is_allowed():
    traced = trace({"customer": "Tom Reed", "quantity": 4}, ORDER, PASSAGES)
    assert (traced.value, traced.dropped) == ({"customer": "Tom Reed", "quantity": None}, 1)
    assert "/quantity" not in traced.sources


def test_where_nothing_else_is_allowed_the_whole_answer_goes():
    traced = trace({"customer": "Bill Stone", "quantity": 3}, ORDER, PASSAGES)
    assert (traced.value, traced.sources) == (None, {})
    assert trace(4, NUMBER, PASSAGES).value is None
    assert trace({"a": {"b": 4}}, nested(required=True), PASSAGES).value is None


def test_what_need_not_be_there_is_left_out():
    traced = trace({"customer": "Tom Reed", "quantity": 3, "items": ["lamps", "sofas", "bulbs"]}, ORDER, PASSAGES)
    assert traced.value["items"] == ["lamps", "bulbs"]
    assert [place for place in traced.sources if place.startswith("/items")] == ["/items/0", "/items/1"]
    assert traced.sources["/items/1"][0].n == 2
    outer = {"type": "object", "properties": {"n": NUMBER, "order": nested(required=True)}}
    assert trace({"n": 3, "order": {"a": {"b": 4}}}, outer, PASSAGES).value == {"n": 3}


def test_of_an_item_that_is_left_out_no_source_stays():
    inner = {"type": "object", "properties": {"a": NUMBER, "b": NUMBER}, "required": ["a", "b"]}
    traced = trace([{"a": 3, "b": 12}, {"a": 20, "b": 4}], {"type": "array", "items": inner}, PASSAGES)
    assert traced.value == [{"a": 3, "b": 12}]
    assert list(traced.sources) == ["/0/a", "/0/b"]
    assert {quote.n for quote in traced.citations} == {1}


def nested(*, required: bool) -> dict:
    inner = {"type": "object", "properties": {"b": NUMBER}, "required": ["b"] if required else []}
    return {"type": "object", "properties": {"a": inner}, "required": ["a"]}


def test_a_judgement_need_not_be_in_the_text_unless_it_is_a_number():
    judged = trace({"customer": "Tom Reed", "quantity": 3, "status": "lost", "paid": True}, ORDER, PASSAGES)
    assert judged.value["status"] == "lost"
    assert "/status" not in judged.sources
    assert trace(7, {"enum": [3, 7]}, PASSAGES).value is None
    assert trace("7 weeks", {"enum": ["7 weeks"]}, PASSAGES).value is None
    assert trace(3, {"enum": [3, 7]}, PASSAGES).value == 3


@pytest.mark.parametrize("value", ["see [7]", "7. May 2024", "May\n7. 2024", "【7】 lamps", "lamps 7"])
def test_no_way_of_writing_hides_a_number(value):
    assert trace(value, TEXT, PASSAGES).value is None


def test_a_pronoun_is_no_number():
    def shown(text):
        return trace(1, NUMBER, [Passage(1, text, "/1.md", 0, len(text))]).value

    assert shown("Everyone may take the one they like, none of 10 is reserved.") is None
    assert shown("Everyone may take 1 of them.") == 1
    assert shown("It opens on 01 May.") == 1


def test_numbers_are_the_same_however_they_are_written():
    for value in (1200, 0.5, 3.0, 0.500000, 20):
        assert trace(value, NUMBER, PASSAGES).value == value
    assert trace(0.000001, NUMBER, PASSAGES).value is None


@pytest.mark.parametrize("value", [None, "", [], {"customer": "", "quantity": None}, [None, ""]])
def test_a_value_that_says_nothing_is_no_answer(value):
    schema = ORDER if isinstance(value, dict) else {"type": ["array", "string", "null"], "items": {}}
    assert trace(value, schema, PASSAGES).value is None


def test_a_judgement_does_not_save_a_value_of_which_all_else_is_made_up():
    schema = {"type": "object", "properties": {"n": {"type": ["integer", "null"]}, "paid": {"type": "boolean"}}}
    assert trace({"n": 4, "paid": True}, schema, PASSAGES).value is None
    assert trace({"n": None, "paid": True}, schema, PASSAGES).value == {"n": None, "paid": True}


def test_names_are_escaped_in_pointers():
    schema = {"type": "object", "properties": {"a/b~c": NUMBER}}
    assert list(trace({"a/b~c": 3}, schema, PASSAGES).sources) == ["/a~1b~0c"]


VALUES = st.fixed_dictionaries(
    {"quantity": st.one_of(st.none(), st.integers(0, 30))},
    optional={
        "customer": st.sampled_from(["Tom Reed", "Ann Webb", "Ann Reed 7", "lamps", "12 May", "13 May", "x [19]"]),
        "items": st.lists(st.sampled_from(["lamps", "19 lamps", "3 lamps", ""]), max_size=4),
        "status": st.sampled_from(["open", "closed"]),
    },
)


@settings(deadline=None)
@given(VALUES)
def test_whatever_the_model_says_what_is_shown_is_valid_and_holds_no_number_of_its_own(value):
    schema = {**ORDER, "required": ["quantity"]}
    traced = trace(value, schema, PASSAGES)
    if traced.value is not None:
        assert not list(mismatches(traced.value, schema))
        assert set(re.findall(r"\d+", str(traced.value))) <= set(re.findall(r"\d+", " ".join(TEXTS)))
    if traced.dropped == 0 and traced.value is not None:
        assert traced.value == value
