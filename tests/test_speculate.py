"""Drafts: what they propose, and that they never change an answer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_gguf import TEMPLATE, write_tiny_gguf

from edgeai.llm.greedy import greedy
from edgeai.llm.llama import Llama
from edgeai.llm.residence import SEQUENCES, Independent, Parts, Sequential
from edgeai.llm.speculate import COPIED, HINTED, LONGEST, agreed, propose

END = 2
TOKENS = st.lists(st.integers(3, 250), max_size=30)


def test_a_hint_is_proposed_whole_with_the_end_behind_it():
    assert propose([], [5, 6, 7], [], END) == (5, 6, 7, END)
    assert propose([5], [5, 6, 7], [], END) == (6, 7, END)
    assert propose([5, 6, 7], [5, 6, 7], [], END) == (END,)


def test_a_long_hint_is_cut_and_not_ended():
    assert propose([], list(range(100)), [], END) == tuple(range(HINTED))


def test_an_answer_that_leaves_the_hint_comes_back_to_it():
    assert propose([9, 5], [5, 6, 7], [[5, 8, 8]], END) == (6, 7)


def test_an_answer_goes_on_as_the_passage_with_its_last_words_does():
    assert propose([1, 2], [], [[7, 2, 9, 9], [1, 2, 3, 4]], END) == (3, 4)
    assert propose([1, 2], [], [[1, 2]], END) == ()


@given(TOKENS, TOKENS, st.lists(TOKENS, max_size=3))
def test_a_draft_is_short_and_stands_in_what_it_was_taken_from(answer, hint, sources):
    draft = propose(answer, hint, sources, END)
    texts = [[*hint, END], *sources]
    assert len(draft) <= max(COPIED, HINTED + 1)
    assert not draft or any(list(draft) == text[i : i + len(draft)] for text in texts for i in range(len(text)))
    assert LONGEST < HINTED


@given(TOKENS, TOKENS)
def test_what_is_agreed_on_is_the_common_beginning(draft, likeliest):
    likeliest = (likeliest + [0] * len(draft))[: len(draft)]
    count = agreed(draft, likeliest)
    assert draft[:count] == likeliest[:count]
    assert count == len(draft) or draft[count] != likeliest[count]


# with a model ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "random.gguf")


@pytest.fixture(scope="module", params=[Sequential, Independent])
def residence(request, spec):
    sequences = SEQUENCES if request.param is Independent else 1
    llama = Llama(spec.model, TEMPLATE.special_ids, threads=1, gpu_layers=0, context=512, sequences=sequences)
    yield request.param(llama)
    llama.close()


def answer(residence, parts, hint, end, favour=0.0):
    residence.reuse(parts)
    return [token for tokens in greedy(residence, parts, hint, end, favour=favour) for token in tokens]


@settings(deadline=None, max_examples=60)
@given(st.lists(TOKENS.filter(len), max_size=3), TOKENS.filter(len), TOKENS, st.integers(1, 24), st.integers(0, 24))
def test_no_hint_changes_an_answer(residence, passages, question, hint, limit, right):
    """The model is random, so its answers are unlike any hint: a part of the right answer is put in front."""
    parts = Parts((10, 11, 12), tuple(map(tuple, passages)), tuple(question), limit)
    residence.llama.rewinds = False  # nothing is proposed
    plain = answer(residence, parts, (), END)
    residence.llama.rewinds = True
    assert len(plain) == limit
    assert answer(residence, parts, (*plain[:right], *hint), END) == plain


@settings(deadline=None, max_examples=40)
@given(TOKENS.filter(len), TOKENS.filter(len), st.integers(1, 12), st.floats(0.0, 4.0))
def test_a_favoured_hint_gives_what_one_token_at_a_time_gives(residence, question, hint, limit, favour):
    parts = Parts((10, 11, 12), ((20, 21), (22,)), tuple(question), limit)
    residence.llama.rewinds = False
    plain = answer(residence, parts, hint, END, favour)
    residence.llama.rewinds = True
    assert answer(residence, parts, hint, END, favour) == plain


def test_a_hint_favoured_beyond_measure_is_said_and_ended(residence):
    parts = Parts((10, 11, 12), ((20, 21),), (30, 31), 12)
    hint = (40, 50, 41)
    assert answer(residence, parts, hint, END, 1000.0)[:4] == [*hint, END]
    assert answer(residence, parts, hint, END, 1e-9) == answer(residence, parts, (), END)


def test_a_right_hint_saves_all_forwards_but_one(residence):
    parts = Parts((10, 11, 12), ((20, 21),), (30, 31), 12)
    plain = answer(residence, parts, (), END)
    residence.reuse(parts)
    assert [*greedy(residence, parts, plain, END)] == [plain]
