"""The model catalog as frozen records, parsed from its TOML text.

Pure: it opens no file and no connection, and it does not know which models are installed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgeai.errors import UsageProblem
from edgeai.specs import ChatTemplate

Role = Literal["generator", "embedder", "reader"]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# Windows opens a device for these, whatever extension follows.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{kind}{number}" for kind in ("com", "lpt") for number in range(10))}


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model; `size` is in bytes, 0 when not known, and `sha256` is "" when it could not be pinned."""

    name: str
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class HubSource:
    """Files in a Hugging Face repository."""

    repository: str
    revision: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WheelSource:
    """Files inside a wheel on a Python package index; `size` is that of the wheel, in bytes."""

    package: str
    version: str
    paths: tuple[str, ...]
    size: int = 0


@dataclass(frozen=True, slots=True)
class BundledSource:
    """Files that ship with edgeai, relative to the folder of the catalog."""

    paths: tuple[str, ...]


Source = HubSource | WheelSource | BundledSource


@dataclass(frozen=True, slots=True)
class Build:
    """What is made of the pulled file: with the LoRA adapter added that ships with edgeai, if any, and quantised."""

    quantise: str = ""  # type of the weights, as llama.cpp names it; "" = the pulled file runs as it is
    adapter: str = ""  # path relative to the folder of the catalog, "" = none
    sha256: str = ""  # of the adapter


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt format before it is bound to the ids of one vocabulary; parts as in `specs.ChatTemplate`."""

    name: str
    specials: tuple[str, ...]
    prefix: tuple[str, ...]
    suffix: tuple[str, ...]
    stop: tuple[str, ...]
    optional: tuple[str, ...] = ()  # specials that only some vocabularies have
    architectures: tuple[str, ...] = ()  # where to prefer it; () = anywhere

    def fits(self, architecture: str, specials: Mapping[str, int]) -> bool:
        """Whether a vocabulary has every special this format needs."""
        return (not self.architectures or architecture in self.architectures) and set(self.specials) <= set(specials)

    def bind(self, specials: Mapping[str, int], *, bos: str = "", eos: str = "") -> ChatTemplate:
        """The format with the ids of one vocabulary.

        `bos` is put in front if it is not there yet, `eos` stops the answer too; stops the vocabulary lacks are left
        out.
        """
        known = (*self.specials, *self.optional, bos, eos)
        ids = {text: specials[text] for text in known if text in specials}
        prefix = self.prefix if bos in ("", self.prefix[0]) else (bos, *self.prefix)
        stop = tuple(text for text in dict.fromkeys((*self.stop, eos)) if text in ids)
        return ChatTemplate(tuple(text for text in prefix if text != bos or bos in ids), self.suffix, stop, ids)


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the catalog. The fields of the other roles keep their defaults."""

    name: str
    role: Role
    summary: str
    licence: str
    parameters: str  # "135M"
    run: bool  # we ran these very files
    files: tuple[ModelFile, ...]  # the model first
    sources: tuple[Source, ...]  # in the order to be tried

    # generators
    context: int = 0  # tokens
    rope: Literal["", "norm", "neox"] = ""
    template: str = ""
    special_ids: Mapping[str, int] = field(default_factory=dict)
    build: Build = Build()
    independent: bool = False  # trained for independent passages, see `specs.GeneratorSpec`

    # embedders and readers
    max_tokens: int = 0

    # embedders
    dimension: int = 0
    pooling: Literal["mean", "cls", "last"] = "mean"
    query_prefix: str = ""
    passage_prefix: str = ""

    @property
    def size(self) -> int:
        """Bytes to download, 0 when unknown."""
        sizes = [file.size for file in self.files]
        return sum(sizes) if all(sizes) else 0

    @property
    def sha256(self) -> str:
        """The hash the model file must have, "" when not pinned."""
        return self.files[0].sha256

    @property
    def pinned(self) -> bool:
        """Whether the bytes of every file are known beforehand."""
        return all(file.sha256 for file in self.files)

    @property
    def bundled(self) -> bool:
        """Whether the model ships with edgeai."""
        return any(isinstance(source, BundledSource) for source in self.sources)

    @property
    def built_name(self) -> str:
        """File name of the build, which tells what it is made of, so that any other build has another name; or ""."""
        if not self.build.quantise:
            return ""
        adapter = f".lora-{self.build.sha256[:8]}" if self.build.adapter else ""
        return f"{self.name}-{self.sha256[:8]}{adapter}.{self.build.quantise.lower()}.gguf"


