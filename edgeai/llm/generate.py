"""Prompts to streamed text through llama.cpp, on one thread that owns every call.

Decoding is greedy. What stays resident between prompts, and so costs nothing in the next, is decided by `residence`.
Nothing here judges the text, and nothing reads the chat template inside a model file.
"""

from __future__ import annotations

import codecs
import contextlib
import importlib.util
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, TypeVar

from edgeai.cores import physical_cores
from edgeai.errors import (
    ContextTooLong,
    EdgeAIError,
    EngineMissing,
    ModelMissing,
    UsageProblem,
)
from edgeai.llm.gpu import gpu_notice
from edgeai.llm.grammar import Grammar
from edgeai.llm.greedy import greedy
from edgeai.llm.likelihood import LONGEST, log_likelihoods
from edgeai.llm.llama import Interrupted, Llama, library
from edgeai.llm.residence import SEQUENCES, Independent, Parts, Residence, Sequential
from edgeai.llm.shelf import Shelf, engine
from edgeai.llm.worker import Worker
from edgeai.prompt import prefix_segments
from edgeai.records import Finish, Piece, Prompt, Segment
from edgeai.specs import GeneratorSpec

if TYPE_CHECKING:
    from edgeai.store.kept_states import KeptStates

Result = TypeVar("Result")

POLL_S = 0.1  # Windows delivers Ctrl-C only between two waits
_LATE = Piece("")  # stands for the deadline in a stream of pieces


class LlamaGenerator:
    """A GGUF model, loading in the background from construction on; implements `engines.Generator`.

    `threads` None means one per physical core; `gpu_layers` is "auto" (all when the build can), "all" or a number;
    `flash_attention` says which of llama.cpp's two ways to compute attention is taken. `kept` is where
    passages computed earlier are found, and where `settle` and `close` put new ones.
    Whatever is wrong with the model file (`ModelMissing`, `ModelRejected`) is raised by the first call that needs it.
    All methods may be called from any thread and are served one after another.
    Raises `EngineMissing` when llama-cpp-python is not installed and `UsageProblem` for a wrong argument.
    """

    def __init__(
        self,
        spec: GeneratorSpec,
        *,
        threads: int | None = None,
        gpu_layers: int | str = "auto",
        context: int = 2048,
        flash_attention: bool = True,
        kept: KeptStates | None = None,
    ) -> None:
        if importlib.util.find_spec("llama_cpp") is None:
            raise EngineMissing("llama.cpp is not installed; install it with `pip install llama-cpp-python`.")
        self.spec = spec
        self._layers = _parse_layers(gpu_layers)
        open_ = partial(
            Llama,
            spec.model,
            spec.template.special_ids,
            threads=threads or physical_cores(),
            context=min(context, spec.context),
            sequences=SEQUENCES if spec.independent else 1,
            flash_attention=flash_attention,
        )
        independent = partial(_independent, spec, flash_attention, kept)
        load = partial(_load, open_, independent if spec.independent else _sequential, self._layers)
        self._worker = Worker(load)
        # Runs when the object is collected or the interpreter exits; must not hold a reference to the object.
        self._finalizer = weakref.finalize(self, self._worker.stop)
        self._preparing: Future[None] | None = None
        self._keeps = kept is not None and spec.independent
        self._settling: Future[None] | None = None
        self._hurry = threading.Event()  # set when that is to end

    @property
    def notice(self) -> str:
        """One sentence when this computer has a GPU that the installed llama.cpp cannot use, else ""."""
        return gpu_notice() if self._layers != 0 else ""

    def count_tokens(self, text: str) -> int:
        """Length of a text in the model's tokens, specials off."""
        return self._submit(lambda residence: len(residence.llama.tokenise(text))).result()

    def use(self, adapter: str) -> None:
        """Answer with the LoRA adapter in this GGUF file from the next prompt on, "" for none; the model stays loaded.

        Waits for running answers. Raises `ModelRejected` when the adapter does not fit the model; the one before stays.
        """
        self._submit(lambda residence: residence.use(adapter)).result()

    def load(self) -> None:
        """Wait until the model is loaded; raises what is wrong with it."""
        self._submit(lambda residence: None).result()

    def missing(self, texts: Sequence[str]) -> list[int]:
        """How many tokens of each passage text are to be computed before it can be shown: none where it is resident."""
        return self._submit(lambda residence: [_missing(residence, text) for text in texts]).result()

    def prepare(self, segments: Sequence[Segment]) -> None:
        """Compute a prefix and passages in the background, to be resident when they are shown; any call stops it."""
        self.pause()
        self._preparing = self._worker.submit(partial(_prepare, self.spec, segments))

    def warm(self, segments: Sequence[Segment]) -> None:
        """Compute a prefix and passages now."""
        self._submit(partial(_prepare, self.spec, segments)).result()

    def pause(self) -> None:
        """Stop what is prepared or written in the background; what is complete stays."""
        self._hurry.set()
        for job in (self._preparing, self._settling):
            if job:
                self._worker.abandon(job)
        self._preparing = self._settling = None

    def settle(self) -> None:
        """Let what was computed outlive the process, in the background and behind what is prepared; any call stops it.

        Between question and answer this must not be called: a state that is being written is written to its end.
        """
        if self._keeps:
            self._hurry = threading.Event()
            self._settling = self._worker.submit(partial(_settle, self._hurry.is_set))

    def _submit(self, job: Callable[[Residence], Result]) -> Future[Result]:
        """Queue what somebody waits for, in place of whatever nobody does."""
        self.pause()
        return self._worker.submit(job)

    def stream(self, prompt: Prompt, deadline: float | None = None) -> Iterator[Piece]:
        """Generate while the result is iterated; closing the iterator stops the computation, also inside the prefill.

        At `deadline` (`time.perf_counter()`) it stops too, and the last piece says "cancelled".
        Raises `ContextTooLong` when prompt and answer do not fit, before anything is computed, and `UsageProblem` for
        an empty prompt.
        """
        began = time.perf_counter()
        pieces: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        future = self._submit(partial(_generate, self.spec, prompt, began, pieces.put))
        future.add_done_callback(lambda _: pieces.put(None))
        try:
            while (piece := _next(pieces, deadline)) is not None:
                if piece is _LATE:
                    self._worker.abandon(future)
                    deadline = None
                else:
                    yield piece
            if future.cancelled():  # before it began
                yield Piece("", "cancelled")
            else:
                future.result()
        finally:
            self._worker.abandon(future)

    def log_likelihoods(self, prompt: Prompt, answers: Sequence[str]) -> list[float]:
        """Natural logarithm of the probability that the model gives each of these answers, and no more, to a prompt.

        Raises `ContextTooLong` when prompt and answer do not fit, and `UsageProblem` for an answer that is too long.
        """
        return self._submit(partial(_weigh, self.spec, prompt, answers)).result()

    def close(self) -> None:
        """Stop what is running, write what is to outlive the process, and free the model; may be called twice."""
        if self._keeps and self._finalizer.alive:
            self.pause()
            with contextlib.suppress(Exception):  # whatever it is, it was told to who needed the model
                self._worker.submit(partial(_settle, bool)).result()
        self._finalizer()


