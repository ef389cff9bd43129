"""`ask`: from a question to an answer with its evidence, on one page.

Everything it uses is handed to it; nothing here opens a file, loads a model or decides a default. What an answer is
worth is `check`'s business, and `check` says what it cannot prove.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

from edgeai import expand, followup, prompt, retrieve, shorten, steps
from edgeai.budget import ATTENDED, SPARE_FORWARDS, WORDY_FORWARDS, Budget, Costs
from edgeai.config import Settings
from edgeai.engines import Embedder, Reader
from edgeai.engines import Generator as TextGenerator
from edgeai.filters import EVERYTHING, Filter
from edgeai.grounding import read
from edgeai.grounding.calibrated import Calibration
from edgeai.grounding.draft import Draft
from edgeai.grounding.forged import blanked
from edgeai.records import (
    Answer,
    Hit,
    Passage,
    Piece,
    Prompt,
    Turn,
)
from edgeai.reply import Reply
from edgeai.store import Store
from edgeai.structured import filled
from edgeai.structured.forms import Form

Ahead = AbstractContextManager[Draft | None]


@dataclass(frozen=True, slots=True)
class Engines:
    """What `ask` works with. `generator` is called only once there is something to answer from; it and `reader` return
    None when no model is installed.
    """

    store: Store
    embedder: Embedder | None
    generator: Callable[[], TextGenerator | None]
    reader: Callable[[], Reader | None] = lambda: None
    costs: Costs = field(default_factory=Costs)
    saves_time: bool = True  # for generating, while passages are read
    calibration: Callable[[], Calibration | None] = lambda: None  # for these engines; called once the reader is there
    checkpoint: Callable[[], None] = lambda: None  # called now and then while passages are read; may raise to end it


def ask(
    question: str,
    engines: Engines,
    settings: Settings,
    *,
    where: Filter = EVERYTHING,
    history: Sequence[Turn] = (),
    form: Form | None = None,
    ahead: Ahead | None = None,
) -> Reply:
    """Answer from the index, in prose or in a form; nothing runs before the reply is read.

    `ahead` is entered once the models are loaded, left when the answer is complete, and gives what `find` made of the
    same arguments, if that was done before. Reading the reply raises `UsageProblem` where a form is wanted and there is
    no generator.
    """
    return Reply(_ask(question, engines, settings, where, tuple(history), form, ahead or nullcontext()))


def _ask(
    question: str,
    engines: Engines,
    settings: Settings,
    where: Filter,
    history: tuple[Turn, ...],
    form: Form | None,
    ahead: Ahead,
) -> Generator[Piece, None, Answer]:
    began = time.perf_counter()
    if form and engines.generator() is None:
        raise filled.needs_generator()
    load(engines)
    budget = Budget(settings.budget_ms or None, time.perf_counter(), engines.costs)  # loading is not in it
    with ahead as prepared:
        calibration = engines.calibration()

        def look_up(other: str, turns: Sequence[Turn], time_left: Budget) -> Draft:
            found = find(other, engines, settings, where, (*history, *turns), time_left)
            return replace(found, began=began, budget=budget, calibration=calibration)

        again = partial(_again, look_up, budget)
        if not form and (joint := steps.both(question, again)):
            return joint
        if prepared:
            draft = replace(prepared.asked(began, budget), calibration=calibration)
        else:
            draft = look_up(question, (), budget)
        floor = calibration.probability_of_floor if calibration and calibration.applies(read=True) else 0.0
        if not form and (joint := steps.bridged(question, partial(_in_its_own_words, draft), again, floor)):
            return joint
        return (yield from answer(draft, engines, settings, history, form))


def _again(
    look_up: Callable[[str, Sequence[Turn], Budget], Draft],
    budget: Budget,
    question: str,
    turns: Sequence[Turn],
    parts: int,
) -> steps.Found | None:
    """What the documents say to another question, in one of so many parts of the time left; None without time."""
    part = budget.part(parts)
    return _in_its_own_words(look_up(question, turns, part)) if part.leaves_step() else None


def _in_its_own_words(draft: Draft) -> steps.Found | None:
    """What the documents say without a language model, None where no reader tells what they do."""
    if not draft.readings:
        return None
    verdict = draft.outlook()
    if verdict.status == "refused":
        return steps.Found("", draft.refused(verdict))
    return steps.Found(draft.hint(), draft.defined() or draft.differing() or draft.extractive(verdict))


def load(engines: Engines) -> None:
    """Load what retrieval needs, where that was not done before."""
    if engines.embedder:
        engines.embedder.load()
    if reader := engines.reader():
        reader.load()


def find(
    question: str, engines: Engines, settings: Settings, where: Filter, history: Sequence[Turn], budget: Budget
) -> Draft:
    """What is found and read for a question, as far as there is time, before anything is said."""
    query = followup.rewrite_question(question, [_said(turn) for turn in history])
    query = expand.spell_out(query, engines.store, where)
    reader = engines.reader()
    found = retrieve.search(
        query,
        engines.store,
        engines.embedder,
        limit=max(settings.passages, settings.read if reader else 0),
        candidates=settings.candidates,
        per_document=settings.per_document,
        where=where,
    )
    candidates = tuple(numbered(found.hits))
    draft = Draft(question, query, candidates[: settings.passages], found, budget.began, budget, engines.embedder)
    if reader and candidates and found.trust >= read.READABLE:
        draft = draft.read(
            reader, candidates, settings.passages, generating=engines.saves_time, checkpoint=engines.checkpoint
        )
    return draft


def _said(turn: Turn) -> Turn:
    """The turn, without the words of a refusal: they name nothing a follow-up could be about."""
    return replace(turn, answer="") if prompt.is_refusal(turn.answer) else turn


def answer(
    draft: Draft, engines: Engines, settings: Settings, history: Sequence[Turn] = (), form: Form | None = None
) -> Generator[Piece, None, Answer]:
    """Answer from the passages of a draft: streams the generator's words, returns what is shown of them."""
    if not form and (defined := draft.defined()) is not None:
        return defined
    verdict = draft.outlook()
    if verdict.status == "refused":
        return draft.refused(verdict)
    if not form and (differing := draft.differing()) is not None:
        return differing
    generator = engines.generator()
    if generator is None:
        return draft.extractive(verdict, *(() if settings.model == "none" else ("no generator installed",)))
    if not form and not draft.asks(generator.spec):
        return draft.extractive(verdict)
    waiting = time.perf_counter()
    generator.load()
    draft = draft.waited(time.perf_counter() - waiting)
    if form:
        return (yield from filled.answer(draft, form, generator, settings, history))
    request, draft = _request(draft, generator, settings, history)
    if not request:
        draft.budget.costs.untried()
        given = draft.extractive(verdict, "no time to generate")
        _prepare(draft, generator)
        return given
    pieces: list[Piece] = []
    sent = time.perf_counter()
    for piece in generator.stream(request, draft.budget.deadline):
        pieces.append(piece)
        yield piece
    given = draft.generated(pieces, request.passages, verdict, generator.spec, sent)
    if draft.cut:
        _prepare(draft, generator)
    return given


