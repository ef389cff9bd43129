"""Which files of a folder to read.

Follows .gitignore files and leaves out what is hidden, binary or too large. It looks at names, sizes and, where a name
says nothing, at the first bytes; whether a file can be parsed turns out later.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgeai.documents.decoding import looks_like_text
from edgeai.documents.filetypes import type_of, unreadable
from edgeai.errors import PathNotFound, UsageProblem
from edgeai.records import Skipped

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

MAX_BYTES = 64 * 1024 * 1024
_SNIFFED = 4096  # bytes
_NEVER_ENTERED = frozenset({"__pycache__", "node_modules", "venv"})  # hidden folders are never entered either


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file that may be indexed."""

    path: str  # absolute, with forward slashes
    size: int  # bytes
    modified: float  # seconds since the epoch


@dataclass(slots=True)
class _Search:
    """One root being walked."""

    root: Path
    include: GitIgnoreSpec | None
    exclude: GitIgnoreSpec
    entries: dict[str, FileEntry] = field(default_factory=dict)
    links: dict[str, FileEntry] = field(default_factory=dict)  # by the path of the link, `path` is the target's
    skipped: list[Skipped] = field(default_factory=list)


def walk(
    roots: Sequence[Path | str], *, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> tuple[list[FileEntry], list[Skipped]]:
    """Files below the roots, sorted by path, and those that were left out although nobody asked for it.

    A root that is a file is taken whatever its name. `include` and `exclude` are patterns as in .gitignore, relative
    to the root; with `include`, only files that match are taken. Links to files are followed inside of the root, links
    to folders are not. Raises `PathNotFound` for a root that does not exist, `UsageProblem` for an invalid pattern.
    """
    included = _patterns(include) if include else None
    excluded = _patterns(exclude)
    entries: dict[str, FileEntry] = {}
    skipped: dict[str, Skipped] = {}
    for given in roots:
        root = _existing(Path(given))
        search = _Search(root, included, excluded)
        if root.is_dir():
            _enter(search, root, "", ())
            _add_links(search)
        else:
            _take(search, root.as_posix(), root.stat())
        entries |= search.entries
        skipped |= {skip.path: skip for skip in search.skipped}
    return [entries[path] for path in sorted(entries)], [skipped[path] for path in sorted(skipped.keys() - entries)]


def _existing(root: Path) -> Path:
    try:
        found = root.expanduser().resolve(strict=True)
        found.as_posix().encode()
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise PathNotFound(f"{root} does not exist or cannot be opened; check the spelling.") from error
    except UnicodeEncodeError as error:
        shown = str(root).encode(errors="backslashreplace").decode()
        raise PathNotFound(f"The name of {shown} is not valid Unicode; rename it.") from error
    return found


def _enter(search: _Search, folder: Path, relative: str, ignores: tuple[tuple[str, GitIgnoreSpec], ...]) -> None:
    """Walk one folder; `relative` is its path below the root, "" or ending in a slash."""
    try:
        with os.scandir(folder) as listing:
            children = sorted(listing, key=lambda child: child.name)
    except OSError as error:
        search.skipped.append(Skipped(folder.as_posix(), f"cannot be opened: {error.strerror}"))
        return
    if any(child.name == ".gitignore" for child in children):
        ignores = (*ignores, (relative, _rules(folder / ".gitignore")))
    for child in children:
        path = relative + child.name
        if child.name.startswith(".") or not _is_encodable(search, folder, child.name):
            continue
        is_folder = child.is_dir(follow_symlinks=False)
        if _is_ignored(path + "/" if is_folder else path, ignores) or search.exclude.match_file(path + "/" * is_folder):
            continue
        if not is_folder:
            _consider(search, child, path)
        elif child.name not in _NEVER_ENTERED:
            _enter(search, folder / child.name, path + "/", ignores)


def _patterns(lines: Sequence[str]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(lines)
    except (ValueError, re.error) as error:
        raise UsageProblem(
            f"{' '.join(lines)} is not a valid pattern; patterns are written as in .gitignore."
        ) from error


def _rules(path: Path) -> GitIgnoreSpec:
    """A .gitignore file; lines that are not valid patterns match nothing, as in git."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not a file, or closed to us: git goes on without it as well
        lines = []
    try:
        return _patterns(lines)
    except UsageProblem:
        return _patterns([line for line in lines if _is_valid(line)])


def _is_valid(line: str) -> bool:
    try:
        _patterns([line])
    except UsageProblem:
        return False
    return True


def _is_encodable(search: _Search, folder: Path, name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = (folder / name).as_posix().encode(errors="backslashreplace").decode()
        search.skipped.append(Skipped(shown, "its name is not valid Unicode; rename it"))
        return False
    return True


def _is_ignored(path: str, ignores: Sequence[tuple[str, GitIgnoreSpec]]) -> bool:
    """The rules nearest to the file decide."""
    for folder, spec in reversed(ignores):
        matched = spec.check_file(path[len(folder) :]).include
        if matched is not None:
            return matched
    return False


def _consider(search: _Search, child: os.DirEntry[str], relative: str) -> None:
    if search.include is not None and not search.include.match_file(relative):
        return
    path = Path(child.path)
    try:
        if not child.is_symlink():
            _take_readable(search, path, child.stat(follow_symlinks=False))
            return
        target = path.resolve(strict=True)
        if not target.is_file():
            return
        if target.is_relative_to(search.root):
            status = target.stat()
            search.links[path.as_posix()] = FileEntry(target.as_posix(), status.st_size, status.st_mtime)
        else:
            search.skipped.append(Skipped(path.as_posix(), "a link to a file outside of the folder"))
    except (OSError, RuntimeError):
        search.skipped.append(Skipped(path.as_posix(), "a broken link, or a file that just vanished"))


def _add_links(search: _Search) -> None:
    """A link counts only when its target is not taken itself."""
    for link, target in search.links.items():
        if target.path not in search.entries:
            path = Path(link)
            _take_readable(search, path, path.stat())


def _take_readable(search: _Search, path: Path, status: os.stat_result) -> None:
    reason = unreadable(path.name)
    if not reason and not type_of(path.name) and stat.S_ISREG(status.st_mode):
        reason = _sniff(path)
    if reason:
        search.skipped.append(Skipped(path.as_posix(), reason))
    else:
        _take(search, path.as_posix(), status)


def _sniff(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return "" if looks_like_text(file.read(_SNIFFED)) else "a binary file of an unknown kind"
    except OSError as error:
        return f"cannot be opened: {error.strerror}"


def _take(search: _Search, name: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        search.skipped.append(Skipped(name, "not a regular file"))
    elif status.st_size > MAX_BYTES:
        search.skipped.append(Skipped(name, f"larger than {MAX_BYTES >> 20} MB"))
    else:
        search.entries[name] = FileEntry(name, status.st_size, status.st_mtime)
