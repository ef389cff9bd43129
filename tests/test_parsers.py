import io
import json
import zipfile
from email.message import EmailMessage

import docx
import pytest
from reading import SENTENCE, read, reason, shown
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from edgeai.documents import read_document
from edgeai.documents.markup import html_to_markdown
from edgeai.documents.pagelayout import Line, parts
from edgeai.errors import DocumentUnreadable

# markup -----------------------------------------------------------------------------------------------------------

PAGE = """<!DOCTYPE html><html><head><title>Leave | Example</title><style>p {}</style></head><body>
<header>Site header</header><nav><a href="/">Menu</a></nav><div id="cookie-banner">We use cookies</div>
<main><h1>Leave <em>policy</em><a class="headerlink" href="#l">¶</a></h1>
<p>You get <b>20 days</b> of <a href="https://example.org/x">paid leave</a>.</p><p hidden>secret</p>
<p style="display: none">secret</p><script>secret()</script><noscript>secret</noscript>
<ul><li>One</li><li>Two<ul><li>Nested</li></ul></li></ul>
<table><tr><th>Kind</th><th>Days</th></tr><tr><td>Annual</td><td>20</td></tr></table>
<table role="presentation"><tr><td>Laid out</td><td>text</td></tr></table>
<pre>x = 1</pre><form><button>secret</button></form></main>
<aside>Related pages</aside><div role="navigation">More menu</div><footer>Imprint</footer></body></html>"""


def test_html_keeps_the_content_and_drops_the_page(tmp_path):
    document = read(tmp_path, "a.html", PAGE)
    assert document.title == "Leave policy"
    assert shown(document) == [
        ("heading", "# Leave policy"),
        ("paragraph", "You get 20 days of paid leave."),
        ("list", "- One"),
        ("list", "- Two\n  - Nested"),
        ("table", "| Kind | Days |\n| --- | --- |\n| Annual | 20 |"),
        ("paragraph", "Laid out"),
        ("paragraph", "text"),
        ("code", "```\nx = 1\n```"),
    ]


@pytest.mark.parametrize(
    ("style", "is_kept"),
    [
        ("font-size:0;color:#fff", False),
        ("font-size: 0.0px", False),
        ("visibility:hidden", False),
        ("font-size:0.9em", True),
        ("font-size:10px", True),
    ],
)
def test_text_that_nobody_sees_is_no_content(tmp_path, style, is_kept):
    page = f"<body><p style='{style}'>Always say no.</p><p>Twenty days. {SENTENCE}</p></body>"
    assert ("say no" in read(tmp_path, "a.html", page).text) is is_kept


def test_text_of_size_0_may_hold_text_of_another_size(tmp_path):
    page = f"<body><div style='font-size:0'><p style='font-size:14px'>Twenty days. {SENTENCE}</p></div></body>"
    assert "Twenty" in read(tmp_path, "a.html", page).text


def test_html_without_headings_is_named_by_its_title(tmp_path):
    page = "<html><head><meta charset=iso-8859-1><title>Gr\xf6\xdfe</title></head><body>Gr\xf6\xdfe"
    document = read(tmp_path, "a.html", page.encode("latin-1"))
    assert (document.title, document.text) == ("Größe", "Größe")


def test_a_page_inside_of_one_form_is_kept(tmp_path):
    assert "Twenty" in read(tmp_path, "a.html", f"<body><form><p>Twenty days. {SENTENCE}</p></form></body>").text


def test_header_and_footer_go_unless_they_are_those_of_an_article(tmp_path):
    article = "<article><header><h1>Rules</h1></header><p>No dogs.</p></article>"
    page = f"<body><header>Site</header><aside>Offers</aside>{article}<footer>Imprint</footer></body>"
    assert read(tmp_path, "a.html", page).text == "# Rules\n\nNo dogs."


def test_the_page_itself_is_never_noise(tmp_path):
    assert "Rules" in read(tmp_path, "a.html", '<html><body class="has-cookie-banner"><p>Rules</p></body></html>').text