def _prepare(draft: Draft, generator: TextGenerator) -> None:
    """Compute the passages while nobody waits; models that read them one after another could not use that."""
    if generator.spec.independent:
        generator.prepare(draft.whole(generator.spec.template))


def _request(
    draft: Draft, generator: TextGenerator, settings: Settings, history: Sequence[Turn]
) -> tuple[Prompt | None, Draft]:
    """The prompt with the passages there is time for, None when not even one fits; and the draft with what was cut."""
    if draft.budget.ms is None:
        return draft.lay_out(draft.passages, generator, settings, history), draft
    bare = draft.lay_out((), generator, settings, history)
    rest = sum(
        prompt.tokens_of(segment, generator.count_tokens) for segment in bare.segments if segment.role != "prefix"
    )

    def cost(passage: Passage) -> float:
        text = prompt.passage_text(passage, numbered=not generator.spec.independent)
        return generator.missing([text])[0] or ATTENDED * generator.count_tokens(text)

    foretold = generator.spec.independent and draft.readings  # by the reader; else each word takes a forward
    room = draft.budget.room(rest, SPARE_FORWARDS if foretold else WORDY_FORWARDS)
    shown, cut = shorten.fit(draft.passages, draft.readings, cost, room)
    request = draft.lay_out(shown, generator, settings, history) if shown else None
    return request, replace(draft, cut=(*draft.cut, *cut))


def numbered(hits: Iterable[Hit]) -> Iterator[Passage]:
    """Hits as the passages that models read, numbered from 1."""
    for number, hit in enumerate(hits, 1):
        chunk = hit.chunk
        yield Passage(
            number,
            blanked(chunk.text),
            hit.path,
            chunk.start,
            chunk.end,
            title=hit.title,
            heading=chunk.heading,
            header=chunk.header,
            page=chunk.page,
            modified=hit.modified,
        )
