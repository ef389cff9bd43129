"""Remembers the SHA-256 of files, so that opening a model does not mean hashing it each time.

One JSON file per folder of a model. A hash counts as current while size and modification time are unchanged; somebody
who alters a file and restores both is only found out by hashing again, which `edgeai models verify` does.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

NAME = "manifest.json"


def sha256(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Manifest:
    """The hashes recorded in one folder, for files inside it or elsewhere."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def recorded(self, file: Path) -> str:
        """The hash last recorded for this file, current or not; "" when there is none."""
        digest = self._load().get(self._key(file), {}).get("sha256", "")
        return digest if isinstance(digest, str) else ""

    def current(self, file: Path) -> bool:
        """Whether the file looks as it did when it was recorded."""
        return _state(file, self.recorded(file)).items() <= self._load().get(self._key(file), {}).items()

    def digest(self, file: Path) -> str:
        """The hash of a file: the recorded one while that is current, else computed now."""
        return self.recorded(file) if self.current(file) else sha256(file)

    def record(self, file: Path, digest: str, made_of: Mapping[str, str] | None = None) -> None:
        """Note that the file has this hash now, and what it was made of if it was made here.

        Without a folder to write into, it is hashed again next time.
        """
        if made_of:
            self._update(file, {**_state(file, digest), "made_of": dict(made_of)})
        elif not self.current(file) or self.recorded(file) != digest:
            self._update(file, _state(file, digest))

    def made_of(self, file: Path) -> dict[str, str]:
        """What was noted about the making of a file; {} when it was not made here."""
        made_of = self._load().get(self._key(file), {}).get("made_of")
        return made_of if isinstance(made_of, dict) else {}

    def distrust(self, file: Path) -> None:
        """Have the file hashed again before its next use, and keep what its hash should be."""
        self._update(file, {"sha256": self.recorded(file)})

    def _update(self, file: Path, state: dict[str, Any]) -> None:
        if made_of := self.made_of(file):
            state = {"made_of": made_of, **state}
        text = json.dumps({**self._load(), self._key(file): state}, indent=1)
        part = self._path.with_name(f"{NAME}.{os.getpid()}-{threading.get_ident()}.part")
        with suppress(OSError):
            part.write_text(text, encoding="utf-8")
            part.replace(self._path)

    def _key(self, file: Path) -> str:
        return file.name if file.parent == self._path.parent else str(file.resolve())

    def _load(self) -> dict[str, dict[str, Any]]:
        """What is recorded; a manifest that cannot be read counts as empty, which means hashing again."""
        try:
            loaded = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        if not isinstance(loaded, dict):
            return {}
        return {key: state for key, state in loaded.items() if isinstance(state, dict)}


def _state(file: Path, digest: str) -> dict[str, Any]:
    status = file.stat()
    return {"sha256": digest, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
