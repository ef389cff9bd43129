"""Answers held to a grammar, by a real llama.cpp with random weights: what a model would rather say does not matter."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_gguf import TEMPLATE, write_tiny_gguf

from edgeai.errors import EdgeAIError, UsageProblem
from edgeai.llm.grammar import Grammar
from edgeai.llm.llama import Llama
from edgeai.prompt import build_prompt
from edgeai.records import Prompt, Segment
from edgeai.structured.gbnf import closing, grammar, grammar_of, longest
from edgeai.structured.schema import check_schema, mismatches, write

NAMES = st.text(min_size=1, max_size=6).filter(lambda name: name.isprintable())
LEAVES = st.one_of(
    st.sampled_from(["string", "number", "integer", "boolean", "null"]).map(lambda kind: {"type": kind}),
    st.lists(st.one_of(NAMES, st.integers(-9, 99), st.none(), st.booleans()), min_size=1, max_size=4).map(
        lambda values: {"enum": values}
    ),
    st.just({"type": ["string", "null"]}),
    st.just({"type": ["integer", "boolean"]}),
)


@st.composite
def objects(draw, inner):
    properties = draw(st.dictionaries(NAMES, inner, min_size=1, max_size=3))
    required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True))
    return {"type": draw(st.sampled_from(["object", ["object", "null"]])), "properties": properties} | (
        {"required": required} if required else {}
    )


SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(objects(inner), inner.map(lambda one: {"type": "array", "items": one})),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def specs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gguf")
    models = [write_tiny_gguf(folder / f"{seed}.gguf", seed=seed) for seed in range(3)]
    return [*models, replace(models[0], independent=True)]


@pytest.fixture(scope="module")
def generators(specs):
    from edgeai.llm.generate import LlamaGenerator

    opened = [LlamaGenerator(spec, threads=1, context=1024) for spec in specs]
    yield opened
    for generator in opened:
        generator.close()


def prompt_for(generator, question, **fields) -> Prompt:
    asked = build_prompt(question, [], TEMPLATE, count=generator.count_tokens, context=1024, max_tokens=8)
    return replace(asked, **fields)


def said(generator, schema, free, question="What is it?"):
    held = {"grammar": grammar(schema), "closing": closing(schema), "hint": write(longest(schema))}
    pieces = list(generator.stream(prompt_for(generator, question, max_tokens=free + closing(schema), **held)))
    return "".join(piece.text for piece in pieces), pieces[-1]


@settings(deadline=None, max_examples=60)
@given(schema=SCHEMAS, model=st.integers(0, 3), free=st.sampled_from([0, 3, 20]), question=st.sampled_from("abc"))
def test_whatever_the_weights_and_the_limit_the_answer_is_complete_and_valid(generators, schema, model, free, question):
    check_schema(schema)
    text, last = said(generators[model], schema, free, question)
    value = json.loads(text)
    assert not list(mismatches(value, schema))
    assert last.finish == "stop"
    if isinstance(value, dict):  # one way to write it
        assert list(value) == [name for name in schema["properties"] if name in value]


def test_a_draft_changes_how_fast_an_answer_comes_and_not_what_it_says(generators):
    schema = {"type": "object", "properties": {"first": {"type": "string"}, "second": {"type": "integer"}}}
    schema["required"] = ["first", "second"]
    fields = {"grammar": grammar(schema), "closing": closing(schema), "max_tokens": 30 + closing(schema)}
    for generator in generators:
        plain = list(generator.stream(prompt_for(generator, "What?", **fields)))
        drafted = list(generator.stream(prompt_for(generator, "What?", hint=write(longest(schema)), **fields)))
        assert "".join(piece.text for piece in plain) == "".join(piece.text for piece in drafted)
        assert drafted[-1].forwards < plain[-1].forwards


def test_a_model_that_speaks_of_something_else_still_gives_one_of_the_choices(open_generator, tmp_path):
    generator = open_generator(write_tiny_gguf(tmp_path / "m.gguf", script="the wors"))
    choices = ["yes", "no", 'it is [1] "unclear" \\ ü']
    fields = {"grammar": grammar_of(choices), "max_tokens": 40}
    assert "".join(piece.text for piece in generator.stream(prompt_for(generator, "?", **fields))) in choices


def test_no_control_token_is_taken_for_the_characters_of_its_name(specs):
    """In a string, llama.cpp's grammar allows "<|im_start|>", and the token of that name."""
    model = Llama(specs[0].model, TEMPLATE.special_ids, threads=1, gpu_layers=0, context=256)
    try:
        model.evaluate(model.tokenise("the answer"))
        with Grammar(model, 'root ::= "\\"" [^"]* "\\""', 100) as held:
            (quote,) = held.follow(())
            logits = model.logits().copy()
            logits[[*TEMPLATE.special_ids.values()]] = logits.max() + 1
            assert model.piece(quote) == b'"'
            assert model.piece(held._choose(logits))
    finally:
        model.close()


