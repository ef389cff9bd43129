"""Blocks of texts without markup: prose in plain text files, definitions in source code.

Language-neutral: it looks at blank lines, indentation and list markers only, and knows no programming language's
grammar.
"""

from __future__ import annotations

import re

from edgeai.documents.extracted import Extracted
from edgeai.records import Block, BlockKind
from edgeai.text.sentences import spans

_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")
_NEWLINE = re.compile(r"\n")
# A blank line followed by a line at the left margin that opens something: closing brackets continue what was open.
_TOP_LEVEL = re.compile(r"\n[ \t]*\n(?=[^\s)\]}])")
_ITEM_START = re.compile(r"\n(?=[ \t]*(?:[-*+•‣–]|\(?\d{1,3}[.)])[ \t]+\S)")
_ITEM = re.compile(r"(?:[-*+•‣–]|\(?\d{1,3}[.)])[ \t]+\S")
_WRAPPED_LINE = 200  # characters; a longer line was not wrapped by hand, so each line is a paragraph


def prose(text: str) -> Extracted:
    """Paragraphs between blank lines, list items on their own."""
    blocks: list[Block] = []
    for start, end in spans(text, _BLANK_LINES):
        paragraph = text[start:end]
        wrapped = all(len(line) <= _WRAPPED_LINE for line in paragraph.split("\n"))
        for first, last in spans(paragraph, _ITEM_START if wrapped else _NEWLINE):
            kind: BlockKind = "list" if _ITEM.match(paragraph, first) else "paragraph"
            blocks.append(Block(kind, start + first, start + last))
    return Extracted(text, tuple(blocks))


def code(text: str) -> Extracted:
    """Top-level definitions: a blank line inside of an indented body does not end one."""
    return Extracted(text, tuple(Block("code", start, end) for start, end in spans(text, _TOP_LEVEL)))
