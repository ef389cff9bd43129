"""How close an answer comes to the answers wanted: exact match and token F1.

Pure. Both compare words after the normalisation of SQuAD's evaluation script (Rajpurkar et al., arXiv:1606.05250, and
arXiv:1806.03822 for several wanted answers): case, punctuation and the English articles do not count. They do not know
synonyms, and give no credit for a right answer in other words.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation + "“”‘’–—…。，、；：？！")


def normalised(text: str) -> list[str]:
    """The words that are compared."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def exact_match(answer: str, wanted: Sequence[str]) -> bool:
    """Whether the answer is one of those wanted; with none wanted, whether it is empty."""
    return normalised(answer) in ([normalised(one) for one in wanted] or [[]])


def token_f1(answer: str, wanted: Sequence[str]) -> float:
    """Harmonic mean of the precision and recall of words, 0..1, for the closest of the answers wanted."""
    return max((_f1(normalised(answer), normalised(one)) for one in wanted), default=float(not answer.strip()))


def contains(answer: str, wanted: Sequence[str]) -> bool:
    """Whether the words of a wanted answer occur in the answer, in order and side by side."""
    said = f" {' '.join(normalised(answer))} "
    return any(f" {' '.join(normalised(one))} " in said for one in wanted)


def _f1(said: list[str], wanted: list[str]) -> float:
    if not said or not wanted:
        return float(said == wanted)
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted))
