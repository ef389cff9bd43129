"""The generator reading passages independently: it says the same whether they are resident or not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny_gguf import TEMPLATE, write_tiny_gguf

from edgeai.errors import ContextTooLong
from edgeai.prompt import build_prompt, passage_text, prefix_segments
from edgeai.records import Passage, Prompt, Segment, Turn

LEAVE = "Employees get twelve weeks of paid leave. Part-time staff get six."
POLICY = "Laptops are replaced every four years. Phones are not."


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return replace(write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "random.gguf"), independent=True)


def passages_of(*texts):
    return [Passage(n, text, f"/{n}.md", 0, len(text), title="Rules") for n, text in enumerate(texts, 1)]


def prompt_for(generator, *texts, history=(), context=1024):
    options = {"count": generator.count_tokens, "context": context, "history": history, "max_tokens": 16}
    return build_prompt("How long is leave?", passages_of(*texts), generator.spec.template, **options)


def answer(generator, prompt):
    *pieces, last = generator.stream(prompt)
    return "".join(piece.text for piece in pieces) + last.text, last


def test_the_generator_says_the_same_with_passages_resident_and_counts_them(open_generator, spec):
    used = open_generator(spec)
    used.warm(prefix_segments(TEMPLATE))
    history = (Turn("Who asks?", "The staff [1]."),)
    for texts, turns in (((LEAVE, POLICY), ()), ((LEAVE,), ()), ((LEAVE, POLICY), history), ((), history)):
        prompt = prompt_for(used, *texts, history=turns)
        text, last = answer(used, prompt)
        expected, cold = answer(open_generator(spec), prompt)
        assert text == expected
        assert (cold.cached_tokens, cold.prompt_tokens) == (0, last.prompt_tokens)
    prompt = prompt_for(used, LEAVE, POLICY)
    behind = [segment for segment in prompt.segments if segment.role in ("question", "suffix")]
    computed = sum(1 if segment.special else used.count_tokens(segment.text) for segment in behind)
    last = answer(used, prompt)[1]
    assert last.cached_tokens == last.prompt_tokens - computed


def test_both_ways_of_reading_can_be_had_of_one_model_and_differ(open_generator, spec):
    ways = [open_generator(replace(spec, independent=independent)) for independent in (True, False)]
    assert len({answer(generator, prompt_for(generator, LEAVE))[0] for generator in ways}) == 1
    assert len({answer(generator, prompt_for(generator, LEAVE, POLICY))[0] for generator in ways}) == 2


def test_a_prompt_that_does_not_fit_is_refused_by_arithmetic(open_generator, spec):
    generator = open_generator(spec, context=256)
    long = tuple(Segment("word " * 100, "passage") for _ in range(3))
    with pytest.raises(ContextTooLong, match="context of 256"):
        list(generator.stream(Prompt((*long, Segment("word", "question")), (), max_tokens=16)))
    assert answer(generator, Prompt((Segment("word", "question"),), (), max_tokens=4))[1].finish


def test_after_closing_a_stream_midway_the_next_answer_equals_a_cold_run(open_generator, spec):
    generator, cold = open_generator(spec), open_generator(spec)
    prompt = replace(prompt_for(generator, LEAVE, POLICY), max_tokens=100)
    expected = answer(cold, prompt)[0]
    for _ in range(3):
        stream = generator.stream(prompt)
        next(stream)
        stream.close()
        assert answer(generator, prompt)[0] == expected


@pytest.mark.real
def test_the_default_generator_answers_alike_with_passages_resident(open_generator, generator_spec):
    spec = replace(generator_spec, independent=True)
    used = open_generator(spec)
    used.warm(prefix_segments(spec.template))
    for texts, resident in (((LEAVE, POLICY), 0), ((LEAVE,), 1), ((LEAVE, POLICY), 2)):
        prompt = prompt_for(used, *texts)
        text, last = answer(used, prompt)
        kept = [used.count_tokens(passage_text(passage)) for passage in prompt.passages[:resident]]
        prefix = sum(1 if part.special else used.count_tokens(part.text) for part in prefix_segments(spec.template))
        assert last.cached_tokens == prefix + sum(kept)
        cold, first = answer(open_generator(spec), prompt)
        assert first.cached_tokens == 0
        assert text == cold
