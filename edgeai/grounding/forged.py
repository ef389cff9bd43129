"""Text in a document that poses as a turn of a conversation with a model, or speaks to the model: left unread.

Nobody writes the tokens of a chat template into prose, or tells a language model what to answer, for people to read. A
paragraph is blanked from there on before any model sees it; what is stored, searched and quoted stays as it is. Inline
code and fenced blocks are read, because documentation of such tokens stands in them.

Recognised by form alone. It does not know instructions in other words or other languages than English, nor lines that
look like a dialogue ("User: …"), which people keep in their notes; and a false statement without any of this is simply
a statement.
"""

from __future__ import annotations

import re
from itertools import pairwise

from edgeai.text.sentences import Span

# Of ChatML, Llama 2 and 3, Gemma, Zephyr; and the headings of Vicuna's plain-text format.
_TOKEN = re.compile(
    r"<\|[A-Za-z][\w ]{0,30}\|>|<</?SYS>>|\[/?INST\]|<(?:start|end)_of_turn>|^#{2,3} (?:Human|Assistant):", re.MULTILINE
)
_ADDRESS = re.compile(
    r"""(?:^|(?<=[.!?][ ]))
        (?:(?:[a-z]+[ ])?(?:note|notice|message|instructions?)[ ](?:to|for)[ ]|to[ ]|dear[ ])?(?:(?:the|all|any)[ ])?
        (?:(?:ai|automated)[ ])?(?:assistants?|chat[ ]?bots?|(?:language|ai)[ ]models?|ai[ ]agents?)
        (?=[,:][^\n]*\b(?:answer|answers|asked|say|reply|respond|output|instructions?|prompt|question)\b)""",
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_CODE = re.compile(r"^```.*?(?:^```|\Z)|`[^`\n]+`", re.DOTALL | re.MULTILINE)
_PARAGRAPH_END = re.compile(r"\n[ \t]*(?=\n)")
_CHARACTER = re.compile(r"\S")
_TURN = 400  # characters between two tokens that are taken to belong to one turn


def blanked(text: str) -> str:
    """The text with spaces in place of what is forged: as long as before, so that offsets into it stay right."""
    for start, end in _forged(text):
        text = text[:start] + _CHARACTER.sub(" ", text[start:end]) + text[end:]
    return text


def _forged(text: str) -> list[Span]:
    """From each token or address to the end of its paragraph, and from a token on to the next one of its turn."""
    if not (tokens := [found.span() for found in _TOKEN.finditer(text)]) and not _ADDRESS.search(text):
        return []
    code = [found.span() for found in _CODE.finditer(text)]
    tokens = [span for span in tokens if not _inside(span, code)]
    openings = [*tokens, *(found.span() for found in _ADDRESS.finditer(text) if not _inside(found.span(), code))]
    turns = [(end, start) for (_, end), (start, _) in pairwise(tokens) if start - end <= _TURN]
    return [*((start, _paragraph_end(text, end)) for start, end in openings), *turns]


def _paragraph_end(text: str, position: int) -> int:
    """Where the paragraph ends; that of a table row with its line."""
    line = text[text.rfind("\n", 0, position) + 1 :]
    if line.startswith("|"):
        return min(end for end in (text.find("\n", position), len(text)) if end >= 0)
    found = _PARAGRAPH_END.search(text, position)
    return found.start() if found else len(text)


def _inside(span: Span, others: list[Span]) -> bool:
    return any(start <= span[0] and span[1] <= end for start, end in others)
