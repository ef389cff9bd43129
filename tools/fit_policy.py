"""Fit the constants that decide whether to answer, and what a confidence is worth, from questions of known answer.

    python benchmarks/answers.py --data DIR --development negatives.json --records records.jsonl
    python -m tools.fit_policy records.jsonl

Each record has the reader's judgements of the passages shown, what the generator said, and whether there was an answer.
Prints the constants of `edgeai.grounding.read` and the curve of `edgeai.grounding.calibrated`, the calibration error of
the probability on the halves it was not fitted on, and what each floor would answer and refuse. Nothing is written: the
constants are copied by hand, so that a person has looked at them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeai.grounding import read
from edgeai.prompt import is_refusal
from edgeai.records import Reading
from tools.logistic import Array, calibration_error, fit, sigmoid

UNANSWERABLE = 0.25  # of all questions, for what a confidence is worth; as in `edgeai eval --calibrate`
RIGHT_F1 = 0.6  # or the words of an accepted answer, as in `edgeai eval`
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
    print("worth of a confidence: slope {:.2f}, offset {:.2f}".format(*worth(records)))


def features(record: Mapping[str, Any], *, heard: bool) -> list[float]:
    """The row of a record, in the order of `NAMES`."""
    declined = is_refusal(record["said"])
    witness = [float(declined), float(not declined)] if heard else [0.0, 0.0]
    return [1.0, read.log_odds(_best(record).answerable), *witness]


def crossed(design: Array, truth: Array) -> float:
    """Calibration error of probabilities, each from weights fitted on the other half of the records."""
    halves = np.arange(len(truth)) % 2
    probability = np.empty(len(truth))
    for side in (0, 1):
        probability[halves != side] = sigmoid(
            design[halves != side] @ fit(design[halves == side], truth[halves == side])
        )
    return calibration_error(probability, truth)


def worth(records: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Slope and offset of P(an answer is right) over the log-odds of the confidence that is used now, for questions of
    which a quarter has no answer.
    """
    raw = np.array([read.verdict(_best(record), read.UNHEARD).confidence for record in records])
    answerable = np.array([record["kind"] == "answerable" for record in records])
    right = answerable & [found["contains"] or found["f1"] >= RIGHT_F1 for found in (one["reader"] for one in records)]
    weight = np.where(answerable, 1.0, UNANSWERABLE / (1 - UNANSWERABLE) * answerable.sum() / (~answerable).sum())
    shown = raw >= read.FLOOR
    design = np.array([[1.0, read.log_odds(float(one))] for one in raw[shown]])
    offset, slope = fit(design, right[shown].astype(float), weight=weight[shown])
    return float(slope), float(offset)


def _best(record: Mapping[str, Any]) -> Reading:
    return max((Reading(**reading) for reading in record["readings"]), key=read.likelihood)


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
