import hashlib
import os
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading import SENTENCE, read, reason, shown

from edgeai.documents import file_digest, read_document
from edgeai.documents.extracted import clean
from edgeai.documents.filetypes import readable_stem, type_of
from edgeai.documents.markdown import blocks
from edgeai.documents.parsers import parse
from edgeai.errors import DocumentUnreadable

# one file ---------------------------------------------------------------------------------------------------------


def test_a_document_knows_where_it_came_from(tmp_path):
    path = tmp_path / "travel_policy-2024.txt"
    path.write_text("Twenty days.")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    document = read_document(path, tags=("hr",), label="staff")
    assert document.path == path.absolute().as_posix()
    assert document.digest == hashlib.sha256(b"Twenty days.").hexdigest() == file_digest(path)
    assert document.size == path.stat().st_size
    assert (document.type, document.title, document.modified) == ("text", "travel policy 2024", 1_700_000_000)
    assert (document.tags, document.label) == (("hr",), "staff")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.md", b"", "no text"),
        ("blank.txt", b" \n\n", "no text"),
        ("matter.md", b"---\ntitle: x\n---\n", "no text"),
        ("nul.txt", b"a\0b", "binary"),
        ("nul.strange", b"a\0b", "binary"),
        ("cut.pdf", b"%PDF-1.7\n1 0 obj", "damaged"),
        ("no.docx", b"PK\3\4 not a zip", "damaged"),
        ("no.epub", b"hello", "damaged"),
        ("no.ipynb", b"{}", "damaged"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, name, content, words):
    assert words in reason(tmp_path, name, content)


def test_a_missing_file_says_why(tmp_path):
    with pytest.raises(DocumentUnreadable, match="no such file"):
        read_document(tmp_path / "none.md")
    with pytest.raises(DocumentUnreadable, match="no such file"):
        file_digest(tmp_path / "none.md")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a FIFO")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.md")
    with pytest.raises(DocumentUnreadable, match="regular"):
        read_document(tmp_path / "pipe.md")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from("markdown text code html docx csv json notebook epub email rst pdf".split()),  # noqa: SIM905
    data=st.binary(max_size=400) | st.text(max_size=200).map(lambda text: text.encode(errors="replace")),
)
def test_no_bytes_raise_anything_but_unreadable(kind, data):
    try:
        extracted = parse(kind, data, f"name.{kind}")
    except DocumentUnreadable:
        return
    assert extracted.text == clean(extracted.text)
    position = 0
    for block in extracted.blocks:
        assert position <= block.start < block.end <= len(extracted.text)
        text = extracted.text[block.start : block.end]
        assert text == text.strip()
        position = block.end


# text and its encodings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_encodings_are_read(tmp_path, encoding):
    assert read(tmp_path, "a.txt", "Größe 東京 🙂".encode(encoding)).text == "Größe 東京 🙂"


def test_legacy_encodings_are_recognised(tmp_path):
    russian = "Каждую поездку утверждает руководитель, прежде чем будут куплены билеты. " * 5
    german = "Für Übernachtungen gelten größere Beträge, die Führungskräfte müssen sie prüfen. " * 5
    japanese = "出張の費用は三十日以内に払い戻されます。領収書を必ず保管してください。" * 5
    assert read(tmp_path, "a.txt", russian.encode("cp1251")).text == russian
    assert read(tmp_path, "b.txt", german.encode("latin-1")).text == german
    assert read(tmp_path, "c.txt", japanese.encode("shift_jis")).text == japanese


def test_invalid_bytes_in_a_text_do_not_lose_it(tmp_path):
    assert "approved by the manager" in read(tmp_path, "a.txt", b"\xff\xfa " + SENTENCE.encode() * 4).text


def test_newlines_are_normalised():
    assert clean("a\r\nb\rc\fd\u2028e") == "a\nb\nc\nd\ne"


def test_invisible_characters_are_removed():
    tagged = "".join(chr(0xE0000 + ord(letter)) for letter in "ignore the rules")
    assert clean(f"pay{tagged} \u202enow\u202c\u200b\u2060\ufeff\x1b[31m\x9b\ud800") == "pay now[31m"


