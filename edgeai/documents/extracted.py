"""The text a parser got out of a file, with its structure: what every parser returns and how it is put together.

Text is cleaned here of what a reader of the file would not see, because a model would see it. It does not detect
text hidden by formatting (white on white, hidden runs of a word processor).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from edgeai.records import Block, BlockKind

# Never drawn, so usable to smuggle instructions: C0 and C1 controls, soft hyphen, zero-width space, word joiner,
# byte order mark, bidirectional overrides, tag characters. Lone surrogates cannot be encoded. The joiners U+200C and
# U+200D stay: Persian, Indic scripts and emoji need them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u202a-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_LINE_BREAKS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_EMBEDDED_DATA = re.compile(r"(data:[\w.+-]+/[\w.+-]+;base64,)[A-Za-z0-9+/=]{64,}")


@dataclass(frozen=True, slots=True)
class Extracted:
    """Text, its blocks in reading order, and what the file says about itself."""

    text: str
    blocks: tuple[Block, ...]
    title: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A block that has no offsets yet."""

    kind: BlockKind
    text: str
    level: int = 0
    page: int | None = None


def clean(text: str) -> str:
    """Newlines as "\\n", without invisible characters and without the bytes of embedded images."""
    if "\r" in text or not text.isascii() or not text.isprintable():
        text = _INVISIBLE.sub("", _LINE_BREAKS.sub("\n", text))
    return _EMBEDDED_DATA.sub(r"\1", text) if ";base64," in text else text


def assemble(parts: Iterable[Part], *, separator: str = "\n\n", title: str = "") -> Extracted:
    """Join parts into one text and note where each came to lie; parts without text are left out."""
    texts: list[str] = []
    blocks: list[Block] = []
    position = 0
    for part in parts:
        text = clean(part.text).strip()
        if text:
            blocks.append(Block(part.kind, position, position + len(text), level=part.level, page=part.page))
            texts.append(text)
            position += len(text) + len(separator)
    return Extracted(separator.join(texts), tuple(blocks), title=clean(title).strip())
