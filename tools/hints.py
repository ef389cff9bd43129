"""What the reader would tell the generator about a training question, as it will at run time.

A few are misleading on purpose, since the reader knows the questions it was trained on too well. Not as many as it is
wrong about elsewhere: then a small generator mistrusts them all (models/smollm2-135m-grounded/CARD.md).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from edgeai import followup
from edgeai.engines import Reader
from edgeai.grounding import read
from edgeai.records import Passage
from tools.corpora import Question

SILENT = 0.08  # of the questions come without a hint, as where no reader is installed
MISLED = 0.02  # of the answerable ones get one from a passage that does not hold the answer


class Hints:
    """Draws hints; `seed` decides which questions get none or a wrong one."""

    def __init__(self, reader: Reader, seed: int, misled: float = MISLED) -> None:
        self._reader, self._misled = reader, misled
        self._random = random.Random(seed)

    def __call__(self, question: Question, passages: Sequence[Passage]) -> str:
        """The words of a span in one of the passages a question sees, "" for none."""
        drawn = self._random.random()
        if drawn < SILENT:
            return ""
        if drawn < SILENT + self._misled:
            passages = [passage for passage in passages if passage.path not in question.gold] or passages
        query = followup.rewrite_question(question.text, question.history)
        return read.hint(passages, self._reader.read(query, passages))
