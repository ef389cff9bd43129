"""Describes how to run model files of the user's own, which no catalog knows.

Everything comes from the files themselves: the GGUF header, or the JSON files beside an ONNX model. It cannot tell
whether a model expects a prefix before questions or passages; such an embedder belongs into the catalog.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgeai.errors import ModelRejected, ModelUnknown
from edgeai.registry import gguf
from edgeai.registry.catalog import Catalog
from edgeai.specs import EmbedderSpec, GeneratorSpec, ReaderSpec

MAX_TOKENS = 512  # passages are shorter than this, and cost grows with the square of it

Digest = Callable[[Path], str]


def local_generator(path: Path, catalog: Catalog, digest: Digest) -> GeneratorSpec:
    """How to run a GGUF file, with the first template of the catalog that fits its vocabulary.

    Raises `ModelUnknown` when there is no such file, `ModelRejected` when it is not an accepted model.
    """
    if not path.is_file():
        raise ModelUnknown(f"There is no file {path}; give the path of a GGUF file or a name from the catalog.")
    header = gguf.preflight(path)
    template = catalog.template_for(header.architecture, header.specials)
    bound = template.bind(header.specials, bos=header.bos, eos=header.eos)
    return GeneratorSpec(path.stem, str(path), digest(path), bound, header.context)


def local_embedder(folder: Path, digest: Digest) -> EmbedderSpec:
    """How to run the embedder in a folder with model.onnx, tokenizer.json and config.json (or the path of the first).

    Raises `ModelRejected` when one of them is missing or does not say what it must.
    """
    folder = _onnx_folder(folder, "an embedder", ("model.onnx", "tokenizer.json", "config.json"))
    settings = _read_json(folder / "config.json")
    dimension, positions = settings.get("hidden_size"), settings.get("max_position_embeddings", MAX_TOKENS)
    if not isinstance(dimension, int) or not isinstance(positions, int):
        raise ModelRejected(f"{folder / 'config.json'} lacks hidden_size; add the number of values in a vector.")
    pooling = _read_json(folder / "1_Pooling" / "config.json")  # where sentence-transformers keeps it
    return EmbedderSpec(
        name=folder.resolve().name,
        model=str(folder / "model.onnx"),
        tokenizer=str(folder / "tokenizer.json"),
        digest=digest(folder / "model.onnx"),
        dimension=dimension,
        pooling="cls" if pooling.get("pooling_mode_cls_token") else "mean",
        max_tokens=min(positions, MAX_TOKENS),
    )


def local_reader(folder: Path, digest: Digest) -> ReaderSpec:
    """How to run the reader in a folder with model.onnx and tokenizer.json (or the path of the first).

    Raises `ModelRejected` when one of them is missing.
    """
    folder = _onnx_folder(folder, "a reader", ("model.onnx", "tokenizer.json"))
    model, tokenizer = folder / "model.onnx", folder / "tokenizer.json"
    return ReaderSpec(folder.resolve().name, str(model), str(tokenizer), digest(model))


def _onnx_folder(path: Path, role: str, names: Sequence[str]) -> Path:
    """The folder a path means, which has all of these files."""
    folder = path.parent if path.suffix == ".onnx" else path
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ModelRejected(f"{folder} cannot be used as {role}: it lacks {', '.join(missing)}.")
    return folder


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object; an absent file counts as empty."""
    if not path.is_file():
        return {}
    try:
        loaded = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelRejected(f"{path} is not valid JSON ({error}).") from None
    return loaded if isinstance(loaded, dict) else {}
