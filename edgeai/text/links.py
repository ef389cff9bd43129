"""Links as a reader sees them: the words without the address behind them.

For what models read: addresses are a quarter of the tokens of a linked handbook and say nothing to an embedder or a
generator. And for what is shown: a program that renders an answer as Markdown or HTML would open the address of an
image by itself, and with it send away whatever a planted text had put there. What is stored and quoted keeps them.
"""

from __future__ import annotations

import re

# Behind a closing bracket, and looking like an address: an index and a call, as in `table[0](row)`, stays.
# `{% … %}` is how site generators (Jekyll, Hugo) write an address.
_ADDRESS = r"(?:\{%[^%\n]*%\}|(?=[^()\s]*[/.#:@])(?:[^()\s]|\([^()\s]*\))+)"
_TARGET = re.compile(rf"(?<=\])\({_ADDRESS}(?:\s+\"[^\"\n]*\")?\)")
_CODE = r"`[^`\n]*`"
_ELEMENT = r"</?(?:a|area|audio|embed|form|iframe|image|img|input|link|object|script|source|video)\b[^<>]*>?"
_DEFINITION = r"^[ \t]*\[[^\]\n]+\]:[ \t]*\S*[/.#@][^\n]*$"
_OPENED = re.compile(rf"(?P<code>{_CODE})|{_ELEMENT}|{_DEFINITION}", re.IGNORECASE | re.MULTILINE)
_SCHEME = re.compile(r"\b(?:https?|ftp|file|mailto|data|javascript):\S+|\bwww\.\S+", re.IGNORECASE)


def without_targets(text: str) -> str:
    """The text with `[words](address)` reduced to `[words]`."""
    return _TARGET.sub("", text) if "](" in text else text


def inert(text: str) -> str:
    """The text without anything that a program which renders it would open: targets, elements, link definitions.

    An address in plain sight stays, and so does code: they may be what was asked for. Where nothing else is left, the
    text is shown as code.
    """
    kept = _OPENED.sub(lambda found: found["code"] or "", without_targets(text)).strip()
    return kept if any(map(str.isalnum, kept)) else f"`{text}`" if text else ""


def addresses(text: str) -> frozenset[str]:
    """The addresses in plain sight, without punctuation around them."""
    return frozenset(found.group().strip(".,;:!?()[]<>\"'*_") for found in _SCHEME.finditer(text))
