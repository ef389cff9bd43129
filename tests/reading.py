"""Files written, read and shown, for the tests of documents and of their parsers."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeai.documents import read_document
from edgeai.errors import DocumentUnreadable
from edgeai.records import Document

SENTENCE = "Every trip is approved by the manager before tickets are bought for it. "


def read(tmp_path: Path, name: str, content: str | bytes) -> Document:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_document(path)


def shown(document: Document) -> list[tuple[str, str]]:
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def reason(tmp_path: Path, name: str, content: str | bytes) -> str:
    with pytest.raises(DocumentUnreadable) as caught:
        read(tmp_path, name, content)
    return str(caught.value)
