"""The object a program holds: one index with the engines that serve it.

It wires the pieces together and loads each of them when it is first needed. It may be called from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeai import pace
from edgeai.chunks import CHUNKER
from edgeai.config import DEFAULT_GENERATOR, DEFAULT_READER, Settings, load_settings
from edgeai.errors import DownloadFailed, EngineMissing, IndexUnusable, ModelMissing, UsageProblem
from edgeai.filters import EVERYTHING, Filter
from edgeai.prompt import prefix_segments
from edgeai.records import Document, Hit, ProgressCallback, SyncReport, Turn
from edgeai.registry import Registry
from edgeai.reply import Reply
from edgeai.store import FileState, Maker, Store

if TYPE_CHECKING:
    from edgeai.budget import Costs
    from edgeai.encoders import OnnxEmbedder
    from edgeai.generate import LlamaGenerator
    from edgeai.reader import OnnxReader

_GENERATOR_SETTINGS = {"model", "gpu_layers", "threads", "context"}  # a change of these means loading again
_READER_SETTINGS = {"reader", "threads"}


def open_registry(*, offline: bool = False, allow_unverified: bool = False) -> Registry:
    """The models of this machine, able to build what it pulls."""
    return Registry(offline=offline, allow_unverified=allow_unverified, quantise=_quantise)


def _quantise(source: Path, target: Path, kind: str) -> None:
    # Imported here: only a pull needs llama.cpp before the first question does.
    from edgeai.quantise import quantise

    quantise(source, target, kind)


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
        self.settings = replace(settings or load_settings(), **changes)
        self.labels = _allowed(labels, self.settings.labels)
        self.index = Path(index)
        self.notices: list[str] = []  # sentences for the user: what is missing and how to mend it
        self._pull = pull and not self.settings.offline
        self._progress = progress
        self._registry = open_registry(offline=not self._pull, allow_unverified=self.settings.allow_unverified)
        self._lock = threading.RLock()
        self._store: Store | None = None
        self._embedder: OnnxEmbedder | None = None
        self._reader: OnnxReader | None = None
        self._no_reader = False
        self._generator: LlamaGenerator | None = None
        self._no_generator = False
        self._costs: Costs | None = None

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
        from edgeai import pipeline

        if not paths:
            raise UsageProblem("There is nothing to index without a path; name files or folders.")
        if any(isinstance(given, str) for given in (include, exclude, tags)):
            raise UsageProblem("include, exclude and tags are lists; write ['draft'] instead of 'draft'.")
        options = pipeline.SyncOptions(tuple(include), tuple(exclude), None if tags is None else tuple(tags), label)
        roots = [Path(path) for path in paths]

        def run(store: Store, noted: Mapping[str, FileState] | None = None) -> SyncReport:
            report = progress or (lambda _: None)
            return pipeline.sync(
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
                self._store = None
            with Store.open(fresh, maker=self._maker(), create=True) as store:
                report = fill(store, noted)
            for suffix in ("-wal", "-shm"):  # of the old file: they must never meet the new one
                self.index.with_name(self.index.name + suffix).unlink(missing_ok=True)
            fresh.replace(self.index)
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
        from edgeai import retrieve

        found = retrieve.search(
            query,
            self.open_store(),
            self.embedder,
            limit=limit,
            candidates=max(self.settings.candidates, limit),
            per_document=self.settings.per_document,
            where=where or EVERYTHING,
        )
        return list(found.hits)

    def ask(self, question: str, *, history: Iterable[Turn] = (), where: Filter | None = None) -> Reply:
        """A lazy `Reply`: iterate it to stream, read `.answer` for the complete answer with its citations.

        Raises `IndexMissing` when nothing was indexed yet. Without an installed model the answer is the best sentence
        of the documents, marked "extractive".
        """
        from edgeai import pipeline

        if self._generator is not None:
            self._generator.pause()  # retrieval needs the cores now
        engines = pipeline.Engines(
            self.open_store(),
            self.embedder,
            self._load_generator,
            self._load_reader,
            self._open_costs(),
            # The words of a model that was not trained for this are seldom shown: reading more is worth more.
            saves_time=self._generator is not None and self._generator.spec.independent,
        )
        return pipeline.ask(question, engines, self.settings, where=where or EVERYTHING, history=tuple(history))

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
        """Counts, sizes and makers of the index."""
        return self.open_store().status()

    def check(self) -> list[str]:
        """What is wrong with the index, in sentences; empty when text, keyword and vector index agree."""
        return self.open_store().check()

    # engines ------------------------------------------------------------------------------------------------------

    def warm(self) -> None:
        """Open the index and load the models now instead of at the first question.

        What is missing ends up in `notices`. Raises `IndexMissing` when nothing was indexed yet.
        """
        self.open_store()
        self._load_reader()
        self._load_generator()

    def reconfigure(self, **changes: Any) -> None:
        """Change settings from the next question on, e.g. `model` or `budget_ms`; not the embedder, an index has one.

        A loaded model stays loaded when its adapter changes. Raises `UsageProblem` for the embedder and the labels;
        `ModelUnknown` or `ModelRejected` when the adapter cannot be used, and then nothing has changed.
        """
        if "embedder" in changes:
            raise UsageProblem("An index keeps its embedder; open another index to use another one.")
        if "labels" in changes:  # what was computed for other labels is still in memory
            raise UsageProblem("An assistant keeps its labels; open another one for other labels.")
        with self._lock:
            settings = replace(self.settings, **changes)
            reload = bool(_GENERATOR_SETTINGS & set(changes))
            if self._generator and not reload and settings.adapter != self.settings.adapter:
                self._use_adapter(self._generator, settings.adapter)
            if (_GENERATOR_SETTINGS | _READER_SETTINGS) & set(changes):
                self._keep_costs()
            self.settings = settings
            if reload:
                if self._generator is not None:
                    self._generator.close()
                self._generator, self._no_generator = None, False
            if _READER_SETTINGS & set(changes):
                if self._reader is not None:
                    self._reader.close()
                self._reader, self._no_reader = None, False

    @property
    def embedder(self) -> OnnxEmbedder:
        """The loaded embedder."""
        from edgeai.encoders import OnnxEmbedder

        with self._lock:
            if self._embedder is None:
                spec = self._installed(self._registry.embedder, self.settings.embedder)
                self._embedder = OnnxEmbedder(spec, threads=self.settings.threads or None)
            return self._embedder

    def open_store(self, *, create: bool = False) -> Store:
        """The opened index, as far as this assistant may see it; raises `IndexMissing` unless `create`."""
        whole = self._whole_store(create=create)
        return whole if self.labels is None else whole.visible_to(self.labels)

    def _whole_store(self, *, create: bool = False) -> Store:
        with self._lock:
            if self._store is None:
                self._store = Store.open(self.index, maker=self._maker(), create=create)
            return self._store

    def _maker(self) -> Maker:
        spec = self.embedder.spec
        return Maker(spec.name, spec.digest, spec.dimension, CHUNKER)

    def close(self) -> None:
        """Free the models and close the index; a later call opens what it needs again."""
        with self._lock:
            self._keep_costs()
            for engine in (self._generator, self._reader, self._embedder, self._store):
                if engine is not None:
                    engine.close()
            self._generator = self._reader = self._embedder = self._store = None

    def __enter__(self) -> Assistant:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_costs(self) -> Costs:
        with self._lock:
            if self._costs is None:
                self._costs = pace.load(pace.key(self.settings))
            return self._costs

    def _keep_costs(self) -> None:
        if self._costs is not None:
            pace.save(pace.key(self.settings), self._costs)
            self._costs = None

    def _load_reader(self) -> OnnxReader | None:
        from edgeai.reader import OnnxReader

        with self._lock:
            if self._reader is None and not self._no_reader and self.settings.reader != "none":
                try:
                    spec = self._installed(self._registry.reader, self.settings.reader)
                    self._reader = OnnxReader(spec, threads=self.settings.threads or None)
                except (ModelMissing, EngineMissing, DownloadFailed) as error:
                    if self.settings.reader != DEFAULT_READER:
                        raise  # who names a reader wants its judgement, not a plainer one
                    self._no_reader = True
                    self.notices.append(str(error))
            return self._reader

    def _load_generator(self) -> LlamaGenerator | None:
        with self._lock:
            if self._generator is None and not self._no_generator and self.settings.model != "none":
                try:
                    self._generator = self._open_generator()
                except (ModelMissing, EngineMissing, DownloadFailed) as error:
                    if self.settings.model != DEFAULT_GENERATOR or self.settings.adapter:
                        raise  # who names a model wants that one, not an extractive answer
                    self._no_generator = True
                    self.notices.append(str(error))
            return self._generator

    def _open_generator(self) -> LlamaGenerator:
        from edgeai.generate import LlamaGenerator

        spec = self._installed(self._registry.generator, self.settings.model)
        generator = LlamaGenerator(
            spec,
            threads=self.settings.threads or None,
            gpu_layers=self.settings.gpu_layers,
            context=self.settings.context,
        )
        if self.settings.adapter:
            try:
                self._use_adapter(generator, self.settings.adapter)
            except BaseException:
                generator.close()
                raise
        # What all prompts begin with, so that the first question does not pay for it.
        generator.prepare(prefix_segments(spec.template, numbered=not spec.independent))
        self.notices += filter(None, (self._registry.notice(self.settings.model), generator.notice))
        return generator

    def _use_adapter(self, generator: LlamaGenerator, name: str) -> None:
        if not name:
            generator.use("")
            return
        adapter = self._registry.adapter(name, generator.spec)
        generator.use(str(adapter.path))
        self.notices += filter(None, (adapter.notice,))

    def _installed(self, lookup: Any, name: str) -> Any:
        if self._pull:
            with suppress(ModelMissing):
                return lookup(name)
            self._registry.pull(name, self._progress)
        return lookup(name)


def _allowed(labels: Iterable[str] | None, setting: str) -> frozenset[str] | None:
    """The labels that may be seen, "" for documents without one among them; None = all."""
    if isinstance(labels, str):
        raise UsageProblem(f"labels is a list; write [{labels!r}] instead of {labels!r}.")
    named = [] if labels is None else [frozenset({"", *labels})]
    if setting:
        named.append(frozenset({"", *(label.strip() for label in setting.split(","))}))
    return frozenset.intersection(*named) if named else None
