"""Bytes of a text file to characters.

Encodings are guessed when the file does not say: a short text in a legacy 8-bit encoding can be guessed wrong.
"""

from __future__ import annotations

import codecs

from edgeai.documents.extracted import clean
from edgeai.errors import DocumentUnreadable

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Encodings files are still found in; the code pages of DOS and old Macs only compete with them.
_IN_USE = [
    *(f"cp{number}" for number in range(1250, 1259)),
    *("cp932", "euc_jp", "iso2022_jp", "gb18030", "big5", "cp949", "koi8_r", "koi8_u", "tis_620"),
]
_SAMPLE = 1 << 16  # bytes the guess looks at


def decode(data: bytes, declared: str = "") -> str:
    """Text of `data`, cleaned; `declared` is the encoding the file itself claims, tried when it is not UTF-8.

    Raises `DocumentUnreadable` for bytes that are not text.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return clean(data.decode(encoding, errors="replace"))
    if b"\0" in data:
        raise DocumentUnreadable("a binary file, not a text")
    try:
        return clean(data.decode("utf-8"))
    except UnicodeDecodeError:
        return clean(data.decode(_known(declared) or _guess(data), errors="replace"))


def looks_like_text(head: bytes) -> bool:
    """Whether the first bytes of a file could be text in some encoding."""
    return any(head.startswith(mark) for mark, _ in _MARKS) or b"\0" not in head


def _known(encoding: str) -> str:
    try:
        return codecs.lookup(encoding).name if encoding else ""
    except LookupError:
        return ""


def _guess(data: bytes) -> str:
    import charset_normalizer

    best = charset_normalizer.from_bytes(data[:_SAMPLE], cp_isolation=_IN_USE).best()
    if best is None:
        raise DocumentUnreadable("a binary file, not a text, or one in an unknown encoding; save it as UTF-8")
    return best.encoding
