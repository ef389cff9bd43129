"""Acronyms of a question are spelled out as the documents that may be seen spell them out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeai import expand
from edgeai.filters import Filter
from edgeai.store import Store
from edgeai.text.acronyms import acronyms, definition, spelled_out
from tests.toy_index import MAKER, entry

DEFINED = [
    ("An HWP (hot work permit) is valid for one shift.", "HWP", "hot work permit"),
    ("Ask for a Hot Work Permit (HWP) first.", "HWP", "Hot Work Permit"),
    ('The "Hot Work Permit" ("HWP") is new.', "HWP", "Hot Work Permit"),
    ("The TOW, or Threshold of Weather, is 2 m.", "TOW", "Threshold of Weather"),
    ("Write it into the RHB, the Rest Hours Book.", "RHB", "Rest Hours Book"),
    ("IRC stands for Island Resident Card.", "IRC", "Island Resident Card"),
    ("- **GRN**: goods received note", "GRN", "goods received note"),
    ("| CWR | crew welfare representative |", "CWR", "crew welfare representative"),
    ("CWRs (crew welfare representatives) meet.", "CWR", "crew welfare representatives"),
    ("the Department of Health and Safety (DHS)", "DHS", "Department of Health and Safety"),
    ("the Bank of England (BOE)", "BOE", "Bank of England"),
]


@pytest.mark.parametrize(("text", "acronym", "meaning"), DEFINED)
def test_definitions_are_found_in_the_ways_people_write_them(text, acronym, meaning):
    assert definition(acronym, text) == meaning


@pytest.mark.parametrize(
    "text",
    [
        "With an HWP you may weld.",
        "HWP, a permit",
        "Help was provided HWP",
        "HWP. Have water pumped.",
        "HWP: have a care. Water pumps",
        "Hot Work (HWP)",
        "XHWP (hot work permit)",
        "HWPX (hot work permit)",
    ],
)
def test_words_that_only_stand_near_are_no_definition(text):
    assert definition("HWP", text) == ""


WORD = st.from_regex(r"[a-z]{2,8}", fullmatch=True)


@given(st.lists(WORD, min_size=2, max_size=6), st.text(max_size=40), st.booleans())
def test_every_phrase_is_found_beside_its_initials(phrase, around, first):
    acronym = "".join(word[0] for word in phrase).upper()
    meaning = " ".join(phrase)
    text = f"{acronym} ({meaning})" if first else f"{meaning} ({acronym})"
    found = definition(acronym, f"{text}\n{around}")
    assert found.split()[-1:] == phrase[-1:] or found == ""
    assert found == meaning or set(phrase) & {"a", "an", "and", "at", "by", "for", "from", "in", "of", "on", "or", "to"}


@given(st.text(max_size=200), st.sampled_from(["HWP", "IT", "A1", "U2"]))
def test_any_text_may_be_looked_at(text, acronym):
    found = definition(acronym, text)
    assert found == "" or " ".join(text.split()).count(found)


def test_acronyms_are_told_from_words():
    assert acronyms("How long is an HWP valid, and do CWRs need one?") == ("HWP", "CWR")
    assert acronyms("hwp validity") == ("HWP",)
    assert acronyms("WHAT IS A PERMIT FOR") == ()
    assert acronyms("Why try my rhythm, Anna?") == ()


def test_the_question_keeps_its_own_words():
    assert spelled_out("do cwrs meet? And cwrs?", "CWR", "crew reps") == "do cwrs (crew reps) meet? And cwrs?"


def test_the_acronym_is_meant_and_not_a_word_that_is_spelled_like_it():
    assert spelled_out("Is it the IT desk?", "IT", "info tech") == "Is it the IT (info tech) desk?"
    assert spelled_out("Is it open?", "HWP", "hot work permit") == "Is it open?"


@given(st.text(max_size=30))
def test_what_a_document_says_is_only_text(meaning):
    assert spelled_out("an HWP?", "HWP", meaning) == f"an HWP ({meaning})?"


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "i.db", maker=MAKER) as store:
        store.put(*entry("/permits.md", "An HWP (hot work permit) is valid for one shift.", size=99))
        store.put(*entry("/secret.md", "The QZE (quiet zone exchange) is secret.", size=99, label="board"))
        yield store


def test_a_question_is_spelled_out_by_the_documents(store):
    assert expand.spell_out("How long is an HWP valid?", store) == "How long is an HWP (hot work permit) valid?"
    assert expand.spell_out("How long is an ABC valid?", store) == "How long is an ABC valid?"


def test_what_may_not_be_seen_explains_nothing(store):
    question = "What is the QZE?"
    assert expand.spell_out(question, store) == "What is the QZE (quiet zone exchange)?"
    assert expand.spell_out(question, store, Filter(labels=frozenset({""}))) == question
    assert expand.spell_out(question, store.visible_to(frozenset({""}))) == question
