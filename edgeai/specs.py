"""The frozen records that say what a model is: where its files are and how it wants to be used.

They come from the catalog or from the files themselves; nothing here opens one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A prompt format as data: parts equal to a key of `special_ids` become that id, all other parts are plain text.

    In `prefix`, the part "$system" stands for the system text.
    """

    prefix: tuple[str, ...]  # from the first token up to where the user's message begins
    suffix: tuple[str, ...]  # from the end of the user's message up to where the answer begins
    stop: tuple[str, ...]  # specials that end the answer
    special_ids: Mapping[str, int]

    @property
    def end(self) -> int | None:
        """The token a model says when its answer is complete, None where only the model file knows it."""
        return self.special_ids[self.stop[0]] if self.stop else None


@dataclass(frozen=True, slots=True)
class EmbedderSpec:
    """How an ONNX embedder is to be run; `model` and `tokenizer` are paths on disk."""

    name: str
    model: str
    tokenizer: str
    digest: str  # SHA-256 of the ONNX file, part of what an index records
    dimension: int
    pooling: Literal["mean", "cls", "last"] = "mean"
    query_prefix: str = ""
    passage_prefix: str = ""
    max_tokens: int = 256


@dataclass(frozen=True, slots=True)
class ReaderSpec:
    """How an ONNX reader is to be run; `model` and `tokenizer` are paths on disk."""

    name: str
    model: str
    tokenizer: str
    digest: str
    max_tokens: int = 320  # of a question and a passage together


@dataclass(frozen=True, slots=True)
class GeneratorSpec:
    """How a GGUF model is to be run; `model` is a path on disk."""

    name: str
    model: str
    digest: str
    template: ChatTemplate
    context: int = 2048  # tokens the model was trained for, an upper bound for ours
    independent: bool = False  # trained with passages that do not see each other and all begin at the same position