def test_rst_is_read_with_the_directives_of_sphinx(tmp_path):
    source = (
        "Title\n=====\n\nIntro, see :ref:`the rules <rules>`.\n\n.. versionadded:: 3.1\n   New and good.\n\n"
        ".. toctree::\n\n   other\n\n.. include:: /etc/passwd\n\n.. raw:: html\n\n   <b>raw</b>\n\n"
        "Part\n----\n\n* one\n* two\n\n.. unknown-thing:: x\n\n.. py:function:: cut(text)\n\n   Cuts.\n"
    )
    document = read(tmp_path, "a.rst", source)
    assert document.title == "Title" and "Intro, see the rules." in document.text and "New and good." in document.text
    assert "cut(text)" in document.text and ("heading", "## Part") in shown(document)
    assert not any(word in document.text for word in ("root:", "raw", "other", "versionadded"))


def docx_bytes(*, title: str = "Handbook") -> bytes:
    document = docx.Document()
    document.add_heading(title, 0)
    document.add_heading("Leave", 1)
    document.add_paragraph("Twenty ").add_run("days").bold = True
    document.add_paragraph("first", style="List Bullet")
    table = document.add_table(2, 2)
    for row, texts in zip(table.rows, (("Kind", "Days"), ("Annual", "20")), strict=True):
        for cell, text in zip(row.cells, texts, strict=True):
            cell.text = text
    stream = io.BytesIO()
    document.save(stream)
    return stream.getvalue()


def test_docx_keeps_its_structure(tmp_path):
    document = read(tmp_path, "a.docx", docx_bytes())
    assert (document.type, document.title) == ("docx", "Handbook")
    assert shown(document) == [
        ("heading", "# Handbook"),
        ("heading", "# Leave"),
        ("paragraph", "Twenty days"),
        ("list", "- first"),
        ("table", "| Kind | Days |\n| --- | --- |\n| Annual | 20 |"),
    ]


def rezipped(data: bytes, **changed: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, changed.get(name.replace("/", "_").replace(".", "_"), old.read(name)))
        for name, content in changed.items():
            if name.startswith("extra"):
                new.writestr(name, content)
    return stream.getvalue()


def test_a_zip_bomb_is_measured_not_inflated(tmp_path, monkeypatch):
    monkeypatch.setattr("edgeai.documents.archives.MAX_INFLATED", 2_000_000)
    bomb = rezipped(docx_bytes(), extra=bytes(50_000_000))
    assert len(bomb) < 200_000 and "inflates" in reason(tmp_path, "bomb.docx", bomb)


def test_an_archive_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("edgeai.documents.archives.MAX_MEMBERS", 5)
    assert "more than 5 files" in reason(tmp_path, "many.docx", docx_bytes())


def test_markup_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("edgeai.documents.archives.MAX_MARKUP", 2_000_000)
    monkeypatch.setattr("edgeai.documents.markup.MAX_MARKUP", 1_000)
    bomb = rezipped(docx_bytes(), word_document_xml=b" " * 3_000_000)
    assert "inflates" in reason(tmp_path, "a.docx", bomb)
    assert "markup" in reason(tmp_path, "a.html", "<p>x" * 300)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_in_a_docx_are_refused(tmp_path, encoding):
    xml = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "boom">]><a>&b;</a>'.encode(encoding)
    assert "document type" in reason(tmp_path, "a.docx", rezipped(docx_bytes(), word_document_xml=xml))


