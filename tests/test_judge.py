"""One answer beside what was expected: every figure by hand, and the stage that lost a source."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeai.evaluation.judge import NOT_CHUNKED, NOT_READ, NOT_RETRIEVED, NOT_USED, Judgement, Lookup, judge
from edgeai.evaluation.questions import Case, Source
from edgeai.evaluation.targets import Place, Target
from edgeai.records import Answer, Chunk, Citation, Hit, Passage

TEXT = "Parents may take 20 weeks of leave. Hotels cost up to 130 euros a night."
QUOTE = "20 weeks of leave"
START = TEXT.index(QUOTE)
CUT = TEXT.index(" Hotels")
LEAVE, HOTEL = Chunk(0, CUT, TEXT[:CUT]), Chunk(CUT + 1, len(TEXT), TEXT[CUT + 1 :])
TARGET = Target((Place("/a.md", START, START + len(QUOTE)),), ((1, LEAVE),))
MISSING = Target(problem="the quote is not in the text of a.md")
CASE = Case("1", "How long is the leave?", ("20 weeks",), (Source("a.md", QUOTE),))
NOTHING = Case("2", "Who was first?", kind="unanswerable")


def hit(chunk: Chunk) -> Hit:
    return Hit(1, chunk, "/a.md", "", "text", 1.0, 1.0)


def passage(number: int, chunk: Chunk) -> Passage:
    return Passage(number, chunk.text, "/a.md", chunk.start, chunk.end)


def cited(number: int, chunk: Chunk) -> Citation:
    return Citation(number, "/a.md", chunk.start, chunk.end, chunk.text)


ANSWER = Answer(
    CASE.question,
    "20 weeks [1]",
    "answered",
    "extractive",
    (cited(1, LEAVE),),
    passages=(passage(1, LEAVE), passage(2, HOTEL)),
)
REFUSED = Answer(CASE.question, "The documents do not contain the answer.", "refused", "extractive")
FOUND = Lookup((TARGET,), (hit(HOTEL), hit(LEAVE)), keyword=(2, 1), nearest=(1, 2))


def judged(case: Case = CASE, lookup: Lookup = FOUND, answer: Answer = ANSWER) -> Judgement:
    return judge(case, lookup, answer, lambda path: TEXT if path == "/a.md" else "")


def test_a_good_answer_has_every_figure_and_no_complaint():
    judgement = judged()
    assert judgement.values == {
        "recall@1": 0,
        "recall@5": 1,
        "recall@10": 1,
        "mrr": 0.5,
        "ndcg@10": pytest.approx(0.631, abs=0.001),
        "keyword_mrr": 0.5,
        "vector_mrr": 1,
        **dict.fromkeys(("chunked", "retrieved", "read", "used", "answered"), 1),
        **dict.fromkeys(("correct", "exact_match", "f1", "containment"), 1),
        **dict.fromkeys(("citation_exact", "citation_precision", "citation_recall"), 1),
        "unsupported_numbers": 0,
    }
    assert (judgement.lost, judgement.why) == (("",), "")


LOSSES = [
    (replace(FOUND, targets=(MISSING,)), ANSWER, NOT_CHUNKED, "the quote is not in the text"),
    (replace(FOUND, hits=(hit(HOTEL),)), replace(ANSWER, passages=(passage(2, HOTEL),)), NOT_RETRIEVED, "first 10"),
    (FOUND, replace(ANSWER, passages=(passage(2, HOTEL),)), NOT_READ, "passages shown"),
    (FOUND, replace(ANSWER, citations=(cited(2, HOTEL),)), NOT_USED, "not cited"),
]


@pytest.mark.parametrize(
    ("lookup", "answer", "stage", "why"), LOSSES, ids=lambda part: part if str(part) == part else ""
)
def test_a_lost_source_is_put_down_to_its_stage_and_to_no_other(lookup, answer, stage, why):
    judgement = judged(lookup=lookup, answer=answer)
    assert judgement.lost == (stage,)
    assert why in judgement.why
    kept = [judgement.values.get(name) for name in ("chunked", "retrieved", "read", "used")]
    failed = [NOT_CHUNKED, NOT_RETRIEVED, NOT_READ, NOT_USED].index(stage)
    assert kept == [1] * failed + [0] + [None] * (3 - failed)


def test_of_two_sources_each_is_followed_for_itself():
    values = judged(lookup=replace(FOUND, targets=(TARGET, MISSING))).values
    assert (values["recall@5"], values["chunked"], values["retrieved"], values["citation_recall"]) == (0.5, 0.5, 1, 0.5)


def test_what_may_be_cited_as_well_counts_for_a_citation_and_nothing_else():
    both = replace(ANSWER, citations=(cited(1, LEAVE), cited(2, HOTEL)))
    assert judged(answer=both).values["citation_precision"] == 0.5
    hotel = Target((Place("/a.md", HOTEL.start, HOTEL.end),))
    assert judged(lookup=replace(FOUND, also=(hotel,)), answer=both).values == judged().values
    only = judged(lookup=replace(FOUND, also=(hotel,)), answer=replace(ANSWER, citations=(cited(2, HOTEL),)))
    assert (only.values["citation_recall"], only.lost) == (0, (NOT_USED,))


def test_a_refusal_is_right_or_wrong_by_whether_there_is_an_answer():
    wrong = judged(answer=REFUSED)
    assert (wrong.values["answered"], wrong.values["refusal_precision"], wrong.values["correct"]) == (0, 0, 0)
    assert wrong.why.startswith("refused, although the documents hold the answer; not read: ")
    right = judged(NOTHING, Lookup((), ()), REFUSED)
    assert right.values == {"refusal_recall": 1, "refusal_precision": 1, "correct": 1}
    assert right.why == ""


def test_an_answer_to_what_has_none_counts_as_wrong():
    judgement = judged(NOTHING, Lookup((), ()))
    assert (judgement.values["refusal_recall"], judgement.values["correct"]) == (0, 0)
    assert "do not hold" in judgement.why
    assert "citation_precision" not in judgement.values  # nothing is known of what would be right


def test_a_conflict_has_to_show_all_its_answers():
    case = replace(CASE, kind="conflict", answers=("20 weeks", "25 weeks"))
    assert judged(case).values["correct"] == 0
    both = replace(ANSWER, text="20 weeks [1] or 25 weeks [2]")
    assert judged(case, answer=both).values["correct"] == 1


def test_a_number_that_no_cited_passage_holds_is_found():
    judgement = judged(answer=replace(ANSWER, text="20 weeks or 99 days [1]"))
    assert judgement.values["unsupported_numbers"] == 1
    assert "number" in judgement.why


def test_a_citation_elsewhere_is_right_only_when_it_holds_an_answer():
    other = replace(cited(2, HOTEL), path="/b.md")
    assert judged(answer=replace(ANSWER, citations=(other,))).values["citation_precision"] == 0
    same = replace(other, quote="It is 20 weeks, as everybody knows.")
    assert judged(answer=replace(ANSWER, citations=(same,))).values["citation_precision"] == 1
    yes = replace(CASE, answers=("yes",))
    assert (
        judged(yes, answer=replace(ANSWER, citations=(replace(other, quote="Yes!"),))).values["citation_precision"] == 0
    )


def test_a_question_about_fresh_text_counts_for_freshness_too():
    assert "freshness" not in judged().values
    assert judged(replace(CASE, fresh=True)).values["freshness"] == 1


def test_a_question_with_a_source_only_is_scored_for_retrieval_only():
    values = judged(replace(CASE, answers=())).values
    assert "recall@5" in values
    assert "correct" not in values