def _sequential(llama: Llama, _: int) -> Sequential:
    return Sequential(llama)


def _independent(
    spec: GeneratorSpec, flash_attention: bool, kept: KeptStates | None, llama: Llama, layers: int
) -> Independent:
    """With what is kept behind the prefix that prompts most likely begin with."""
    shelf = Shelf(kept, engine(spec, flash_attention=flash_attention, gpu_layers=layers)) if kept else Shelf()
    beginning = _encode(llama, spec, prefix_segments(spec.template, numbered=False))
    shelf.choose(beginning.prefix)
    residence = Independent(llama, shelf=shelf)
    residence.reuse(beginning)
    residence.evaluate(beginning)  # a question's time is not to be spent on it
    return residence


def _load(open_: Callable[..., Llama], residence: Callable[[Llama, int], Residence], layers: int | None) -> Residence:
    """Load with all layers on the GPU if `layers` is None and the build can; on the CPU if that fails."""
    attempts = [layers] if layers is not None else [-1, 0] if library().llama_supports_gpu_offload() else [0]
    for attempt in attempts[:-1]:
        try:
            return residence(open_(gpu_layers=attempt), attempt)
        except ModelMissing:
            raise
        except EdgeAIError:  # not enough memory on the GPU; the CPU is slower but right
            continue
    return residence(open_(gpu_layers=attempts[-1]), attempts[-1])


def _encode(llama: Llama, spec: GeneratorSpec, segments: Sequence[Segment], answer: int = 0) -> Parts:
    """Token ids of segments: control tokens by id, everything else as plain text."""
    prefix: list[int] = []
    passages: list[tuple[int, ...]] = []
    rest: list[int] = []
    for segment in segments:
        ids = (spec.template.special_ids[segment.text],) if segment.special else llama.tokenise(segment.text)
        if segment.role == "passage":
            passages.append(ids)
        else:
            (prefix if segment.role == "prefix" else rest).extend(ids)
    return Parts(tuple(prefix), tuple(passages), tuple(rest), answer)


