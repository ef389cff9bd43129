"""Options that several commands share, and how they become settings, filters and index files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeai.errors import UsageProblem

if TYPE_CHECKING:
    from edgeai.assistant import Assistant
    from edgeai.config import Settings
    from edgeai.filters import Filter
    from edgeai.records import ProgressCallback

F = TypeVar("F", bound=Callable[..., Any])

_INDEX = [
    click.option("--index", type=click.Path(path_type=Path), metavar="FILE", help="Index file to use."),
    click.option(
        "--docs",
        type=click.Path(path_type=Path),
        multiple=True,
        metavar="PATH",
        help="Use an index of just this file or folder, brought up to date first. Repeatable.",
    ),
    click.option("--embedder", metavar="NAME", help="Embedder for the index [all-minilm-l6-v2]."),
    click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Settings file [./edgeai.toml]."),
]
_FILTER = [
    click.option("--where", multiple=True, metavar="TEST", help="Only documents for which e.g. 'path~hr/*' holds."),
    click.option("--tag", multiple=True, help="Only documents with this tag."),
    click.option("--type", "types", multiple=True, help="Only documents of this type, e.g. pdf."),
    click.option("--newer-than", metavar="WHEN", help="Only documents changed since, e.g. 2025-01-31 or 7d."),
    click.option("--label", multiple=True, help="Only documents with this access label ('' = without one)."),
]
_MODEL = [
    click.option("-m", "--model", metavar="NAME", help="Catalog name, GGUF file, or 'none' for extractive answers."),
    click.option("--adapter", metavar="NAME", help="Installed LoRA adapter of the model, GGUF file, or '' for none."),
    click.option("--reader", metavar="NAME", help="Catalog name, folder, or 'none' to judge passages without one."),
    click.option("--gpu-layers", metavar="auto|N|all", help="Layers to put on the GPU [auto]."),
    click.option("-t", "--threads", type=click.IntRange(1), help="Compute threads [physical cores]."),
    click.option("--profile", type=click.Choice(["balanced", "fast", "quality"]), help="A set of defaults."),
    click.option("--budget", metavar="MS", help="Time budget per answer in ms, or 'none' [300]."),
    click.option("--offline", is_flag=True, default=None, help="Never open the network, not even for a first pull."),
    click.option("--allow-unverified", is_flag=True, default=None, help="Accept a model whose hash is not pinned."),
]


def index_options(command: F) -> F:
    """--index, --docs, --embedder, --config."""
    return _apply(_INDEX, command)


def filter_options(command: F) -> F:
    """--where, --tag, --type, --newer-than, --label."""
    return _apply(_FILTER, command)


def model_options(command: F) -> F:
    """--model, --adapter, --reader, --gpu-layers, --threads, --profile, --budget, --offline, --allow-unverified."""
    return _apply(_MODEL, command)


def _apply(options: Sequence[Callable[[F], F]], command: F) -> F:
    for option in reversed(options):
        command = option(command)
    return command


def index_path(index: Path | None, docs: tuple[Path, ...]) -> Path:
    """Which index file a command means: --index, else the one that belongs to --docs, else the default one."""
    from edgeai.config import data_dir

    if index is not None:
        return index.expanduser()
    if not docs:
        return data_dir() / "indexes" / "default.db"
    roots = sorted(path.expanduser().resolve().as_posix() for path in docs)
    key = hashlib.sha256("\n".join(roots).encode(errors="surrogatepass")).hexdigest()[:12]
    return data_dir() / "indexes" / f"docs-{key}.db"


def read_filter(flags: dict[str, Any]) -> Filter:
    """Take the filter options out of a command's parameters."""
    from edgeai.filters import parse_filter

    where, tags, types = flags.pop("where"), flags.pop("tag"), flags.pop("types")
    newer_than, labels = flags.pop("newer_than"), flags.pop("label")
    return parse_filter(where, tags, types, newer_than, labels or None)


def open_assistant(flags: dict[str, Any], progress: ProgressCallback | None = None) -> Assistant:
    """An assistant for a command's index and model options; pulls what is missing unless --offline."""
    from edgeai.assistant import Assistant

    index, settings = read_settings(flags)
    return Assistant(index, settings=settings, pull=True, progress=progress)


def read_settings(flags: dict[str, Any]) -> tuple[Path, Settings]:
    """Which index file a command's options mean, and its settings."""
    from edgeai.config import load_settings

    index, docs, config = flags.pop("index"), flags.pop("docs"), flags.pop("config")
    budget = flags.pop("budget", None)
    flags["budget_ms"] = None if budget is None else parse_budget(budget)
    return index_path(index, docs), load_settings(flags, file=config)


def parse_budget(text: str) -> float:
    """Milliseconds from what a user wrote, 0 for "none"; raises `UsageProblem`."""
    if text == "none":
        return 0.0
    try:
        budget = float(text)
    except ValueError:
        budget = -1
    if not 1 <= budget < float("inf"):
        raise UsageProblem(f"{text!r} is not a time budget; give a number of milliseconds or 'none'.")
    return budget
