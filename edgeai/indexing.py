"""`sync`: files become documents, chunks, vectors and rows of an index; what is gone from the disk goes from it too.

Everything it uses is handed to it; nothing here opens the index, loads a model or decides a default.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from edgeai import changes, chunks, documents
from edgeai.engines import Embedder
from edgeai.errors import DocumentUnreadable, NothingToIndex
from edgeai.records import (
    Chunk,
    Document,
    Progress,
    ProgressCallback,
    Skipped,
    SyncReport,
)
from edgeai.store import FileState, Store
from edgeai.text.links import without_targets

BATCH_CHUNKS = 256  # embedded and committed together: enough to sort by length, little to lose on interruption
SAMPLED_CHARACTERS = 64_000_000  # boilerplate is looked for in this much text of a sync, which is kept in memory

Chunked = tuple[Document, tuple[Chunk, ...]]


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """What to take, and what to note about it; `None` keeps what an earlier sync noted."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    tags: tuple[str, ...] | None = None
    label: str | None = None


def sync(
    roots: Sequence[Path],
    *,
    store: Store,
    embedder: Embedder,
    options: SyncOptions | None = None,
    noted: Mapping[str, FileState] | None = None,
    progress: ProgressCallback = lambda _: None,
) -> SyncReport:
    """Bring the index in line with the files below `roots`.

    `noted` are the files of an earlier index, whose tags and labels the new one is to take over.
    Raises `PathNotFound` for a missing root and `NothingToIndex` when there is nothing to read. A file that cannot be
    read is reported in `skipped`; its earlier version, if any, stays. Interrupted at any point, the next run goes on
    from the last committed batch.
    """
    began = time.perf_counter()
    options = options or SyncOptions()
    entries, skipped = documents.walk(roots, include=options.include, exclude=options.exclude)
    known = store.files()
    plan = changes.plan(
        entries,
        known,
        _absolute(roots),
        documents.file_digest,
        stale=lambda file: _relabelled(file, options),
        unseen=[item.path for item in skipped],
    )
    if not entries and not plan.removed:
        raise NothingToIndex(_nothing_to_index(roots, skipped))
    _follow(plan, store)
    incoming = [entry.path for entry in (*plan.added, *plan.changed)]
    unreadable: dict[str, Skipped] = {}
    readable = _read(incoming, {**(noted or {}), **known}, options, unreadable)
    written, embed_seconds = _index(readable, store, embedder, _counter(progress, len(incoming)))
    if len(unreadable) == len(plan.added) == len(entries) and not plan.removed:
        raise NothingToIndex(_nothing_to_index(roots, (*skipped, *unreadable.values())))
    store.remove(plan.removed)
    return SyncReport(
        added=tuple(entry.path for entry in plan.added if entry.path not in unreadable),
        changed=tuple(entry.path for entry in plan.changed if entry.path not in unreadable),
        moved=tuple(entry.path for _, entry in plan.moved),
        removed=plan.removed,
        unchanged=len(plan.unchanged) + len(plan.touched),
        skipped=(*skipped, *unreadable.values()),
        chunks=written,
        seconds=time.perf_counter() - began,
        embed_seconds=embed_seconds,
    )


def _follow(plan: changes.Plan, store: Store) -> None:
    """Note what changed about files whose text is the same."""
    for old, entry in plan.moved:
        store.move(old, entry.path, modified=entry.modified, title=_moved_title(store, old, entry.path))
    for entry in plan.touched:
        store.touch(entry.path, modified=entry.modified, size=entry.size)


def _absolute(roots: Sequence[Path]) -> list[str]:
    return [root.expanduser().resolve().as_posix() for root in roots]


def _moved_title(store: Store, old: str, new: str) -> str | None:
    """A title that was made from the file's name follows the name; any other stays (None)."""
    document = store.document(old)
    named_after_file = document is not None and document.title == documents.readable_stem(old)
    return documents.readable_stem(new) if named_after_file else None


def _relabelled(file: FileState, options: SyncOptions) -> bool:
    wrong_label = options.label is not None and file.label != options.label
    return wrong_label or not set(options.tags or ()) <= set(file.tags)


def _nothing_to_index(roots: Sequence[Path], skipped: Sequence[Skipped]) -> str:
    places = ", ".join(str(root) for root in roots)
    why = f" ({skipped[0].path}: {skipped[0].reason})" if skipped else ""
    return f"There is nothing to index in {places}{why}; name a folder that holds documents."


def _read(
    paths: Sequence[str], known: Mapping[str, FileState], options: SyncOptions, unreadable: dict[str, Skipped]
) -> Iterator[Document]:
    for path in paths:
        before = known.get(path)
        tags = options.tags if options.tags is not None else (before.tags if before else ())
        label = options.label if options.label is not None else (before.label if before else "")
        try:
            yield documents.read_document(path, tags=tags, label=label)
        except DocumentUnreadable as error:
            unreadable[path] = Skipped(path, str(error))


def _index(
    incoming: Iterator[Document], store: Store, embedder: Embedder, count: Callable[[int], None]
) -> tuple[int, float]:
    """Chunk, embed and store documents; returns the chunks written and the seconds spent embedding."""
    sample, incoming = _sample(incoming)
    boilerplate = store.boilerplate() | chunks.repeated_blocks(sample)
    store.set_boilerplate(boilerplate)

    def count_tokens(text: str) -> int:
        return embedder.count_tokens(without_targets(text))

    parts = ((document, chunks.split(document, count_tokens, boilerplate=boilerplate)) for document in incoming)
    return store_chunked(parts, store, embedder, count)


def store_chunked(
    chunked: Iterable[Chunked], store: Store, embedder: Embedder, count: Callable[[int], None]
) -> tuple[int, float]:
    """Embed and write documents batch by batch; returns the chunks written and the seconds spent embedding.

    `count` is told after every commit how many documents it held.
    """
    written, seconds = 0, 0.0
    for batch in _batches(chunked):
        texts = [embedded_text(document, chunk) for document, parts in batch for chunk in parts]
        began = time.perf_counter()
        vectors = embedder.embed_passages(texts)
        seconds += time.perf_counter() - began
        rows, start = [], 0
        for document, parts in batch:
            rows.append((document, parts, vectors[start : start + len(parts)]))
            start += len(parts)
        store.put_many(rows)
        written += len(texts)
        count(len(batch))
    return written, seconds


def _sample(incoming: Iterator[Document]) -> tuple[list[Document], Iterator[Document]]:
    sample: list[Document] = []
    size = 0
    for document in incoming:
        sample.append(document)
        size += len(document.text)
        if size > SAMPLED_CHARACTERS:
            break
    return sample, chain(sample, incoming)


def _batches(chunked: Iterable[Chunked]) -> Iterator[list[Chunked]]:
    batch: list[Chunked] = []
    size = 0
    for document, parts in chunked:
        batch.append((document, parts))
        size += len(parts)
        if size >= BATCH_CHUNKS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def embedded_text(document: Document, chunk: Chunk) -> str:
    """A chunk as the embedder sees it: it would not know what "it" is without the title and headings."""
    context = chunk.context
    title = "" if document.title in context else document.title
    return "\n".join(part for part in (title, context, without_targets(chunk.text)) if part)


def _counter(progress: ProgressCallback, total: int) -> Callable[[int], None]:
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        progress(Progress(done, total, "files"))

    progress(Progress(0, total, "files"))
    return count
