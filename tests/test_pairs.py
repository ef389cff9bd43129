"""What the reader is shown to learn from: altered passages, and questions that differ in little."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import toy_reader

torch = pytest.importorskip("torch")

from tokenizers import Tokenizer  # noqa: E402

from edgeai.text.sentences import sentences  # noqa: E402
from tools import pairs, train_reader  # noqa: E402
from tools.corpora import Corpus, Question, Span, Text  # noqa: E402

ROWS = "| Room | Seats |\n|---|---|\n| Birch | 30 |\n| Alder | 14 |\n| Rowan | 55 |\n"
PROSE = "The library opens at nine. It closes at six. On Sundays nobody is there."


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return pairs.Encoder(Tokenizer.from_file(toy_reader.write_reader(tmp_path_factory.mktemp("toy")).tokenizer))


def asked(text: str, answer: str, question: str = "one two", **fields) -> tuple[Question, Corpus]:
    start = text.index(answer)
    one = Question("q", "own", "own", "single", question, ("p",), ("p",), (Span("p", start, start + len(answer)),))
    one = Question(**{name: getattr(one, name) for name in one.__slots__} | fields)
    return one, Corpus("own", {"p": Text("p", "own", "", text)}, (one,))


def rest(encoder, text: str, answer: str, **fields) -> str | None:
    question, corpus = asked(text, answer, **fields)
    left = pairs.Sampler([corpus], {}, encoder, 0)._without_answer(question)
    return left and left.text


@pytest.mark.parametrize(("text", "answer"), [(PROSE, "nine"), (PROSE, "six"), (ROWS, "14"), (ROWS, "30")])
def test_a_passage_without_its_answer_keeps_everything_else(encoder, text, answer):
    left = rest(encoder, text, answer)
    assert answer not in left
    assert all(text[start:end] in left for start, end in sentences(text) if answer not in text[start:end])


def test_a_passage_that_may_answer_without_the_sentence_is_left_alone(encoder):
    assert rest(encoder, PROSE + " Also on Friday at nine.", "nine") is None  # said again
    assert rest(encoder, PROSE, "nine", kind="yesno") is None
    assert rest(encoder, PROSE, "nine", corpus="policyqa_dev") is None
    assert rest(encoder, "It opens at nine. Not today.", "nine") is None  # hardly anything left


def test_twins_are_learnt_from_together(encoder):
    hit, corpus = asked(PROSE, "nine", corpus="near", id="hit-1")
    miss = Question("miss-1", "near", "own", "near_miss", "three", ("p",), misses=("p",), twin="hit-1")
    other = Question("other", "near", "own", "near_miss", "four", ("p",), misses=("p",))
    sampler = pairs.Sampler([corpus], {}, encoder, 0)
    material = train_reader.Material((other, hit, miss), (), sampler)
    options = argparse.Namespace(share={}, tokens=128 * 12)
    (batch,) = train_reader._batches(material, options, seed=1)
    units = {pair.unit: [one.answerable for one in batch if one.unit == pair.unit] for pair in batch}
    assert sorted(map(len, units.values()))[-1] >= 2
    assert {True, False} <= set(max(units.values(), key=len))


def test_the_contrast_is_between_the_same_passage_of_one_unit_only():
    def pair(unit: int, passage: str, answerable: bool) -> pairs.Pair:
        return pairs.Pair((1,), passage, 0, None, answerable, (), False, unit)

    batch = [pair(0, "a", True), pair(0, "a", False), pair(0, "b", False), pair(1, "a", False)]
    logits = torch.tensor([3.0, 1.0, 9.0, 9.0], requires_grad=True)
    loss = train_reader._contrast(logits, batch)
    assert loss.item() == pytest.approx(torch.nn.functional.softplus(torch.tensor(-2.0)).item())
    loss.backward()
    assert logits.grad.tolist()[2:] == [0.0, 0.0]
    assert train_reader._contrast(logits, batch[2:]).item() == 0.0


def test_a_span_is_not_taught_where_it_is_not_known_which_one_is_meant(encoder):
    text = "Two boxes and two bags. The bags are red."
    for answer, taught in (("boxes", True), ("bags", False)):
        hit, corpus = asked(text, answer, corpus="near")
        sampler = pairs.Sampler([corpus], {}, encoder, 0)
        assert sampler._pair(hit, "p", 0, relevant=True, answerable=True).teaches_span == taught


def test_the_folder_of_a_group_does_not_hide_the_domain(tmp_path):
    from tools.corpora import read_near_misses

    line = '{"passage": "p", "way": "entity", "miss": "m", "trap": "nine", "hit": "h", "answer": "nine"}\n'
    Path(tmp_path / "near.jsonl").write_text(line, encoding="utf-8")
    corpus = Corpus("desk", {"p": Text("p", "desk/handbook", "", PROSE)}, ())
    near = read_near_misses(tmp_path / "near.jsonl", [corpus])
    assert {question.group for question in near.questions} == {"desk"}
    assert [question.twin for question in near.questions] == ["hit-0", ""]
