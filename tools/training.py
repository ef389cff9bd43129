"""What the training scripts share: the learning rate over a run, log lines, and checkpoints that survive a crash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

LEAST = 0.05  # of the peak learning rate, at the end of a run


def learning_rate(peak: float, step: int, steps: int, warm_up: int) -> float:
    """Linear up over `warm_up` steps, then linear down to `LEAST` of the peak."""
    rising = (step + 1) / warm_up if warm_up else 1.0
    return peak * min(rising, max(LEAST, 1 - step / steps))


def log(**values: Any) -> None:
    """One JSON line on standard output."""
    print(json.dumps(values), flush=True)


def save(path: Path, **state: Any) -> None:
    """Write a checkpoint beside the old one, then put it in its place."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def load(path: Path) -> dict[str, Any]:
    """A checkpoint; raises `FileNotFoundError` where there is none."""
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state
