"""GGUF models in fewer bits, through llama.cpp.

It judges neither what is lost by it nor whether it is faster here; benchmarks/quantisation.py measures both.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from edgeai.cores import physical_cores
from edgeai.errors import DiskFull, ModelMissing, ModelRejected, UsageProblem
from edgeai.llm.llama import last_complaint, library
from edgeai.registry import gguf

QUANTISED = {"Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "IQ4_NL": 25}  # values of `enum llama_ftype` in llama.h


def quantise(source: Path, target: Path, type: str) -> None:  # noqa: A002 the field's name
    """Write `source` (GGUF of any type) to `target` with its weights as "Q4_0", "IQ4_NL" or "Q8_0".

    `target` appears complete or not at all. Raises `UsageProblem` for another type, `ModelMissing`, `ModelRejected`
    when the source is not accepted, by us or by llama.cpp, and `DiskFull`.
    """
    if type not in QUANTISED:
        raise UsageProblem(f"There is no quantisation {type!r}; choose one of {', '.join(QUANTISED)}.")
    if not source.is_file():
        raise ModelMissing(f"There is no model file at {source}; run `edgeai models pull` to install one.")
    target.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(target.parent).free < gguf.preflight(source).weights * gguf.QUANTISED_BYTES:
        raise DiskFull(
            f"There is not enough space in {target.parent} to quantise {source.name}; free some and try again."
        )
    llama_cpp = library()
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = QUANTISED[type]
    parameters.nthread = physical_cores()
    parameters.allow_requantize = True
    part = target.with_name(f"{target.name}.part")
    last_complaint()
    try:
        if llama_cpp.llama_model_quantize(str(source).encode(), str(part).encode(), parameters) != 0:
            raise ModelRejected(f"llama.cpp could not quantise {source} ({last_complaint()}); pull it again.")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
