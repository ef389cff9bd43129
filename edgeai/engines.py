"""What the engines promise to the modules that use them, whichever model they run.

Only promises: nothing here says how long a call takes, or whether what comes back is any good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from edgeai.records import Passage, Piece, Prompt, Reading, Segment
from edgeai.specs import EmbedderSpec, GeneratorSpec, ReaderSpec

if TYPE_CHECKING:
    from edgeai.records import Vectors


class Embedder(Protocol):
    """Text to unit vectors."""

    spec: EmbedderSpec

    def load(self) -> None:
        """Load what a question needs, where that was not done before."""

    def embed_query(self, text: str) -> Vectors:
        """A question, float32, shape (dimension,), norm 1."""

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Passages in the order given, float32, shape (len(texts), dimension), norm 1."""

    def count_tokens(self, text: str) -> int:
        """Length of a text in the embedder's tokens, without the specials it adds."""


class Reader(Protocol):
    """A question and passages to judgements."""

    spec: ReaderSpec

    def load(self) -> None:
        """Load the model, where that was not done before."""

    def read(
        self, question: str, passages: Sequence[Passage], checkpoint: Callable[[], None] = lambda: None
    ) -> tuple[Reading, ...]:
        """One reading for each passage, in the order given; it does not depend on the other passages.

        `checkpoint` is called now and then; what it raises ends the reading.
        """

    def close(self) -> None:
        """Free the model."""


class Generator(Protocol):
    """Prompt to streamed text."""

    spec: GeneratorSpec

    def count_tokens(self, text: str) -> int:
        """Length of a text in the model's tokens, specials off."""

    def load(self) -> None:
        """Wait until the model is loaded."""

    def missing(self, texts: Sequence[str]) -> list[int]:
        """How many tokens of each passage text are to be computed before it can be shown: none where it is known."""

    def prepare(self, segments: Sequence[Segment]) -> None:
        """Compute a prefix and passages in the background, to be known when they are shown; any call stops it."""

    def pause(self) -> None:
        """Stop what is prepared in the background; what is complete stays."""

    def stream(self, prompt: Prompt, deadline: float | None = None) -> Iterator[Piece]:
        """Generate lazily; closing the iterator stops the computation, also inside the prefill.

        At `deadline` (`time.perf_counter()`) it stops too; the last piece then says "cancelled".
        """

    def log_likelihoods(self, prompt: Prompt, answers: Sequence[str]) -> list[float]:
        """Natural logarithm of the probability of each of these answers, complete, to a prompt."""

    def close(self) -> None:
        """Free the model; the object cannot be used afterwards."""
