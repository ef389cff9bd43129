"""From questions asked with nothing withheld: what a confidence is worth, and from which one on to answer.

Pure. It trusts its questions to be like those that will be asked, also in how many of them have no answer. On a few
dozen the figures are rough; those reported come from questions that were not fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeai.bootstrap import Values
from edgeai.errors import UsageProblem
from edgeai.evaluation.metrics import expected_calibration_error, risk_coverage
from edgeai.grounding.calibrated import Calibration
from edgeai.grounding.read import FLOOR, log_odds

Flags = npt.NDArray[np.bool_]

LEAST = 20  # answers that can be judged; with fewer, chance decides
FOLDS = 5  # of cross-validation
SLOPES = np.geomspace(0.05, 5.0, 185)  # 2.5 % apart; none is negative, so the order of answers never turns round
_HALVINGS = 60  # of an interval of a few hundred: exact to a float
CURVE_POINTS = 100


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one question when nothing was withheld; `group` is the same for those that share their words."""

    group: str
    raw: float  # confidence, 0..1
    right: bool
    shown: bool = True  # False where there was nothing to show, whatever the floor


@dataclass(frozen=True, slots=True)
class Operation:
    """What a floor does: share of all questions answered, share wrong of those, and the calibration error (0..1) of the
    confidence of every answer, also of those withheld.
    """

    answered: float
    wrong: float
    ece: float


