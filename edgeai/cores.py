"""How many threads can compute at once on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def physical_cores() -> int:
    """Cores this process may compute on: one thread per core is fastest, hyper-threads only wait for each other.

    Follows CPU affinity and container limits; never less than 2 where two CPUs are visible, because a small virtual
    machine shows hyper-threads as its only CPUs.
    """
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    if sys.platform == "darwin":
        cores = _performance_cores() or len(usable)
    else:
        cores = len({_siblings(cpu) for cpu in usable})
    return max(1, min(len(usable), _quota(), max(cores, 2)))


def _siblings(cpu: int) -> str:
    """The hyper-threads that share a core with this CPU, as the kernel lists them; elsewhere the CPU itself."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text("ascii").strip()
    except OSError:
        return str(cpu)


def _performance_cores() -> int:
    """Performance cores of Apple silicon; the efficiency cores would slow every matrix product down to their speed."""
    command = ["sysctl", "-n", "hw.perflevel0.physicalcpu"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return int(result.stdout) if result.returncode == 0 else 0


def _quota() -> int:
    """CPUs that the container's time quota amounts to (cgroup v2), at least 1; a large number when there is none."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()
    except (OSError, ValueError):
        return sys.maxsize
    return sys.maxsize if quota == "max" else max(1, round(int(quota) / int(period)))
