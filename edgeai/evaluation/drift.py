"""Are the questions of today still those that a calibration was fitted on?

Their embeddings and their confidences are compared as two samples. It says whether a difference can be chance, not
whether answers became worse, which nobody knows without judging them.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeai.bootstrap import SEED, Values
from edgeai.engines import Embedder
from edgeai.errors import UsageProblem
from edgeai.evaluation.trials import Asked
from edgeai.grounding.calibrated import Calibration
from edgeai.questionlog import Logged, mask

if TYPE_CHECKING:
    from edgeai.records import Vectors

EVIDENCE = "calibration questions"  # the name of the note in an index
SAMPLE = 200  # questions of either side that are compared
LEAST_RECENT = 20
PERMUTATIONS = 1_999
LEVEL = 0.05  # error of telling a difference where there is none, shared by the two comparisons


@dataclass(frozen=True, slots=True)
class Drift:
    """What recent questions have in common with those of the calibration; p-values of two-sample tests."""

    known: int
    recent: int
    refused: tuple[float, float]  # share before and now
    confidence: tuple[float, float]  # mean before and now
    topics_p: float
    confidence_p: float

    @property
    def due(self) -> bool:
        """Whether it is time to calibrate again."""
        return min(self.topics_p, self.confidence_p) < LEVEL / 2

    @property
    def sentence(self) -> str:
        """The finding in words."""
        if not self.due:
            return f"The last {self.recent} questions are like those of the calibration; it still holds."
        about = self.topics_p < LEVEL / 2
        surer = self.confidence_p < LEVEL / 2
        parts = ["are about other things"] * about + [f"are answered with {self._moved} confidence"] * surer
        return f"It is time to calibrate again: the last {self.recent} questions {' and '.join(parts)}."

    @property
    def _moved(self) -> str:
        before, now = self.confidence
        return "more" if now > before else "less"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values."""
        pairs = {name: dict(zip(("before", "now"), getattr(self, name), strict=True)) for name in _PAIRED}
        return {**asdict(self), **pairs, "due": self.due, "sentence": self.sentence}


_PAIRED = ("refused", "confidence")


# what the calibration saw ---------------------------------------------------------------------------------------------


def evidence(asked: Sequence[Asked], calibration: Calibration, embedder: Embedder) -> dict[str, Any]:
    """What is kept of the questions of a calibration, ready for JSON: no text, vectors of their masked words."""
    natural = [one for one in asked if not one.asking.held_out]
    rows = np.unique(np.linspace(0, len(natural) - 1, SAMPLE).round().astype(int))
    kept = [natural[row] for row in rows]
    vectors = _embedded([one.asking.case.question for one in kept], embedder)
    return {
        "confidences": [round(calibration.probability(one.trial.raw), 4) for one in kept],
        "refused": [not one.trial.shown or one.trial.raw < calibration.floor for one in kept],
        "vectors": base64.b64encode(vectors.astype("<f2").tobytes()).decode(),
    }


def _embedded(questions: Sequence[str], embedder: Embedder) -> Vectors:
    return np.stack([embedder.embed_query(mask(question)) for question in questions])


# the comparison -------------------------------------------------------------------------------------------------------


def compare(kept: dict[str, Any], recent: Sequence[Logged], embedder: Embedder) -> Drift:
    """Recent questions beside what `evidence` kept; raises `UsageProblem` when they are too few."""
    if len(recent) < LEAST_RECENT:
        raise UsageProblem(
            f"{len(recent)} questions about this index are in the log, a comparison needs {LEAST_RECENT}; "
            "set log_questions = true in edgeai.toml, and compare when more have been asked."
        )
    confidences = np.array(kept["confidences"], dtype=float)
    known = np.frombuffer(base64.b64decode(kept["vectors"]), dtype="<f2").reshape(len(confidences), -1).astype(float)
    now = np.array([one.confidence for one in recent])
    vectors = _embedded([one.question for one in recent], embedder).astype(float)
    return Drift(
        len(confidences),
        len(recent),
        (float(np.mean(kept["refused"])), float(np.mean([one.refused for one in recent]))),
        (float(confidences.mean()), float(now.mean())),
        two_sample_p(known, vectors),
        two_sample_p(confidences[:, None], now[:, None]),
    )


def two_sample_p(one: Values, other: Values, permutations: int = PERMUTATIONS) -> float:
    """How often samples (rows by dimensions) drawn from one pot differ as much as these two.

    The statistic is the energy distance 2 E|X-Y| - E|X-X'| - E|Y-Y'| (Szekely and Rizzo, "Testing for equal
    distributions in high dimension", InterStat 2004), its distribution that of permuted samples.
    """
    pooled = np.concatenate([one, other])
    distances = _distances(pooled)
    random = np.random.default_rng(SEED)
    drawn = np.zeros((permutations + 1, len(pooled)))
    drawn[0, : len(one)] = 1
    for row in drawn[1:]:
        row[random.permutation(len(pooled))[: len(one)]] = 1
    statistics = _energy(distances, drawn, len(one), len(other))
    # The margin is for sums that are equal but for the order of their parts.
    return float((statistics >= statistics[0] - 1e-9).mean())


def _distances(points: Values) -> Values:
    """Euclidean distances by the law of cosines, without an array of points by points by dimensions."""
    squares = (points**2).sum(axis=1)
    distances: Values = np.sqrt(np.maximum(0, squares[:, None] + squares - 2 * points @ points.T))
    return distances


def _energy(distances: Values, drawn: Values, count: int, rest: int) -> Values:
    """The energy distance of each division of the pot; `drawn` is 1 for the rows of the first sample."""
    within = ((drawn @ distances) * drawn).sum(axis=1)
    between = drawn @ distances.sum(axis=1) - within
    others = distances.sum() - 2 * between - within
    energy: Values = 2 * between / (count * rest) - within / count**2 - others / rest**2
    return energy
