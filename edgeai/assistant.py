"""The object a program holds: one index with the engines that serve it.

It wires the pieces together and loads each of them when it is first needed. It may be called from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeai import questionlog
from edgeai.background import Background
from edgeai.chunks import CHUNKER
from edgeai.config import Settings, load_settings
from edgeai.errors import IndexMissing, IndexUnusable, UsageProblem
from edgeai.filters import EVERYTHING, Filter
from edgeai.grounding.calibrated import CALIBRATION, NOT_USABLE, Calibration, identity, usable
from edgeai.models import Models
from edgeai.prompt import prefix_segments
from edgeai.records import Document, Hit, ProgressCallback, SyncReport, Turn
from edgeai.reply import Reply
from edgeai.store import FileState, Maker, Store, kept_states

if TYPE_CHECKING:
    from edgeai.ahead import Asked
    from edgeai.grounding.draft import Draft
    from edgeai.onnx.encoders import OnnxEmbedder
    from edgeai.pipeline import Engines
    from edgeai.structured.forms import Form


class Assistant:
    """Ask one index of documents.

    `index` is the SQLite file, made by the first `sync`. `model` is a catalog name, the path of a GGUF file or "none";
    `adapter` the name or path of a LoRA adapter of it; `embedder` a catalog name or the path of a folder with an ONNX
    model, `reader` the same or "none". With `pull=True` a missing model is fetched at first use, reporting bytes to
    `progress`; otherwise nothing here ever opens the network.

    With `labels` it answers for somebody who may see documents with one of these access labels, and those without
    any: no other document is found, quoted, listed or counted. None means all, () only documents without a label. Only
    `sync`, which reads the files themselves, is not restricted.
    """

    def __init__(
        self,
        index: Path | str,
        *,
        model: str | None = None,
        adapter: str | None = None,
        embedder: str | None = None,
        reader: str | None = None,
        budget_ms: float | None = None,
        labels: Iterable[str] | None = None,
        settings: Settings | None = None,
        pull: bool = False,
        progress: ProgressCallback | None = None,
    ) -> None:
        given = {"model": model, "adapter": adapter, "embedder": embedder, "reader": reader, "budget_ms": budget_ms}
        changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        self.index = Path(index)
        self._models = Models(
            replace(settings or load_settings(), **changes), pull=pull, progress=progress, kept=self._kept_states
        )
        self.labels = _allowed(labels, self.settings.labels)
        self._lock = threading.RLock()
        self._store: Store | None = None
        self._visible: Store | None = None  # of it, what the labels allow
        self._told_of_calibration = False
        self._background: Background[Draft] = Background()

    @property
    def settings(self) -> Settings:
        """The settings of the next question; changed by `reconfigure`."""
        return self._models.settings

    @property
    def notices(self) -> list[str]:
        """Sentences for the user: what is missing and how to mend it."""
        return self._models.notices

    @property
    def embedder(self) -> OnnxEmbedder:
        """The loaded embedder."""
        return self._models.embedder

    # the index ----------------------------------------------------------------------------------------------------

    def sync(
        self,
        *paths: Path | str,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        tags: Sequence[str] | None = None,
        label: str | None = None,
        rebuild: bool = False,
        progress: ProgressCallback | None = None,
    ) -> SyncReport:
        """Bring the index in line with these files and folders.

        `include` and `exclude` are .gitignore patterns. `tags` and `label` are noted on every file taken; None keeps
        what was noted before. `rebuild` makes a new index of just these paths, which takes the place of the old one
        once it is complete and takes over what that had noted. Raises `PathNotFound`, `NothingToIndex`,
        `EmbedderMismatch`, `IndexUnusable`, `IndexBusy`, `DiskFull` or `ReadOnly`.
        """
        from edgeai import indexing

        if not paths:
            raise UsageProblem("There is nothing to index without a path; name files or folders.")
        if any(isinstance(given, str) for given in (include, exclude, tags)):
            raise UsageProblem("include, exclude and tags are lists; write ['draft'] instead of 'draft'.")
        options = indexing.SyncOptions(tuple(include), tuple(exclude), None if tags is None else tuple(tags), label)
        roots = [Path(path) for path in paths]

        def run(store: Store, noted: Mapping[str, FileState] | None = None) -> SyncReport:
            report = progress or (lambda _: None)
            return indexing.sync(
                roots, store=store, embedder=self.embedder, options=options, noted=noted, progress=report
            )

        return self._rebuild(run) if rebuild else run(self._whole_store(create=True))

    def _rebuild(self, fill: Callable[[Store, Mapping[str, FileState]], SyncReport]) -> SyncReport:
        """Fill a new index file beside the old one, then let it take its place."""
        noted = self._noted()
        fresh = self.index.with_name(self.index.name + ".rebuild")
        for leftover in fresh.parent.glob(fresh.name + "*"):
            leftover.unlink()
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = self._visible = None
            with Store.open(fresh, maker=self._maker(), create=True) as store:
                report = fill(store, noted)
            for suffix in ("-wal", "-shm"):  # of the old file: they must never meet the new one
                self.index.with_name(self.index.name + suffix).unlink(missing_ok=True)
            fresh.replace(self.index)
            kept_states.forget(self.index)
        return report

    def _noted(self) -> Mapping[str, FileState]:
        """The files of the index as it is, whoever made it; raises for a file that is not ours to replace."""
        if not Store.exists(self.index):
            return {}
        try:
            with Store.open(self.index, maker=None) as old:
                return old.files()
        except IndexUnusable:  # perhaps why it is built again
            self.notices.append("The old index could not be read; give tags and access labels again.")
            return {}

    def search(self, query: str, limit: int = 8, *, where: Filter | None = None) -> list[Hit]:
        """The chunks that fit the query best, best first; needs no language model.

        Raises `IndexMissing` when nothing was indexed yet.
        """
        from edgeai import expand, retrieve

        store, where = self.open_store(), where or EVERYTHING
        found = retrieve.search(
            expand.spell_out(query, store, where),
            store,
            self.embedder,
            limit=limit,
            candidates=max(self.settings.candidates, limit),
            per_document=self.settings.per_document,
            where=where,
        )
        return list(found.hits)

    def ask(
        self,
        question: str,
        *,
        history: Iterable[Turn] = (),
        where: Filter | None = None,
        calibration: Calibration | None = None,
        schema: Mapping[str, Any] | None = None,
        choices: Sequence[str] = (),
    ) -> Reply:
        """A lazy `Reply`: iterate it to stream, read `.answer` for the complete answer with its citations.

        With a JSON `schema` or a list of `choices`, `.answer.value` is a value valid against it, or one of them; both
        need a language model. Otherwise, without an installed model, the answer is the best sentence of the documents,
        marked "extractive". `calibration` decides in place of the one that belongs to the index. Raises `IndexMissing`
        when nothing was indexed yet, and `UsageProblem` for a schema or choices that cannot be used.
        """
        from edgeai import ahead, pipeline

        form = self._form(schema, choices)
        engines = self._engines()
        if calibration:
            engines = replace(engines, calibration=lambda: calibration)
        asked = ahead.Asked(question, tuple(history), where or EVERYTHING, self.settings, engines.store)
        reply = pipeline.ask(
            question,
            engines,
            self.settings,
            where=asked.where,
            history=asked.history,
            form=form,
            ahead=self._prepared(asked),
        )
        return questionlog.logged(reply, self.index) if self.settings.log_questions else reply

    def prepare(self, question: str, *, history: Iterable[Turn] = (), where: Filter | None = None) -> None:
        """Search and read for a question while it is being typed, so that its answer comes sooner; returns at once.

        For programs with a text field, to be called whenever the text in it changes:

            field.on_change(lambda text: assistant.prepare(text, history=turns))
            field.on_enter(lambda text: show(assistant.ask(text, history=turns).answer))

        Work begins when the text has stood for a moment and ends when it changes. Only `ask` with equal arguments, and
        the index unchanged, goes on from there, so the answer is the same, or that of a larger budget for reading; its
        `timings.prepared` says what was done before. Nothing is done until the models are loaded (`warm` or the first
        answer), beside an answer (close a reply not read to its end), on battery, or with the setting `ahead` off.
        """
        from edgeai import ahead

        store = self._store and self.open_store()
        if self.settings.ahead and store and self._models.ready():
            asked = ahead.Asked(question, tuple(history), where or EVERYTHING, self.settings, store)
            self._background.begin(asked, partial(ahead.drafts, asked, self._engines), store.stamp)

    @contextmanager
    def _prepared(self, asked: Asked) -> Iterator[Draft | None]:
        """What was prepared for a question; nothing runs in the background of its answer."""
        with self._background.answering(asked) as draft, self._models.answering():  # retrieval needs the cores now
            yield draft

    def _form(self, schema: Mapping[str, Any] | None, choices: Sequence[str]) -> Form | None:
        """What the answer has to be, as the adapter in use was trained for it if it was."""
        from edgeai.structured.forms import as_trained, read_form

        form = read_form(schema, choices)
        generator = self._models.generator() if form and self.settings.adapter else None
        if form is None or generator is None:
            return form
        return as_trained(form, self._models.adapter_card(generator))

    def document(self, path: Path | str) -> Document | None:
        """The indexed text of a file, which citation offsets count in; None when it is not in the index."""
        return self.open_store().document(Path(path).expanduser().resolve().as_posix())

    def remove(self, *paths: Path | str) -> int:
        """Forget files, or all files below folders, whether or not they still exist; returns how many."""
        roots = [Path(path).expanduser().resolve().as_posix() for path in paths]
        store = self.open_store()
        doomed = [path for path in store.files() if any(path == root or path.startswith(f"{root}/") for root in roots)]
        return store.remove(doomed)

    def status(self) -> dict[str, Any]:
        """Counts, sizes and makers of the index, and what was fitted for it."""
        store = self.open_store()
        return {**store.status(), "calibration": store.note(CALIBRATION)}

    def calibration(self) -> Calibration | None:
        """What `edgeai eval --calibrate` has fitted for this index and these models; None for others, with a notice."""
        record = self.open_store().note(CALIBRATION)
        fitted = usable(record, *self.judges()) if record else None
        if record and not fitted and not self._told_of_calibration:
            self._told_of_calibration = True
            self.notices.append(NOT_USABLE)
        return fitted

    def judges(self) -> tuple[str, str]:
        """The embedder and the reader with the digests of their files, "none" without one: what confidence rests on."""
        reader = self._models.reader()
        return identity(self.embedder.spec), identity(reader.spec if reader else None)

    def check(self) -> list[str]:
        """What is wrong with the index, in sentences; empty when text, keyword and vector index agree."""
        return self.open_store().check()

    # engines ------------------------------------------------------------------------------------------------------

    def warm(self, *, wait: bool = False) -> None:
        """Open the index and load the models now instead of at the first question; with `wait`, until all is ready.

        What is missing ends up in `notices`. Raises `IndexMissing` when nothing was indexed yet.
        """
        store = self.open_store()
        reader, generator = self._models.reader(), self._models.generator()
        if wait:
            store.load_vectors()
            self.embedder.load()
            if reader is not None:
                reader.load()
            if generator is not None:  # with the beginning of all prompts: waiting alone would stop its preparation
                generator.warm(prefix_segments(generator.spec.template, numbered=not generator.spec.independent))

    def reconfigure(self, **changes: Any) -> None:
        """Change settings from the next question on, e.g. `model` or `budget_ms`; not the embedder, an index has one.

        A loaded model stays loaded when its adapter changes. Raises `UsageProblem` for the embedder and the labels;
        `ModelUnknown` or `ModelRejected` when the adapter cannot be used, and then nothing has changed.
        """
        if "embedder" in changes:
            raise UsageProblem("An index keeps its embedder; open another index to use another one.")
        if "labels" in changes:  # what was computed for other labels is still in memory
            raise UsageProblem("An assistant keeps its labels; open another one for other labels.")
        self._background.stop()
        self._models.reconfigure(replace(self.settings, **changes), set(changes))

    def _engines(self) -> Engines:
        from edgeai import pipeline

        return pipeline.Engines(
            self.open_store(),
            self.embedder,
            self._models.generator,
            self._models.reader,
            self._models.costs(),
            # The words of a model that was not trained for this are seldom shown: reading more is worth more.
            saves_time=self._models.independent,
            calibration=self.calibration,
        )

    def open_store(self, *, create: bool = False) -> Store:
        """The opened index, as far as this assistant may see it; raises `IndexMissing` unless `create`."""
        with self._lock:
            whole = self._whole_store(create=create)
            if self._visible is None:
                self._visible = whole if self.labels is None else whole.visible_to(self.labels)
            return self._visible

    def _whole_store(self, *, create: bool = False) -> Store:
        with self._lock:
            if self._store is None:
                self._store = Store.open(self.index, maker=self._maker(), create=create)
            return self._store

    def _kept_states(self, limit: int) -> kept_states.KeptStates:
        return kept_states.KeptStates(self.index, limit, self._version)

    def _version(self, path: str) -> tuple[float, str] | None:
        """Of a document in the whole index. Takes no lock: who closes the assistant waits for this."""
        if (store := self._store) is None:
            raise IndexMissing(f"{self.index} is not open.")
        return store.version(path)

    def _maker(self) -> Maker:
        spec = self.embedder.spec
        return Maker(spec.name, spec.digest, spec.dimension, CHUNKER)

    def close(self) -> None:
        """Free the models and close the index; a later call opens what it needs again."""
        self._background.stop()  # before the lock, which it may wait for
        with self._lock:
            self._models.close()
            if self._store is not None:
                self._store.close()
            self._store = self._visible = None

    def __enter__(self) -> Assistant:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _allowed(labels: Iterable[str] | None, setting: str) -> frozenset[str] | None:
    """The labels that may be seen, "" for documents without one among them; None = all."""
    if isinstance(labels, str):
        raise UsageProblem(f"labels is a list; write [{labels!r}] instead of {labels!r}.")
    named = [] if labels is None else [frozenset({"", *labels})]
    if setting:
        named.append(frozenset({"", *(label.strip() for label in setting.split(","))}))
    return frozenset.intersection(*named) if named else None
