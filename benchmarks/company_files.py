"""The folder of the invented company: text files as they are committed, and Word, PDF and EPUB files built from text.

Committed are texts only, so that a change can be read; `x.docx.txt` becomes `x.docx`, and so on. The texts use four
marks: "# " for the title, "## " for a heading, "|" around the cells of a row, and empty lines between blocks. The files
built are as plain as their formats allow: no office program wrote them, so they do not prove that its habits are read.
The same text gives the same bytes.
"""

from __future__ import annotations

import shutil
import textwrap
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from xml.sax.saxutils import escape

COMPANY = Path(__file__).resolve().parent / "company"
QUESTIONS = COMPANY.with_suffix(".jsonl")


@dataclass(frozen=True, slots=True)
class Part:
    """A title, a heading, a paragraph, or the rows of a table."""

    kind: str  # "title", "heading", "paragraph" or "table"
    text: str = ""
    rows: tuple[tuple[str, ...], ...] = ()


def build_company(target: Path) -> list[Path]:
    """Write the company's files below `target`, an empty or missing folder; returns their paths."""
    written = []
    for source in sorted(path for path in COMPANY.rglob("*") if path.is_file()):
        place = target / source.relative_to(COMPANY)
        place.parent.mkdir(parents=True, exist_ok=True)
        make = _MAKERS.get("".join(source.suffixes[-2:]))
        if make is None:
            shutil.copyfile(source, place)
        else:
            place = place.with_suffix("")
            place.write_bytes(make(list(read_parts(source.read_text(encoding="utf-8")))))
        written.append(place)
    return written


def read_parts(text: str) -> Iterator[Part]:
    """The parts of a text with the four marks."""
    for block in filter(None, (block.strip() for block in text.split("\n\n"))):
        if block.startswith("|"):
            yield Part("table", rows=tuple(_cells(line) for line in block.split("\n")))
        elif block.startswith("# "):
            yield Part("title", block[2:])
        elif block.startswith("## "):
            yield Part("heading", block[3:])
        else:
            yield Part("paragraph", " ".join(block.split()))


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in line.strip().strip("|").split("|"))


# Word -----------------------------------------------------------------------------------------------------------------

_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml"
_STYLES = {"title": ("Heading1", "heading 1"), "heading": ("Heading2", "heading 2"), "paragraph": ("Normal", "Normal")}


def docx(parts: Sequence[Part]) -> bytes:
    """A Word file (Office Open XML, ECMA-376) with headings, paragraphs and tables."""
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="{identity}"><w:name w:val="{name}"/></w:style>'
        for identity, name in _STYLES.values()
    )
    body = "".join(_word_table(part) if part.kind == "table" else _word_paragraph(part) for part in parts)
    return _zipped(
        {
            "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/word/document.xml" ContentType="{_TYPE}.document.main+xml"/>'
            f'<Override PartName="/word/styles.xml" ContentType="{_TYPE}.styles+xml"/></Types>',
            "_rels/.rels": _relation("officeDocument", "word/document.xml"),
            "word/_rels/document.xml.rels": _relation("styles", "styles.xml"),
            "word/styles.xml": f'<w:styles xmlns:w="{_WORD}">{styles}</w:styles>',
            "word/document.xml": f'<w:document xmlns:w="{_WORD}"><w:body>{body}</w:body></w:document>',
        }
    )


def _relation(kind: str, target: str) -> str:
    relation = f'<Relationship Id="r1" Type="{_OFFICE}/{kind}" Target="{target}"/>'
    return f'<Relationships xmlns="{_RELATIONS}">{relation}</Relationships>'


def _word_paragraph(part: Part) -> str:
    style = f'<w:pPr><w:pStyle w:val="{_STYLES[part.kind][0]}"/></w:pPr>'
    return f'<w:p>{style}<w:r><w:t xml:space="preserve">{escape(part.text)}</w:t></w:r></w:p>'


def _word_table(part: Part) -> str:
    rows = (
        "".join(f"<w:tc><w:p><w:r><w:t>{escape(cell)}</w:t></w:r></w:p></w:tc>" for cell in row) for row in part.rows
    )
    return "<w:tbl>" + "".join(f"<w:tr>{row}</w:tr>" for row in rows) + "</w:tbl>"


# EPUB -----------------------------------------------------------------------------------------------------------------

_CONTAINER = "urn:oasis:names:tc:opendocument:xmlns:container"
_PACKAGE = "http://www.idpf.org/2007/opf"
_DUBLIN_CORE = "http://purl.org/dc/elements/1.1/"
_XHTML = "http://www.w3.org/1999/xhtml"


