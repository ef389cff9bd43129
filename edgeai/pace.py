"""What has been learnt about this machine's speed, kept from one process to the next.

One small JSON file in the data directory. Losing it costs a few answers that are planned with general figures.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from edgeai.budget import Costs
from edgeai.config import Settings, data_dir

FILE = "pace.json"
KEPT = 8  # combinations of models and threads


def key(settings: Settings) -> str:
    """Whatever the speed of an answer depends on, besides the machine."""
    deciding = ("model", "reader", "threads", "gpu_layers", "flash_attention")
    return " ".join(f"{name}={getattr(settings, name)}" for name in deciding)


def load(key: str) -> Costs:
    """The costs noted under this key, which names whatever they depend on; general ones where there are none."""
    return known(key) or Costs()


def known(key: str) -> Costs | None:
    """The costs noted under this key, None where there are none."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        return Costs.from_dict(_read()[key])
    return None


def save(key: str, costs: Costs) -> None:
    """Note the costs; silently given up where there is no data directory, or it cannot be written to."""
    entries = {name: rates for name, rates in _read().items() if name != key}
    entries = dict(list(entries.items())[-(KEPT - 1) :]) | {key: costs.as_dict()}
    target = data_dir() / FILE
    part = target.with_suffix(".part")
    with contextlib.suppress(OSError):
        part.write_text(json.dumps(entries, indent=1), encoding="utf-8")
        part.replace(target)


def _read() -> dict[str, dict[str, dict[str, float]]]:
    try:
        entries = json.loads(Path(data_dir() / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}
