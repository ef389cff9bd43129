"""The ordinary stack to compare with: search, then llama-cpp-python's own chat completion over the best chunks.

The same model file, index and answer length as edgeai; all else is what llama-cpp-python does by default, its prefix
reuse and the chat template inside the model file included. It judges nothing: no citations, no refusal but the model's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from edgeai.bench.compare import speedups
from edgeai.bench.statistics import ratio_as_dict, spread
from edgeai.cores import physical_cores
from edgeai.errors import ContextTooLong, ModelRejected
from edgeai.llm.llama import library
from edgeai.prompt import SYSTEM
from edgeai.records import Hit
from edgeai.specs import GeneratorSpec

PASSAGES = 4
CONTEXT = 4096  # tokens; llama-cpp-python's default of 512 does not hold four chunks


@dataclass(frozen=True, slots=True)
class PlainAnswer:
    """What it said, and milliseconds from the question's arrival, as in `Timings`."""

    text: str
    pieces: int  # streamed ones: tokens, but for characters of several tokens
    retrieval: float
    first_token: float
    total: float


@dataclass(frozen=True, slots=True)
class Setup:
    """What is not llama-cpp-python's default, and what it says about itself."""

    version: str
    model: str
    passages: int
    max_tokens: int
    n_ctx: int
    n_threads: int  # for decoding and prefill alike
    temperature: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values."""
        return asdict(self)


class PlainStack:
    """A model loaded by `llama_cpp.Llama`, and the search it is given; not thread-safe.

    `threads` None means one per physical core, for prefill too, where the default would be every hyper-thread.
    Raises `ModelRejected` when llama.cpp does not accept the model.
    """

    def __init__(
        self,
        spec: GeneratorSpec,
        search: Callable[[str], Sequence[Hit]],
        *,
        max_tokens: int,
        threads: int | None = None,
    ) -> None:
        bindings = library()
        threads = threads or physical_cores()
        context = min(CONTEXT, spec.context)
        self.setup = Setup(bindings.__version__, spec.name, PASSAGES, max_tokens, context, threads)
        self._search = search
        try:
            self._llama = bindings.Llama(
                spec.model, n_ctx=context, n_threads=threads, n_threads_batch=threads, verbose=False
            )
        except ValueError as error:
            raise ModelRejected(f"llama-cpp-python does not accept {spec.model} ({error}); pull it again.") from error

    def ask(self, question: str) -> PlainAnswer:
        """Search, then complete; raises `ContextTooLong` when not even the question fits."""
        began = time.perf_counter()
        hits = list(self._search(question))[:PASSAGES]
        retrieved = time.perf_counter()
        pieces: list[str] = []
        first = None
        for piece in self._complete(question, hits):
            first = first or time.perf_counter()
            pieces.append(piece)
        done = time.perf_counter()
        marks = (retrieved, first or done, done)
        retrieval, first_token, total = ((mark - began) * 1000 for mark in marks)
        return PlainAnswer("".join(pieces), len(pieces), retrieval, first_token, total)

    def _complete(self, question: str, hits: Sequence[Hit]) -> Any:
        """The streamed texts of an answer from as many of the hits as fit into the context."""
        for count in range(len(hits), -1, -1):
            stream = self._llama.create_chat_completion(
                messages=messages(question, hits[:count]),
                max_tokens=self.setup.max_tokens,
                temperature=self.setup.temperature,
                stream=True,
            )
            try:
                next(stream)  # names the role only; the prompt's length is checked before it
            except ValueError:
                continue
            return (text for part in stream if (text := part["choices"][0]["delta"].get("content")))
        raise ContextTooLong(f"The question does not fit into a context of {self.setup.n_ctx} tokens; shorten it.")

    def close(self) -> None:
        """Free the model; may be called twice."""
        self._llama.close()


def summarise(setup: Setup, answers: Sequence[PlainAnswer], ours: Sequence[float]) -> dict[str, Any]:
    """The object `edgeai bench --json` prints under "plain"; `ours` are edgeai's totals in ms, same questions."""
    times = {name: [getattr(answer, name) for answer in answers] for name in ("retrieval", "first_token", "total")}
    return {
        "setup": setup.as_dict(),
        "stages": {name: spread(values).as_dict() for name, values in times.items()},
        "pieces": round(fmean(answer.pieces for answer in answers), 1),
        "speedup": {name: ratio_as_dict(ratio) for name, ratio in speedups(ours, times["total"]).items()},
        "times_ms": {name: [round(value, 2) for value in times[name]] for name in ("total", "first_token")},
    }


def messages(question: str, hits: Sequence[Hit]) -> list[dict[str, str]]:
    """A system message and one of the user, with numbered passages above the question."""
    passages = [f"[{number}] {hit.title}\n{hit.chunk.text}" for number, hit in enumerate(hits, 1)]
    asked = "\n\n".join([*passages, f"Question: {question}"])
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": asked}]
