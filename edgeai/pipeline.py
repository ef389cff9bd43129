"""`sync` and `ask`: the two stories of edgeai, each on one page.

Everything they use is handed to them; nothing here opens a file, loads a model or decides a default. What an answer
is worth is `check`'s business, and `check` says what it cannot prove.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from edgeai import changes, chunks, documents, followup, prompt, read, retrieve, shorten, structured
from edgeai.budget import SPARE_FORWARDS, WORDY_FORWARDS, Budget, Costs
from edgeai.calibrated import Calibration
from edgeai.config import Settings
from edgeai.draft import Draft
from edgeai.engines import Embedder, Reader
from edgeai.engines import Generator as TextGenerator
from edgeai.errors import DocumentUnreadable, NothingToIndex
from edgeai.filters import EVERYTHING, Filter
from edgeai.forged import blanked
from edgeai.forms import Form
from edgeai.links import without_targets
from edgeai.records import (
    Answer,
    Chunk,
    Document,
    Hit,
    Passage,
    Piece,
    Progress,
    ProgressCallback,
    Prompt,
    Skipped,
    SyncReport,
    Turn,
)
from edgeai.reply import Reply
from edgeai.store import FileState, Store

BATCH_CHUNKS = 256  # embedded and committed together: enough to sort by length, little to lose on interruption
SAMPLED_CHARACTERS = 64_000_000  # boilerplate is looked for in this much text of a sync, which is kept in memory

Chunked = tuple[Document, tuple[Chunk, ...]]
Ahead = AbstractContextManager[Draft | None]


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
    for old, entry in plan.moved:
        store.move(old, entry.path, modified=entry.modified, title=_moved_title(store, old, entry.path))
    for entry in plan.touched:
        store.touch(entry.path, modified=entry.modified, size=entry.size)
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


# ask --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Engines:
    """What `ask` works with. `generator` is called only once there is something to answer from; it and `reader` return
    None when no model is installed.
    """

    store: Store
    embedder: Embedder | None
    generator: Callable[[], TextGenerator | None]
    reader: Callable[[], Reader | None] = lambda: None
    costs: Costs = field(default_factory=Costs)
    saves_time: bool = True  # for generating, while passages are read
    calibration: Callable[[], Calibration | None] = lambda: None  # for these engines; called once the reader is there
    checkpoint: Callable[[], None] = lambda: None  # called now and then while passages are read; may raise to end it


def ask(
    question: str,
    engines: Engines,
    settings: Settings,
    *,
    where: Filter = EVERYTHING,
    history: Sequence[Turn] = (),
    form: Form | None = None,
    ahead: Ahead | None = None,
) -> Reply:
    """Answer from the index, in prose or in a form; nothing runs before the reply is read.

    `ahead` is entered once the models are loaded, left when the answer is complete, and gives what `find` made of the
    same arguments, if that was done before. Reading the reply raises `UsageProblem` where a form is wanted and there is
    no generator.
    """
    return Reply(_ask(question, engines, settings, where, tuple(history), form, ahead or nullcontext()))


def _ask(
    question: str,
    engines: Engines,
    settings: Settings,
    where: Filter,
    history: tuple[Turn, ...],
    form: Form | None,
    ahead: Ahead,
) -> Generator[Piece, None, Answer]:
    began = time.perf_counter()
    if form and engines.generator() is None:
        raise structured.needs_generator()
    load(engines)
    budget = Budget(settings.budget_ms or None, time.perf_counter(), engines.costs)  # loading is not in it
    with ahead as prepared:
        if prepared:
            draft = prepared.asked(began, budget)
        else:
            draft = replace(find(question, engines, settings, where, history, budget), began=began)
        draft = replace(draft, calibration=engines.calibration())
        return (yield from answer(draft, engines, settings, history, form))


def load(engines: Engines) -> None:
    """Load what retrieval needs, where that was not done before."""
    if engines.embedder:
        engines.embedder.load()
    if reader := engines.reader():
        reader.load()


def find(
    question: str, engines: Engines, settings: Settings, where: Filter, history: Sequence[Turn], budget: Budget
) -> Draft:
    """What is found and read for a question, as far as there is time, before anything is said."""
    query = followup.rewrite_question(question, [_said(turn) for turn in history])
    reader = engines.reader()
    found = retrieve.search(
        query,
        engines.store,
        engines.embedder,
        limit=max(settings.passages, settings.read if reader else 0),
        candidates=settings.candidates,
        per_document=settings.per_document,
        where=where,
    )
    candidates = tuple(numbered(found.hits))
    draft = Draft(question, query, candidates[: settings.passages], found, budget.began, budget, engines.embedder)
    if reader and candidates and found.trust >= read.READABLE:
        draft = draft.read(
            reader, candidates, settings.passages, generating=engines.saves_time, checkpoint=engines.checkpoint
        )
    return draft


def _said(turn: Turn) -> Turn:
    """The turn, without the words of a refusal: they name nothing a follow-up could be about."""
    return replace(turn, answer="") if prompt.is_refusal(turn.answer) else turn


def answer(
    draft: Draft, engines: Engines, settings: Settings, history: Sequence[Turn] = (), form: Form | None = None
) -> Generator[Piece, None, Answer]:
    """Answer from the passages of a draft: streams the generator's words, returns what is shown of them."""
    verdict = draft.outlook()
    if verdict.status == "refused":
        return draft.refused(verdict)
    if not form and (differing := draft.differing()) is not None:
        return differing
    generator = engines.generator()
    if generator is None:
        return draft.extractive(verdict, *(() if settings.model == "none" else ("no generator installed",)))
    waiting = time.perf_counter()
    generator.load()
    draft = draft.waited(time.perf_counter() - waiting)
    if form:
        return (yield from structured.answer(draft, form, generator, settings, history))
    request, draft = _request(draft, generator, settings, history)
    if not request:
        draft.budget.costs.untried()
        return draft.extractive(verdict, "no time to generate")
    pieces: list[Piece] = []
    sent = time.perf_counter()
    for piece in generator.stream(request, draft.budget.deadline):
        pieces.append(piece)
        yield piece
    given = draft.generated(pieces, request.passages, verdict, generator.spec, sent)
    if draft.cut and generator.spec.independent:  # others cannot use a passage that was computed apart
        generator.prepare(draft.whole(generator.spec.template))
    return given


