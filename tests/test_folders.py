import os
import socket
import sys
from pathlib import Path

import pytest

from edgeai.documents import walk
from edgeai.errors import PathNotFound, UsageProblem

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files")


def put(root: Path, *names: str, content: bytes = b"text") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def names(root: Path, **options) -> list[str]:
    entries, _ = walk([root], **options)
    return [Path(entry.path).relative_to(root.resolve()).as_posix() for entry in entries]


def reasons(root: Path) -> dict[str, str]:
    return {Path(skip.path).name: skip.reason for skip in walk([root])[1]}


def test_files_come_sorted_with_size_and_time(tmp_path):
    put(tmp_path, "b.md", "a/z.txt", "a.md")
    os.utime(tmp_path / "b.md", (1_700_000_000, 1_700_000_000))
    entries, skipped = walk([tmp_path])
    assert [Path(entry.path).name for entry in entries] == ["a.md", "z.txt", "b.md"] and skipped == []
    assert entries[2].size == 4 and entries[2].modified == 1_700_000_000
    assert all(Path(entry.path).is_absolute() for entry in entries)


def test_hidden_and_generated_folders_are_left_out_without_a_word(tmp_path):
    put(tmp_path, "a.md", ".hidden.md", ".git/config", "node_modules/x.js", "__pycache__/x.py", ".venv/x.py")
    assert names(tmp_path) == ["a.md"] and reasons(tmp_path) == {}


def test_a_hidden_folder_can_be_named(tmp_path):
    put(tmp_path, ".notes/a.md")
    assert names(tmp_path / ".notes") == ["a.md"]


def test_the_nearest_gitignore_decides(tmp_path):
    put(tmp_path, "a.log", "keep/a.log", "build/x.md", "sub/build.md", "sub/only.md", "sub/deep/only.md")
    (tmp_path / ".gitignore").write_text("*.log\nbuild/\n")
    (tmp_path / "keep" / ".gitignore").write_text("!a.log\n")
    (tmp_path / "sub" / ".gitignore").write_text("/only.md\n")
    assert names(tmp_path) == ["keep/a.log", "sub/build.md", "sub/deep/only.md"]


def test_include_and_exclude_are_patterns_relative_to_the_root(tmp_path):
    put(tmp_path, "a.md", "a.txt", "docs/b.md", "docs/old/c.md")
    assert names(tmp_path, include=["*.md"]) == ["a.md", "docs/b.md", "docs/old/c.md"]
    assert names(tmp_path, include=["docs/"], exclude=["docs/old/"]) == ["docs/b.md"]
    assert names(tmp_path, exclude=["/a.*"]) == ["docs/b.md", "docs/old/c.md"]


def test_an_invalid_pattern_is_the_users_to_mend_but_not_in_a_gitignore(tmp_path):
    put(tmp_path, "a.md", "b.md")
    (tmp_path / ".gitignore").write_text("!\nb.md\n")
    assert names(tmp_path) == ["a.md"]
    with pytest.raises(UsageProblem, match="gitignore"):
        walk([tmp_path], exclude=["!"])
    (tmp_path / ".gitignore").unlink()
    (tmp_path / ".gitignore").mkdir()
    assert names(tmp_path) == ["a.md", "b.md"]


def test_binaries_are_reported_with_their_reason(tmp_path):
    put(tmp_path, "photo.jpg", "data.xlsx", "notes", "Dockerfile")
    put(tmp_path, "blob.unknown", content=b"\0\1\2")
    assert names(tmp_path) == ["Dockerfile", "notes"]
    found = reasons(tmp_path)
    assert "image" in found["photo.jpg"] and "save it as" in found["data.xlsx"] and "binary" in found["blob.unknown"]


def test_a_file_named_as_root_is_taken_whatever_its_name(tmp_path):
    put(tmp_path, ".secret.xyz")
    assert [Path(entry.path).name for entry in walk([tmp_path / ".secret.xyz"])[0]] == [".secret.xyz"]


def test_overlapping_roots_give_each_file_once(tmp_path):
    put(tmp_path, "a/b.md")
    assert len(walk([tmp_path, tmp_path / "a", tmp_path / "a" / "b.md"])[0]) == 1


def test_a_missing_root_is_an_error(tmp_path):
    with pytest.raises(PathNotFound, match="nowhere"):
        walk([tmp_path / "nowhere"])


def test_a_file_that_is_too_large_is_reported(tmp_path):
    with (tmp_path / "large.txt").open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    assert names(tmp_path) == [] and "64 MB" in reasons(tmp_path)["large.txt"]


@posix
def test_links_are_followed_to_files_inside_only(tmp_path):
    root = tmp_path / "root"
    put(root, "real.md", ".store/hidden.md")
    put(tmp_path, "outside.md", "away/x.md")
    (root / "same.md").symlink_to(root / "real.md")
    (root / "shown.md").symlink_to(root / ".store" / "hidden.md")
    (root / "escape.md").symlink_to(tmp_path / "outside.md")
    (root / "broken.md").symlink_to(root / "none")
    (root / "loop.md").symlink_to(root / "loop.md")
    (root / "folder").symlink_to(tmp_path / "away")
    (root / "self").symlink_to(root)
    assert names(root) == ["real.md", "shown.md"]
    found = reasons(root)
    assert set(found) == {"escape.md", "broken.md", "loop.md"} and "outside" in found["escape.md"]


@posix
def test_pipes_and_sockets_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.md")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "s.md"))
    assert names(tmp_path) == []
    assert set(reasons(tmp_path).values()) == {"not a regular file"}


@posix
def test_a_name_that_is_not_unicode_is_reported(tmp_path):
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.md")).write_text("x")
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    [skip] = walk([tmp_path])[1]
    assert "Unicode" in skip.reason and skip.path.encode()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_opened_is_reported(tmp_path):
    put(tmp_path, "closed/a.md", "b.md")
    (tmp_path / "closed").chmod(0)
    assert names(tmp_path) == ["b.md"] and "cannot be opened" in reasons(tmp_path)["closed"]
    (tmp_path / "closed").chmod(0o700)
