"""Files to documents: text, structure, title and metadata of one file.

Finding files is `folders`' work and understanding formats the parsers'; this module reads the bytes once, so that text
and digest belong together. It does not know what is in an index.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from edgeai.chunks import plain_heading
from edgeai.documents.decoding import looks_like_text
from edgeai.documents.extracted import Extracted
from edgeai.documents.filetypes import readable_stem, type_of, unreadable
from edgeai.documents.folders import MAX_BYTES, FileEntry, walk
from edgeai.errors import DocumentUnreadable
from edgeai.records import Document

__all__ = ["FileEntry", "file_digest", "read_document", "readable_stem", "walk"]

_SHOWN_AS = {"notebook": "markdown"}  # types of files that are a document type of another name
_OWN_TITLE_FIRST = ("epub", "email", "pdf")  # their first heading is a chapter's, a quotation's, or a guess


def file_digest(path: Path | str) -> str:
    """SHA-256 of a file's bytes, hex. Raises `DocumentUnreadable`."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DocumentUnreadable(_in_words(error)) from error


def read_document(path: Path | str, *, tags: Sequence[str] = (), label: str = "") -> Document:
    """Read and parse one file; `tags` join those the file has itself.

    Raises `DocumentUnreadable` with the reason, whatever is wrong with the file.
    """
    from edgeai.documents.parsers import parse

    path = Path(path).expanduser().absolute()
    data, modified = _read(path)
    kind = type_of(path.name) or _sniffed(path.name, data)
    extracted = parse(kind, data, path.name)
    return Document(
        path=path.as_posix(),
        text=extracted.text,
        type=_SHOWN_AS.get(kind, kind),
        title=_title(extracted, kind, path.name),
        modified=modified,
        digest=hashlib.sha256(data).hexdigest(),
        blocks=extracted.blocks,
        tags=tuple(dict.fromkeys((*tags, *extracted.tags))),
        label=label,
        size=len(data),
    )


def _read(path: Path) -> tuple[bytes, float]:
    """Bytes and modification time. Only regular files are opened: reading a pipe would wait for ever."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DocumentUnreadable("not a regular file")
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DocumentUnreadable(_in_words(error)) from error
    if len(data) > MAX_BYTES:
        raise DocumentUnreadable(f"larger than {MAX_BYTES >> 20} MB")
    return data, status.st_mtime


def _in_words(error: OSError) -> str:
    return f"cannot be opened: {(error.strerror or type(error).__name__).lower()}"


def _sniffed(name: str, data: bytes) -> str:
    if data.startswith(b"%PDF-"):
        return "pdf"
    if not looks_like_text(data[:4096]):
        raise DocumentUnreadable(unreadable(name) or "a binary file of an unknown kind")
    return "text"


def _title(extracted: Extracted, kind: str, name: str) -> str:
    if extracted.title and kind in _OWN_TITLE_FIRST:
        return extracted.title
    for block in extracted.blocks:
        heading = plain_heading(extracted.text[block.start : block.end]) if block.level == 1 else ""
        if heading:
            return heading
    return extracted.title or readable_stem(name)
