"""Independent passages against their definition: whatever is resident, logits are those of one pass in numpy."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tiny_gguf
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_gguf import TEMPLATE, write_tiny_gguf

from edgeai.errors import ContextTooLong, EdgeAIError, UsageProblem
from edgeai.llm.llama import BATCH, Interrupted, Llama
from edgeai.llm.residence import PASSAGES, SEQUENCES, Independent, Parts, Sequential

CONTEXT = 256
# llama.cpp keeps keys and values in half precision: logits, of standard deviation 2, are off by 0.014 (median of 3,000
# prompts) to 0.065 (the worst). How far off a prompt is that is only nearly the same is tested below.
TOLERANCE = 0.15
PREFIX = tuple(range(10, 22))
QUESTION = tuple(range(40, 49))
TEXTS = [tuple(np.random.default_rng(i).integers(3, 250, 5 + 7 * i).tolist()) for i in range(6)]  # 5..40 tokens


# the definition ---------------------------------------------------------------------------------------------------


def forward(parts: Parts, answer: tuple[int, ...] = (), late: int = 0) -> np.ndarray:
    """Logits of the token after a prompt, by the definition of independent passages and the "llama" architecture.

    `late` puts what follows the passages so many positions too far behind.
    """
    weights = model_weights()
    behind = len(parts.prefix) + max(map(len, parts.passages), default=0) + late
    groups = [(0, 0, parts.prefix)]  # group, first position, tokens; group 0 is seen by all, the last one sees all
    groups += [(i, len(parts.prefix), passage) for i, passage in enumerate(parts.passages, 1)]
    groups += [(len(groups), behind, (*parts.rest, *answer))]
    tokens = np.array([token for _, _, ids in groups for token in ids])
    positions = np.array([first + i for _, first, ids in groups for i in range(len(ids))])
    group = np.array([number for number, _, ids in groups for _ in ids])
    sees = (group == 0) | (group[:, None] == group) | (group[:, None] == groups[-1][0])
    sees &= np.tri(len(tokens), dtype=bool)

    state = weights["token_embd.weight"][tokens]
    for layer in range(tiny_gguf.LAYERS):
        state = state + attention(normed(state), positions, sees, weights, f"blk.{layer}.attn_")
        inner = normed(state)
        gate, up = (inner @ weights[f"blk.{layer}.ffn_{name}.weight"].T for name in ("gate", "up"))
        state = state + (gate / (1 + np.exp(-gate)) * up) @ weights[f"blk.{layer}.ffn_down.weight"].T
    return normed(state)[-1] @ weights["output.weight"].T


@cache
def model_weights() -> dict[str, np.ndarray]:
    return tiny_gguf._tensors(len(tiny_gguf._vocabulary()[0]), np.random.default_rng(0))


def normed(state: np.ndarray) -> np.ndarray:
    return state / np.sqrt((state**2).mean(-1, keepdims=True) + 1e-5)


def attention(state, positions, sees, weights, name):
    shape = (len(state), tiny_gguf.HEADS, -1)
    q, k, v = ((state @ weights[f"{name}{part}.weight"].T).reshape(shape).transpose(1, 0, 2) for part in "qkv")
    scores = rotated(q, positions) @ rotated(k, positions).transpose(0, 2, 1) / q.shape[-1] ** 0.5
    scores = np.where(sees, scores, -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = shares / shares.sum(-1, keepdims=True) @ v
    return mixed.transpose(1, 0, 2).reshape(len(state), -1) @ weights[f"{name}output.weight"].T


def rotated(vectors: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Rotary embedding of adjacent pairs, as llama.cpp lays them out for this architecture."""
    width = vectors.shape[-1]
    angles = positions[:, None] * 10000.0 ** (-np.arange(0, width, 2) / width)
    pairs = (vectors[..., 0::2] + 1j * vectors[..., 1::2]) * np.exp(1j * angles)
    return np.stack([pairs.real, pairs.imag], -1).reshape(vectors.shape)


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.abs(found - expected).max() < TOLERANCE)


# one context ------------------------------------------------------------------------------------------------------


class Stopping(Llama):
    """Stops itself within the batch numbered `stop_at`, counted from 0."""

    stop_at = -1

    def _decode(self, spans, logits):
        if self.stop_at == 0:
            self.interrupt()
        self.stop_at -= 1
        return super()._decode(spans, logits)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return replace(write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "random.gguf"), independent=True)


@pytest.fixture(scope="module")
def model(spec):
    llama = Stopping(spec.model, TEMPLATE.special_ids, threads=1, gpu_layers=0, context=CONTEXT, sequences=SEQUENCES)
    yield llama
    llama.close()


