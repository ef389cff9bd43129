"""What a time means nothing without: the computer, the versions, the memory taken and the energy spent.

Energy is that of the whole processor package, whoever used it: on a busy computer it says nothing about one process.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from edgeai import __version__

Result = TypeVar("Result")

DISTRIBUTIONS = ("onnxruntime", "llama-cpp-python", "apsw", "sqlite-vec", "numpy", "tokenizers")
# RAPL counters (Intel, and AMD from Zen on) in microjoules; since 2020 most systems let only root read them.
# https://docs.kernel.org/power/powercap/powercap.html
POWERCAP = Path("/sys/class/powercap")


def describe() -> dict[str, Any]:
    """CPU, cores, system and versions."""
    return {
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {"edgeai": __version__, **{name: _version(name) for name in DISTRIBUTIONS}},
    }


def _cpu_name() -> str:
    """As the system calls it; Python itself knows only the architecture on Linux."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.machine()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def peak_memory() -> int | None:
    """Most bytes this process has ever had resident, mapped model files included; None where the system does not say.

    Linux is asked for VmHWM: its `ru_maxrss` starts with that of the process which started this one.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    if found := re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE):
        return int(found.group(1)) * 1024
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class EnergyMeter:
    """Joules of every call of a metered function; no entries where the platform exposes no readable counter."""

    def __init__(self, root: Path = POWERCAP) -> None:
        self.joules: list[float] = []
        # Top-level zones named "package-N" only: those below them, and "psys", count the same energy again.
        zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if re.fullmatch(r"intel-rapl:\d+", zone.name)]
        self._zones = [zone for zone in zones if _is_readable_package(zone)]
        self._ranges = [_number(zone / "max_energy_range_uj") for zone in self._zones]

    def metered(self, call: Callable[[str], Result]) -> Callable[[str], Result]:
        """The function, noting in `joules` what each call took. A call must be shorter than a counter's round."""
        if not self._zones:
            return call

        def measured(text: str) -> Result:
            before = self._read()
            result = call(text)
            self.joules.append(spent(before, self._read(), self._ranges))
            return result

        return measured

    def _read(self) -> list[int]:
        return [_number(zone / "energy_uj") for zone in self._zones]


def spent(before: Sequence[int], after: Sequence[int], ranges: Sequence[int]) -> float:
    """Joules between two readings in microjoules of counters that start again at 0 after their range."""
    counters = zip(before, after, ranges, strict=True)
    return sum((end - start) % (limit + 1) for start, end, limit in counters) / 1e6


def _is_readable_package(zone: Path) -> bool:
    try:
        _number(zone / "energy_uj")
        return (zone / "name").read_text("ascii").startswith("package")
    except (OSError, ValueError):
        return False


def _number(path: Path) -> int:
    return int(path.read_text("ascii"))
