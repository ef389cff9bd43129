"""One llama.cpp model with one context of one or more sequences: token ids in, logits out.

It knows nothing of prompts, streams or threads. None of it is thread-safe, and llama.cpp aborts the process when it is
misused, so every call for one object comes from one thread and lengths are checked here, before the library sees them.
The only exception is `interrupt`, which may be called from anywhere.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeai.errors import ContextTooLong, EdgeAIError, EngineMissing, ModelMissing, ModelRejected

if TYPE_CHECKING:
    from edgeai.records import Vectors

BATCH = 512  # tokens per llama_decode; also the granularity of cancelling on a GPU
OUTPUTS = 32  # tokens whose logits one decode gives at most
TOKENISED_TEXTS = 256  # remembered: a prompt is counted first and tokenised again when it is sent

WARN, ERROR = 3, 4  # `enum ggml_log_level` in ggml.h; the bindings do not have it

_log: deque[str] = deque(maxlen=50)  # latest warnings and errors of llama.cpp, which explain a failed load


class Interrupted(Exception):
    """A computation was stopped by `interrupt`."""


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive tokens of one sequence, the first of them at `position`.

    They see that sequence alone; what follows in `shown_to` sees them as well.
    """

    tokens: Sequence[int]
    position: int = 0
    sequence: int = 0
    shown_to: int | None = None

    @property
    def sequences(self) -> tuple[int, ...]:
        """All that see the tokens."""
        return (self.sequence,) if self.shown_to is None else (self.sequence, self.shown_to)