@pytest.fixture(scope="module")
def wide(spec):
    llama = Stopping(spec.model, TEMPLATE.special_ids, threads=1, gpu_layers=0, context=1024, sequences=SEQUENCES)
    yield llama
    llama.close()


def fresh(llama):
    llama.resume()
    llama.clear()
    return Independent(llama)


def parts_of(*numbers, prefix=PREFIX, question=QUESTION, answer=4):
    return Parts(prefix, tuple(TEXTS[number] for number in numbers), question, answer)


def ask(residence, parts):
    """How many tokens were resident, and the logits after the prompt."""
    cached = residence.reuse(parts)
    residence.evaluate(parts)
    return cached, residence.llama.logits().copy()


@pytest.mark.parametrize("numbers", [(), (0,), (3,), (0, 5), (5, 0), (1, 2, 3), (4, 3, 2, 1, 0)])
def test_logits_are_those_of_the_definition_for_the_question_and_for_the_answer(model, numbers):
    residence, parts = fresh(model), parts_of(*numbers)
    assert close(ask(residence, parts)[1], forward(parts))
    for given_answer in ((7,), (7, 90), (7, 90, 8)):
        residence.append((given_answer[-1],))
        assert close(model.logits(), forward(parts, given_answer))


def test_the_tolerance_tells_the_definition_from_what_is_near_it():
    expected = forward(parts_of(1, 2, 3))
    joined = Parts(PREFIX, (), TEXTS[1] + TEXTS[2] + TEXTS[3] + QUESTION)
    shorter = Parts(PREFIX, (*TEXTS[1:3], TEXTS[3][:-1]), QUESTION)
    for other in (parts_of(1, 2), parts_of(1, 2, 4), parts_of(1, 2, 3, 0), joined, shorter):
        assert np.abs(forward(other) - expected).max() > 3 * TOLERANCE
    assert np.abs(forward(parts_of(1, 2, 3), late=1) - expected).max() > 3 * TOLERANCE


def test_resident_passages_cost_nothing_and_change_nothing_in_any_order(model):
    residence = fresh(model)
    cached, first = ask(residence, parts_of(1, 2, 3))
    assert cached == 0
    for numbers in ((1, 2, 3), (3, 2, 1), (2, 3, 1)):
        parts = parts_of(*numbers)
        cached, again = ask(residence, parts)
        assert cached == len(parts) - len(QUESTION)
        assert np.array_equal(again, first)


def test_a_passage_of_an_earlier_question_does_not_leak_into_a_later_one(model):
    residence = fresh(model)
    ask(residence, parts_of(0, 1, 2, 3))
    for token in (5, 6, 7):
        residence.append((token,))
    for numbers in ((1,), (), (2, 4)):
        assert close(ask(residence, parts_of(*numbers))[1], forward(parts_of(*numbers)))


def test_only_the_missing_passages_are_counted_as_computed(model):
    residence = fresh(model)
    ask(residence, parts_of(1, 2))
    assert ask(residence, parts_of(2, 3))[0] == len(PREFIX) + len(TEXTS[2])


def test_one_passage_is_the_ordinary_prompt(model, spec):
    llama = Llama(spec.model, TEMPLATE.special_ids, threads=1, gpu_layers=0, context=CONTEXT)
    try:
        for number in range(len(TEXTS)):
            _, expected = ask(Sequential(llama), parts_of(number))
            found = ask(fresh(model), parts_of(number))[1]
            assert close(found, expected)
            llama.clear()
            for ids in (PREFIX, TEXTS[number], QUESTION):  # the same batches
                llama.evaluate(ids)
            assert np.array_equal(found, llama.logits())
    finally:
        llama.close()


def test_another_prefix_makes_everything_resident_useless(model):
    residence = fresh(model)
    ask(residence, parts_of(1, 2))
    for prefix in (PREFIX[:-1], (), PREFIX):
        parts = parts_of(1, 2, prefix=prefix)
        cached, found = ask(residence, parts)
        assert cached == 0
        assert close(found, forward(parts))


def test_a_passage_shown_twice_counts_once(model):
    residence = fresh(model)
    assert np.array_equal(ask(residence, parts_of(2, 2, 1))[1], ask(fresh(model), parts_of(2, 1))[1])
    assert ask(residence, parts_of(2, 2, 1))[0] == len(parts_of(2, 2, 1)) - len(QUESTION)
    assert close(ask(residence, parts_of(3))[1], forward(parts_of(3)))


