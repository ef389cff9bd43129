"""Makes the model that runs out of the one that was pulled: adds the adapter that ships with edgeai, then quantises.

Everything happens in a folder of its own that is gone afterwards; installing the result is up to the caller. Whether
the built model answers better is not known here.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeai import __version__
from edgeai.errors import DiskFull, ModelMissing, ModelRejected
from edgeai.records import Progress, ProgressCallback
from edgeai.registry import gguf
from edgeai.registry.catalog import Entry
from edgeai.registry.manifest import sha256
from edgeai.registry.merge import merge

Quantise = Callable[[Path, Path, str], None]  # source, target, type

MERGED_BYTES = 2  # a weight, in half precision


def find_adapter(entry: Entry, folder: Path) -> Path | None:
    """The adapter of an entry below the catalog's folder, None when it has none.

    Raises `ModelMissing` when it is not there and `ModelRejected` when it has other bytes than the catalog says.
    """
    if not entry.build.adapter:
        return None
    path = folder / entry.build.adapter
    if not path.is_file():
        raise ModelMissing(f"The adapter {path} should be part of edgeai but is not there; reinstall edgeai.")
    if sha256(path) != entry.build.sha256:
        raise ModelRejected(f"The adapter {path} does not hold the bytes that edgeai was made with; reinstall edgeai.")
    return path


def made_of(entry: Entry) -> dict[str, str]:
    """What is recorded about a build: the hashes of its parts, the type of its weights and who made it."""
    build = entry.build
    return {"base": entry.sha256, "adapter": build.sha256, "quantise": build.quantise, "edgeai": __version__}


@contextmanager
def built(
    entry: Entry, base: Path, adapter: Path | None, quantise: Quantise, progress: ProgressCallback
) -> Iterator[Path]:
    """The finished build of `base`, to be moved to its place before the context ends.

    Only one process at a time may build a model. Raises `ModelRejected` when a part or the result is refused, and
    `DiskFull`.
    """
    folder = base.with_name("building")
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    folder.mkdir(exist_ok=True)
    try:
        source = base
        if adapter:
            _require_space(entry, base)
            progress(Progress(0, entry.size, "bytes", f"{entry.name}: merging the adapter"))
            source = folder / "merged.gguf"
            merge(base, adapter, source)
        progress(Progress(0, entry.size, "bytes", f"{entry.name}: converting to {entry.build.quantise}"))
        target = folder / entry.built_name
        quantise(source, target, entry.build.quantise)
        gguf.preflight(target, special_ids=entry.special_ids)
        yield target
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _require_space(entry: Entry, base: Path) -> None:
    needed = gguf.preflight(base).weights * (MERGED_BYTES + gguf.QUANTISED_BYTES)
    if shutil.disk_usage(base.parent).free < needed:
        raise DiskFull(
            f"Building {entry.name} takes {needed / 1e6:.0f} MB of free space in {base.parent}, most of it only "
            f"meanwhile; free some and run `edgeai models pull {entry.name}` again."
        )