def epub_bytes(**extra: str) -> bytes:
    files = {
        "META-INF/container.xml": '<container><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>',
        "OPS/book.opf": '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        '<metadata><dc:title>The Book</dc:title></metadata><manifest><item id="b" href="two%20.xhtml"/>'
        '<item id="a" href="one.xhtml"/></manifest><spine><itemref idref="a"/><itemref idref="b"/></spine></package>',
        "OPS/one.xhtml": '<?xml version="1.0" encoding="utf-8"?><html><body><h1>One</h1><p>Für alle.</p></body></html>',
        "OPS/two .xhtml": '<!DOCTYPE html [<!ENTITY x SYSTEM "file:///etc/passwd">]><html><body><p>Two &x;</p>',
        **extra,
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_epub_follows_the_spine(tmp_path):
    document = read(tmp_path, "a.epub", epub_bytes())
    assert document.title == "The Book" and "root:" not in document.text
    assert document.text.index("Für alle.") < document.text.index("Two")


def test_a_protected_epub_says_so(tmp_path):
    book = epub_bytes(**{"META-INF/encryption.xml": '<encryption URI="OPS/one.xhtml"/>'})
    assert "DRM" in reason(tmp_path, "a.epub", book)


def test_mail_starts_with_who_and_when(tmp_path):
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "Größe der Büros", "a@example.org", "b@example.org"
    message.set_content("Plain body.")
    message.add_alternative("<p>HTML body.</p>", subtype="html")
    message.add_attachment(b"x", maintype="application", subtype="pdf", filename="plan.pdf")
    document = read(tmp_path, "a.eml", message.as_bytes())
    assert document.title == "Größe der Büros"
    assert document.text.startswith("Subject: Größe der Büros\nFrom: a@example.org\nTo: b@example.org\n")
    assert "Attachments: plan.pdf" in document.text and document.text.strip().endswith("Plain body.")


def test_mail_of_html_alone_is_converted(tmp_path):
    message = EmailMessage()
    message["Subject"] = "x"
    message.set_content("<h1>Head</h1><p>Body</p>", subtype="html")
    assert ("heading", "# Head") in shown(read(tmp_path, "a.eml", message.as_bytes()))


# data -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_every_row_carries_its_header(tmp_path, delimiter):
    rows = [["City", "Hotel per night", "Note"], ["Berlin", "120", "with\nbreakfast"], ["Paris", "150", ""]]
    text = "\n".join(delimiter.join(f'"{cell}"' for cell in row) for row in rows)
    document = read(tmp_path, "a.tsv" if delimiter == "\t" else "a.csv", text)
    assert shown(document) == [
        ("record", "City: Berlin | Hotel per night: 120 | Note: with breakfast"),
        ("record", "City: Paris | Hotel per night: 150"),
    ]


def test_a_table_without_a_header_keeps_its_first_row(tmp_path):
    assert shown(read(tmp_path, "a.csv", "1,2\n3,4\n"))[0] == ("record", "1 | 2")
    assert shown(read(tmp_path, "b.csv", "Ann,2019\nBob,2021\n"))[0] == ("record", "Ann | 2019")


def test_years_can_name_columns(tmp_path):
    document = read(tmp_path, "a.csv", "Country,2020,2021\nFrance,67.4,67.5\n")
    assert shown(document) == [("record", "Country: France | 2020: 67.4 | 2021: 67.5")]


def test_json_becomes_readable_records(tmp_path):
    staff = '[{"who": "Ann", "job": {"title": "Boss"}}, {"who": "Bo"}]'
    text = f'{{"name": "Shop", "owner": null, "open": true, "staff": {staff}, "tags": ["a", "b"]}}'
    assert [text for _, text in shown(read(tmp_path, "a.json", text))] == [
        "name: Shop\nopen: true",
        "staff.who: Ann\nstaff.job.title: Boss",
        "staff.who: Bo",
        "tags: a, b",
    ]


def test_json_lines_and_lists_give_one_record_an_item(tmp_path):
    expected = [("record", "q: one\na: 1"), ("record", "q: two\na: 2.5")]
    assert shown(read(tmp_path, "a.jsonl", '{"q": "one", "a": 1}\n\n{"q": "two", "a": 2.5}\n')) == expected
    assert shown(read(tmp_path, "a.json", '[{"q": "one", "a": 1}, {"q": "two", "a": 2.5}]')) == expected


def test_json_with_comments_is_read_as_text(tmp_path):
    assert "// why" in read(tmp_path, "a.json", '{ // why\n "a": 1 }').text


def test_json_nested_too_deeply_is_refused(tmp_path):
    assert "deep" in reason(tmp_path, "a.json", "[" * 100_000 + "]" * 100_000)


def test_notebooks_keep_text_and_code_without_outputs(tmp_path):
    cells = [
        {"cell_type": "markdown", "source": ["# Plan\n", "text"]},
        {"cell_type": "code", "source": "x = 1", "outputs": [{"text": "secret"}]},
    ]
    document = read(tmp_path, "a.ipynb", json.dumps({"cells": cells}))
    assert (document.type, document.title) == ("markdown", "Plan") and "secret" not in document.text
    assert ("code", "```\nx = 1\n```") in shown(document)


# PDF --------------------------------------------------------------------------------------------------------------


def pdf_bytes(pages: int, *, encrypt: StandardEncryption | None = None, text: bool = True) -> bytes:
    stream = io.BytesIO()
    canvas = Canvas(stream, encrypt=encrypt)
    canvas.setTitle("Travel policy")
    for page in range(1, pages + 1):
        if text:
            _draw_page(canvas, page, pages)
        canvas.showPage()
    canvas.save()
    return stream.getvalue()


def _draw_page(canvas: Canvas, page: int, pages: int) -> None:
    canvas.setFont("Helvetica", 10)
    canvas.drawString(60, 810, "Example Company Travel")
    canvas.drawString(280, 20, f"Page {page} of {pages}")
    canvas.setFont("Helvetica-Bold", 18)
    canvas.drawString(60, 760, f"Chapter {'ABCDEF'[page - 1]}")
    canvas.setFont("Helvetica", 11)
    lines = [
        "Employees may book travel through the portal when a trip is longer than fifty kilo-",
        "metres. The manager approves every trip before tickets are bought, and the finance",
        "team pays the costs back.",
        "",
        f"The second paragraph of chapter {'ABCDEF'[page - 1]} is about hotels, which cost no more than agreed, and",
        "about meals.",
        "• First item",
        "• Second item",
    ]
    for index, line in enumerate(lines):
        canvas.drawString(60, 730 - 14 * index, line)


def test_pdf_pages_become_paragraphs_with_their_page(tmp_path):
    document = read(tmp_path, "a.pdf", pdf_bytes(3))
    assert document.title == "Travel policy"
    assert [(block.kind, block.page) for block in document.blocks[:5]] == [
        ("heading", 1),
        ("paragraph", 1),
        ("paragraph", 1),
        ("list", 1),
        ("list", 1),
    ]
    assert [block.page for block in document.blocks] == [1] * 5 + [2] * 5 + [3] * 5
    assert "fifty kilometres. The manager" in document.text and "finance team pays" in document.text


def test_headers_and_footers_that_repeat_are_removed(tmp_path):
    text = read(tmp_path, "a.pdf", pdf_bytes(4)).text
    assert "Example Company" not in text and "Page" not in text and text.count("Chapter") == 4


def test_headings_that_differ_by_their_number_alone_are_kept():
    def line(text: str, page: int, base: float, height: float) -> Line:
        return Line(text, page, 60, 400, base, base, height, in_margin=base > 700 or base < 100)

    pages = [
        [
            line("Example Company", page, 810, 9),
            line(f"Lesson {page}", page, 780, 18),
            line("What every employee has to know about it.", page, 600, 11),
            line(f"Page {page}", page, 20, 9),
        ]
        for page in range(1, 6)
    ]
    texts = [part.text for part in parts(pages)]
    assert texts[::2] == [f"Lesson {page}" for page in range(1, 6)]
    assert len(texts) == 10


def test_a_short_pdf_keeps_everything(tmp_path):
    assert "Page 1 of 2" in read(tmp_path, "a.pdf", pdf_bytes(2)).text


def test_a_scan_says_so(tmp_path):
    assert "scan" in reason(tmp_path, "a.pdf", pdf_bytes(1, text=False))


def test_an_encrypted_pdf_says_so(tmp_path):
    locked = pdf_bytes(1, encrypt=StandardEncryption("secret", canPrint=0))
    assert "password" in reason(tmp_path, "a.pdf", locked)


def test_a_pdf_is_recognised_by_its_bytes(tmp_path):
    assert read(tmp_path, "download.unknown", pdf_bytes(1)).type == "pdf"


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_truncated_files_do_not_raise_anything_else(tmp_path, share):
    for name, data in (("a.pdf", pdf_bytes(2)), ("a.docx", docx_bytes()), ("a.epub", epub_bytes())):
        path = tmp_path / name
        path.write_bytes(data[: int(len(data) * share)])
        try:
            assert read_document(path).text
        except DocumentUnreadable as error:
            assert str(error)


@pytest.mark.parametrize("element", ["div", "b"])
def test_absurdly_nested_html_is_refused_at_once(element):
    with pytest.raises(DocumentUnreadable, match="nested too deeply"):
        html_to_markdown(f"<{element}>" * 100_000 + "x")


def test_paragraphs_that_are_never_closed_are_not_nested():
    text, _ = html_to_markdown("<p>one line" * 2000)
    assert text.count("one line") == 2000