def test_passages_without_tokens_change_nothing(model):
    empty = Parts(PREFIX, ((), TEXTS[1], ()), QUESTION, 4)
    assert np.array_equal(ask(fresh(model), empty)[1], ask(fresh(model), parts_of(1))[1])


# room -------------------------------------------------------------------------------------------------------------


def test_when_cells_run_out_the_passages_not_shown_for_longest_go(model):
    residence = fresh(model)
    random = np.random.default_rng(7)
    others = [tuple(random.integers(3, 250, 60).tolist()) for _ in range(4)]
    for shown in ([0, 1], [1, 2], [3], [1], [0], [2, 3], [1]):
        parts = Parts(PREFIX, tuple(others[number] for number in shown), QUESTION, 4)
        assert close(ask(residence, parts)[1], forward(parts))
    shown_last = Parts(PREFIX, tuple(others[number] for number in (1, 2, 3)), QUESTION, 4)
    assert residence.reuse(shown_last) == len(PREFIX) + 180
    assert residence.reuse(replace(shown_last, passages=(others[0],))) == len(PREFIX)


def test_prompt_and_answer_may_fill_the_context_exactly_beside_what_was_resident(model):
    residence = fresh(model)
    ask(residence, parts_of(1, 2, 3, 4))
    long = tuple(np.random.default_rng(8).integers(3, 250, CONTEXT - len(PREFIX) - len(QUESTION) - 3).tolist())
    parts = Parts(PREFIX, (long,), QUESTION, 3)
    assert close(ask(residence, parts)[1], forward(parts))
    for token in (5, 6, 7):
        residence.append((token,))
    assert close(model.logits(), forward(parts, (5, 6, 7)))
    with pytest.raises(ContextTooLong, match="256"):
        residence.reuse(replace(parts, answer=4))
    assert residence.reuse(parts) == len(PREFIX) + len(long)


def test_no_fewer_passages_go_than_prompt_and_answer_need(model):
    random = np.random.default_rng(6)
    size = (CONTEXT - len(PREFIX) - len(QUESTION) - 4) // 3
    others = [tuple(random.integers(3, 250, size).tolist()) for _ in range(4)]
    residence = fresh(model)
    for passage in others[:3]:
        ask(residence, replace(parts_of(), passages=(passage,)))
    spare = CONTEXT - len(PREFIX) - len(QUESTION) - 3 * size
    for room, kept in ((spare, 3), (spare + 1, 2)):
        parts = replace(parts_of(), passages=(others[2],), answer=room)
        assert close(ask(residence, parts)[1], forward(parts))
        for _ in range(room):
            residence.append((5,))
        assert residence.reuse(replace(parts_of(), passages=tuple(others[:3]))) == len(PREFIX) + kept * size


def test_a_copy_is_as_good_as_what_it_was_copied_from(model):
    residence = fresh(model)
    random = np.random.default_rng(7)
    others = [tuple(random.integers(3, 250, 60).tolist()) for _ in range(4)]
    firsts = []
    for shown in others:
        parts = replace(parts_of(), passages=(shown,))
        ask(residence, parts)
        firsts.append(ask(residence, parts)[1])  # of the question behind a passage that is resident
        residence.keep()
    for shown, first in zip(others, firsts, strict=True):  # three of four fit
        assert residence.knows(shown)
        cached, again = ask(residence, replace(parts_of(), passages=(shown,)))
        assert cached == len(PREFIX) + 60
        assert np.array_equal(again, first)
    both = replace(parts_of(), passages=(others[3], others[0]))
    assert close(ask(residence, both)[1], forward(both))


def test_copies_take_no_more_memory_than_they_may(model):
    model.resume()
    model.clear()
    residence = Independent(model, copied_bytes=0)
    ask(residence, parts_of(1))
    residence.keep()
    residence.reuse(replace(parts_of(2, 3, 4, 5), answer=CONTEXT - len(parts_of(2, 3, 4, 5))))
    assert not residence.knows(TEXTS[1])


def test_another_prefix_makes_copies_useless(model):
    residence = fresh(model)
    ask(residence, parts_of(1))
    residence.keep()
    ask(residence, parts_of(2, prefix=PREFIX[:-1]))
    assert not residence.knows(TEXTS[1])


def test_a_copy_that_does_not_go_back_is_computed_again(model):
    residence = fresh(model)
    residence._copies.add(TEXTS[1], b"not a state")
    _, found = ask(residence, parts_of(1))
    assert close(found, forward(parts_of(1)))
    assert TEXTS[1] not in residence._copies


def test_a_failure_of_the_engine_leaves_a_usable_residence(model):
    residence, parts = fresh(model), parts_of(1, 2)
    ask(residence, parts)
    with pytest.raises(EdgeAIError):
        for _ in range(CONTEXT):  # more than was asked for
            residence.append((5,))
    cached, found = ask(residence, parts)
    assert cached == 0
    assert close(found, forward(parts))


