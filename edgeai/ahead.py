"""The beginning of an answer while its question is still being typed: all that `pipeline.ask` does before it speaks.

The text may change at any moment, so what is made here counts only for a question that is asked in just these words.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeai import pipeline
from edgeai.budget import Budget
from edgeai.config import Settings
from edgeai.filters import Filter
from edgeai.power import on_battery
from edgeai.records import Turn
from edgeai.text.terms import words

if TYPE_CHECKING:
    from edgeai.background import Wait
    from edgeai.grounding.draft import Draft
    from edgeai.store import Store

PAUSE_S = 0.3  # without a key, set by hand: in the middle of a word the next one mostly comes sooner
LEAST_WORDS = 2  # of a text that is worth a search
QUESTION_MARKS = ("?", "？", "؟")


@dataclass(frozen=True, slots=True)
class Asked:
    """All that an answer depends on, besides what the index holds and how much time there is."""

    question: str
    history: tuple[Turn, ...]
    where: Filter
    settings: Settings
    store: Store


def pause(text: str) -> float | None:
    """Seconds to wait for more of a text; None when it says too little to search for."""
    if len(words(text)) < LEAST_WORDS:
        return None
    return 0.0 if text.rstrip().endswith(QUESTION_MARKS) else PAUSE_S


def drafts(asked: Asked, opened: Callable[[], pipeline.Engines], wait: Wait) -> Iterator[Draft]:
    """What `pipeline.find` gives once the text has stood for a moment; nothing where that is not worth the effort.

    First with as much read as there would be time for after the question, then, if that is not all, without a limit.
    A model that can use passages computed apart goes on with them in the background; those of an earlier text are
    given up before anything else. Raises what `wait` raises.
    """
    engines = replace(opened(), checkpoint=lambda: wait(0))
    generator = engines.generator()
    if generator:
        generator.pause()
    seconds = pause(asked.question)
    if seconds is None:
        return
    wait(seconds)
    if on_battery():
        return
    pipeline.load(engines)
    draft = _found(asked, engines, asked.settings.budget_ms or None)
    yield draft
    if draft.cut:
        draft = _found(asked, engines, None)
        yield draft
    if generator and generator.spec.independent and draft.outlook().status == "answered":
        generator.prepare(draft.whole(generator.spec.template))


def _found(asked: Asked, engines: pipeline.Engines, budget_ms: float | None) -> Draft:
    budget = Budget(budget_ms, time.perf_counter(), engines.costs)
    return pipeline.find(asked.question, engines, asked.settings, asked.where, asked.history, budget)
