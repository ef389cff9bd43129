"""Fit the constants of `edgeai.read` that decide whether to answer, from questions whose answer is known.

    python benchmarks/answers.py --data DIR --development negatives.json --records records.jsonl
    python -m tools.fit_policy records.jsonl

Each record has the reader's judgements of the passages shown, what the generator said, and whether there was an answer.
Prints the constants, the calibration error of the probability on the halves it was not fitted on, and what each floor
would answer and refuse. Nothing is written: the constants are copied by hand, so that a person has looked at them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeai.grounding.read import likelihood, log_odds
from edgeai.prompt import is_refusal
from edgeai.records import Reading
from tools.logistic import Array, calibration_error, fit, sigmoid

NAMES = ("BIAS", "ANSWERABLE", "DECLINED", "STATED")
FLOORS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)


def main() -> None:
    """Fit, and show what follows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path)
    records = [json.loads(line) for line in parser.parse_args().records.read_text(encoding="utf-8").splitlines()]
    truth = np.array([record["kind"] == "answerable" for record in records], dtype=float)
    heard = np.array([features(record, heard=True) for record in records])
    unheard = np.array([features(record, heard=False) for record in records])
    ways = {"reader alone": unheard} | ({"both": heard} if any(record["said"] for record in records) else {})
    weights = fit(np.concatenate([*ways.values()]), np.concatenate([truth] * len(ways)))
    print({name: round(float(weight), 3) for name, weight in zip(NAMES, weights, strict=True)})
    for name, design in ways.items():
        print(name, "calibration error on the other half:", round(crossed(design, truth), 4))
        _show(sigmoid(design @ weights), records)


def features(record: Mapping[str, Any], *, heard: bool) -> list[float]:
    """The row of a record, in the order of `NAMES`."""
    readings = [Reading(**reading) for reading in record["readings"]]
    best = max(readings, key=likelihood)
    declined = is_refusal(record["said"])
    witness = [float(declined), float(not declined)] if heard else [0.0, 0.0]
    return [1.0, log_odds(best.answerable), *witness]


def crossed(design: Array, truth: Array) -> float:
    """Calibration error of probabilities, each from weights fitted on the other half of the records."""
    halves = np.arange(len(truth)) % 2
    probability = np.empty(len(truth))
    for side in (0, 1):
        probability[halves != side] = sigmoid(
            design[halves != side] @ fit(design[halves == side], truth[halves == side])
        )
    return calibration_error(probability, truth)


def _show(probability: Array, records: Sequence[Mapping[str, Any]]) -> None:
    kinds = np.array([record["kind"] for record in records])
    for floor in FLOORS:
        answered = probability >= floor
        shares = {
            "answered": answered[kinds == "answerable"].mean(),
            **{f"{kind} refused": 1 - answered[kinds == kind].mean() for kind in ("absent", "adversarial")},
        }
        print(f"  floor {floor:.2f}  " + "  ".join(f"{name} {share:.3f}" for name, share in shares.items()))


if __name__ == "__main__":
    main()
