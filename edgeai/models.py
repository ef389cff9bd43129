"""The models that an assistant works with: fetched and loaded when first needed, replaced when settings change.

Missing defaults are done without, and said so; a model that was asked for by name is not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeai import pace
from edgeai.config import DEFAULT_GENERATOR, DEFAULT_READER, Settings
from edgeai.errors import DownloadFailed, EngineMissing, ModelMissing
from edgeai.prompt import prefix_segments
from edgeai.records import ProgressCallback
from edgeai.registry import Registry

if TYPE_CHECKING:
    from edgeai.budget import Costs
    from edgeai.llm.generate import LlamaGenerator
    from edgeai.onnx.encoders import OnnxEmbedder
    from edgeai.onnx.reader import OnnxReader
    from edgeai.store.kept_states import KeptStates

_GENERATOR_SETTINGS = {
    "model",
    "gpu_layers",
    "threads",
    "context",
    "kept_states_mb",
}  # a change of these means loading again
_READER_SETTINGS = {"reader", "threads"}


def open_registry(*, offline: bool = False, allow_unverified: bool = False) -> Registry:
    """The models of this machine, able to build what it pulls."""
    return Registry(offline=offline, allow_unverified=allow_unverified, quantise=_quantise)


def _quantise(source: Path, target: Path, kind: str) -> None:
    # Imported here: only a pull needs llama.cpp before the first question does.
    from edgeai.llm.quantise import quantise

    quantise(source, target, kind)


class Models:
    """Embedder, reader and generator of these settings, and what they cost; safe to use from several threads."""

    def __init__(
        self,
        settings: Settings,
        *,
        pull: bool,
        progress: ProgressCallback | None,
        kept: Callable[[int], KeptStates] | None = None,
    ) -> None:
        """With `pull` what is missing is fetched, reporting bytes to `progress`, unless the settings forbid it.

        `kept` gives what keeps computed passages within so many bytes.
        """
        self.settings = settings
        self.notices: list[str] = []
        self._pull = pull and not settings.offline
        self._progress = progress
        self._kept = kept
        self._answers = 0  # being computed
        self._answering = threading.Lock()  # guards that count, and that nothing is written while it is not 0
        self._registry = open_registry(offline=not self._pull, allow_unverified=settings.allow_unverified)
        self._lock = threading.RLock()
        self._embedder: OnnxEmbedder | None = None
        self._reader: OnnxReader | None = None
        self._no_reader = False
        self._generator: LlamaGenerator | None = None
        self._no_generator = False
        self._costs: Costs | None = None

    def reconfigure(self, settings: Settings, changed: set[str]) -> None:
        """Use other settings from now on; raises what `Assistant.reconfigure` does, and then nothing has changed."""
        with self._lock:
            reload = bool(_GENERATOR_SETTINGS & changed)
            if self._generator and not reload and settings.adapter != self.settings.adapter:
                self._use_adapter(self._generator, settings.adapter)
            if (_GENERATOR_SETTINGS | _READER_SETTINGS) & changed:
                self._keep_costs()
            self.settings = settings
            if reload:
                if self._generator is not None:
                    self._generator.close()
                self._generator, self._no_generator = None, False
            if _READER_SETTINGS & changed:
                if self._reader is not None:
                    self._reader.close()
                self._reader, self._no_reader = None, False

    def ready(self) -> bool:
        """Whether the next question has to fetch and load nothing."""
        reader = self._reader or self._no_reader or self.settings.reader == "none"
        generator = self._generator or self._no_generator or self.settings.model == "none"
        return bool(self._embedder and reader and generator)

    @property
    def independent(self) -> bool:
        """Whether a generator is loaded that was trained on passages computed apart."""
        return self._generator is not None and self._generator.spec.independent

    @contextmanager
    def answering(self) -> Iterator[None]:
        """A loaded generator stops what it does in the background, and writes nothing before this block ends."""
        with self._answering:
            self._answers += 1
            if self._generator is not None:
                self._generator.pause()
        try:
            yield
        finally:
            with self._answering, suppress(RuntimeError):  # closed
                self._answers -= 1
                if not self._answers and self._generator is not None:
                    self._generator.settle()

    @property
    def embedder(self) -> OnnxEmbedder:
        """The loaded embedder."""
        from edgeai.onnx.encoders import OnnxEmbedder

        with self._lock:
            if self._embedder is None:
                spec = self._installed(self._registry.embedder, self.settings.embedder)
                self._embedder = OnnxEmbedder(spec, threads=self.settings.threads or None)
            return self._embedder

    def costs(self) -> Costs:
        """What stages of an answer cost on this machine with these settings."""
        with self._lock:
            if self._costs is None:
                self._costs = pace.load(pace.key(self.settings))
            return self._costs

    def _keep_costs(self) -> None:
        if self._costs is not None:
            pace.save(pace.key(self.settings), self._costs)
            self._costs = None

    def reader(self) -> OnnxReader | None:
        """The reader; None, with a notice, where the default one is not installed and cannot be fetched."""
        from edgeai.onnx.reader import OnnxReader

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

    def generator(self) -> LlamaGenerator | None:
        """The generator with its adapter; None, with a notice, as for `reader`."""
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
        from edgeai.llm.generate import LlamaGenerator

        spec = self._installed(self._registry.generator, self.settings.model)
        limit = self.settings.kept_states_mb
        generator = LlamaGenerator(
            spec,
            threads=self.settings.threads or None,
            gpu_layers=self.settings.gpu_layers,
            context=self.settings.context,
            flash_attention=self.settings.flash_attention,
            kept=self._kept(limit * 1_000_000) if self._kept and limit else None,
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

    def adapter_card(self, generator: LlamaGenerator) -> Mapping[str, Any]:
        """What the adapter in use was trained for, as its card says."""
        return self._registry.adapter(self.settings.adapter, generator.spec).card

    def close(self) -> None:
        """Free the models; a later call loads what it needs again."""
        with self._lock:
            self._keep_costs()
            for engine in (self._generator, self._reader, self._embedder):
                if engine is not None:
                    engine.close()
            self._generator = self._reader = self._embedder = None