def test_more_passages_than_sequences_are_shown_and_the_last_ones_stay(wide):
    random = np.random.default_rng(9)
    many = tuple(tuple(random.integers(3, 250, 6).tolist()) for _ in range(2 * PASSAGES + 5))
    residence = fresh(wide)
    ask(residence, replace(parts_of(), passages=many[:10]))
    for passages in (many, many[::-1], many[3:70], many[-3:]):
        parts = replace(parts_of(), passages=passages)
        assert close(ask(residence, parts)[1], forward(parts))
    parts = replace(parts_of(), passages=many[-3:])
    assert residence.reuse(parts) == len(parts) - len(QUESTION)


@pytest.mark.parametrize("length", [BATCH - 1, BATCH, BATCH + 1, 700])
def test_passages_are_cut_where_a_batch_is_full(wide, length):
    random = np.random.default_rng(length)
    passages = tuple(tuple(random.integers(3, 250, size).tolist()) for size in (20, length - 50, 30, 5))
    parts = replace(parts_of(), passages=passages)
    assert close(ask(fresh(wide), parts)[1], forward(parts))


def test_nothing_to_answer_is_refused(model):
    with pytest.raises(UsageProblem):
        fresh(model).reuse(parts_of(1, question=()))


# interruption -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at", range(5))  # prefix, passages, question, two tokens of the answer
def test_stopped_at_any_step_the_next_answers_are_right(model, stop_at):
    residence, parts = fresh(model), parts_of(1, 2, 3)
    model.stop_at = stop_at
    with pytest.raises(Interrupted):
        ask(residence, parts)
        residence.append((5,))
        residence.append((6,))
    model.resume()
    kept = [0, len(PREFIX), *[len(parts) - len(QUESTION)] * 3][stop_at]
    cached, found = ask(residence, parts)
    assert cached == kept
    assert close(found, forward(parts))
    assert close(ask(residence, parts_of(4, 2))[1], forward(parts_of(4, 2)))


def test_what_was_stopped_takes_no_room(wide):
    random = np.random.default_rng(3)
    passages = tuple(tuple(random.integers(3, 250, 300).tolist()) for _ in range(2))
    residence, full = fresh(wide), (PREFIX + TEXTS[5]) * 18
    wide.stop_at = 2  # prefix, first batch of passages, second one
    with pytest.raises(Interrupted):
        ask(residence, replace(parts_of(), passages=passages))
    wide.resume()
    parts = replace(parts_of(), passages=(full,))
    assert close(ask(residence, parts)[1], forward(parts))


def test_stopped_within_a_computation_the_next_answers_are_right(wide):
    random = np.random.default_rng(5)
    parts = replace(parts_of(), passages=tuple(tuple(random.integers(3, 250, 90).tolist()) for _ in range(10)))
    expected, stopped = forward(parts), 0
    for milliseconds in (1, 2, 4, 8, 16):
        residence = fresh(wide)
        timer = threading.Timer(milliseconds / 1000, wide.interrupt)
        timer.start()
        try:
            ask(residence, parts)
        except Interrupted:
            stopped += 1
        timer.join()
        wide.resume()
        assert close(ask(residence, parts)[1], expected)
    assert stopped


# any history ------------------------------------------------------------------------------------------------------

questions = st.lists(
    st.tuples(
        st.lists(st.integers(0, len(TEXTS) - 1), max_size=6),
        st.sampled_from([QUESTION, QUESTION[:1], tuple(range(100, 160))]),
        st.sampled_from([PREFIX, PREFIX, PREFIX, PREFIX[:5]]),
        st.integers(1, 80),  # room for the answer, so that passages have to go
        st.sampled_from([-1, -1, 0, 1, 2, 3]),  # the computation at which it is stopped
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, max_examples=40)
@given(questions)
def test_after_any_questions_logits_are_those_of_the_definition(model, asked):
    residence = fresh(model)
    for numbers, question, prefix, room, stop_at in asked:
        parts = parts_of(*dict.fromkeys(numbers), prefix=prefix, question=question, answer=room)
        try:
            model.stop_at = stop_at
            found = ask(residence, parts)[1]
            assert close(found, forward(parts))
            if room % 2:
                residence.keep()
            residence.append((9,))
            assert close(model.logits(), forward(parts, (9,)))
        except ContextTooLong:
            assert len(parts) + room > CONTEXT
        except Interrupted:
            model.resume()
    model.stop_at = -1
