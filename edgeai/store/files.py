"""What the index knows of a file and of the document that was read from it, out of rows of SQLite."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeai.records import Document
from edgeai.store.database import damaged

DOCUMENT_COLUMNS = """
    path, (SELECT json_group_array(text ORDER BY part) FROM texts WHERE document_id = documents.id),
    type, title, modified, digest,
    (SELECT json_group_array(tag ORDER BY position) FROM tags WHERE document_id = documents.id), label, size"""


@dataclass(frozen=True, slots=True)
class FileState:
    """What the index knows of one file, for `sync` to compare with the disk."""

    path: str
    digest: str
    size: int  # bytes
    modified: float  # seconds since the epoch
    type: str
    label: str
    chunks: int
    tags: tuple[str, ...]


def file_state(index: Path, row: Sequence[Any]) -> FileState:
    """The file of a row (path, digest, size, modified, type, label, chunks, tags); raises `IndexUnusable`."""
    path, digest, size, modified, kind, label, chunks, tags = row
    try:
        return FileState(path, digest, size, modified, kind, label, chunks, tuple(json.loads(tags)))
    except (TypeError, ValueError) as error:
        raise damaged(index, "the tags of a document cannot be read") from error


def document(index: Path, row: Sequence[Any]) -> Document:
    """The document of a row of `DOCUMENT_COLUMNS`; raises `IndexUnusable`."""
    path, parts, kind, title, modified, digest, tags, label, size = row
    try:
        text = "".join(json.loads(parts))
        return Document(path, text, kind, title, modified, digest, tags=tuple(json.loads(tags)), label=label, size=size)
    except (TypeError, ValueError) as error:
        raise damaged(index, "a document cannot be read") from error
