"""PDF files to lines with their places on the page, page by page.

Reads the text layer only: a scan has none, and text in pictures is not seen. Hidden text is not told from visible text.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Any

from edgeai.documents.extracted import Extracted, assemble, clean
from edgeai.documents.pagelayout import Line, parts
from edgeai.errors import DocumentUnreadable

MAX_PAGES = 5_000
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})
_PLACEHOLDERS = frozenset({"untitled", "(anonymous)"})
_PDFIUM = threading.Lock()  # PDFium is not thread-safe, not even for different documents


def pdf(data: bytes) -> Extracted:
    """Blocks with their pages. Raises `DocumentUnreadable` for encrypted, damaged, or scanned files."""
    import pypdfium2

    with _PDFIUM:
        try:
            document = pypdfium2.PdfDocument(data)
        except pypdfium2.PdfiumError as error:
            raise DocumentUnreadable(_reason(error)) from error
        try:
            if len(document) > MAX_PAGES:
                raise DocumentUnreadable(f"it has more than {MAX_PAGES:,} pages; split it")
            pages = [list(_lines(document[index], index + 1)) for index in range(len(document))]
            title = document.get_metadata_value("Title")
        finally:
            document.close()
    if not any(pages):
        raise DocumentUnreadable("no text layer, probably a scan; run text recognition (OCR) on it first")
    return assemble(parts(pages), title=title if _is_sensible(title) else "")


def _reason(error: Any) -> str:
    from pypdfium2 import raw

    if error.err_code == raw.FPDF_ERR_PASSWORD:
        return "it is protected by a password; save a copy without one"
    return "a damaged PDF file"


def _is_sensible(title: str) -> bool:
    """Titles set by programs name a file or nothing."""
    return (
        3 < len(title) < 200
        and "." not in title[-5:]
        and " - " not in title[:20]
        and title.lower() not in _PLACEHOLDERS
    )


def _lines(page: Any, number: int) -> Iterator[Line]:
    margin = page.get_height() / 8
    text_page = page.get_textpage()
    text = text_page.get_text_range()
    position = 0
    for line in text.split("\r\n"):
        visible = clean(line.translate(_LIGATURES)).strip()
        if visible:
            first = position + len(line) - len(line.lstrip())
            last = position + len(line.rstrip()) - 1
            left, first_base, _ = _place(text_page, first)
            _, last_base, _ = _place(text_page, last)
            # The first character can be a bullet of another size.
            *_, size = _place(text_page, (first + last) // 2)
            right = text_page.get_charbox(_character(text_page, last), loose=True)[2]
            in_margin = not margin < first_base < 7 * margin
            yield Line(" ".join(visible.split()), number, left, right, first_base, last_base, size, in_margin)
        position += len(line) + 2
    text_page.close()
    page.close()


def _character(text_page: Any, index: int) -> int:
    """PDFium's index of a character; text and characters differ by what it inserts or leaves out."""
    from pypdfium2 import raw

    return max(0, int(raw.FPDFText_GetCharIndexFromTextIndex(text_page, index)))


def _place(text_page: Any, index: int) -> tuple[float, float, float]:
    """Left edge, base line and font size of a character in points; many files scale a font of size 1."""
    from pypdfium2 import raw

    character = _character(text_page, index)
    matrix = raw.FS_MATRIX()
    raw.FPDFText_GetMatrix(text_page, character, matrix)
    size = float(raw.FPDFText_GetFontSize(text_page, character)) * math.hypot(matrix.c, matrix.d)
    return matrix.e, matrix.f, max(1.0, size)