@dataclass(frozen=True, slots=True)
class Fit:
    """The curve and the floor (raw confidence) fitted on all trials, and what they did on trials not fitted on."""

    slope: float
    offset: float
    floor: float
    risk: float | None  # share wrong that was allowed
    trials: int
    before: Operation  # with the general calibration
    after: Operation  # cross-validated
    curve: tuple[tuple[float, float, float], ...]  # (coverage, risk, raw confidence), coverage rising

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values; the curve as objects."""
        names = ("coverage", "risk", "confidence")
        curve = [dict(zip(names, (round(value, 4) for value in point), strict=True)) for point in self.curve]
        return {**asdict(self), "curve": curve}


def fit(trials: Sequence[Trial], general: Calibration, risk: float | None = None) -> Fit:
    """The curve, and the lowest floor at which no more than `risk` of what is answered is wrong.

    With `risk` None an answer is shown where it is right with a probability of at least `read.FLOOR`. `general` is what
    was in use before. Raises `UsageProblem` for too few answers, or when no floor keeps to the risk.
    """
    raw, right = columns(trials)
    if len(raw) < LEAST:
        raise UsageProblem(
            f"A calibration needs {LEAST} answers that can be judged, these questions gave {len(raw)}; add questions."
        )
    slope, offset = fit_curve(raw, right)
    floor = _floor(raw, right, slope, offset, risk)
    if floor is None:
        best = float(risk_coverage(raw, right)[1].min())
        raise UsageProblem(
            f"No floor keeps wrong answers at {risk:.0%}: at best {best:.0%} of them are wrong; "
            "allow more with --risk, or see with `edgeai eval FILE` which stage loses the sources."
        )
    ece = expected_calibration_error(apply(raw, general.slope, general.offset), right)
    before = _outcome(raw >= general.floor, right, len(trials), ece)
    after = cross_validate(trials, risk)
    return Fit(slope, offset, floor, risk, len(trials), before, after, _curve(raw, right, len(trials)))


def columns(trials: Sequence[Trial]) -> tuple[Values, Values]:
    """Raw confidence, and 1 for right or 0 for wrong, of every answer there was."""
    shown = [trial for trial in trials if trial.shown]
    return np.array([one.raw for one in shown], dtype=float), np.array([one.right for one in shown], dtype=float)


# the curve ------------------------------------------------------------------------------------------------------------


def fit_curve(raw: Values, right: Values) -> tuple[float, float]:
    """Slope and offset of greatest likelihood (Platt 1999, with his smoothed targets), for each slope the offset with
    which confidence and share right agree on average; (1, 0) where that would raise the calibration error of its data.
    """
    logits = _logits(raw)
    positive = right.sum()
    target = np.where(right == 1, (positive + 1) / (positive + 2), 1 / (len(right) - positive + 2))
    scaled = SLOPES[:, None] * logits
    offsets = _offsets(scaled, float(target.mean()))
    margins = scaled + offsets[:, None]
    likelihood = (target * margins - np.logaddexp(0, margins)).sum(axis=1)
    best = int(likelihood.argmax())
    slope, offset = float(SLOPES[best]), float(offsets[best])
    worse = expected_calibration_error(apply(raw, slope, offset), right) > expected_calibration_error(raw, right)
    return (1.0, 0.0) if worse else (slope, offset)


def _offsets(scaled: Values, mean: float) -> Values:
    """For each row of log-odds what has to be added for its mean probability to be `mean`; bisection."""
    reach = float(np.abs(scaled).max()) + abs(log_odds(mean)) + 1
    low, high = np.full(len(scaled), -reach), np.full(len(scaled), reach)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = _logistic(scaled + middle[:, None]).mean(axis=1) > mean
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    offsets: Values = (low + high) / 2
    return offsets


def apply(raw: Values, slope: float, offset: float) -> Values:
    """`Calibration.probability` of many."""
    return raw if (slope, offset) == (1.0, 0.0) else _logistic(slope * _logits(raw) + offset)


def _logits(raw: Values) -> Values:
    return np.array([log_odds(float(one)) for one in raw])


def _logistic(x: Values) -> Values:
    probability: Values = (1 + np.tanh(x / 2)) / 2
    return probability


# the floor ------------------------------------------------------------------------------------------------------------


def lowest_floor(raw: Values, right: Values, risk: float) -> float | None:
    """The lowest floor at which at most `risk` (0..1) of the answers shown are wrong; None when there is none.

    It lies half-way to the next answer that is withheld, so that another processor's rounding changes nothing.
    """
    order = np.argsort(-raw, kind="stable")
    ranked, errors = raw[order], np.cumsum(1 - right[order])
    following = np.append(ranked[1:], 0.0)
    parted = ranked > following  # a floor can only be set between answers of different confidence
    parted[-1] = True
    allowed = np.flatnonzero(parted & (errors <= risk * np.arange(1, len(ranked) + 1) + 1e-9))
    if not len(allowed):
        return None
    last, below = float(ranked[allowed[-1]]), float(following[allowed[-1]])
    middle = (last + below) / 2
    return middle if middle > below else last


def _floor(raw: Values, right: Values, slope: float, offset: float, risk: float | None) -> float | None:
    """The raw floor for a risk; with None the raw confidence whose calibrated probability is `FLOOR`."""
    if risk is not None:
        return lowest_floor(raw, right, risk)
    return float(_logistic(np.array((log_odds(FLOOR) - offset) / slope)))


def _outcome(shown: Flags, right: Values, asked: int, ece: float) -> Operation:
    wrong = float(1 - right[shown].mean()) if shown.any() else 0.0
    return Operation(float(shown.sum()) / asked, wrong, ece)


def cross_validate(trials: Sequence[Trial], risk: float | None) -> Operation:
    """What curves and floors, each fitted on four fifths of the groups, do on the other fifth; at least two groups.

    Where four fifths give no floor for the risk, nothing of the other fifth is answered.
    """
    groups = {group: number % FOLDS for number, group in enumerate(dict.fromkeys(trial.group for trial in trials))}
    folds = np.array([groups[trial.group] for trial in trials if trial.shown])
    raw, right = columns(trials)
    probability, shown = np.empty(len(raw)), np.zeros(len(raw), dtype=bool)
    for fold in np.unique(folds):
        held, rest = folds == fold, folds != fold
        curve = fit_curve(raw[rest], right[rest])
        floor = _floor(raw[rest], right[rest], *curve, risk)
        probability[held] = apply(raw[held], *curve)
        shown[held] = floor is not None and raw[held] >= floor
    return _outcome(shown, right, len(trials), expected_calibration_error(probability, right))


def _curve(raw: Values, right: Values, asked: int) -> tuple[tuple[float, float, float], ...]:
    """The risk-coverage curve over all questions, thinned to a size that can be drawn."""
    coverage, risk = risk_coverage(raw, right)
    confidence = np.sort(raw)[::-1]
    kept = np.unique(np.linspace(0, len(raw) - 1, CURVE_POINTS).round().astype(int))
    share = len(raw) / asked
    return tuple((float(coverage[row]) * share, float(risk[row]), float(confidence[row])) for row in kept)
