"""Runs ONNX models that read tokens, on the CPU: their tokenizer, their session, batches of padded token ids.

It knows nothing about what a model is for or whether its answers are any good; who uses it checks what comes out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeai.errors import EngineMissing, ModelMissing, ModelRejected

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BATCH_TOKENS = 2048  # padded tokens per forward; measured: 4096 is no faster, on one core or two
INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
INTEGER_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """A model file, with the kind ("embedder", ...) and the name that messages call it by."""

    path: str
    kind: str
    name: str

    def open(self, threads: int) -> Any:
        """An `onnxruntime.InferenceSession` that computes with at most `threads` threads.

        Raises `EngineMissing` when ONNX Runtime does not load, `ModelMissing` when there is no file, and
        `ModelRejected` when it is not a model over tokens.
        """
        runtime = import_runtime()
        _require_file(self.path, _fetch_again(self.name))
        options = _session_options(runtime, threads)
        try:
            session = runtime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no base class of their own
            raise self.rejected(f"is not a valid ONNX model: {first_line(error)}") from error
        wanted = {put.name: put.type for put in session.get_inputs()}
        if "input_ids" not in wanted or not wanted.keys() <= INPUTS or not set(wanted.values()) <= INTEGER_TYPES.keys():
            inputs = ", ".join(wanted)
            raise ModelRejected(
                f"{self._named()} is not a text {self.kind}, its inputs are {inputs}; choose another file."
            )
        return session

    def run(self, session: Any, outputs: Sequence[str], values: Mapping[str, npt.NDArray[np.int64]]) -> list[Any]:
        """The named outputs of one forward; `values` hold every one of `INPUTS`, the model gets those it takes.

        Raises `ModelRejected` when the model cannot run.
        """
        feeds = {put.name: values[put.name].astype(INTEGER_TYPES[put.type]) for put in session.get_inputs()}
        try:
            return list(session.run(list(outputs), feeds))
        except Exception as error:  # onnxruntime's exceptions have no base class of their own
            raise self.rejected(f"cannot run: {first_line(error)}") from error

    def rejected(self, what: str) -> ModelRejected:
        """The error for a model of which `what` is true, with the command that fetches it again."""
        return ModelRejected(f"{self._named()} {what}. {_fetch_again(self.name)}")

    def _named(self) -> str:
        return f"The {self.kind} {self.name} ({self.path})"


def load_tokenizer(path: str, name: str) -> Tokenizer:
    """The tokenizer in a tokenizer.json, with neither truncation nor padding; `name` is that of its model.

    Raises `EngineMissing`, `ModelMissing` or `ModelRejected`.
    """
    # Its thread pool gains nothing next to a forward, and warns on stderr when the host program forks.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise EngineMissing(
            f"tokenizers does not load ({first_line(error)}); run `pip install --force-reinstall tokenizers`."
        ) from error
    _require_file(path, f"Fetch it with `edgeai models pull {name}`.")
    try:
        tokenizer = Tokenizer.from_file(path)
    except Exception as error:  # tokenizers raises nothing more specific
        raise ModelRejected(
            f"The tokenizer {path} cannot be read: {first_line(error)}. {_fetch_again(name)}"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def import_runtime() -> Any:
    """The `onnxruntime` module; raises `EngineMissing`."""
    # Since 1.29 onnxruntime reports usage to its maker by default; it reads this when it is first imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineMissing(
            f"ONNX Runtime does not load ({first_line(error)}); run `pip install --force-reinstall onnxruntime`."
        ) from error
    return onnxruntime


def available_cpus() -> int:
    """CPUs this process may run on; containers and `taskset` make it fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def first_line(error: BaseException) -> str:
    """What an error says, as part of a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


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


def _require_file(path: str, mend: str) -> None:
    if not Path(path).is_file():
        raise ModelMissing(f"There is no file {path}. {mend}")


def _fetch_again(name: str) -> str:
    return f"Fetch it again with `edgeai models pull {name}`."


# tokens ---------------------------------------------------------------------------------------------------------------


def encodable(text: str) -> str:
    """The text as a tokenizer takes it, every character still at its index."""
    # Undecodable bytes of file names reach us as lone surrogates, which the tokenizer refuses.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


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
