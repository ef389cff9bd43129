"""Structure of Markdown: blocks with exact offsets, and the front matter.

CommonMark with tables. Formats that have a markup of their own come here as Markdown. Inline markup is not looked at;
thematic breaks, link definitions and comments belong to no block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING

from edgeai.documents.extracted import Extracted
from edgeai.records import Block, BlockKind

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_KINDS: dict[str, BlockKind] = {
    "heading_open": "heading",
    "paragraph_open": "paragraph",
    "blockquote_open": "paragraph",
    "html_block": "paragraph",
    "list_item_open": "list",
    "table_open": "table",
    "fence": "code",
    "code_block": "code",
}
_FRONT_MATTER = re.compile(r"---[ \t]*\n(?=[\w-]+[ \t]*:)(.*?)^(?:---|\.\.\.)[ \t]*$", re.DOTALL | re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_FIELD = re.compile(r"^(title|tags|keywords)[ \t]*:[ \t]*(.*(?:\n[ \t]*-[ \t]+.*)*)", re.MULTILINE | re.IGNORECASE)


def markdown(text: str) -> Extracted:
    """Blocks, title and tags of a Markdown text; the front matter stays in the text but in no block."""
    matter = _FRONT_MATTER.match(text)
    skipped = text.count("\n", 0, matter.end()) + 1 if matter else 0
    fields = {name.lower(): value.strip() for name, value in _FIELD.findall(matter[1])} if matter else {}
    tags = _listed(fields.get("tags") or fields.get("keywords") or "")
    return Extracted(text, blocks(text, skip_lines=skipped), title=_unquoted(fields.get("title", "")), tags=tags)


def _listed(value: str) -> tuple[str, ...]:
    """The items of "[a, b]", "a, b" or of lines "- a"."""
    parts = re.split(r"(?:^|\n)[ \t]*-[ \t]+|,", value.strip("[]"))
    return tuple(tag for tag in (_unquoted(part) for part in parts) if tag)


def _unquoted(value: str) -> str:
    value = value.strip()
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    # Only line ranges are wanted, so the inline rules, most of the cost, are off.
    return MarkdownIt("commonmark").enable("table").disable(["inline", "text_join"])


def blocks(text: str, *, skip_lines: int = 0) -> tuple[Block, ...]:
    """The outermost blocks in reading order; each item of an outermost list is a block of its own."""
    # The parser counts lines from where it starts, so skipped lines are handed over as empty ones.
    offsets = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
    body = "\n" * skip_lines + text[offsets[skip_lines] :]
    return tuple(_blocks(text, offsets, _parser().parse(body)))


def _blocks(text: str, offsets: Sequence[int], tokens: Sequence[Token]) -> Iterator[Block]:
    for index, token in enumerate(tokens):
        kind = _KINDS.get(token.type)
        if kind is None or token.map is None or token.level != (1 if kind == "list" else 0):
            continue
        start, end = offsets[token.map[0]], min(offsets[token.map[1]], len(text))
        span = text[start:end]
        visible = _COMMENT.sub("", span) if token.type == "html_block" else span
        if not visible.strip():
            continue
        yield Block(
            kind,
            start + len(span) - len(span.lstrip()),
            start + len(span.rstrip()),
            level=int(token.tag[1]) if kind == "heading" else 0,
            header_end=_header_end(offsets, tokens, index) if kind == "table" else 0,
        )


def _header_end(offsets: Sequence[int], tokens: Sequence[Token], table: int) -> int:
    """Where the header row and the row of dashes below it end."""
    header = tokens[table + 1].map
    return offsets[header[0] + 2] if header else 0