def epub(parts: Sequence[Part]) -> bytes:
    """A book (EPUB 3) of one chapter."""
    title = escape(next(part.text for part in parts if part.kind == "title"))
    tags = {"title": "h1", "heading": "h2", "paragraph": "p"}
    body = "".join(f"<{tags[part.kind]}>{escape(part.text)}</{tags[part.kind]}>" for part in parts)
    package = (
        f'<package xmlns="{_PACKAGE}" version="3.0"><metadata xmlns:dc="{_DUBLIN_CORE}"><dc:title>{title}</dc:title>'
        '</metadata><manifest><item id="text" href="text.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="text"/></spine></package>'
    )
    chapter = f'<html xmlns="{_XHTML}"><head><title>{title}</title></head><body>{body}</body></html>'
    return _zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": f'<container version="1.0" xmlns="{_CONTAINER}"><rootfiles>'
            '<rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>',
            "book.opf": package,
            "text.xhtml": chapter,
        }
    )


def _zipped(members: dict[str, str]) -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            # A ZipInfo has a fixed date, where a name alone would take today's.
            archive.writestr(zipfile.ZipInfo(name), text)
    return packed.getvalue()


# PDF ------------------------------------------------------------------------------------------------------------------

_WIDTH, _HEIGHT, _MARGIN, _LEADING = 595, 842, 64, 14  # A4, in points
_FONTS = {"F1": "Helvetica", "F2": "Helvetica-Bold", "F3": "Courier"}
_LOOKS = {"title": ("F2", 18, 48), "heading": ("F2", 13, 68), "paragraph": ("F1", 10, 92)}  # font, size, characters


@dataclass(frozen=True, slots=True)
class _Line:
    font: str
    size: int
    text: str


def pdf(parts: Sequence[Part]) -> bytes:
    """A PDF 1.4 file with a text layer in standard fonts, and a line with the page number at the foot."""
    lines = [line for part in parts for line in (*_pdf_lines(part), _Line("F1", 10, ""))]
    height = (_HEIGHT - 2 * _MARGIN) // _LEADING
    pages = [lines[start : start + height] for start in range(0, len(lines), height)]
    kids = " ".join(f"{6 + 2 * number} 0 R" for number in range(len(pages)))
    title = next(part.text for part in parts if part.kind == "title")
    fonts = "".join(
        f"/{name}<</Type/Font/Subtype/Type1/BaseFont/{font}/Encoding/WinAnsiEncoding>>" for name, font in _FONTS.items()
    )
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {len(pages)}/Kids[{kids}]>>",
        f"<<{fonts}>>",
        f"<</Title({_pdf_escaped(title)})>>",
        "null",
    ]
    for number, page in enumerate(pages, 1):
        drawn = _drawn(page, number)
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {_WIDTH} {_HEIGHT}]/Resources<</Font 3 0 R>>"
            f"/Contents {len(objects) + 2} 0 R>>"
        )
        objects.append(f"<</Length {len(drawn)}>>\nstream\n{drawn}\nendstream")
    return _pdf_file(objects)


def _pdf_lines(part: Part) -> Iterator[_Line]:
    if part.kind == "table":
        widths = [max(map(len, column)) for column in zip(*part.rows, strict=True)]
        for row in part.rows:
            yield _Line(
                "F3", 8, "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            )
    else:
        font, size, characters = _LOOKS[part.kind]
        yield from (_Line(font, size, line) for line in textwrap.wrap(part.text, characters))


def _drawn(page: Sequence[_Line], number: int) -> str:
    """The operators that draw a page."""
    top = _HEIGHT - _MARGIN
    placed = [(line, top - row * _LEADING) for row, line in enumerate(page) if line.text]
    placed.append((_Line("F1", 8, f"Vellan Sound Ferries, page {number}"), _MARGIN // 2))
    return "\n".join(
        f"BT /{line.font} {line.size} Tf {_MARGIN} {height} Td ({_pdf_escaped(line.text)}) Tj ET"
        for line, height in placed
    )


def _pdf_escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")


def _pdf_file(objects: Sequence[str]) -> bytes:
    """Objects numbered from 1 (catalog 1, information 4), with the table of their offsets."""
    file, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(file))
        file += f"{number} 0 obj\n{content}\nendobj\n".encode("cp1252")
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    end = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<</Size {size}/Root 1 0 R/Info 4 0 R>>\n"
    return file + f"{end}startxref\n{len(file)}\n%%EOF\n".encode()


_MAKERS: dict[str, Callable[[Sequence[Part]], bytes]] = {".docx.txt": docx, ".pdf.txt": pdf, ".epub.txt": epub}
