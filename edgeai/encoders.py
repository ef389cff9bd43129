"""Text to unit vectors with an ONNX embedder and its tokenizer, on the CPU.

It runs whatever the spec describes and knows nothing about which model is good: it does not check that tokenizer,
pooling and prefixes belong to the file, only that what comes out is finite and has the promised dimension.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeai.errors import EngineMissing, ModelMissing, ModelRejected
from edgeai.records import EmbedderSpec

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

    from edgeai.records import Vectors

BATCH_TOKENS = 2048  # padded tokens per forward; measured: 4096 is no faster, on one core or two
QUERY_THREADS = 1  # a question is too short to gain from a pool
QUERY_CACHE = 256  # questions remembered per embedder
INTEGER_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


class OnnxEmbedder:
    """An embedder whose query and indexing paths share one file but not one thread pool.

    Safe to call from several threads. Sessions are created at first use: a program that only asks never pays for
    the indexing one.

    Raises `EngineMissing` when ONNX Runtime or tokenizers do not load, `ModelMissing` when a file is not there, and
    `ModelRejected` when a file cannot be used as an embedder of `spec.dimension` dimensions.
    """

    def __init__(self, spec: EmbedderSpec, *, threads: int | None = None) -> None:
        """`threads`: upper limit for one forward; None = every CPU this process may use."""
        self.spec = spec
        self.seconds = 0.0
        self._threads = threads or available_cpus()
        self._lock = threading.RLock()
        self._sessions: dict[int, Any] = {}
        self._tokenizer = _load_tokenizer(spec)
        self._room = spec.max_tokens - self._tokenizer.num_special_tokens_to_add(False)
        self._query = lru_cache(maxsize=QUERY_CACHE)(self._embed_query)

    def embed_query(self, text: str) -> Vectors:
        """A question, float32, shape (dimension,), norm 1; read-only, because repeated questions share it."""
        return self._query(text)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Passages in the order given, float32, shape (len(texts), dimension), norm 1.

        Texts longer than `spec.max_tokens` tokens (specials included) are cut there.
        """
        encodings = self._encode([self.spec.passage_prefix + text for text in texts])
        vectors = np.empty((len(texts), self.spec.dimension), dtype=np.float32)
        for batch in batches([len(encoding) for encoding in encodings]):
            vectors[batch] = self._forward([encodings[i].ids for i in batch], threads=self._threads)
        return vectors

    def count_tokens(self, text: str) -> int:
        """Length of a text in the embedder's tokens, without the specials it adds."""
        return len(self._tokenizer.encode(_encodable(text), add_special_tokens=False))

    def close(self) -> None:
        """Free the sessions and the remembered questions; a later call loads the model again."""
        with self._lock:
            self._sessions.clear()
            self._query.cache_clear()

    def _embed_query(self, text: str) -> Vectors:
        (encoding,) = self._encode([self.spec.query_prefix + text])
        vector: Vectors = self._forward([encoding.ids], threads=min(QUERY_THREADS, self._threads))[0]
        vector.setflags(write=False)
        return vector

    def _encode(self, texts: Sequence[str]) -> list[Encoding]:
        # Cut before the specials go in, so that the closing one survives; a batch shares one pass through Rust.
        encodings = self._tokenizer.encode_batch([_encodable(text) for text in texts], add_special_tokens=False)
        for encoding in encodings:
            encoding.truncate(self._room)
        return [self._tokenizer.post_process(encoding) for encoding in encodings]

    def _forward(self, ids: Sequence[Sequence[int]], *, threads: int) -> Vectors:
        session = self._session(threads)
        token_ids, mask = pad(ids)
        values = {"input_ids": token_ids, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}
        feeds = {put.name: values[put.name].astype(INTEGER_TYPES[put.type]) for put in session.get_inputs()}
        output = _output_name(session)
        started = time.perf_counter()
        try:
            (result,) = session.run([output], feeds)
        except Exception as error:  # onnxruntime's exceptions have no base class of their own
            raise ModelRejected(f"{self._named()} cannot run: {_first_line(error)}. {self._mend()}") from error
        with self._lock:
            self.seconds += time.perf_counter() - started
        pooled = result if result.ndim == 2 else pool(result, mask, self.spec.pooling)
        return self._unit(pooled.astype(np.float32, copy=False))

    def _unit(self, vectors: Vectors) -> Vectors:
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if vectors.shape[1] != self.spec.dimension:
            raise ModelRejected(self._wrong_dimension(vectors.shape[1]))
        if not (np.isfinite(norms).all() and norms.all()):
            raise ModelRejected(f"{self._named()} gives vectors that are zero or not finite. {self._mend()}")
        return np.asarray(vectors / norms, dtype=np.float32)

    def _session(self, threads: int) -> Any:
        with self._lock:
            if threads not in self._sessions:
                self._sessions[threads] = self._open_session(threads)
            return self._sessions[threads]

    def _open_session(self, threads: int) -> Any:
        runtime = _import_runtime()
        _require_file(self.spec.model, self._mend())
        try:
            session = runtime.InferenceSession(
                self.spec.model, _session_options(runtime, threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions have no base class of their own
            raise ModelRejected(
                f"{self._named()} is not a valid ONNX model: {_first_line(error)}. {self._mend()}"
            ) from error
        self._require_usable(session)
        return session

    def _require_usable(self, session: Any) -> None:
        wanted = {put.name: put.type for put in session.get_inputs()}
        known = {"input_ids", "attention_mask", "token_type_ids"}
        if "input_ids" not in wanted or not wanted.keys() <= known or not set(wanted.values()) <= INTEGER_TYPES.keys():
            raise ModelRejected(
                f"{self._named()} is not a text embedder, its inputs are {', '.join(wanted)}; choose another file."
            )
        (shape,) = (put.shape for put in session.get_outputs() if put.name == _output_name(session))
        if shape and isinstance(shape[-1], int) and shape[-1] != self.spec.dimension:
            raise ModelRejected(self._wrong_dimension(shape[-1]))

    def _wrong_dimension(self, found: int) -> str:
        return f"{self._named()} gives {found} dimensions instead of {self.spec.dimension}. {self._mend()}"

    def _named(self) -> str:
        return f"The embedder {self.spec.name} ({self.spec.model})"

    def _mend(self) -> str:
        return f"Fetch it again with `edgeai models pull {self.spec.name}`."


def batches(lengths: Sequence[int], limit: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Indices grouped for one forward each, shortest first, so that padding is small.

    A group of n texts costs n times its longest, at most `limit` tokens; a longer text forms its own group.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[index] * (len(batch) + 1) > limit:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def pad(ids: Sequence[Sequence[int]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Token ids and attention mask, both of shape (texts, longest), padded with 0 on the right."""
    longest = max(1, *map(len, ids)) if ids else 1
    token_ids = np.zeros((len(ids), longest), dtype=np.int64)
    mask = np.zeros_like(token_ids)
    for row, sequence in enumerate(ids):
        token_ids[row, : len(sequence)] = sequence
        mask[row, : max(1, len(sequence))] = 1  # a text without any token still needs something to attend to
    return token_ids, mask


def pool(hidden: npt.NDArray[Any], mask: npt.NDArray[np.int64], pooling: str) -> npt.NDArray[Any]:
    """Token vectors (texts, tokens, dimension) to text vectors (texts, dimension), padding ignored.

    "mean" averages the tokens, "cls" takes the first, "last" the last one that is not padding.
    """
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        return np.asarray(hidden[np.arange(len(hidden)), mask.sum(axis=1) - 1])
    weights = mask[:, None, :].astype(hidden.dtype)
    return np.asarray((weights @ hidden)[:, 0] / mask.sum(axis=1, keepdims=True))


def available_cpus() -> int:
    """CPUs this process may run on; containers and `taskset` make it fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _import_runtime() -> Any:
    # Since 1.29 onnxruntime reports usage to its maker by default; it reads this when it is first imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineMissing(
            f"ONNX Runtime does not load ({_first_line(error)}); run `pip install --force-reinstall onnxruntime`."
        ) from error
    return onnxruntime


def _session_options(runtime: Any, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # fatal: the rest reaches the caller as an exception
    # A spinning pool keeps its cores busy after each call, exactly when the generator needs them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _load_tokenizer(spec: EmbedderSpec) -> Tokenizer:
    # Its thread pool gains nothing next to a forward, and warns on stderr when the host program forks.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise EngineMissing(
            f"tokenizers does not load ({_first_line(error)}); run `pip install --force-reinstall tokenizers`."
        ) from error
    _require_file(spec.tokenizer, f"Fetch it with `edgeai models pull {spec.name}`.")
    try:
        tokenizer = Tokenizer.from_file(spec.tokenizer)
    except Exception as error:  # tokenizers raises nothing more specific
        raise ModelRejected(
            f"The tokenizer {spec.tokenizer} cannot be read: {_first_line(error)}. "
            f"Fetch it again with `edgeai models pull {spec.name}`."
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _require_file(path: str, mend: str) -> None:
    if not Path(path).is_file():
        raise ModelMissing(f"There is no file {path}. {mend}")


def _output_name(session: Any) -> str:
    names = [put.name for put in session.get_outputs()]
    return "sentence_embedding" if "sentence_embedding" in names else str(names[0])


def _encodable(text: str) -> str:
    # Undecodable bytes of file names reach us as lone surrogates, which the tokenizer refuses.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
