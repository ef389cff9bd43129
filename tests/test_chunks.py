import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.chunks import block_key, plain_heading, repeated_blocks, split
from edgeai.documents.markdown import markdown
from edgeai.documents.plain import code, prose
from edgeai.documents.tabular import table
from edgeai.records import Block, Chunk, Document

TOKEN = re.compile(r"\w+|[^\w\s]")
SENTENCE = "The manager approves every single trip before tickets are bought. "  # 11 tokens


def count(text: str) -> int:
    return len(TOKEN.findall(text))


def document(extracted, path: str = "/a.md") -> Document:
    return Document(path, extracted.text, "markdown", "title", 0.0, "", extracted.blocks)


def chunks(text: str, *, target: int = 60, limit: int = 90, **options) -> tuple[Chunk, ...]:
    return split(document(markdown(text)), count, target=target, limit=limit, **options)


# laws -------------------------------------------------------------------------------------------------------------

words = st.text(alphabet="abcdefgh äß漢字。!? .", min_size=1, max_size=120)
lines = st.one_of(
    words,
    words.map("- {}".format),
    words.map("  - {}".format),
    words.map("# {}".format),
    words.map("## {}".format),
    words.map("#### {}".format),
    words.map("{}:".format),
    words.map(lambda text: f"| {text} | x |\n|---|---|\n" + f"| {text} | 1 |\n" * 12),
    words.map("```\n{0}\n\n{0}\n```".format),
    st.sampled_from(["", "***", "<!-- note -->", "[a]: https://example.org", "> quoted", "abcdefgh" * 60]),
)
texts = st.lists(lines, max_size=25).map("\n".join) | st.lists(lines, max_size=25).map("\n\n".join)


@settings(max_examples=300, deadline=None)
@given(text=texts, target=st.integers(15, 60), spare=st.integers(0, 40))
def test_chunks_are_exact_ordered_and_complete(text, target, spare):
    source = document(markdown(text))
    made = split(source, count, target=target, limit=target + spare)
    position = 0
    for chunk in made:
        assert source.text[chunk.start : chunk.end] == chunk.text == chunk.text.strip() != ""
        assert position <= chunk.start
        position = chunk.end
    covered = {index for chunk in made for index in range(chunk.start, chunk.end)}
    inside = (index for block in source.blocks for index in range(block.start, block.end))
    assert all(index in covered or source.text[index].isspace() for index in inside)


@settings(max_examples=300, deadline=None)
@given(text=texts, target=st.integers(30, 60), spare=st.integers(0, 40))
def test_the_limit_holds_with_the_context(text, target, spare):
    for chunk in split(document(markdown(text)), count, target=target, limit=target + spare):
        assert count(chunk.context) + count(chunk.text) <= target + spare


@settings(max_examples=200, deadline=None)
@given(text=texts, target=st.integers(15, 60))
def test_no_row_is_cut_from_its_header(text, target):
    source = document(markdown(text))
    tables = [block for block in source.blocks if block.header_end]
    for chunk in split(source, count, target=target, limit=target):
        for block in tables:
            if block.header_end <= chunk.start < block.end:
                names = " ".join(source.text[block.start : block.header_end].split("\n")[0].split())
                assert chunk.header and names.startswith(chunk.header)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["paragraph", "list", "code", "record", "table"]), words), max_size=12))
def test_any_blocks_are_accepted(parts):
    text, blocks = "", []
    for kind, part in parts:
        part = part.strip()
        if part:
            blocks.append(Block(kind, len(text), len(text) + len(part)))
            text += part + "\n"
    made = split(Document("/x", text, "text", "x", 0.0, "", tuple(blocks)), count, target=20, limit=25)
    assert "".join("".join(chunk.text.split()) for chunk in made) == "".join(text.split())


# sections ---------------------------------------------------------------------------------------------------------


def test_a_chunk_carries_its_heading_path():
    [chunk] = chunks("# Travel *rules*\n\n## [Hotels](https://example.org) ##\n\n" + SENTENCE)
    assert chunk.heading == ("Travel rules", "Hotels")
    assert chunk.context == "Travel rules > Hotels" and chunk.text.startswith("# Travel")


def test_sections_of_some_length_stay_apart():
    text = "# T\n\n" + "".join(f"## {name}\n\n{SENTENCE * 3}\n\n" for name in "AB")
    assert [chunk.heading for chunk in chunks(text)] == [("T", "A"), ("T", "B")]


