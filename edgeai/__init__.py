"""Ask your own files and get a short, cited answer on your own machine.

The names below are imported when they are first used, so that `import edgeai` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeai.assistant import Assistant
    from edgeai.config import Settings, load_settings
    from edgeai.errors import EdgeAIError
    from edgeai.filters import Filter, parse_filter
    from edgeai.records import Answer, Citation, Document, Hit, Piece, SyncReport, Turn
    from edgeai.reply import Reply

__version__ = "0.1.0"

_HOME = {
    "Answer": "records",
    "Assistant": "assistant",
    "Citation": "records",
    "Document": "records",
    "EdgeAIError": "errors",
    "Filter": "filters",
    "Hit": "records",
    "Piece": "records",
    "Reply": "reply",
    "Settings": "config",
    "SyncReport": "records",
    "Turn": "records",
    "load_settings": "config",
    "parse_filter": "filters",
}

__all__ = [
    "Answer",
    "Assistant",
    "Citation",
    "Document",
    "EdgeAIError",
    "Filter",
    "Hit",
    "Piece",
    "Reply",
    "Settings",
    "SyncReport",
    "Turn",
    "__version__",
    "load_settings",
    "parse_filter",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'edgeai' has no attribute {name!r}")
    return getattr(import_module(f"edgeai.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
