"""One frozen record of plain settings, and the order in which they are decided.

A flag beats an `EDGEAI_*` environment variable, which beats `edgeai.toml`, which beats the profile, which beats the
default. Values are names and numbers, never loaded objects.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from edgeai.errors import UsageProblem

DEFAULT_EMBEDDER = "all-minilm-l6-v2"
DEFAULT_READER = "reader-6"
DEFAULT_GENERATOR = "smollm2-135m-grounded"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that changes how edgeai answers."""

    # models
    model: str = DEFAULT_GENERATOR  # catalog name, path of a GGUF file, or "none" for extractive answers
    adapter: str = ""  # LoRA adapter of the model: name of an installed one, path of a GGUF file, or "" for none
    embedder: str = DEFAULT_EMBEDDER
    reader: str = DEFAULT_READER  # catalog name, path of a folder, or "none" to rank and refuse without one
    gpu_layers: str = "auto"  # "auto", "all" or a number
    threads: int = 0  # 0 = physical cores
    flash_attention: bool = True  # the other way is faster on some processors: `edgeai tune` tries both
    offline: bool = False  # never open the network, not even for the first-use pull
    allow_unverified: bool = False

    # retrieval
    candidates: int = 50  # taken from each of keyword and vector search
    read: int = 6  # candidates the reader judges
    passages: int = 4  # shown to the generator
    per_document: int = 2  # at most this many passages from one document
    labels: str = ""  # comma-separated access labels this caller may see; "" = no restriction

    # privacy
    log_questions: bool = False  # keep questions, masked, on this machine for `edgeai eval --drift`

    # answers
    budget_ms: float = 300.0  # 0 = none
    context: int = 2048  # tokens
    max_tokens: int = 64  # length limit of an answer
    ahead: bool = True  # begin with the answer while the question is typed, unless on battery
    kept_states_mb: int = 256  # beside an index, for computed passages; 0 = none are kept or used
    keep_alive: str = "auto"  # minutes `edgeai ask` leaves models loaded; "auto" = 10 when asked on a terminal

    def __post_init__(self) -> None:
        """Raise `UsageProblem` for a value nothing could work with."""
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if not isinstance(value, int | float) or not least <= value <= most:
                raise UsageProblem(f"The setting {name} cannot be {value!r}; give a number from {least} to {most}.")
        if self.gpu_layers not in {"auto", "all"} and not str(self.gpu_layers).isdecimal():
            raise UsageProblem(f"The setting gpu_layers cannot be {self.gpu_layers!r}; give auto, all or a number.")
        if self.keep_alive != "auto" and not _is_minutes(self.keep_alive):
            raise UsageProblem(f"The setting keep_alive cannot be {self.keep_alive!r}; give auto or minutes, 0 = none.")


# The upper ends only keep out what would hang or exhaust a computer.
_RANGES = {
    "threads": (0, 512),
    "candidates": (1, 10_000),
    "read": (1, 1_000),
    "passages": (1, 1_000),
    "per_document": (1, 1_000),
    "budget_ms": (0, 86_400_000),
    "context": (1, 10_000_000),
    "max_tokens": (1, 1_000_000),
    "kept_states_mb": (0, 1_000_000),
}
_MOST_MINUTES = 10_000
# What a settings file or variable may hold for a setting of a type, and what that is called.
_ACCEPTED: Mapping[type, tuple[tuple[type, ...], str]] = {
    str: ((str, int, float), "text"),
    int: ((int, str), "a whole number"),
    float: ((float, int, str), "a number"),
    bool: ((bool, int, str), "true or false"),
}

PROFILES: Mapping[str, Mapping[str, Any]] = {
    "balanced": {},
    "fast": {"passages": 2, "max_tokens": 40, "context": 1024},
    "quality": {"passages": 6, "max_tokens": 160, "context": 4096, "budget_ms": 0.0},
}


def _is_minutes(text: str) -> bool:
    try:
        return 0 <= float(text) <= _MOST_MINUTES
    except ValueError:
        return False


def data_dir() -> Path:
    """Where models, indexes and chat sessions live: `EDGEAI_HOME`, else the platform's user data directory."""
    if home := os.environ.get("EDGEAI_HOME"):
        return Path(home).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("edgeai", appauthor=False))


def load_settings(
    flags: Mapping[str, Any] | None = None, *, environ: Mapping[str, str] | None = None, file: Path | None = None
) -> Settings:
    """Settings from all sources; `flags` whose value is None were not given.

    Raises `UsageProblem` for an unknown key, an unknown profile or a value of the wrong type.
    """
    environ = os.environ if environ is None else environ
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    from_file = _read_file(file or Path("edgeai.toml"), required=file is not None)
    from_env = {
        field.name: environ[f"EDGEAI_{field.name.upper()}"]
        for field in fields(Settings)
        if environ.get(f"EDGEAI_{field.name.upper()}")  # an empty variable counts as not set, as in most programs
    }
    profile = given.pop("profile", None) or environ.get("EDGEAI_PROFILE") or from_file.pop("profile", "balanced")
    if not isinstance(profile, str) or profile not in PROFILES:
        raise UsageProblem(f"There is no profile {profile!r}; choose one of {', '.join(PROFILES)}.")
    merged = {**PROFILES[profile], **from_file, **from_env, **given}
    return replace(Settings(), **{key: _coerce(key, value) for key, value in merged.items()})


def _read_file(path: Path, *, required: bool) -> dict[str, Any]:
    if not path.is_file():
        if required:
            raise UsageProblem(f"There is no settings file {path}; check the path given with --config.")
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageProblem(f"{path} is not valid TOML ({error}); correct it or remove it.") from error


def _coerce(key: str, value: Any) -> Any:
    if key not in Settings.__dataclass_fields__:
        raise UsageProblem(f"There is no setting {key!r}; the settings are listed under Settings in the README.")
    kind = type(getattr(Settings(), key))
    accepted, name = _ACCEPTED[kind]
    try:
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise TypeError(value)  # `str` and `int` would make something of it, but not what was meant
        return _boolean(value) if kind is bool else kind(value)
    except (TypeError, ValueError):
        raise UsageProblem(f"The setting {key} cannot be {value!r}; give {name}.") from None


def _boolean(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in {"1", "true", "on", "yes", "enabled"}:
        return True
    if text in {"", "0", "false", "off", "no", "disabled"}:
        return False
    raise ValueError(text)
