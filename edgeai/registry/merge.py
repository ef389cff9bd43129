"""Writes a GGUF model with a LoRA adapter merged into its weights, in half precision.

Both files are read with the gguf package, which trusts their headers: files from strangers are to be checked before.
Whether the merged model answers better is not known here.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgeai.errors import DiskFull, ModelMissing, ModelRejected

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Matrix = npt.NDArray[np.float32]

# Kept out of the copied metadata: the reader's own fields, and what the writer or the merge sets.
_OWN_KEYS = frozenset({"general.architecture", "general.file_type"})


class _Pair(NamedTuple):
    """The matrices of one weight: the merged weight is W + scale * b @ a."""

    a: Matrix  # (rank, in)
    b: Matrix  # (out, rank)
    scale: float


def merge(base: Path, adapter: Path, target: Path) -> None:
    """Write `base` plus `adapter` to `target` as an F16 GGUF with the metadata of the base; vectors stay F32.

    `target` appears complete or not at all, and one weight at a time is in memory. Raises `ModelMissing` when a file is
    not there, `ModelRejected` when one is damaged or the two do not belong together, and `DiskFull`.
    """
    reader, lora = _open(base), _open(adapter)
    pairs = _pairs(lora, adapter)
    _check_fit(reader, lora, pairs, base, adapter)
    target.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(target.parent).free < 2 * sum(int(tensor.n_elements) for tensor in reader.tensors):
        raise DiskFull(f"There is not enough space in {target.parent} to merge {base.name}; free some and try again.")
    part = target.with_name(f"{target.name}.part")
    try:
        _write(reader, pairs, base, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _open(path: Path) -> Any:
    from gguf import GGUFReader

    if not path.is_file():
        raise ModelMissing(f"There is no model file at {path}; run `edgeai models pull` to install one.")
    try:
        return GGUFReader(path)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise ModelRejected(f"The file {path} is not a complete GGUF file; pull it again.") from error


def _value(reader: Any, key: str, default: Any) -> Any:
    field = reader.fields.get(key)
    return default if field is None else field.contents()


def _float32(tensor: Any, path: Path) -> Matrix:
    """The weights of a tensor of any type, (rows, columns) or (columns,)."""
    import numpy as np
    from gguf import dequantize

    try:
        weights: Matrix = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
    except NotImplementedError as error:
        kind = tensor.tensor_type.name
        raise ModelRejected(f"The weights of {path} are of type {kind}, which cannot be merged into.") from error
    return weights


def _pairs(lora: Any, path: Path) -> dict[str, _Pair]:
    """The matrices of an adapter by the name of the weight they change."""
    if (_value(lora, "general.type", ""), _value(lora, "adapter.type", "")) != ("adapter", "lora"):
        raise ModelRejected(f"The file {path} is not a LoRA adapter; give one made for this model.")
    tensors = {tensor.name: tensor for tensor in lora.tensors}
    names = {name.removesuffix(".lora_a").removesuffix(".lora_b") for name in tensors}
    if set(tensors) != {f"{name}.lora_{side}" for name in names for side in "ab"} or not names:
        raise ModelRejected(f"The adapter {path} does not consist of pairs of LoRA matrices; pull it again.")
    alpha = float(_value(lora, "adapter.lora.alpha", 0.0))
    pairs = {}
    for name in names:
        a, b = (_float32(tensors[f"{name}.lora_{side}"], path) for side in "ab")
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
            raise ModelRejected(f"The LoRA matrices for {name} in {path} do not belong together; pull it again.")
        pairs[name] = _Pair(a, b, alpha / a.shape[0] if alpha else 1.0)  # without an alpha llama.cpp takes them as is
    return pairs


def _check_fit(reader: Any, lora: Any, pairs: dict[str, _Pair], base: Path, adapter: Path) -> None:
    architecture = _value(reader, "general.architecture", "")
    if _value(reader, "general.type", "model") != "model":
        raise ModelRejected(
            f"The file {base} is not a model that an adapter could be merged into; give the base model."
        )
    if (other := _value(lora, "general.architecture", "")) != architecture:
        raise ModelRejected(
            f"The adapter {adapter} is for a model of architecture {other!r}, but {base} is of {architecture!r}; "
            "give the model it was made for."
        )
    shapes = {tensor.name: tuple(int(size) for size in reversed(tensor.shape)) for tensor in reader.tensors}
    for name, (a, b, _) in pairs.items():
        if shapes.get(name) != (b.shape[0], a.shape[1]):
            found = f"is {shapes[name]} in the model" if name in shapes else "is not in the model"
            raise ModelRejected(
                f"The adapter {adapter} does not fit {base}: {name} should be {(b.shape[0], a.shape[1])} but {found}; "
                "give the model it was made for."
            )


def _write(reader: Any, pairs: dict[str, _Pair], base: Path, path: Path) -> None:
    import numpy as np
    from gguf import GGUFWriter, LlamaFileType

    writer = GGUFWriter(path, _value(reader, "general.architecture", ""))
    writer.data_alignment = reader.alignment
    for key, value, kind, item_kind in _metadata(reader, base):
        writer.add_key_value(key, value, kind, sub_type=item_kind)
    writer.add_file_type(LlamaFileType.MOSTLY_F16)
    for tensor in reader.tensors:
        shape = [int(size) for size in reversed(tensor.shape)]
        kind = np.dtype(np.float16 if len(shape) > 1 else np.float32)
        writer.add_tensor_info(tensor.name, shape, kind, int(tensor.n_elements) * kind.itemsize)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in reader.tensors:
            weights = _float32(tensor, base)
            if pair := pairs.get(tensor.name):
                weights = weights + pair.scale * (pair.b @ pair.a)
            writer.write_tensor_data(weights.astype(np.float16 if weights.ndim > 1 else np.float32))
    finally:
        writer.close()


def _metadata(reader: Any, path: Path) -> Iterator[tuple[str, Any, Any, Any]]:
    """Key, value, type and, for arrays, type of the items of everything that is copied."""
    for key, field in reader.fields.items():
        if key in _OWN_KEYS or key.startswith("GGUF."):
            continue
        try:
            value = field.contents()
        except UnicodeDecodeError as error:
            raise ModelRejected(f"The metadata of {path} is not valid text ({key}); pull it again.") from error
        yield key, value, field.types[0], field.types[-1] if len(field.types) > 1 else None