def _request(
    draft: Draft, generator: TextGenerator, settings: Settings, history: Sequence[Turn]
) -> tuple[Prompt | None, Draft]:
    """The prompt with the passages there is time for, None when not even one fits; and the draft with what was cut."""
    if draft.budget.ms is None:
        return draft.lay_out(draft.passages, generator, settings, history), draft
    bare = draft.lay_out((), generator, settings, history)
    rest = sum(generator.count_tokens(segment.text) for segment in bare.segments if segment.role != "prefix")
    numbered_ = not generator.spec.independent
    shown, cut = shorten.fit(
        draft.passages,
        draft.readings,
        lambda passage: generator.missing([prompt.passage_text(passage, numbered=numbered_)])[0],
        draft.budget.room(rest, SPARE_FORWARDS if generator.spec.independent else WORDY_FORWARDS),
    )
    request = draft.lay_out(shown, generator, settings, history) if shown else None
    return request, replace(draft, cut=(*draft.cut, *cut))


def numbered(hits: Iterable[Hit]) -> Iterator[Passage]:
    """Hits as the passages that models read, numbered from 1."""
    for number, hit in enumerate(hits, 1):
        chunk = hit.chunk
        yield Passage(
            number,
            blanked(chunk.text),
            hit.path,
            chunk.start,
            chunk.end,
            title=hit.title,
            heading=chunk.heading,
            header=chunk.header,
            page=chunk.page,
            modified=hit.modified,
        )
