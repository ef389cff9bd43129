"""Which parser reads which type of document.

The one place that turns what parser libraries raise on damaged or hostile files into a reason for the user. It does
not isolate them: a parser that crashes the interpreter takes it along.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from edgeai.documents import plain, tabular
from edgeai.documents.archives import docx_to_markdown, epub_to_markdown
from edgeai.documents.decoding import decode
from edgeai.documents.extracted import Extracted, clean
from edgeai.documents.mail import mail_to_markdown
from edgeai.documents.markdown import markdown
from edgeai.documents.markup import declared_encoding, html_to_markdown
from edgeai.documents.pdf import pdf
from edgeai.documents.rst import rst_to_html
from edgeai.errors import DocumentUnreadable


def parse(kind: str, data: bytes, name: str) -> Extracted:
    """Text and structure of a file's bytes; `kind` is a type of `filetypes`, `name` the file's name.

    Raises `DocumentUnreadable` with a reason in words, whatever is wrong with the bytes.
    """
    try:
        extracted = _PARSERS[kind](data, name)
    except DocumentUnreadable:
        raise
    except RecursionError as error:
        raise DocumentUnreadable("its elements are nested too deeply") from error
    except Exception as error:
        # A boundary: zip, XML, Word and mail libraries raise nearly anything on bytes made or damaged to break them,
        # and one bad file must not stop a sync.
        raise DocumentUnreadable(f"a damaged or unusual {kind} file ({type(error).__name__})") from error
    if not extracted.text.strip() or not extracted.blocks:
        raise DocumentUnreadable("no text in it")
    return extracted


def _converted(converted: tuple[str, str]) -> Extracted:
    text, title = converted
    return replace(markdown(clean(text)), title=clean(title))


def _html(data: bytes, _name: str) -> Extracted:
    return _converted(html_to_markdown(decode(data, declared_encoding(data))))


def _table(data: bytes, name: str) -> Extracted:
    return tabular.table(decode(data), tabs=name.lower().endswith(".tsv"))


def _json(data: bytes, name: str) -> Extracted:
    text = decode(data)
    by_line = not name.lower().endswith(".json")
    try:
        return tabular.lines(text) if by_line else tabular.tree(text)
    except ValueError:
        return plain.code(text)  # with comments, or cut off: still worth searching


def _notebook(data: bytes, _name: str) -> Extracted:
    """A Jupyter notebook without its outputs."""
    cells: list[dict[str, Any]] = json.loads(decode(data))["cells"]
    texts = []
    for cell in cells:
        source = "".join(cell["source"]).strip()
        texts.append(f"```\n{source}\n```" if cell["cell_type"] == "code" and source else source)
    return markdown(clean("\n\n".join(filter(None, texts))))


_PARSERS: dict[str, Callable[[bytes, str], Extracted]] = {
    "markdown": lambda data, _: markdown(decode(data)),
    "text": lambda data, _: plain.prose(decode(data)),
    "code": lambda data, _: plain.code(decode(data)),
    "html": _html,
    "pdf": lambda data, _: pdf(data),
    "docx": lambda data, _: _converted(docx_to_markdown(data)),
    "csv": _table,
    "json": _json,
    "notebook": _notebook,
    "epub": lambda data, _: _converted(epub_to_markdown(data)),
    "email": lambda data, _: _converted(mail_to_markdown(data)),
    "rst": lambda data, _: _converted(html_to_markdown(rst_to_html(decode(data)))),
}