def test_an_answer_that_was_stopped_leaves_the_model_usable(generators):
    schema = {"type": "array", "items": {"type": "string"}}
    generator = generators[0]
    whole, _ = said(generator, schema, 60)
    fields = {"grammar": grammar(schema), "closing": closing(schema), "max_tokens": 60 + closing(schema)}
    stream = generator.stream(prompt_for(generator, "What is it?", **fields))
    next(stream)
    stream.close()
    assert said(generator, schema, 60)[0] == whole


def test_a_grammar_that_llama_does_not_accept_is_an_error_and_no_crash(generators):
    with pytest.raises(EdgeAIError, match="grammar"):
        list(generators[0].stream(prompt_for(generators[0], "?", grammar="root ::= missing\n", max_tokens=9)))


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "object"}, "'properties'"),
        ({"type": "array"}, "'items'"),
        ({}, "'type'"),
        ({"properties": {"a": {}}}, "field a"),
        ({"properties": {"a": {"type": "null"}}, "required": ["b"]}, "'b'"),
        ({"type": "integer", "enum": ["one"]}, "'enum'"),
    ],
)
def test_a_schema_that_says_too_little_to_write_a_value_is_refused_by_name(schema, says):
    check_schema(schema)
    with pytest.raises(UsageProblem, match=says):
        grammar(schema)


def test_likelihoods_of_choices_are_those_of_the_models_own_logits(generators, specs):
    """Computed again token by token with a fresh context."""
    import numpy as np

    choices = ["yes", "no", "the answer"]
    for generator, spec in zip(generators[:3], specs, strict=False):
        prompt = prompt_for(generator, "Is it?")
        found = generator.log_likelihoods(prompt, choices)
        model = Llama(spec.model, TEMPLATE.special_ids, threads=1, gpu_layers=0, context=512)
        for choice, likelihood in zip(choices, found, strict=True):
            model.clear()
            model.evaluate(_ids(model, prompt.segments))
            total = 0.0
            for token in (*model.tokenise(choice), TEMPLATE.end):
                logits = model.logits().astype(np.float64)
                total += logits[token] - np.logaddexp.reduce(logits)
                model.evaluate([token])
            assert likelihood == pytest.approx(total, abs=0.05)  # keys and values are kept in half precision
        model.close()
        assert all(likelihood < 0 for likelihood in found)


def _ids(model: Llama, segments: tuple[Segment, ...]) -> list[int]:
    special = TEMPLATE.special_ids
    texts = ((special[part.text],) if part.special else model.tokenise(part.text) for part in segments)
    return [token for ids in texts for token in ids]


def test_a_choice_of_more_tokens_than_one_forward_gives_logits_for_is_refused(generators):
    with pytest.raises(UsageProblem, match="tokens"):
        generators[0].log_likelihoods(prompt_for(generators[0], "?"), ["q" * 200])
