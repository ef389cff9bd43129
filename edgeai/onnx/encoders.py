"""Text to unit vectors with an ONNX embedder and its tokenizer, on the CPU.

It runs whatever the spec describes and knows nothing about which model is good: it does not check that tokenizer,
pooling and prefixes belong to the file, only that what comes out is finite and has the promised dimension.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeai.errors import ModelRejected
from edgeai.onnx.onnxfile import OnnxFile, available_cpus, batches, encodable, load_tokenizer, pad
from edgeai.specs import EmbedderSpec

if TYPE_CHECKING:
    from tokenizers import Encoding

    from edgeai.records import Vectors

QUERY_THREADS = 1  # a question is too short to gain from a pool
QUERY_CACHE = 256  # questions remembered per embedder


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
        self._file = OnnxFile(spec.model, "embedder", spec.name)
        self._threads = threads or available_cpus()
        self._lock = threading.RLock()
        self._sessions: dict[int, Any] = {}
        self._tokenizer = load_tokenizer(spec.tokenizer, spec.name)
        self._room = spec.max_tokens - self._tokenizer.num_special_tokens_to_add(False)
        self._query = lru_cache(maxsize=QUERY_CACHE)(self._embed_query)

    def load(self) -> None:
        """Load the model for questions, where that was not done before."""
        self._session(min(QUERY_THREADS, self._threads))

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
        return len(self._tokenizer.encode(encodable(text), add_special_tokens=False))

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
        encodings = self._tokenizer.encode_batch([encodable(text) for text in texts], add_special_tokens=False)
        for encoding in encodings:
            encoding.truncate(self._room)
        return [self._tokenizer.post_process(encoding) for encoding in encodings]

    def _forward(self, ids: Sequence[Sequence[int]], *, threads: int) -> Vectors:
        session = self._session(threads)
        token_ids, mask = pad(ids)
        values = {"input_ids": token_ids, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}
        started = time.perf_counter()
        (result,) = self._file.run(session, [_output_name(session)], values)
        with self._lock:
            self.seconds += time.perf_counter() - started
        pooled = result if result.ndim == 2 else pool(result, mask, self.spec.pooling)
        return self._unit(pooled.astype(np.float32, copy=False))

    def _unit(self, vectors: Vectors) -> Vectors:
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if vectors.shape[1] != self.spec.dimension:
            raise self._wrong_dimension(vectors.shape[1])
        if not (np.isfinite(norms).all() and norms.all()):
            raise self._file.rejected("gives vectors that are zero or not finite")
        return np.asarray(vectors / norms, dtype=np.float32)

    def _session(self, threads: int) -> Any:
        with self._lock:
            if threads not in self._sessions:
                self._sessions[threads] = self._open_session(threads)
            return self._sessions[threads]

    def _open_session(self, threads: int) -> Any:
        session = self._file.open(threads)
        (shape,) = (put.shape for put in session.get_outputs() if put.name == _output_name(session))
        if shape and isinstance(shape[-1], int) and shape[-1] != self.spec.dimension:
            raise self._wrong_dimension(shape[-1])
        return session

    def _wrong_dimension(self, found: int) -> ModelRejected:
        return self._file.rejected(f"gives {found} dimensions instead of {self.spec.dimension}")


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


def _output_name(session: Any) -> str:
    names = [put.name for put in session.get_outputs()]
    return "sentence_embedding" if "sentence_embedding" in names else str(names[0])
