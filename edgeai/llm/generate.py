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
from typing import Any, TypeVar

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
from edgeai.records import Finish, Piece, Prompt, Segment
from edgeai.specs import GeneratorSpec

Result = TypeVar("Result")

POLL_S = 0.1  # Windows delivers Ctrl-C only between two waits
_LATE = Piece("")  # stands for the deadline in a stream of pieces


class LlamaGenerator:
    """A GGUF model, loading in the background from construction on; implements `engines.Generator`.

    `threads` None means one per physical core; `gpu_layers` is "auto" (all when the build can), "all" or a number;
    `flash_attention` says which of llama.cpp's two ways to compute attention is taken.
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
        load = partial(_load, open_, Independent if spec.independent else Sequential, self._layers)
        self._worker = _Worker(load)
        # Runs when the object is collected or the interpreter exits; must not hold a reference to the object.
        self._finalizer = weakref.finalize(self, self._worker.stop)
        self._preparing: Future[None] | None = None

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
        """Stop what is prepared in the background; what is complete stays."""
        if self._preparing:
            self._worker.abandon(self._preparing)
            self._preparing = None

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
        """Stop what is running and free the model; may be called twice."""
        self._finalizer()


class _Worker:
    """The thread that loads the model, runs jobs on it one after another, and frees it."""

    def __init__(self, load: Callable[[], Residence]) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[Residence], Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # guards the three fields below
        self._residence: Residence | None = None
        self._running: Future[Any] | None = None
        self._stopped = False
        # A daemon, so that a process that never closes its generator can end; `weakref.finalize` stops it first.
        self._thread = threading.Thread(target=self._run, args=(load,), name="edgeai-llama", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[Residence], Result]) -> Future[Result]:
        """Queue a job; its future raises what loading the model raised."""
        future: Future[Result] = Future()
        with self._lock:
            if self._stopped:
                raise RuntimeError("The generator is closed.")
            self._jobs.put((future, job))
        return future

    def abandon(self, future: Future[Any]) -> None:
        """Stop a job, whether it is waiting, running or done."""
        future.cancel()
        with self._lock:
            if self._running is future and self._residence:
                self._residence.llama.interrupt()

    def stop(self) -> None:
        """Stop the running job, refuse the waiting ones, free the model and end the thread."""
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._jobs.put(None)
            if self._residence:
                self._residence.llama.interrupt()
        if threading.current_thread() is not self._thread:  # the collector may run on any thread
            self._thread.join()

    def _run(self, load: Callable[[], Residence]) -> None:
        failure: BaseException | None = None
        try:
            self._residence = load()
        except BaseException as error:  # raised again by every job
            failure = error
        while (item := self._jobs.get()) is not None:
            future, job = item
            if self._start(future):
                self._serve(future, job, failure)
            del item, future, job  # a job must not live on while the thread waits for the next one
        if self._residence:
            self._residence.llama.close()

    def _start(self, future: Future[Any]) -> bool:
        with self._lock:
            if not future.set_running_or_notify_cancel():
                return False
            if self._stopped:
                future.set_exception(RuntimeError("The generator is closed."))
                return False
            self._running = future
            if self._residence:
                self._residence.llama.resume()
            return True

    def _serve(self, future: Future[Any], job: Callable[[Residence], Any], failure: BaseException | None) -> None:
        try:
            if failure:
                raise failure
            assert self._residence is not None
            future.set_result(job(self._residence))
        except BaseException as error:  # handed to the caller, whatever it is
            future.set_exception(error)
        finally:
            with self._lock:
                self._running = None


def _load(open_: Callable[..., Llama], residence: Callable[[Llama], Residence], layers: int | None) -> Residence:
    """Load with all layers on the GPU if `layers` is None and the build can; on the CPU if that fails."""
    attempts = [layers] if layers is not None else [-1, 0] if library().llama_supports_gpu_offload() else [0]
    for attempt in attempts[:-1]:
        try:
            return residence(open_(gpu_layers=attempt))
        except ModelMissing:
            raise
        except EdgeAIError:  # not enough memory on the GPU; the CPU is slower but right
            continue
    return residence(open_(gpu_layers=attempts[-1]))


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


def _weigh(spec: GeneratorSpec, prompt: Prompt, answers: Sequence[str], residence: Residence) -> list[float]:
    llama, ending = residence.llama, () if spec.template.end is None else (spec.template.end,)
    parts = _encode(llama, spec, prompt.segments, max(prompt.max_tokens, LONGEST))
    _check_length(parts, llama.context)
    return log_likelihoods(residence, parts, [(*llama.tokenise(answer), *ending) for answer in answers])


def _prepare(spec: GeneratorSpec, segments: Sequence[Segment], residence: Residence) -> None:
    """The prefix, then one passage after another, so that what is complete stays when the next is stopped."""
    parts = _encode(residence.llama, spec, segments)
    known = parts.distinct if spec.independent else ()
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