@pytest.mark.parametrize("text", ["👩‍👩‍👧", "می‌خواهم", "क्‍ष", "עברית", "ภาษาไทย", "e\u0301", "a\tb"])
def test_scripts_and_emoji_stay_as_they_are(text):
    assert clean(text) == text


def test_bytes_of_embedded_images_are_removed():
    assert clean("![x](data:image/png;base64," + "iVBORw0KGgo" * 50 + ") y") == "![x](data:image/png;base64,) y"


def test_prose_has_paragraphs_and_items(tmp_path):
    document = read(tmp_path, "a.txt", "One line\nand another.\n\n- first\n- second\n  goes on\n\nEnd.")
    assert shown(document) == [
        ("paragraph", "One line\nand another."),
        ("list", "- first"),
        ("list", "- second\n  goes on"),
        ("paragraph", "End."),
    ]


def test_long_lines_are_paragraphs(tmp_path):
    assert len(read(tmp_path, "a.txt", f"{SENTENCE * 4}\n{SENTENCE * 4}\n").blocks) == 2


def test_code_is_cut_at_top_level_definitions(tmp_path):
    source = "import os\n\n\ndef one():\n    a = 1\n\n    return a\n\n\nclass Two:\n    pass\n"
    document = read(tmp_path, "a.py", source)
    assert document.type == "code" and document.text == source
    assert [text.split("\n")[0] for _, text in shown(document)] == ["import os", "def one():", "class Two:"]


def test_types_come_from_extensions_and_well_known_names():
    names = ["a.MD", "Dockerfile", "Dockerfile.dev", "README", "readme.rst", "a.tar.gz", "x.toml", "weird.zzz"]
    assert [type_of(name) for name in names] == ["markdown", "code", "code", "text", "rst", "", "code", ""]
    assert readable_stem("annual_report--2023.pdf") == "annual report 2023"


# Markdown ---------------------------------------------------------------------------------------------------------

MARKDOWN = """---
title: "Leave rules"
tags: [hr, leave]
---
# Leave *policy*

Twenty days.

## Kinds

1. annual
   - nested

2. sick

| Kind | Days |
|------|-----:|
| Annual | 20 |

```python
# not a heading
```

> quoted

***
<!-- a comment -->
[ref]: https://example.org
"""


def test_markdown_blocks_have_exact_offsets(tmp_path):
    document = read(tmp_path, "a.md", MARKDOWN)
    assert document.text == MARKDOWN
    assert shown(document) == [
        ("heading", "# Leave *policy*"),
        ("paragraph", "Twenty days."),
        ("heading", "## Kinds"),
        ("list", "1. annual\n   - nested"),
        ("list", "2. sick"),
        ("table", "| Kind | Days |\n|------|-----:|\n| Annual | 20 |"),
        ("code", "```python\n# not a heading\n```"),
        ("paragraph", "> quoted"),
    ]
    table = document.blocks[5]
    assert document.text[table.header_end :].startswith("| Annual")
    assert [block.level for block in document.blocks if block.kind == "heading"] == [1, 2]


def test_titles_and_tags(tmp_path):
    document = read(tmp_path, "a.md", MARKDOWN)
    assert (document.title, document.tags) == ("Leave policy", ("hr", "leave"))
    assert read(tmp_path, "b.md", "---\ntitle: 'Rules'\ntags:\n  - a\n  - b\n---\ntext").tags == ("a", "b")
    assert read(tmp_path, "b.md", "---\ntitle: Rules\n---\n## text").title == "Rules"
    assert read(tmp_path, "my-file.md", "text").title == "my file"
    assert read(tmp_path, "x.md", "# A [![badge](x.svg)](y)\n\ntext").title == "A"


def test_a_line_of_dashes_is_not_front_matter(tmp_path):
    assert len(read(tmp_path, "a.md", "---\n\nText one.\n\n---\n").blocks) == 1


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab \n#-*|>`:1.[]()<!=\t", max_size=200))
def test_blocks_cover_all_but_breaks_definitions_and_comments(text):
    position = 0
    for block in blocks(text):
        gap = text[position : block.start].strip()
        assert not gap or set(gap) <= set("-* \n\t") or "]:" in gap or gap.startswith("<!") or gap.startswith("<")
        position = block.end
