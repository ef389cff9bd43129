"""What has to be done to bring an index in line with the files on disk.

Pure: compares two listings. It does not know how files are read, and trusts size and modification time to tell that
a file is unchanged, as `make` and `rsync` do; the content hash decides everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from edgeai.errors import DocumentUnreadable


class Listed(Protocol):
    """A file seen on disk."""

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def modified(self) -> float: ...  # noqa: D102


class Known(Listed, Protocol):
    """A file the index holds."""

    @property
    def digest(self) -> str: ...  # noqa: D102


K = TypeVar("K", bound=Known)


@dataclass(frozen=True, slots=True)
class Plan:
    """What `sync` will do; all paths absolute."""

    unchanged: tuple[str, ...]
    touched: tuple[Listed, ...]  # same bytes, new modification time
    moved: tuple[tuple[str, Listed], ...]  # (old path, new entry), same bytes
    added: tuple[Listed, ...]
    changed: tuple[Listed, ...]
    removed: tuple[str, ...]


def plan(
    entries: Iterable[Listed],
    known: Mapping[str, K],
    roots: Iterable[str],
    digest: Callable[[str], str],
    stale: Callable[[K], bool] = lambda _: False,
    unseen: Iterable[str] = (),
) -> Plan:
    """Compare the files on disk below `roots` with what the index knows.

    `digest` gives the SHA-256 of a path and is called only for files whose size or modification time differ. `stale`
    marks known files that are to be indexed again although their bytes are the same. A file for which `digest` raises
    `DocumentUnreadable` counts as new or changed. Files the index knows outside of `roots`, and those at or below the
    `unseen` paths, which could not be looked at, are left alone.
    """
    roots, unseen = tuple(roots), tuple(unseen)
    on_disk = {entry.path: entry for entry in entries}
    missing = {path for path in known if path not in on_disk}
    gone = {path for path in missing if _below(path, roots) and not _below(path, unseen)}
    gone_by_digest = {known[path].digest: path for path in sorted(gone, reverse=True) if not stale(known[path])}
    unchanged: list[str] = []
    touched: list[Listed] = []
    moved: list[tuple[str, Listed]] = []
    added: list[Listed] = []
    changed: list[Listed] = []
    for entry in on_disk.values():
        before = known.get(entry.path)
        if before and stale(before):
            changed.append(entry)
            continue
        if before and (before.size, before.modified) == (entry.size, entry.modified):
            unchanged.append(entry.path)
            continue
        try:
            content = digest(entry.path)
        except DocumentUnreadable:  # whoever reads it will say why
            (changed if before else added).append(entry)
            continue
        if before:
            (touched if before.digest == content else changed).append(entry)
        elif content in gone_by_digest:
            moved.append((gone_by_digest.pop(content), entry))
        else:
            added.append(entry)
    removed = gone - {old for old, _ in moved}
    return Plan(
        tuple(unchanged), tuple(touched), tuple(moved), tuple(added), tuple(changed), removed=tuple(sorted(removed))
    )


def _below(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)
