"""An answer in a form that was asked for, from the passages of a draft: generated, traced back, shown or refused.

The form is certain: a grammar or a fixed list leaves no other text. That the values are the right ones is not: texts
and numbers must stand in the passages, and the reader must think that they answer the question. There is no time limit,
because half a value is none: the budget of a question bounds only what comes before.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Generator, Sequence
from dataclasses import replace

from edgeai.config import Settings
from edgeai.engines import Generator as TextGenerator
from edgeai.errors import UsageProblem
from edgeai.grounding.draft import Draft
from edgeai.records import Answer, Passage, Piece, Prompt, Turn, Verdict
from edgeai.structured.forms import Form
from edgeai.structured.schema import mismatches, write
from edgeai.structured.trace import Traced, trace
from edgeai.text.links import without_targets


def needs_generator() -> UsageProblem:
    """What to raise where an answer in a form is wanted without a language model."""
    return UsageProblem(
        "--schema and --choices need a language model; choose one with --model, or run `edgeai models pull`."
    )


def answer(
    draft: Draft, form: Form, generator: TextGenerator, settings: Settings, history: Sequence[Turn] = ()
) -> Generator[Piece, None, Answer]:
    """Answer in a form; streams what the model says. Values may have about `settings.max_tokens` tokens in all."""
    quoted = draft.extractive(draft.outlook())
    if quoted.status == "refused":
        return quoted
    request = _request(draft, form, generator, settings, history, quoted)
    if form.schema is None:
        return _chosen(draft, form, generator, request, quoted)
    sent = time.perf_counter()
    pieces = []
    for piece in generator.stream(request):
        pieces.append(piece)
        yield piece
    return _judged(draft, form, pieces, request, quoted, sent, generator)


def _request(
    draft: Draft,
    form: Form,
    generator: TextGenerator,
    settings: Settings,
    history: Sequence[Turn],
    quoted: Answer,
) -> Prompt:
    room = form.room(settings.max_tokens, generator.count_tokens)
    if form.system:
        passage = _taken(draft, quoted)
        return form.held(form.alone(passage, without_targets(passage.text), generator.spec.template, room))
    asking = replace(draft, question=form.asked(draft.question, draft.hint()))
    return form.held(asking.lay_out(draft.passages, generator, replace(settings, max_tokens=room), history))


def _taken(draft: Draft, quoted: Answer) -> Passage:
    """The passage that answers the question best."""
    return next(passage for passage in draft.passages if passage.number == quoted.citations[0].n)


def _chosen(draft: Draft, form: Form, generator: TextGenerator, request: Prompt, quoted: Answer) -> Answer:
    """The likeliest of the choices, with its share of their likelihoods as confidence."""
    shares = normalised(generator.log_likelihoods(request, form.choices))
    best = max(range(len(shares)), key=lambda row: shares[row])
    label = form.choices[best]
    shown = replace(draft.refused(Verdict("answered", shares[best]), "generated"), text=label, value=label)
    return replace(shown, citations=quoted.citations, model=generator.spec.name)


def normalised(log_likelihoods: Sequence[float]) -> list[float]:
    """Natural logarithms of likelihoods as probabilities that sum to 1."""
    highest = max(log_likelihoods)
    weights = [math.exp(one - highest) for one in log_likelihoods]
    return [weight / sum(weights) for weight in weights]


def _judged(
    draft: Draft,
    form: Form,
    pieces: Sequence[Piece],
    request: Prompt,
    quoted: Answer,
    sent: float,
    generator: TextGenerator,
) -> Answer:
    last, schema = pieces[-1], form.schema or {}
    text = "".join(piece.text for piece in pieces)
    value = json.loads(text) if last.finish == "stop" else None
    traced = trace(value, schema, request.passages)
    if traced.value is None or any(mismatches(traced.value, schema)):
        given = draft.refused(Verdict("refused", 0.0, ("the passages hold no value of the schema",)), "generated")
    else:
        cut = last.output_tokens > request.max_tokens - request.closing
        given = _shown(draft, traced, quoted, cut)
    return draft.timed(given, last, generator.spec, sent)


def _shown(draft: Draft, traced: Traced, quoted: Answer, cut: bool) -> Answer:
    dropped, found = traced.dropped, len(traced.sources)
    confidence = quoted.confidence * (found / (found + dropped) if dropped else 1.0)
    degraded = [*(["cut short"] if cut else []), *([f"{dropped} values not in the passages"] if dropped else [])]
    given = draft.refused(Verdict("answered", confidence), "generated")
    return replace(
        given,
        text=write(traced.value),
        value=traced.value,
        value_sources={place: tuple(dict.fromkeys(q.n for q in quotes)) for place, quotes in traced.sources.items()},
        citations=traced.citations or quoted.citations,
        degraded=(*given.degraded, *degraded),
    )
