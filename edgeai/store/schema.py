"""The layout of an index file: its tables, its identity, and how an older layout becomes the current one.

It does not know what goes into the tables. A file's identity is read from its header without opening it as a
database, so that a file that is not ours is never touched.
"""

from __future__ import annotations

import struct
from pathlib import Path

import apsw

from edgeai.errors import IndexUnusable

APPLICATION_ID = (
    0x65644149  # "edAI" in the header of the file, https://www.sqlite.org/pragma.html#pragma_application_id
)
TEXT_PART = 8192  # characters of a document per row of `texts`, so that a passage of a large file is read alone

_VERSION_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    title TEXT NOT NULL,
    modified REAL NOT NULL,  -- seconds since the epoch
    size INTEGER NOT NULL,   -- bytes of the file
    digest TEXT NOT NULL,    -- SHA-256 of the file, hex
    label TEXT NOT NULL,
    length INTEGER NOT NULL  -- characters of the text
) STRICT;

CREATE TABLE tags (
    document_id INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    tag TEXT NOT NULL,
    PRIMARY KEY (document_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_by_tag ON tags (tag, document_id);

CREATE TABLE texts (
    document_id INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    part INTEGER NOT NULL,  -- characters [part * TEXT_PART, (part + 1) * TEXT_PART)
    text TEXT NOT NULL,
    PRIMARY KEY (document_id, part)
) STRICT;

-- AUTOINCREMENT: an id is never given twice, so one that a reader still holds cannot come to mean another text.
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    document_id INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    start INTEGER NOT NULL,  -- characters into the document's text
    stop INTEGER NOT NULL,
    heading TEXT NOT NULL,   -- JSON array, outermost first
    header TEXT NOT NULL,
    page INTEGER
) STRICT;
CREATE INDEX chunks_by_document ON chunks (document_id);

-- Contentless: the words are in `texts` already. The rowid of `fts` and of `vectors` is the chunk's id.
CREATE VIRTUAL TABLE fts USING fts5 (
    context, body, content='', contentless_delete=1, tokenize='porter unicode61 remove_diacritics 2'
);
"""
VECTOR_BLOCK = 128  # vectors a blob; sqlite-vec's own 1,024 makes one look-up 100 us, and a small index 1.5 MB larger
VECTORS = "CREATE VIRTUAL TABLE vectors USING vec0 (embedding float[{dimension}], chunk_size={block})"

MIGRATIONS = (_VERSION_1,)  # MIGRATIONS[n] leads from version n to n + 1; append only
VERSION = len(MIGRATIONS)


def exists(path: Path) -> bool:
    """Whether there is an index at `path`; an empty file counts as none.

    Raises `IndexUnusable` for anything that is not an index, or one from a newer edgeai, without changing it.
    """
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except IsADirectoryError as error:
        raise IndexUnusable(f"{path} is a folder; name a file for the index.") from error
    except OSError as error:
        raise IndexUnusable(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    if not header:
        return False
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0") or _field(header, 68) != APPLICATION_ID:
        raise IndexUnusable(f"{path} is not an edgeai index; choose another file, or delete it to build one there.")
    check_version(path, _field(header, 60))
    return True


def check_version(path: Path, version: int) -> None:
    """Raise `IndexUnusable` for an index that only a newer edgeai understands."""
    if version > VERSION:
        raise IndexUnusable(
            f"{path} was written by a newer edgeai (layout {version}, this one knows {VERSION}); "
            "update with `pip install --upgrade edgeai`."
        )


def migrate(connection: apsw.Connection, version: int, dimension: int) -> None:
    """Bring the layout from `version` (0: an empty file) to the current one, inside the caller's transaction.

    `dimension` of the vectors is used when they are created.
    """
    for script in MIGRATIONS[version:]:
        connection.execute(script)
    if version == 0:
        connection.execute(VECTORS.format(dimension=dimension, block=VECTOR_BLOCK))
        connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", VERSION)


def compact(connection: apsw.Connection, dimension: int) -> None:
    """Rewrite the two indexes that keep what was deleted from them, inside the caller's transaction.

    FTS5 only marks deleted words until it merges its segments; sqlite-vec 0.1.9 gives space back only when
    nothing of a block of vectors is left.
    """
    connection.execute("INSERT INTO fts (fts) VALUES ('optimize')")
    connection.execute("CREATE TEMP TABLE kept AS SELECT rowid AS id, embedding FROM vectors")
    connection.execute("DROP TABLE vectors")
    connection.execute(VECTORS.format(dimension=dimension, block=VECTOR_BLOCK))
    connection.execute("INSERT INTO vectors (rowid, embedding) SELECT id, embedding FROM temp.kept ORDER BY id")
    connection.execute("DROP TABLE temp.kept")


def _field(header: bytes, offset: int) -> int:
    """A field of the SQLite header, https://www.sqlite.org/fileformat.html#the_database_header."""
    return int(struct.unpack_from(">I", header, offset)[0])
