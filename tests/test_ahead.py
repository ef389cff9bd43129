"""Answers that were begun while their question was typed: the same answers, unless something has changed."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import towns
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_reader import write_reader

import edgeai
from edgeai import ahead, power
from edgeai.background import Stopped
from edgeai.config import Settings
from edgeai.filters import EVERYTHING
from edgeai.pipeline import Engines
from edgeai.records import Answer, Timings, Turn
from edgeai.specs import ChatTemplate, GeneratorSpec

QUESTION = "From when on can one borrow a novel in Eastholm?"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """An assistant over the towns, with a reader small enough to be quick, for tests that leave it as it is."""
    folder = tmp_path_factory.mktemp("towns")
    for number in range(len(towns.PLACES)):
        (folder / f"{number}.txt").write_text(towns.text(number), encoding="utf-8")
    reader = write_reader(tmp_path_factory.mktemp("reader")).model
    chosen = Settings(model="none", reader=str(Path(reader).parent), budget_ms=0)
    with edgeai.Assistant(folder.parent / "towns.db", settings=chosen) as opened:
        opened.sync(folder)
        opened.warm()
        yield opened


@pytest.fixture
def assistant(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "library.txt").write_text(towns.text(25), encoding="utf-8")
    with edgeai.Assistant(tmp_path / "notes.db", model="none", reader="none") as opened:
        opened.sync(tmp_path / "docs")
        yield opened


def untimed(answer: Answer) -> Answer:
    return replace(answer, timings=Timings())


def after_typing(assistant: edgeai.Assistant, question: str = QUESTION, **options) -> Answer:
    assistant.prepare(question, **options)
    return assistant.ask(question, **options).answer


@pytest.mark.parametrize("case", towns.cases(), ids=lambda case: case.id)
def test_a_prepared_answer_is_the_answer(shared, case):
    plain = shared.ask(case.question).answer
    prepared = after_typing(shared, case.question)
    assert untimed(prepared) == untimed(plain)
    assert plain.timings.prepared == 0
    assert prepared.timings.prepared > 0 == prepared.timings.embed + prepared.timings.search + prepared.timings.read


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_whatever_was_typed_before_the_answer_is_the_same(shared, data):
    asked, typed = (data.draw(st.sampled_from(towns.cases())).question for _ in range(2))
    for end in data.draw(st.lists(st.integers(0, len(typed)), max_size=4)):
        shared.prepare(typed[:end])
        time.sleep(data.draw(st.sampled_from([0, 0.01, 0.35])))
    assert untimed(shared.ask(asked).answer) == untimed(shared.ask(asked).answer)


def test_the_shipped_reader_reads_ahead(tmp_path):
    (tmp_path / "library.txt").write_text(towns.text(25), encoding="utf-8")
    with edgeai.Assistant(tmp_path / "notes.db", model="none", budget_ms=0) as assistant:
        assistant.sync(tmp_path / "library.txt")
        assistant.warm()
        prepared, plain = after_typing(assistant), assistant.ask(QUESTION).answer
    assert untimed(prepared) == untimed(plain)
    assert plain.timings.read > 0 == prepared.timings.read < prepared.timings.prepared


def test_follow_ups_are_prepared_as_they_are_understood(shared):
    history = [Turn(QUESTION, "It opens at 7:36.")]
    follow_up = "And where can one buy a fresh loaf there?"
    prepared = after_typing(shared, follow_up, history=history)
    assert prepared.timings.prepared > 0
    assert untimed(prepared) == untimed(shared.ask(follow_up, history=history).answer)


@pytest.mark.parametrize(
    "options",
    [
        {"question": QUESTION[:-1]},
        {"history": [Turn("Where is Eastholm?", "At the river.")]},
        {"where": edgeai.parse_filter(["type=text"])},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_was_prepared_serves_nothing_else(shared, options):
    shared.prepare(QUESTION)
    options = {"question": QUESTION, **options}
    answer = shared.ask(**options).answer
    assert answer.timings.prepared == 0 < answer.timings.search
    assert untimed(answer) == untimed(shared.ask(**options).answer)


def test_a_change_of_the_index_in_between_is_noticed(assistant, tmp_path):
    assert "7:35" in after_typing(assistant).text
    assistant.prepare(QUESTION)
    (tmp_path / "docs" / "library.txt").write_text(towns.text(25).replace("7:35", "8:45"), encoding="utf-8")
    with edgeai.Assistant(assistant.index, model="none", reader="none") as other:
        other.sync(tmp_path / "docs")
    answer = assistant.ask(QUESTION).answer
    assert "8:45" in answer.text
    assert answer.timings.prepared == 0


def test_a_new_index_in_its_place_is_noticed(assistant, tmp_path):
    assistant.prepare(QUESTION)
    (tmp_path / "docs" / "library.txt").write_text(towns.text(25).replace("7:35", "8:45"), encoding="utf-8")
    assistant.sync(tmp_path / "docs", rebuild=True)
    assert "8:45" in assistant.ask(QUESTION).answer.text


def test_a_change_of_settings_in_between_is_noticed(assistant):
    assistant.prepare(QUESTION)
    assistant.reconfigure(passages=1)
    answer = assistant.ask(QUESTION).answer
    assert (len(answer.passages), answer.timings.prepared) == (1, 0)


def test_nothing_is_prepared_with_the_setting_off(assistant):
    assistant.reconfigure(ahead=False)
    assert after_typing(assistant).timings.prepared == 0


def test_nothing_is_prepared_before_the_models_are_loaded(assistant):
    assistant.close()
    assistant.prepare(QUESTION)
    assert assistant.ask(QUESTION).answer.timings.prepared == 0
    assert after_typing(assistant).timings.prepared > 0


@pytest.mark.skipif(sys.platform != "linux", reason="the battery is a folder")
def test_nothing_is_prepared_on_battery(assistant, tmp_path, monkeypatch):
    battery = tmp_path / "supplies" / "BAT0"
    battery.mkdir(parents=True)
    (battery / "type").write_text("Battery\n")
    (battery / "status").write_text("Discharging\n")
    monkeypatch.setattr(power, "SUPPLIES", battery.parent)
    assert after_typing(assistant).timings.prepared == 0
    (battery / "status").write_text("Charging\n")
    assert after_typing(assistant).timings.prepared > 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("  ?", None),
        ("How", None),
        ("How long", ahead.PAUSE_S),
        ("How long is parental leave", ahead.PAUSE_S),
        ("How long is parental leave? ", 0.0),
        ("育児休業の期間は？", 0.0),
    ],
)
def test_a_text_is_given_time_until_it_looks_complete(text, expected):
    assert ahead.pause(text) == expected


# what is handed to the generator ------------------------------------------------------------------------------------


class Listening:
    """A generator that notes what it is told to prepare."""

    def __init__(self, *, independent: bool) -> None:
        template = ChatTemplate(("<s>", "$system"), ("</s>",), ("</s>",), {"<s>": 1, "</s>": 2})
        self.spec = GeneratorSpec("listening", "", "", template, independent=independent)
        self.told: list[str] = []

    def pause(self) -> None:
        self.told.append("pause")

    def prepare(self, segments) -> None:
        self.told += [segment.text for segment in segments if segment.role == "passage"]


def begun(assistant, generator, question=QUESTION, wait=lambda seconds: None):
    engines = Engines(assistant.open_store(), assistant.embedder, lambda: generator, assistant._models.reader)
    asked = ahead.Asked(question, (), EVERYTHING, assistant.settings, engines.store)
    return list(ahead.drafts(asked, lambda: engines, wait))


def test_a_model_that_reads_passages_apart_begins_with_them(assistant):
    generator = Listening(independent=True)
    [draft] = begun(assistant, generator)
    assert generator.told[0] == "pause"
    assert [passage.text in said for passage, said in zip(draft.passages, generator.told[1:], strict=True)] == [True]


@pytest.mark.parametrize(
    ("independent", "question"),
    [(False, QUESTION), (True, "Which exoplanets orbit Trappist?"), (True, "From")],
    ids=["another model", "nothing to answer from", "too few words"],
)
def test_no_passages_are_begun_with_where_that_is_of_no_use(assistant, independent, question):
    generator = Listening(independent=independent)
    begun(assistant, generator, question)
    assert generator.told == ["pause"]


def test_what_there_is_no_time_to_read_after_the_question_is_read_before_it(shared, monkeypatch):
    monkeypatch.setattr(shared._models, "settings", replace(shared.settings, budget_ms=1))
    hurried, unhurried = begun(shared, None)
    assert hurried.cut == ("2 of 6 passages read",)
    assert unhurried.cut == ()


def test_more_typing_ends_the_work_between_two_forwards(shared):
    waits = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise Stopped

    generator = Listening(independent=True)
    with pytest.raises(Stopped):
        begun(shared, generator, wait=wait)
    assert waits == [0, 0, 0]  # before the search and two forwards of the reader
    assert generator.told == ["pause"]
