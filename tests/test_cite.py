"""Citations: exact offsets for any text, and the right sentence for the texts that matter."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeai.grounding.cite import cite, content, evidence
from edgeai.records import Passage

OFFSET = 1000


def passage(number, text):
    return Passage(number, text, f"/doc{number}.md", OFFSET, OFFSET + len(text), heading=("Guide", "Leave"), page=3)


LEAVE = passage(1, "Leave rules. Full-time employees get twelve weeks of paid leave. Part-time employees get 6 weeks.")
HARDWARE = passage(
    2, "| item | years |\n|---|---|\n| laptop | 4 |\n| phone | 2 |\nReplacements need approval by the IT desk."
)
SHOWN = (LEAVE, HARDWARE)

answers = st.text(alphabet="abc twelve weeks.[1]2,9;() 。\n-“`", max_size=100) | st.lists(
    st.sampled_from(
        [
            "Employees get twelve weeks",
            " [1]",
            "[2]",
            "[7]",
            "[1, 2]",
            "passage 1",
            "`list[9]`",
            "`[1]. [8]`",
            "(passage 2)",
            ". ",
            "\n",
            "laptop",
            "4",
        ]
    ),
    max_size=12,
).map("".join)


@given(answers | st.text())
@settings(deadline=None)
def test_every_citation_is_an_exact_part_of_a_shown_passage_that_is_marked_in_the_text(answer):
    text, citations = cite(answer, SHOWN)
    for citation in citations:
        shown = SHOWN[citation.n - 1]
        assert citation.path == shown.path
        assert shown.text[citation.start - OFFSET : citation.end - OFFSET] == citation.quote != ""
        assert f"[{citation.n}]" in text
    assert len(set(citations)) == len(citations)


@given(answers)
@example("Employees get twelve weeks\n [1]")
@settings(deadline=None)
def test_citing_its_own_text_changes_nothing(answer):
    text, _ = cite(answer, SHOWN)
    assert cite(text, SHOWN)[0] == text


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("Twelve weeks [1].", "Twelve weeks [1]."),
        ("Twelve weeks [9].", "Twelve weeks [1]."),  # the mark is dropped, the sentence attributed
        ("Twelve weeks [1, 2].", "Twelve weeks [1][2]."),
        ("Twelve weeks [1][1] .", "Twelve weeks [1] ."),
        ("Twelve weeks [passage 1].", "Twelve weeks [1]."),
        ("Twelve weeks (passage 1).", "Twelve weeks [1]."),
        ("According to passage 1, twelve weeks.", "According to [1], twelve weeks."),
        ("Twelve weeks【1】", "Twelve weeks[1]"),
        ("`argv[1]` is nothing here.", "`argv[1]` is nothing here."),
        ("Nothing of the sort [8].", "Nothing of the sort."),
        ("", ""),
    ],
)
def test_marks_are_cleaned(answer, text):
    assert cite(answer, SHOWN)[0] == text


def quotes(answer, shown=SHOWN):
    return [(citation.n, citation.quote) for citation in cite(answer, shown)[1]]


def test_the_sentence_that_holds_the_statement_is_quoted():
    assert quotes("Part-time staff get six weeks [1].") == [(1, "Part-time employees get 6 weeks.")]
    assert quotes("A laptop lasts 4 years [2].") == [(2, "| laptop | 4 |")]


def test_a_citation_says_where_it_is():
    (citation,) = cite("Employees get twelve weeks of paid leave [1].", SHOWN)[1]
    assert (citation.path, citation.heading, citation.page) == ("/doc1.md", "Guide > Leave", 3)
    assert citation.start == OFFSET + LEAVE.text.index("Full-time")


def test_a_statement_of_two_facts_quotes_both_sentences():
    assert quotes("Full-time employees get twelve weeks, part-time 6 [1].") == [
        (1, "Full-time employees get twelve weeks of paid leave."),
        (1, "Part-time employees get 6 weeks."),
    ]


def test_an_unmarked_statement_is_attributed_when_a_passage_clearly_holds_it():
    text, citations = cite("Replacements need approval by the IT desk. Bananas are yellow.", SHOWN)
    assert text == "Replacements need approval by the IT desk [2]. Bananas are yellow."
    assert [citation.n for citation in citations] == [2]


def test_a_statement_with_another_number_is_not_attributed():
    assert cite("Part-time employees get 9 weeks.", SHOWN) == ("Part-time employees get 9 weeks.", ())


def test_a_marked_statement_in_other_words_quotes_the_whole_passage():
    assert quotes("Yes, definitely [2].") == [(2, HARDWARE.text)]


def test_brackets_in_code_are_no_marks():
    assert cite("Write `[1]` or `rows[9]`.", SHOWN) == ("Write `[1]` or `rows[9]`.", ())
    assert [quote.n for quote in cite("A laptop lasts 4 years [2], see `rows[9]`.", SHOWN)[1]] == [2]


def test_citations_come_in_the_order_in_which_passages_are_named():
    assert [n for n, _ in quotes("Phones last 2 years [2]. Twelve weeks [1]. Laptops last 4 years [2].")] == [2, 2, 1]


def test_chinese_statements_are_attributed():
    shown = (passage(1, "兼职员工享有六周产假。全职员工享有12周带薪产假。"),)
    text, (citation,) = cite("全职员工享有12周产假。", shown)
    assert text == "全职员工享有12周产假[1]。"
    assert citation.quote == "全职员工享有12周带薪产假。"


def test_without_passages_there_is_nothing_to_cite():
    assert cite("Twelve weeks [1].", ()) == ("Twelve weeks.", ())


@pytest.mark.parametrize(
    ("said", "offered"),
    [
        ("12", "twelve"),
        ("1,200", "1200"),
        ("12.50", "12.5"),
        ("007", "7"),
        ("24", "twenty-four"),
        ("12", "１２"),
        ("3", "3rd"),
    ],
)
def test_numbers_match_however_they_are_written(said, offered):
    assert content(said).numbers <= evidence(offered).numbers != frozenset()


@pytest.mark.parametrize(("said", "offered"), [("12", "120"), ("1.25", "1.26"), ("4.2.1", "4.2"), ("5", "Q5 x5")])
def test_other_numbers_do_not_match(said, offered):
    assert not content(said).numbers <= evidence(offered).numbers


def test_marks_and_list_numbers_are_no_numbers_of_the_text():
    assert content("1. Leave is 12 weeks [3].\n2. None.").numbers == {"12"}
