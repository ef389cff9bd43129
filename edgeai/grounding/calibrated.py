"""What a confidence is worth, and the floor: in general, or as fitted to an index by an evaluation on its documents.

Pure. A calibration holds for questions like those it was fitted on and for the models that were in use then; whether
that is still so is for its user to compare (`embedder`, `reader`).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgeai.grounding.read import FLOOR, log_odds
from edgeai.specs import EmbedderSpec, ReaderSpec

CALIBRATION = "calibration"  # the name of the note in an index
NOT_USABLE = (
    "The calibration of this index was fitted for another embedder or reader and is not used; "
    "run `edgeai eval --calibrate` again."
)
Basis = Literal["", "reader", "search"]  # what judged the passages; "" = either


@dataclass(frozen=True, slots=True)
class Calibration:
    """P(an answer is right) = logistic(slope * log-odds of the raw confidence + offset): Platt, "Probabilistic outputs
    for support vector machines", Advances in Large Margin Classifiers, 1999.

    `slope` is positive, so the order of answers stays. `floor` is the raw confidence below which nothing is answered.
    """

    slope: float = 1.0
    offset: float = 0.0
    floor: float = 0.0
    basis: Basis = ""
    embedder: str = ""
    reader: str = ""
    model: str = ""  # the generator, for the record
    questions: int = 0
    made: str = ""  # ISO 8601, UTC

    def probability(self, raw: float) -> float:
        """The calibrated probability (0..1) of a raw confidence (0..1)."""
        if (self.slope, self.offset) == (1.0, 0.0):
            return raw
        return 1 / (1 + math.exp(-self.slope * log_odds(raw) - self.offset))

    def applies(self, *, read: bool) -> bool:
        """Whether it was fitted for answers whose passages a reader has judged (`read`), or has not."""
        return self.basis in ("", "reader" if read else "search")

    @property
    def probability_of_floor(self) -> float:
        """The calibrated probability of being right that an answer needs."""
        return self.probability(self.floor)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values."""
        return asdict(self)


# P(the passages hold an answer) says more than that the answer shown is the right one. Fitted by tools/fit_policy.py on
# 805 development questions, weighted so that a quarter has no answer.
SHIPPED = Calibration(slope=0.58, offset=0.09, floor=FLOOR, basis="reader")
ALL_SHOWN = Calibration()  # nothing is withheld: for finding out what would be said


def usable(record: Any, embedder: str, reader: str) -> Calibration | None:
    """A calibration out of what `Calibration.as_dict` gave; None for other models, or a record that is none."""
    try:
        found = Calibration(**record)
        numbers = (found.slope, found.offset, found.floor)
        sound = all(map(math.isfinite, numbers)) and found.slope > 0 and found.basis in ("reader", "search")
    except TypeError:
        return None
    return found if sound and (found.embedder, found.reader) == (embedder, reader) else None


def identity(spec: EmbedderSpec | ReaderSpec | None) -> str:
    """The name of a model with the digest of its file, "none" for None."""
    return f"{spec.name} {spec.digest[:12]}" if spec else "none"