@cache
def library() -> Any:
    """The low-level bindings, with logging to stderr turned off. Raises `EngineMissing`."""
    # GNU OpenMP reads this when it is loaded. Its threads spin at barriers; beside a busy process they wait for each
    # other's time slices: 600 ms a token on two cores instead of 30. Not spinning at all costs a wake-up at every
    # barrier, 22 ms a token instead of 9 on an idle machine. Measured in benchmarks/LOG.md.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError) as error:  # OSError and RuntimeError: the shared library does not load
        raise EngineMissing(
            f"llama.cpp does not load ({error}); install it with `pip install llama-cpp-python`."
        ) from error
    llama_cpp.llama_log_set(_log_callback(), ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    return llama_cpp


@cache
def _log_callback() -> Any:
    """Collects warnings and errors; cached because llama.cpp keeps only the bare function pointer."""
    import llama_cpp

    def collect(level: int, text: bytes, _: object) -> None:
        if level in (WARN, ERROR):
            _log.append(text.decode("utf-8", "replace").strip())

    return llama_cpp.llama_log_callback(collect)


def last_complaint() -> str:
    """The latest error or warning of llama.cpp, "" when there was none since the last call."""
    found = _log[-1] if _log else ""
    _log.clear()
    return found


class Llama:
    """A loaded model with a context of `context` cells, one for each token that is resident.

    Cells are shared by `sequences` sequences, which do not see each other: `decode`, `share` and `remove` are for any
    of them. `resident`, `reuse` and `evaluate` are for the first one, used alone.

    Raises `ModelMissing` when there is no such file, `ModelRejected` when llama.cpp does not accept it or its
    vocabulary does not have `special_ids`, and `EngineMissing` when llama.cpp does not load.
    """

    def __init__(
        self,
        path: str,
        special_ids: Mapping[str, int],
        *,
        threads: int,
        gpu_layers: int,
        context: int,
        sequences: int = 1,
        flash_attention: bool = True,
    ) -> None:
        if not Path(path).is_file():
            raise ModelMissing(f"There is no model file at {path}; run `edgeai models pull` to install one.")
        self._llama = library()
        self.context = context
        self.resident: list[int] = []
        self._adapters: dict[tuple[str, int], Any] = {}  # loaded ones by path and time of change
        self._adapter: Any = None  # the one in use
        self._context: Any = None
        self._batch: Any = None
        self._abort = ctypes.create_string_buffer(2)
        self._model = self._load(path, gpu_layers)
        try:
            self.vocabulary = self._llama.llama_model_get_vocab(self._model)
            self._vocabulary_size = self._llama.llama_vocab_n_tokens(self.vocabulary)
            self._check_specials(special_ids)
            # A recurrent state holds all tokens in one: none can be taken out again.
            self.rewinds = not (
                self._llama.llama_model_is_recurrent(self._model) or self._llama.llama_model_is_hybrid(self._model)
            )
            self._reserved = frozenset(special_ids.values())
            self._open_context(threads, sequences, flash_attention)
        except BaseException:
            self.close()
            raise
        self.tokenise = lru_cache(TOKENISED_TEXTS)(self._tokenise)

    def _load(self, path: str, gpu_layers: int) -> Any:
        parameters = self._llama.llama_model_default_params()
        parameters.n_gpu_layers = gpu_layers
        # Most weights are copied into the order that this CPU multiplies in: a mapped file of 92 MB keeps 56 MB more.
        parameters.load_mode = self._llama.LLAMA_LOAD_MODE_NONE
        last_complaint()
        model = self._llama.llama_model_load_from_file(path.encode(), parameters)
        if not model:
            raise ModelRejected(
                f"llama.cpp does not accept the model file {path} ({last_complaint() or 'no reason given'}); "
                "pull it again with `edgeai models pull`."
            )
        return model

    def _check_specials(self, special_ids: Mapping[str, int]) -> None:
        """A template for another vocabulary would feed arbitrary words as control tokens."""
        for text, token in special_ids.items():
            known = 0 <= token < self._vocabulary_size
            if not known or self._llama.llama_vocab_get_text(self.vocabulary, token) != text.encode():
                raise ModelRejected(f"The model has no control token {text} with id {token}; its template is another.")

    def _open_context(self, threads: int, sequences: int, flash_attention: bool) -> None:
        parameters = self._llama.llama_context_default_params()
        parameters.n_ctx = self.context
        parameters.n_batch = parameters.n_ubatch = BATCH
        parameters.n_seq_max = sequences
        parameters.n_outputs_max = max(sequences, OUTPUTS)  # llama.cpp wants room for one row a sequence
        parameters.kv_unified = sequences > 1  # otherwise each sequence gets its share of the cells and none is shared
        parameters.n_threads = parameters.n_threads_batch = threads
        # With it, values are also stored so that a saved state is restored in few copies.
        parameters.flash_attn_type = int(flash_attention)
        parameters.no_perf = True
        self._context = self._llama.llama_init_from_model(self._model, parameters)
        if not self._context:
            raise EdgeAIError(
                f"There is not enough memory for a context of {self.context} tokens ({last_complaint()}); "
                "lower the context setting."
            )
        self._memory = self._llama.llama_get_memory(self._context)
        self._batch = self._llama.llama_batch_init(BATCH, 0, 2)
        self._llama.llama_set_abort_callback(self._context, *self._abort_callback())

    def _abort_callback(self) -> tuple[Any, Any]:
        """`strlen` of a buffer that `interrupt` makes non-empty, as a `bool (*)(void *)`.

        llama.cpp asks about 500 times a token; a Python function would have to wait for the interpreter lock each time,
        which costs a quarter of the speed when another thread is busy.
        """
        runtime = ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)
        callback = ctypes.cast(runtime.strlen, self._llama.ggml_abort_callback)
        return callback, ctypes.cast(self._abort, ctypes.c_void_p)

    def use(self, adapter: str) -> bool:
        """Add the LoRA adapter in this file to the weights, "" for none; False if it was in use already.

        Otherwise everything is forgotten. The file must have been checked: llama.cpp aborts the process over some.
        Raises `ModelMissing`, or `ModelRejected` when the adapter does not fit the model.
        """
        chosen = self._load_adapter(adapter) if adapter else None
        if chosen is self._adapter:
            return False
        adapters, scales = (self._llama.llama_adapter_lora_p_ctypes * 1)(chosen), (ctypes.c_float * 1)(1.0)
        self._llama.llama_set_adapters_lora(self._context, adapters, int(chosen is not None), scales)
        self._adapter = chosen
        self.clear()
        return True

    def _load_adapter(self, path: str) -> Any:
        if not Path(path).is_file():
            raise ModelMissing(f"There is no adapter at {path}; check its name or path.")
        key = (path, Path(path).stat().st_mtime_ns)
        if key not in self._adapters:
            last_complaint()
            adapter = self._llama.llama_adapter_lora_init(self._model, path.encode())
            if not adapter:
                raise ModelRejected(f"The adapter {path} does not fit the model ({last_complaint()}); leave it out.")
            self._adapters[key] = adapter
        return self._adapters[key]

    def interrupt(self) -> None:
        """Make the running and every further `evaluate` raise `Interrupted`, until `resume`. Thread-safe."""
        self._abort[0] = b"\x01"

    def resume(self) -> None:
        """Allow computations again. Thread-safe."""
        self._abort[0] = b"\x00"

    def _tokenise(self, text: str) -> tuple[int, ...]:
        """Token ids of a text in which nothing is a control token.

        Ids of the template's control tokens are dropped if a vocabulary that lists them as ordinary words yields them.
        """
        data = text.encode("utf-8", "replace")
        room = len(data) + 8  # never more tokens than bytes, but for a space that some vocabularies put in front
        tokens = (self._llama.llama_token * room)()
        count = self._llama.llama_tokenize(self.vocabulary, data, len(data), tokens, room, False, False)
        if count < 0:
            raise EdgeAIError(f"llama.cpp could not tokenise a text of {len(text)} characters.")
        return tuple(token for token in tokens[:count] if token not in self._reserved)

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for, which need not be whole characters; none for a control token."""
        buffer = ctypes.create_string_buffer(256)
        length = self._llama.llama_token_to_piece(self.vocabulary, token, buffer, len(buffer), 0, False)
        if length < 0:
            buffer = ctypes.create_string_buffer(-length)
            length = self._llama.llama_token_to_piece(self.vocabulary, token, buffer, len(buffer), 0, False)
        return buffer.raw[:length]

    def is_end(self, token: int) -> bool:
        """Whether a token ends an answer: a control token, or one the model file declares to end generation."""
        return token in self._reserved or bool(
            self._llama.llama_vocab_is_eog(self.vocabulary, token)
            or self._llama.llama_vocab_is_control(self.vocabulary, token)
        )

    def reuse(self, tokens: Sequence[int]) -> int:
        """Forget all resident tokens but the longest common beginning with `tokens`; its length.

        At least one token is left to evaluate, because logits are not kept.
        """
        limit = max(0, min(len(self.resident), len(tokens) - 1))
        kept = next((i for i in range(limit) if self.resident[i] != tokens[i]), limit)
        if not self.remove(0, kept):  # recurrent models cannot forget a part
            self.clear()
            return 0
        del self.resident[kept:]
        return kept

    def retract(self, count: int) -> None:
        """Forget the last `count` resident tokens; only where the model `rewinds`."""
        if count:
            del self.resident[-count:]
            self.remove(0, len(self.resident))

    def clear(self) -> None:
        """Forget everything."""
        self._llama.llama_memory_clear(self._memory, False)
        self.resident.clear()

    def evaluate(self, tokens: Sequence[int], *, logits: int = 1) -> None:
        """Append tokens to the resident ones and compute the logits of the last `logits` of them, see `decode`.

        Raises `ContextTooLong` when they do not fit, `Interrupted` when stopped, which leaves what whole batches gave
        resident, and `EdgeAIError` when llama.cpp fails, which empties the context.
        """
        if len(self.resident) + len(tokens) > self.context:
            raise ContextTooLong(
                f"{len(self.resident) + len(tokens)} tokens do not fit into a context of {self.context}; "
                "raise the context setting."
            )
        for start in range(0, len(tokens), BATCH):
            batch = tokens[start : start + BATCH]
            self.decode([Span(batch, len(self.resident))], logits=logits)
            self.resident.extend(batch)

    def decode(self, spans: Sequence[Span], *, logits: int = 1) -> None:
        """Evaluate spans together, each where its sequence ends, and compute the logits of the last `logits` tokens.

        More than one, at most `OUTPUTS`, only of spans that fit into one batch of `BATCH` tokens.

        Raises `Interrupted` when stopped, which leaves nothing of the spans behind, and `EdgeAIError` when llama.cpp
        fails, for want of free cells or otherwise, which empties the context.
        """
        for batch in _batches(spans):
            code = 2 if self._abort[0] != b"\x00" else self._decode(batch, logits)
            if code == 0:
                continue
            if code == 2 and all(self.remove(sequence, span.position) for span in spans for sequence in span.sequences):
                raise Interrupted
            self.clear()
            count = sum(len(span.tokens) for span in spans)
            raise EdgeAIError(f"llama.cpp could not evaluate {count} tokens (code {code}: {last_complaint()}).")

    def _decode(self, spans: Sequence[Span], logits: int) -> int:
        """One batch; returns 0 for success, 1 when there are too few cells, 2 when stopped, others as in llama.h."""
        tokens = [token for span in spans for token in span.tokens]
        positions = [span.position + i for span in spans for i in range(len(span.tokens))]
        sequences = [span.sequences for span in spans for _ in span.tokens]
        count = len(tokens)
        integers = ctypes.c_int32 * count
        ctypes.memmove(self._batch.token, integers(*tokens), 4 * count)
        ctypes.memmove(self._batch.pos, integers(*positions), 4 * count)
        ctypes.memset(self._batch.logits, 0, count)
        for i, seen_by in enumerate(sequences):
            self._batch.n_seq_id[i] = len(seen_by)
            for j, sequence in enumerate(seen_by):  # it sees what the first one sees
                self._batch.seq_id[i][j] = sequence
        for i in range(max(0, count - logits), count):
            self._batch.logits[i] = 1
        self._batch.n_tokens = count
        return int(self._llama.llama_decode(self._context, self._batch))

    def share(self, source: int, target: int, start: int = 0) -> None:
        """Let sequence `target` see the cells of `source` from position `start` on; nothing is copied.

        It must not see any of them yet, which llama.cpp takes for granted and asserts in debug builds.
        """
        self._llama.llama_memory_seq_cp(self._memory, source, target, start, -1)

    def remove(self, sequence: int, start: int = 0) -> bool:
        """Forget a sequence from position `start` on; cells that others see stay. False if the model cannot do that."""
        return bool(self._llama.llama_memory_seq_rm(self._memory, sequence, start, -1))

    def logits(self, back: int = 0) -> Vectors:
        """Unnormalised log-probabilities of what follows the last token but `back`, shape (vocabulary,).

        Only of tokens whose logits were computed; overwritten by the next `decode`.
        """
        import numpy as np

        logits = self._llama.llama_get_logits_ith(self._context, -1 - back)
        return np.ctypeslib.as_array(logits, (self._vocabulary_size,))

    def likeliest(self, count: int = 1) -> list[int]:
        """The most probable next token after each of the last `count` tokens evaluated."""
        return [int(self.logits(back).argmax()) for back in reversed(range(count))]

    def save(self, sequence: int) -> bytes:
        """The state of all tokens of a sequence, for `restore` in a context of the same model and library."""
        size = self._llama.llama_state_seq_get_size(self._context, sequence)
        buffer = (ctypes.c_uint8 * size)()
        written = self._llama.llama_state_seq_get_data(self._context, buffer, size, sequence)
        return bytes(memoryview(buffer)[:written])

    def restore(self, sequence: int, state: bytes) -> bool:
        """Replace a sequence by a saved one, at the positions it had; False if there are too few cells or it is bad."""
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        return bool(self._llama.llama_state_seq_set_data(self._context, buffer, len(state), sequence))

    def close(self) -> None:
        """Free everything; may be called twice."""
        if self._batch is not None:
            self._llama.llama_batch_free(self._batch)
        if self._context:
            self._llama.llama_free(self._context)
        for adapter in self._adapters.values():
            self._llama.llama_adapter_lora_free(adapter)
        self._adapters.clear()
        if self._model:
            self._llama.llama_model_free(self._model)
        self._batch = self._context = self._model = self._adapter = None


def _batches(spans: Sequence[Span]) -> Iterator[list[Span]]:
    """The spans cut so that every list but the last holds BATCH tokens."""
    batch: list[Span] = []
    room = BATCH
    for span in spans:
        start = 0
        while start < len(span.tokens):
            part = span.tokens[start : start + room]
            batch.append(replace(span, tokens=part, position=span.position + start))
            start += len(part)
            room -= len(part)
            if not room:
                yield batch
                batch, room = [], BATCH
    if batch:
        yield batch