def test_tiny_sections_of_one_parent_are_merged():
    text = "# T\n\n" + "".join(f"## {name}\n\nYes, {name}.\n\n" for name in "ABC") + "# U\n\nNo.\n"
    assert [chunk.heading for chunk in chunks(text)] == [("T",), ("U",)]


def test_a_tiny_section_is_not_merged_across_its_parent():
    text = f"# T\n\n## A\n\n{SENTENCE * 3}\n\n### B\n\nYes.\n\n# U\n\n{SENTENCE * 3}"
    assert [chunk.heading for chunk in chunks(text)][-1] == ("U",)
    assert all("# U" not in chunk.text[1:] for chunk in chunks(text))


def test_a_heading_is_never_left_behind():
    text = "# T\n\n" + "".join(f"## Part {number}\n\n{SENTENCE * 9}\n\n" for number in range(3))
    assert all(not chunk.text.rsplit("\n", 1)[-1].startswith("#") for chunk in chunks(text))


def test_a_heading_path_that_is_too_long_loses_its_outermost_part():
    text = f"# {'a ' * 40}\n\n## Near\n\n{SENTENCE * 2}"
    assert chunks(text)[0].heading == ("Near",)


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("## A `b` **c** ##", "A b c"),
        ("Title\n=====", "Title"),
        ("# [A](b(c)d) &amp; B <a name='x'></a>", "A & B"),
        ("# Handbook [![badge](x.svg)](y)", "Handbook"),
        ("## \\#channel {#id}", "#channel"),
        ("# snake_case 2*3*4 C#", "snake_case 2*3*4 C#"),
        ("3.1 Scope", "3.1 Scope"),
    ],
)
def test_headings_are_cleaned(markup, expected):
    assert plain_heading(markup) == expected


# sizes ------------------------------------------------------------------------------------------------------------


def test_a_section_just_over_the_target_is_not_cut():
    assert len(chunks(SENTENCE * 6)) == 1


def test_a_long_section_is_cut_into_similar_parts():
    sizes = [count(chunk.text) for chunk in chunks("\n\n".join([SENTENCE * 2] * 8))]
    assert len(sizes) == 3 and max(sizes) - min(sizes) <= 24


def test_a_long_paragraph_is_cut_between_sentences():
    assert all(chunk.text.endswith("bought.") for chunk in chunks(SENTENCE * 20))


def test_chinese_is_cut_between_sentences():
    text = "每次出差都必须在购票之前得到经理的批准。" * 12
    made = split(document(markdown(text)), len, target=60, limit=90)
    assert len(made) > 2 and all(chunk.text.endswith("。") for chunk in made)


def test_text_without_any_pause_is_cut_too():
    made = split(document(markdown("x" * 1000)), len, target=60, limit=90)
    assert all(len(chunk.text) <= 90 for chunk in made) and "".join(chunk.text for chunk in made) == "x" * 1000