def _note(residence: Residence, parts: Parts, segments: Sequence[Segment]) -> None:
    """Remember whose passages these are, where they can outlive the process."""
    if isinstance(residence, Independent):
        owners = (segment.owner for segment in segments if segment.role == "passage")
        known = {ids: owner for ids, owner in zip(parts.passages, owners, strict=True) if owner}
        residence.shelf.note(known)


def _settle(stopped: Callable[[], bool], residence: Residence) -> None:
    if isinstance(residence, Independent):
        residence.settle(stopped)


def _missing(residence: Residence, text: str) -> int:
    ids = residence.llama.tokenise(text)
    return 0 if residence.knows(ids) else len(ids)


def _generate(
    spec: GeneratorSpec, prompt: Prompt, began: float, emit: Callable[[Piece], None], residence: Residence
) -> None:
    """Emit the pieces of an answer, the last one with the totals; all times count from `began`."""
    llama = residence.llama
    parts = _encode(llama, spec, prompt.segments, prompt.max_tokens)
    _check_length(parts, llama.context)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character may be spread over several tokens
    finish: Finish = "length"
    cached = output = 0
    evaluated = first = 0.0
    forwards = -1
    grammar = Grammar(llama, prompt.grammar, prompt.max_tokens - prompt.closing) if prompt.grammar else None
    try:
        cached = residence.reuse(parts)
        hint = llama.tokenise(prompt.hint)
        for tokens in greedy(residence, parts, hint, spec.template.end, grammar, prompt.favour):
            forwards += 1
            evaluated = evaluated or time.perf_counter()
            said = list(takewhile(lambda token: not llama.is_end(token), tokens))
            output += len(said)
            if text := decoder.decode(b"".join(map(llama.piece, said))):
                first = first or time.perf_counter()
                emit(Piece(text))
            if len(said) < len(tokens):
                finish = "stop"
                break
    except Interrupted:
        finish = "cancelled"
    finally:
        if grammar:
            grammar.close()
    ended = time.perf_counter()
    evaluated = evaluated or ended
    emit(
        Piece(
            decoder.decode(b"", final=True),
            finish,
            prompt_tokens=len(parts),
            cached_tokens=cached,
            output_tokens=output,
            prefill_ms=(evaluated - began) * 1000,
            first_token_ms=((first or ended) - began) * 1000,
            generate_ms=(ended - evaluated) * 1000,
            forwards=max(0, forwards),
        )
    )
    residence.keep()
    _note(residence, parts, prompt.segments)


def _weigh(spec: GeneratorSpec, prompt: Prompt, answers: Sequence[str], residence: Residence) -> list[float]:
    llama, ending = residence.llama, () if spec.template.end is None else (spec.template.end,)
    parts = _encode(llama, spec, prompt.segments, max(prompt.max_tokens, LONGEST))
    _check_length(parts, llama.context)
    return log_likelihoods(residence, parts, [(*llama.tokenise(answer), *ending) for answer in answers])


def _prepare(spec: GeneratorSpec, segments: Sequence[Segment], residence: Residence) -> None:
    """The prefix, then one passage after another, so that what is complete stays when the next is stopped."""
    parts = _encode(residence.llama, spec, segments)
    known = parts.distinct if spec.independent else ()
    _note(residence, parts, segments)
    with contextlib.suppress(Interrupted):
        for passages in ((), *((passage,) for passage in known)):
            part = Parts(parts.prefix, passages, ())
            residence.reuse(part)
            residence.evaluate(part)
            residence.keep()


def _check_length(parts: Parts, context: int) -> None:
    if not len(parts) or parts.answer < 1:
        raise UsageProblem("There is nothing to generate: the prompt or the answer's length limit is empty.")
    if len(parts) + parts.answer > context:
        raise ContextTooLong(
            f"The prompt of {len(parts)} tokens and an answer of {parts.answer} do not fit into a context of {context};"
            " ask in fewer words, show fewer passages or raise the context setting."
        )


def _next(pieces: queue.SimpleQueue[Piece | None], deadline: float | None) -> Piece | None:
    """The next piece, None behind the last one, `_LATE` when there is none at the deadline."""
    while True:
        wait = POLL_S if deadline is None else min(POLL_S, deadline - time.perf_counter())
        try:
            return pieces.get(timeout=max(0.0, wait))
        except queue.Empty:
            if deadline is not None and time.perf_counter() >= deadline:
                return _LATE


def _parse_layers(gpu_layers: int | str) -> int | None:
    """Layers for the GPU: None for "auto", -1 for "all"."""
    if gpu_layers in ("auto", "all"):
        return None if gpu_layers == "auto" else -1
    try:
        return int(gpu_layers)
    except ValueError:
        raise UsageProblem(f"GPU layers must be auto, all or a number, not {gpu_layers!r}.") from None
