"""Answers that are no prose: a JSON value of some schema, or one of some choices; how a model is asked for them.

A model that was not trained for it is asked in the question. An adapter that was (tools/FINETUNING.md) is shown what it
was trained on: its own system sentence and one text, without a question. Nothing here looks at what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgeai.errors import UsageProblem
from edgeai.records import Passage, Prompt, Segment
from edgeai.specs import ChatTemplate
from edgeai.structured.gbnf import closing, grammar, longest
from edgeai.structured.schema import Schema, check_schema, described, write

LABEL_SYSTEM = "Say which label fits the text. Answer with the label only, one of: {}."
JSON_SYSTEM = "Extract these fields from the text: {}. Answer with one JSON object only."
FEWEST_CHOICES = 2


@dataclass(frozen=True, slots=True)
class Form:
    """What an answer has to be: valid against `schema`, or one of `choices` where there is no schema."""

    schema: Schema | None = None
    choices: tuple[str, ...] = ()
    system: str = ""  # what the adapter in use was trained to be told, "" for a model that was not trained for this

    def asked(self, question: str, hint: str = "") -> str:
        """The question, with what is wanted and what a reader takes for the answer."""
        question = f"{question} (Likely answer: {hint})" if hint else question
        if self.schema is None:
            return f"{question} Answer with one of: {', '.join(self.choices)}."
        fields = ", ".join(_explained(*one) for one in self.schema.get("properties", {}).items())
        wanted = f"one JSON object with the fields {fields}" if fields else "JSON"
        return f"{question} Answer with {wanted} only."

    def room(self, free: int, count: Callable[[str], int]) -> int:
        """How many tokens a value may have of which `free` are beyond its names and brackets."""
        return free if self.schema is None else free + count(self._outline) + closing(self.schema)

    def held(self, request: Prompt) -> Prompt:
        """A prompt of `room` tokens of answer, held to the schema."""
        if self.schema is None:
            return request
        return replace(request, hint=self._outline, grammar=grammar(self.schema), closing=closing(self.schema))

    def alone(self, passage: Passage, text: str, template: ChatTemplate, max_tokens: int) -> Prompt:
        """The prompt of an adapter that was trained for this: the text of one passage."""
        return Prompt(text_segments(self.system, text, template), (passage,), max_tokens)

    @property
    def _outline(self) -> str:
        return write(longest(self.schema or {}))


def _explained(name: str, schema: Schema) -> str:
    """A field with what the schema's author says of it; types are left out, which small models take for values."""
    listed = " or ".join(str(one) for one in schema.get("enum", ()))
    about = "; ".join(part for part in (str(schema.get("description", "")), listed) if part)
    return f"{name} ({about})" if about else name


def read_form(schema: Any = None, choices: Sequence[str] = ()) -> Form | None:
    """The form of an answer, None for prose.

    Raises `UsageProblem`, which names the keyword, for a schema that is not supported, for choices that are too few or
    not apart, and when both are given.
    """
    if schema is not None and choices:
        raise UsageProblem("A schema and choices cannot be used together; put the choices into the schema as an enum.")
    if schema is not None:
        check_schema(schema)
        grammar(schema)
        return Form(schema)
    if isinstance(choices, str):
        raise UsageProblem("Choices are a list; write ['yes', 'no'] instead of 'yes,no'.")
    if not choices:
        return None
    named = tuple(" ".join(choice.split()) for choice in choices)
    if "" in named or len(set(named)) < max(FEWEST_CHOICES, len(named)):
        raise UsageProblem(f"{', '.join(choices)!r} is not a choice; name {FEWEST_CHOICES} or more, each once.")
    return Form(choices=named)


def as_trained(form: Form, card: Mapping[str, Any]) -> Form:
    """The form for use with an adapter, by the description it came with.

    Raises `UsageProblem` when the adapter was trained for other fields or choices.
    """
    task, system = card.get("task"), str(card.get("system", ""))
    if task not in ("json", "label") or not system:
        return form
    trained = card.get("labels", []) if task == "label" else [described(card.get("schema", {}))]
    asked = [described(form.schema)] if form.schema is not None else list(form.choices)
    if (task == "label") != (form.schema is None) or sorted(trained) != sorted(asked):
        wanted = "the choices" if task == "label" else "a schema with the fields"
        raise UsageProblem(f"The adapter was trained for {wanted} {', '.join(trained)}; use those or another adapter.")
    return replace(form, system=system)


def text_segments(system: str, text: str, template: ChatTemplate) -> tuple[Segment, ...]:
    """The prompt of a task without passages: its system sentence, then the text as the user's message."""
    special = template.special_ids
    prefix = [Segment(system if part == "$system" else part, "prefix", part in special) for part in template.prefix]
    suffix = [Segment(part, "suffix", part in special) for part in template.suffix]
    return (*prefix, Segment(text.strip(), "question"), *suffix)
