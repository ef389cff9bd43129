"""How likely a model finds given answers to a prompt.

The prompt is computed once; each answer costs one forward over its tokens. It is the model's own belief: a model that
was not trained for the task prefers some words whatever it is asked, and nothing here corrects that.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeai.errors import UsageProblem
from edgeai.llm.llama import OUTPUTS
from edgeai.llm.residence import Parts, Residence
from edgeai.llm.states import Ids

LONGEST = OUTPUTS  # tokens of an answer, with the one that ends it: as many logits as one forward gives


def log_likelihoods(residence: Residence, parts: Parts, answers: Sequence[Ids]) -> list[float]:
    """Natural logarithm of the probability of each answer, as token ids, after a prompt.

    Raises `UsageProblem` for an answer that is empty or longer than `LONGEST`, and what `Residence.evaluate` raises.
    """
    if bad := [len(answer) for answer in answers if not 0 < len(answer) <= LONGEST]:
        raise UsageProblem(f"A choice has {bad[0]} tokens; give choices of 1 to {LONGEST - 1} tokens.")
    found = []
    for answer in answers:
        residence.reuse(parts)
        residence.evaluate(parts, answer[:-1])
        rows = reversed(range(len(answer)))
        found.append(sum(_log_probability(residence, row, token) for row, token in zip(rows, answer, strict=True)))
    return found


def _log_probability(residence: Residence, back: int, token: int) -> float:
    """Of a token behind the last token but `back`."""
    import numpy as np

    logits = residence.llama.logits(back).astype(np.float64)
    return float(logits[token] - logits.max() - np.log(np.exp(logits - logits.max()).sum()))
