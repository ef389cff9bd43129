"""Markdown links as a reader sees them: the words without the address behind them.

For what models read. Addresses are a quarter of the tokens of a linked handbook and say nothing to an embedder or a
generator; what is stored and quoted keeps them.
"""

from __future__ import annotations

import re

# Behind a closing bracket, and looking like an address: an index and a call, as in `table[0](row)`, stays.
# `{% … %}` is how site generators (Jekyll, Hugo) write an address.
_ADDRESS = r"(?:\{%[^%\n]*%\}|(?=[^()\s]*[/.#:@])(?:[^()\s]|\([^()\s]*\))+)"
_TARGET = re.compile(rf"(?<=\])\({_ADDRESS}(?:\s+\"[^\"\n]*\")?\)")


def without_targets(text: str) -> str:
    """The text with `[words](address)` reduced to `[words]`."""
    return _TARGET.sub("", text) if "](" in text else text
