"""LoRA matrices of a decoder as a GGUF file that llama.cpp loads as an adapter, and back.

Keys and tensor names are those that llama.cpp's src/llama-adapter.cpp expects. Matrices are stored in half precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from gguf import GGUFReader, GGUFWriter

from tools.decoder import Decoder

Matrix = npt.NDArray[np.float16]


class Adapter(NamedTuple):
    """What a file holds: y = x W^T + (alpha / rank) (x A^T) B^T."""

    alpha: float
    matrices: dict[str, tuple[Matrix, Matrix]]  # name of the weight -> A (rank, in) and B (out, rank)


def write_adapter(path: Path, decoder: Decoder, metadata: Mapping[str, str]) -> None:
    """Write the decoder's matrices; `metadata` are string keys of GGUF, such as "general.license".

    Where the adapter comes from belongs into it: general.name, general.license and, for the model it was trained on,
    general.base_model.0.name, .organization and .repo_url.
    """
    writer = GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", decoder.alpha)
    if any(key.startswith("general.base_model.0.") for key in metadata):
        writer.add_base_model_count(1)
    for key, value in metadata.items():
        writer.add_string(key, value)
    for name, a, b in decoder.lora():
        for side, matrix in (("a", a), ("b", b)):
            writer.add_tensor(f"{name}.lora_{side}", matrix.detach().cpu().numpy().astype(np.float16))
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def read_adapter(path: Path) -> Adapter:
    """Read what `write_adapter` wrote."""
    reader = GGUFReader(path)
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    names = dict.fromkeys(name.rpartition(".")[0] for name in tensors)
    matrices = {name: (tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"]) for name in names}
    return Adapter(float(reader.fields["adapter.lora.alpha"].contents()), matrices)


@torch.no_grad()
def load_into(decoder: Decoder, path: Path) -> None:
    """Continue from a stored adapter. Raises `ValueError` when it is for another model, rank or alpha."""
    alpha, matrices = read_adapter(path)
    own = {name: (a, b) for name, a, b in decoder.lora()}
    if alpha != decoder.alpha or matrices.keys() != own.keys():
        raise ValueError(f"{path} was trained on other weights or with another alpha ({alpha}, not {decoder.alpha})")
    for name, pair in own.items():
        for parameter, matrix in zip(pair, matrices[name], strict=True):
            if parameter.shape != matrix.shape:
                raise ValueError(f"{path}: {name} is {matrix.shape}, not {tuple(parameter.shape)}")
            parameter.copy_(torch.from_numpy(matrix))
