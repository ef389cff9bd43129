"""Whether this computer has a GPU that the installed llama.cpp cannot use, and the command that mends it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

from edgeai.llm.llama import library


def gpu_notice() -> str:
    """One sentence, with the fix, when there is a GPU that the installed llama.cpp cannot use, else "".

    Loads llama.cpp only where there is a GPU. Raises `EngineMissing`.
    """
    if sys.platform == "darwin" and platform.machine() == "arm64":
        name, option = "Apple GPU", "-DGGML_METAL=on"
    elif shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists():
        name, option = "NVIDIA GPU", "-DGGML_CUDA=on"
    else:
        return ""
    if library().llama_supports_gpu_offload():
        return ""
    variable = f'$env:CMAKE_ARGS="{option}"; ' if os.name == "nt" else f"CMAKE_ARGS={option} "
    return (
        f"This computer has an {name} that the installed llama.cpp cannot use; to use it run "
        f"`{variable}pip install --force-reinstall --no-binary llama-cpp-python llama-cpp-python`."
    )
