"""Logistic regression and how well its probabilities are calibrated. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

BINS = 15  # of the expected calibration error


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return np.asarray((1 + np.tanh(np.asarray(x) / 2)) / 2)


def fit(design: Array, truth: Array, ridge: float = 1e-3, weight: Array | float = 1.0) -> Array:
    """Weights (columns,) that maximise the likelihood of `truth` (rows,) given `design` (rows, columns); Newton steps.

    `ridge` keeps the weights finite where the classes can be told apart without error. A row counts `weight` times.
    """
    weights = np.zeros(design.shape[1])
    for _ in range(50):
        probability = sigmoid(design @ weights)
        slope = design.T @ (weight * (truth - probability)) - ridge * weights
        curvature = (design * (weight * probability * (1 - probability))[:, None]).T @ design
        weights = weights + np.linalg.solve(curvature + ridge * np.eye(len(weights)), slope)
    return weights


def calibration_error(probability: Array, truth: Array) -> float:
    """Expected calibration error over `BINS` equally filled bins."""
    order = np.argsort(probability)
    bins = [rows for rows in np.array_split(order, BINS) if len(rows)]
    return float(sum(len(rows) * abs(probability[rows].mean() - truth[rows].mean()) for rows in bins) / len(order))
