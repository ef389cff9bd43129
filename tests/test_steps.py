"""Questions in two steps: on real files with the shipped models, and how two answers become one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import edgeai
from edgeai import steps
from edgeai.config import Settings
from edgeai.records import Answer, Citation, Passage, Timings

FILES = {
    "bookings.md": "# Room bookings\n\n| Evening | Group | Room |\n|---|---|---|\n| Monday | Beekeepers | Alder |\n"
    "| Tuesday | Chess club | Birch |\n| Friday | Choir | Rowan |\n",
    "rooms.md": "# Our rooms\n\n| Room | Seats | Floor |\n|---|---|---|\n| Alder | 24 | 2 |\n| Birch | 60 | ground |\n"
    "| Rowan | 110 | 1 |\n",
    "fees.md": "# Fees\n\nMembers pay 35 euros a year. A lost key costs 12 euros.\n",
    "hours.md": "# Opening hours\n\nThe reading room opens at 9:30 and closes at 18:00.\n",
}


@pytest.fixture(scope="module")
def index(tmp_path_factory, embedder) -> Path:
    folder = tmp_path_factory.mktemp("hall")
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    with edgeai.Assistant(folder / "hall.db", settings=Settings(model="none")) as assistant:
        assistant.sync(folder)
    return folder / "hall.db"


def ask(index: Path, question: str, **changes) -> Answer:
    with edgeai.Assistant(index, settings=replace(Settings(model="none", budget_ms=0), **changes)) as assistant:
        return assistant.ask(question).answer


def test_both_questions_are_answered_and_cited(index):
    answer = ask(index, "What does a lost key cost and when does the reading room open?")
    assert "12 euros" in answer.text
    assert "9:30" in answer.text
    assert {Path(citation.path).name for citation in answer.citations} == {"fees.md", "hours.md"}
    checked(answer)


def test_what_is_described_is_looked_up_in_another_document(index):
    answer = ask(index, "How many seats has the room in which the chess club meets?")
    assert "60" in answer.text
    assert "24" not in answer.text
    assert "(Birch [" in answer.text
    assert {Path(citation.path).name for citation in answer.citations} == {"bookings.md", "rooms.md"}
    checked(answer)


def test_what_no_document_says_of_the_described_thing_is_refused(index):
    assert ask(index, "Who painted the room in which the chess club meets?").status == "refused"
    assert ask(index, "How many seats has the room in which the orchestra meets?").status == "refused"


def checked(answer: Answer) -> None:
    """Every quote is where its citation says, in the passage of its number, and has a mark in the text."""
    passages = {passage.number: passage for passage in answer.passages}
    assert len(passages) == len(answer.passages)
    for citation in answer.citations:
        passage = passages[citation.n]
        assert passage.path == citation.path
        assert passage.text[citation.start - passage.start : citation.end - passage.start] == citation.quote
        assert f"[{citation.n}]" in answer.text


# joining ----------------------------------------------------------------------------------------------------------


def said(text: str, path: str, quote: str, confidence: float = 0.8, status: str = "answered") -> Answer:
    """An answer with one citation of a passage that is its quote, and a second passage that all answers share."""
    shared = Passage(2, "Shared.", "/shared.md", 0, 7)
    return Answer(
        text,
        f"{text} [1]" if status != "refused" else "No.",
        status,
        "extractive",
        (Citation(1, path, 0, len(quote), quote),) if status != "refused" else (),
        confidence,
        timings=Timings(embed=1.0, search=2.0, read=3.0, total=9.0),
        passages=(Passage(1, quote, path, 0, len(quote)), shared),
    )


def asking(**answers: Answer):
    """An `Ask` that knows answers by the first word of a question, and nothing else."""

    def look_up(question, turns, parts):
        answer = answers.get(question.split()[0])
        return answer and steps.Found(answer.question if answer.status != "refused" else "", answer)

    return look_up


NO = said("", "/no.md", "No.", 0.1, "refused")
TABLE = "| Big Ben | 60 m |\n| Old Tom | 40 m |"
ROW = replace(said("60 m", "/b.md", "| Big Ben | 60 m |"), passages=(Passage(1, TABLE, "/b.md", 0, len(TABLE)),))
TWO = "When does it open and who pays for it?"
NINE, ADA = said("nine", "/hours.md", "It opens at nine."), said("Ada", "/fees.md", "Ada pays.", 0.5)
CALLED = "How high is the tower that has a clock?"
TOWER, HEIGHT = said("Old Tom", "/a.md", "Old Tom has a clock."), said("60 m", "/b.md", "Old Tom is 60 m high.", 0.9)


def nothing() -> steps.Found:
    """What the question finds as it stands."""
    return steps.Found("", NO)


def test_marks_follow_the_passages_of_both():
    answer = steps.both(TWO, asking(When=NINE, who=ADA))
    assert answer.text == "nine [1]; Ada [3]"
    assert [passage.path for passage in answer.passages] == ["/hours.md", "/shared.md", "/fees.md"]
    assert answer.confidence == pytest.approx(0.4)
    assert answer.support == "weak"
    assert (answer.timings.embed, answer.timings.search, answer.timings.read) == (2.0, 4.0, 6.0)
    assert answer.timings.total == 9.0  # counted from the beginning of the whole question
    checked(answer)


def test_a_find_is_named_with_its_source():
    answer = steps.bridged(CALLED, nothing, asking(Which=TOWER, How=HEIGHT))
    assert answer.text == "60 m [3] (Old Tom [1])"
    assert answer.question == CALLED
    assert answer.confidence == pytest.approx(0.72)
    checked(answer)


@pytest.mark.parametrize("answers", [{}, {"When": NINE}, {"When": NINE, "who": NO}, {"When": NO, "who": ADA}])
def test_half_an_answer_is_none(answers):
    assert steps.both(TWO, asking(**answers)) is None


@pytest.mark.parametrize(
    "answers",
    [
        {"Which": TOWER},
        {"Which": NO, "How": HEIGHT},
        {"Which": TOWER, "How": NO},
        {"Which": TOWER, "How": said("60 m", "/b.md", "Big Ben is 60 m high.")},  # of another one
        {"Which": TOWER, "How": ROW},  # of another one in the same table
        {"Which": said("tower", "/a.md", "The tower has a clock."), "How": HEIGHT},  # says nothing new
        {"Which": TOWER, "How": said("noon", "/a.md", "Old Tom has a clock.", 0.9)},  # the same sentence again
        {"Which": TOWER, "How": said("a clock", "/b.md", "Old Tom has a clock.", 0.9)},  # as the question says
        {"Which": replace(TOWER, confidence=0.4), "How": replace(HEIGHT, confidence=0.5)},
    ],
)
def test_a_second_step_rests_on_both(answers):
    assert steps.bridged(CALLED, nothing, asking(**answers)) is None


def test_a_contradiction_in_one_of_two_answers_remains_one():
    contrary = replace(NINE, status="conflict")
    assert steps.both(TWO, asking(When=contrary, who=ADA)).status == "conflict"
    assert steps.both(TWO, asking(When=NINE, who=ADA)).status == "answered"


def test_the_floor_of_an_index_holds_for_two_steps_together():
    known = asking(Which=TOWER, How=HEIGHT)  # 0.72 together
    assert steps.bridged(CALLED, nothing, known, floor=0.7) is not None
    assert steps.bridged(CALLED, nothing, known, floor=0.74) is None


def test_a_plain_question_asks_nothing_more():
    def never(question, turns, parts):
        raise AssertionError(question)

    assert steps.both("How long is parental leave?", never) is None
    assert steps.bridged("How long is parental leave?", lambda: never("", (), 1), never) is None


def test_the_surer_of_one_step_and_two_is_shown():
    unsure, sure = (steps.Found("9 m", said("9 m", "/c.md", "9 m high.", chance)) for chance in (0.6, 0.74))
    assert steps.bridged(CALLED, lambda: unsure, asking(Which=TOWER, How=HEIGHT)) is not None
    assert steps.bridged(CALLED, lambda: sure, asking(Which=TOWER, How=HEIGHT)) is None


def test_the_thing_described_is_not_the_answer_to_what_is_asked_of_it():
    found = steps.Found("the Old Tom", said("the Old Tom", "/a.md", "The Old Tom has a clock.", 0.95))
    answer = steps.bridged(CALLED, lambda: found, asking(Which=TOWER, How=HEIGHT))
    assert answer is not None
    assert answer.text == "60 m [3] (Old Tom [1])"
    same_document = replace(
        HEIGHT,
        citations=tuple(replace(one, path="/a.md") for one in HEIGHT.citations),
        passages=(Passage(1, "Old Tom is 60 m high.", "/a.md", 50, 71),),
    )
    assert steps.bridged(CALLED, lambda: found, asking(Which=TOWER, How=same_document)) is None


def test_what_kind_of_thing_a_find_is_need_not_stand_beside_what_is_said_of_it():
    height = said("60 m", "/b.md", "| Big Ben | 60 m |", 0.9)
    for find, is_joined in (("Big Ben tower", True), ("Old Tom tower", False)):
        tower = said(find, "/a.md", f"{find} has a clock.")
        assert (steps.bridged(CALLED, nothing, asking(Which=tower, How=height)) is not None) is is_joined