def test_a_long_line_needs_few_counts():
    calls = []
    text = "word " * 20_000
    made = split(document(prose(text)), lambda part: calls.append(1) or len(part) // 5, target=160, limit=230)
    assert len(made) > 80 and len(calls) < 400


def test_each_block_is_counted_once():
    calls = []
    split(document(markdown(f"# A\n\n{SENTENCE}\n\n- b\n- c\n")), lambda part: calls.append(part) or count(part))
    assert sorted(calls) == sorted(["A", "# A", SENTENCE.strip(), "- b", "- c"])


# lists, tables, code, records -------------------------------------------------------------------------------------


def test_list_items_stay_whole():
    made = chunks("\n".join(f"- {SENTENCE}\n  {SENTENCE}" for _ in range(9)))
    assert len(made) > 2 and all(chunk.text.startswith("- ") for chunk in made)


def test_a_lead_in_stays_with_its_list():
    text = f"{SENTENCE * 4}\n\nYou need the following:\n\n" + "\n".join(f"- {SENTENCE}" for _ in range(4))
    assert any("following:\n\n- The" in chunk.text for chunk in chunks(text))


def test_a_lead_in_stays_with_a_table_that_just_fits():
    rows = "".join(f"| city {number} | 20 |\n" for number in range(12))
    made = chunks(f"These are the limits of hotels for each night:\n\n| City | Limit |\n|--|--|\n{rows}")
    assert "night:\n\n| City" in made[0].text and made[1].header == "| City | Limit |"


def test_a_long_table_carries_its_header():
    rows = "".join(f"| city {number}   | {number} Euro |\n" for number in range(60))
    first, *others = chunks(f"# T\n\n| City      | Limit |\n|:----------|------:|\n{rows}")
    assert first.header == "" and first.text.startswith("# T\n\n| City")
    assert {chunk.header for chunk in others} == {"| City | Limit |"}
    assert all(chunk.text.startswith("| city") and chunk.text.endswith("|") for chunk in others)
    assert others[0].context == "T\n| City | Limit |"


def test_a_row_that_is_too_long_is_cut_as_text():
    made = chunks(f"| A | B |\n|---|---|\n| x | {SENTENCE * 12} |\n| y | z |\n")
    assert len(made) > 2 and all(chunk.header == "| A | B |" for chunk in made[1:])


def test_code_is_cut_at_lines():
    source = "\n\n".join(f"def f{number}(a, b):\n    c = a + b\n    return c * {number}" for number in range(12))
    made = split(document(code(source)), count, target=60, limit=90)
    assert len(made) > 2 and all(chunk.text.startswith("def f") for chunk in made)


def test_records_are_packed_whole():
    rows = "name,city\n" + "".join(f"person {number},city {number}\n" for number in range(40))
    made = split(document(table(rows)), count, target=60, limit=90)
    assert len(made) > 2 and all(re.fullmatch(r"(name: .* \| city: .*\n?)+", chunk.text) for chunk in made)


def test_pages_are_those_of_the_first_block():
    text = f"{SENTENCE.strip()}\n{SENTENCE.strip()}"
    middle = len(SENTENCE.strip())
    blocks = (Block("paragraph", 0, middle, page=3), Block("paragraph", middle + 1, len(text), page=4))
    made = split(Document("/a.pdf", text, "pdf", "a", 0.0, "", blocks), count, target=11, limit=15)
    assert [chunk.page for chunk in made] == [3, 4]


def test_a_document_without_blocks_is_one_paragraph():
    assert [chunk.text for chunk in split(Document("/a", " text ", "text", "a", 0.0, ""), count)] == ["text"]
    assert split(Document("/a", "", "text", "a", 0.0, ""), count) == ()


def test_much_text_outside_of_blocks_ends_a_chunk():
    made = chunks(f"One.\n\n<!-- {'secret ' * 100}-->\n\nTwo.\n\n***\n\nThree.")
    assert [chunk.text for chunk in made] == ["One.", "Two.\n\n***\n\nThree."]


# boilerplate ------------------------------------------------------------------------------------------------------

FOOTER = "Questions? Ask the travel team in the office."


def handbook(number: int, *, footer: str = FOOTER) -> Document:
    own = f"Rule {number} is about {'abcdefghijklmnopqrstuvwxyz'[number]} and {SENTENCE * (number + 3)}"
    return document(markdown(f"# Rule {number}\n\n{own}\n\n{footer}\n\nEnd of {number}."), f"/{number:02}.md")


def test_keys_ignore_case_and_white_space_but_not_digits():
    assert block_key("Page  One\n") == block_key("page one") != block_key("page two")
    assert block_key("the limit is 20") != block_key("the limit is 30")


def test_what_repeats_is_kept_in_one_document_only():
    documents = [handbook(number) for number in range(8)]
    keys = repeated_blocks(documents)
    assert block_key(FOOTER) in keys
    holders = [
        source.path for source in documents if any(FOOTER in c.text for c in split(source, count, boilerplate=keys))
    ]
    assert holders == ["/00.md"]


def test_a_dropped_block_ends_a_chunk():
    keys = repeated_blocks(handbook(number) for number in range(8))
    made = split(handbook(3), count, boilerplate=keys)
    assert all(FOOTER not in chunk.text for chunk in made) and made[-1].text == "End of 3."


def test_few_documents_or_a_small_share_are_not_boilerplate():
    assert not repeated_blocks(handbook(number) for number in range(3))
    others = [handbook(number, footer="") for number in range(4, 26)]
    assert not repeated_blocks([*(handbook(number) for number in range(4)), *others])


def test_rows_of_data_are_never_boilerplate():
    rows = document(table("name,city\nperson one,city of a long name\nperson two,city\n"))
    assert not repeated_blocks([rows] * 6)


def test_versions_of_one_document_keep_their_text():
    versions = [document(markdown(f"{SENTENCE * 3}\n\nVersion {number}."), f"/{number}.md") for number in range(6)]
    keys = repeated_blocks(versions)
    assert keys and all(SENTENCE.strip() in split(one, count, boilerplate=keys)[0].text for one in versions)
