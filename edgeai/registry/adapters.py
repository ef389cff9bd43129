"""Finds LoRA adapters of the user's own, by name or path, and refuses those that were trained for another model.

NAME.gguf is an adapter, NAME.json beside it says what it was trained on. Whether it makes answers better is not known
here, and without that description neither is whether it was trained for the model it is used with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from edgeai.errors import ModelRejected, ModelUnknown
from edgeai.registry import gguf
from edgeai.specs import GeneratorSpec


class Adapter(NamedTuple):
    """An adapter that may be used."""

    path: Path
    notice: str  # one sentence when it is not known to belong to the model, else ""
    card: Mapping[str, Any] = MappingProxyType({})  # what NAME.json says: task, system, labels, schema, ...


def installed(folder: Path) -> tuple[str, ...]:
    """Names of the adapters in a folder, in alphabetical order."""
    return tuple(sorted(path.stem for path in folder.glob("*.gguf")))


def find_adapter(name_or_path: str, folder: Path, base: GeneratorSpec) -> Adapter:
    """An adapter of the folder, or the GGUF file at a path, for use with this model.

    Raises `ModelUnknown` when there is none, and `ModelRejected` when it is not accepted or was trained for a model of
    another digest.
    """
    path = _locate(name_or_path, folder)
    gguf.preflight_adapter(path)
    card = _card(path.with_suffix(".json"))
    trained_for = card.get("base")
    if not isinstance(trained_for, str) or not trained_for:
        notice = f"What {path} was trained for is not known; if answers are worse with it, leave the adapter out."
        return Adapter(path, notice, card)
    if trained_for != base.digest:
        raise ModelRejected(
            f"The adapter {path.stem} was trained for another model than {base.name} as it is installed now; choose "
            "that model, train it again, or leave the adapter out."
        )
    return Adapter(path, "", card)


def _locate(name_or_path: str, folder: Path) -> Path:
    names = installed(folder)
    if name_or_path in names:  # so that no path is built from a name that is not there
        return folder / f"{name_or_path}.gguf"
    path = Path(name_or_path).expanduser()
    if path.suffix == ".gguf" or path.name != name_or_path:
        if not path.is_file():
            raise ModelUnknown(f"There is no adapter {path}; give the path of a GGUF file or the name of an adapter.")
        return path.resolve()
    hint = f"those installed are {', '.join(names)}." if names else f"none is installed in {folder}."
    raise ModelUnknown(f"No adapter is called {name_or_path[:80]!r}; {hint}")


def _card(description: Path) -> dict[str, Any]:
    """What the file beside an adapter says of it, nothing where there is none."""
    if not description.is_file():
        return {}
    try:
        found = json.loads(description.read_bytes())
    except ValueError as error:  # of Unicode too
        raise ModelRejected(f"{description} is not valid JSON ({error}); install the adapter again.") from None
    return found if isinstance(found, dict) else {}