@dataclass(frozen=True, slots=True)
class Catalog:
    """Every known model and prompt template, in the order of the file."""

    models: Mapping[str, Entry]
    templates: Mapping[str, Template]

    def template_for(self, architecture: str, specials: Mapping[str, int]) -> Template:
        """The first template that fits a vocabulary; the last one of the catalog fits every vocabulary."""
        return next(template for template in self.templates.values() if template.fits(architecture, specials))


def checked_name(name: str) -> str:
    """The name, if it can safely become part of a path on every system; raises `UsageProblem` otherwise."""
    if not _NAME.fullmatch(name) or name.endswith(".") or name.split(".")[0] in _DEVICES:
        raise UsageProblem(
            f"{name[:80]!r} cannot be the name of a model; names are up to 64 of a-z, 0-9, dot, dash and underscore."
        )
    return name


def parse_catalog(text: str) -> Catalog:
    """Read a catalog; raises `ValueError`, `KeyError` or `TypeError` for a mistake in it, which is never the user's."""
    tables = tomllib.loads(text)
    templates = {name: Template(name, **_tuples(table)) for name, table in tables["templates"].items()}
    models = {name: _entry(name, table) for name, table in tables["models"].items()}
    for entry in models.values():
        _check(entry, templates)
    return Catalog(models, templates)


def _entry(name: str, table: Mapping[str, Any]) -> Entry:
    values = dict(table)
    files = tuple(ModelFile(**file) for file in values.pop("files"))
    sources = tuple(_source(source) for source in values.pop("sources"))
    build = Build(**values.pop("build", {}))
    return Entry(name=checked_name(name), files=files, sources=sources, build=build, **values)


def _source(table: Mapping[str, Any]) -> Source:
    values = _tuples(table)
    kind = {"hub": HubSource, "wheel": WheelSource, "bundled": BundledSource}[values.pop("kind")]
    return kind(**values)  # type: ignore[no-any-return]


def _tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def _check(entry: Entry, templates: Mapping[str, Template]) -> None:
    """Whatever would otherwise fail only in front of a user."""
    problems = [
        *(f"source with {len(s.paths)} paths" for s in entry.sources if len(s.paths) != len(entry.files)),
        *(f"hash {file.sha256!r}" for file in entry.files if not re.fullmatch(r"([0-9a-f]{64})?", file.sha256)),
        *_role_problems(entry, templates),
        *_build_problems(entry),
    ]
    for file in entry.files:
        checked_name(file.name)
    if problems:
        raise ValueError(f"catalog entry {entry.name}: {'; '.join(problems)}")


def _role_problems(entry: Entry, templates: Mapping[str, Template]) -> Iterable[str]:
    if entry.role == "embedder":
        if not (entry.dimension and entry.max_tokens):
            yield "an embedder needs dimension and max_tokens"
    elif entry.role == "reader":
        if not entry.max_tokens:
            yield "a reader needs max_tokens"
    elif entry.template not in templates:
        yield f"no template {entry.template!r}"
    elif not set(templates[entry.template].specials) <= set(entry.special_ids):
        yield "special_ids lack a special of the template"
    elif not (entry.context and entry.rope):
        yield "a generator needs context and rope"


def _build_problems(entry: Entry) -> Iterable[str]:
    if entry.build == Build():
        return
    if entry.role != "generator" or len(entry.files) != 1 or not entry.pinned or entry.bundled:
        yield "only a pulled generator of one pinned file is built"
    if not entry.build.quantise:
        yield "an adapter needs a quantisation"
    if not re.fullmatch(r"[0-9a-f]{64}" if entry.build.adapter else "", entry.build.sha256):
        yield f"hash of the adapter {entry.build.sha256!r}"
    for part in filter(None, (*entry.build.adapter.split("/"), entry.built_name)):
        checked_name(part)
