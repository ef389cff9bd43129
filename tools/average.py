"""The mean of the weights of several checkpoints of one reader, which answers better than each of them.

    python -m tools.average first.pt second.pt --out mean.pt

Only for checkpoints of one line of training: others are not joined by a path of low loss. Source: Wortsman et al.,
"Model soups", arXiv:2203.05482.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from tools.training import load, save


def mean(states: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Parameters by name, each the mean of those of all checkpoints. Raises `KeyError` when names differ."""
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def main() -> None:
    """Read, average, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    save(options.out, reader=mean([load(path)["reader"] for path in options.checkpoints]))


if __name__ == "__main__":
    main()
