"""The decoder that training runs computes what llama.cpp will compute, and nothing leaks between passages."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import gguf
import numpy as np
import pytest
from llama_logits import llama_logits, write_tied_gguf

torch = pytest.importorskip("torch")

from tiny_gguf import WIDTH, write_tiny_gguf  # noqa: E402

from tools.adapters import load_into, read_adapter, write_adapter  # noqa: E402
from tools.decoder import Decoder, Group, lay_out  # noqa: E402
from tools.lora import quantised  # noqa: E402

IDS = [1, 20, 35, 50, 2, 80, 7, 90, 33, 120, 250, 3]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tied_gguf(tmp_path_factory.mktemp("models") / "tied.gguf")


@pytest.fixture
def decoder(model: Path) -> Decoder:
    return trained(Decoder.from_gguf(model, rank=3, alpha=6.0, dtype=torch.float32))


def trained(decoder: Decoder) -> Decoder:
    """As if trained: matrices that change the logits."""
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, _, b in decoder.lora():
            b.copy_(torch.randn(b.shape, generator=random) * 0.05)
    return decoder


def group() -> Group:
    random = torch.Generator().manual_seed(2)
    questions = torch.randint(3, 250, (4, 9), generator=random)
    question_lengths = torch.tensor([9, 6, 7, 8])
    steps = torch.arange(9)
    return Group(
        prefix=torch.tensor([1, 20, 35, 2]),
        passages=torch.randint(3, 250, (3, 7), generator=random),
        passage_lengths=torch.tensor([5, 7, 4]),
        questions=questions,
        question_lengths=question_lengths,
        uses=torch.tensor([[1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 1]], dtype=torch.bool),
        targets=(steps < question_lengths[:, None]) & (steps >= question_lengths[:, None] - 3),
    )


def one_question(group: Group, q: int) -> Group:
    """The same group with one of its questions."""
    names = ("questions", "question_lengths", "uses", "targets")
    return dataclasses.replace(group, **{name: getattr(group, name)[q : q + 1] for name in names})


def without_passages(group: Group) -> Group:
    fields = {"passages": group.passages[:0], "passage_lengths": group.passage_lengths[:0], "uses": group.uses[:, :0]}
    return dataclasses.replace(group, **fields)


def dense_logits(decoder: Decoder, group: Group) -> torch.Tensor:
    """The definition, read literally: one mask over all tokens, one pair of tokens at a time."""
    layout = lay_out(group)
    tokens = [("prefix", 0)] * len(group.prefix)
    tokens += [("passage", p) for p, n in enumerate(group.passage_lengths) for _ in range(n)]
    tokens += [("question", q) for q, n in enumerate(group.question_lengths) for _ in range(n)]

    def sees(i: int, j: int) -> bool:
        (kind, number), (other_kind, other) = tokens[i], tokens[j]
        if (kind, number) == (other_kind, other):
            return j <= i
        if other_kind == "passage" and kind == "question":
            return bool(group.uses[number, other])
        return other_kind == "prefix"

    mask = torch.tensor([[sees(i, j) for j in range(len(tokens))] for i in range(len(tokens))])

    def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
        scores = torch.einsum("ihd,jhd->hij", q, k) / q.shape[2] ** 0.5
        weights = scores.masked_fill(~mask, -torch.inf).softmax(2)
        return torch.einsum("hij,jhd->ihd", weights, v).flatten(1)

    return decoder.logits(decoder._states(layout.tokens, layout.positions, attend)[layout.predicting])


@pytest.mark.parametrize("tied", [True, False])
def test_the_base_computes_what_llama_cpp_computes(tmp_path: Path, model: Path, tied: bool) -> None:
    path = model if tied else Path(write_tiny_gguf(tmp_path / "tiny.gguf").model)
    decoder = Decoder.from_gguf(path, rank=3, alpha=6.0, dtype=torch.float32)
    np.testing.assert_allclose(decoder.plain_logits(IDS).numpy(), llama_logits(path, IDS), atol=2e-3)


def test_a_written_adapter_is_what_llama_cpp_applies(tmp_path: Path, model: Path, decoder: Decoder) -> None:
    path = tmp_path / "adapter.gguf"
    write_adapter(path, decoder, {"general.license": "apache-2.0", "general.base_model.0.name": "Tiny"})
    theirs = llama_logits(model, IDS, path)
    np.testing.assert_allclose(decoder.plain_logits(IDS, 4).numpy(), theirs[4:], atol=1e-2)
    assert np.abs(theirs - llama_logits(model, IDS)).max() > 0.1
    fields = gguf.GGUFReader(path).fields
    assert fields["general.license"].contents() == "apache-2.0"
    assert fields["general.base_model.count"].contents() == 1


def test_a_stored_adapter_can_be_trained_further(tmp_path: Path, model: Path, decoder: Decoder) -> None:
    path = tmp_path / "adapter.gguf"
    write_adapter(path, decoder, {})
    other = Decoder.from_gguf(model, rank=3, alpha=6.0, dtype=torch.float32, seed=9)
    load_into(other, path)
    torch.testing.assert_close(other.plain_logits(IDS), decoder.plain_logits(IDS), atol=1e-2, rtol=0)
    assert read_adapter(path).matrices["blk.0.attn_k.weight"][0].shape == (3, WIDTH)
    with pytest.raises(ValueError, match="alpha"):
        load_into(Decoder.from_gguf(model, rank=3, alpha=1.0), path)
    with pytest.raises(ValueError, match="not"):
        load_into(Decoder.from_gguf(model, rank=2, alpha=6.0), path)


@pytest.mark.parametrize("make", [group, lambda: without_passages(group())])
def test_the_three_attentions_are_the_dense_mask(decoder: Decoder, make) -> None:
    torch.testing.assert_close(decoder(make()), dense_logits(decoder, make()), atol=1e-4, rtol=1e-4)


def test_gradients_are_those_of_the_dense_mask(decoder: Decoder) -> None:
    parameters = list(decoder.parameters())
    ours = torch.autograd.grad(decoder(group()).square().mean(), parameters)
    theirs = torch.autograd.grad(dense_logits(decoder, group()).square().mean(), parameters)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-3)


def test_the_hand_written_gradients_are_the_slopes_of_the_loss(decoder: Decoder) -> None:
    decoder.loss(group()).backward()
    for name, *pair in list(decoder.lora())[:7]:
        for parameter in pair:
            direction = parameter.grad / parameter.grad.norm()
            losses = []
            for step in (1e-2, -1e-2):
                with torch.no_grad():
                    parameter += step * direction
                    losses.append(decoder.loss(group()).item())
                    parameter -= step * direction
            assert (losses[0] - losses[1]) / 2e-2 == pytest.approx(parameter.grad.norm().item(), rel=0.02), name


def test_a_question_without_passages_is_ordinary_attention(decoder: Decoder) -> None:
    alone = one_question(group(), 2)
    ids = [*alone.prefix.tolist(), *alone.questions[0, :7].tolist()]
    torch.testing.assert_close(decoder(alone), decoder.plain_logits(ids, 7)[:3], atol=1e-4, rtol=1e-4)


def test_a_question_with_one_passage_is_ordinary_attention(decoder: Decoder) -> None:
    one = one_question(group(), 1)
    ids = [*one.prefix.tolist(), *one.passages[2, :4].tolist(), *one.questions[0, :6].tolist()]
    torch.testing.assert_close(decoder(one), decoder.plain_logits(ids, 10)[:3], atol=1e-4, rtol=1e-4)


def test_a_passage_never_depends_on_the_others(decoder: Decoder) -> None:
    changed = group()
    changed.passages[[0, 1]] = changed.passages[[0, 1]].flip(1)
    before, after = decoder(group()), decoder(changed)
    torch.testing.assert_close(after[3:9], before[3:9])  # the questions that use the last passage or none
    assert (after[:3] - before[:3]).abs().max() > 0.1


def test_padding_never_matters(decoder: Decoder) -> None:
    changed = group()
    changed.passages[0, 5:] = 99
    changed.questions[1, 6:] = 99
    torch.testing.assert_close(decoder(changed), decoder(group()))


def test_each_question_counts_the_same_in_the_loss(decoder: Decoder) -> None:
    whole = group()
    whole.targets[0, 1:] = True
    each = torch.stack([decoder.loss(one_question(whole, q)) for q in range(4)])
    torch.testing.assert_close(decoder.loss(whole), each.mean())
    weights = torch.tensor([1.0, 0.0, 2.0, 1.0])
    torch.testing.assert_close(decoder.loss(whole, weights), (each * weights).sum() / 4)
    torch.testing.assert_close(decoder.log_likelihood(whole), -each * whole.targets.sum(1))


def test_without_the_adapter_it_is_the_base(model: Path, decoder: Decoder) -> None:
    base = Decoder.from_gguf(model, rank=3, alpha=6.0, dtype=torch.float32)
    with decoder.base_only():
        torch.testing.assert_close(decoder(group()), base(group()))
    assert not torch.allclose(decoder(group()), base(group()), atol=0.1)
    decoder.simulate("Q8_0")
    with pytest.raises(ValueError, match="simulation"), decoder.base_only():
        pass


def test_initial_matrices_depend_on_the_seed_alone(model: Path) -> None:
    first, same, other = (next(Decoder.from_gguf(model, seed=seed).lora())[1] for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0"])
def test_simulated_quantisation_is_that_of_ggml(kind: str) -> None:
    weights = np.random.default_rng(0).standard_normal((64, 96)).astype(np.float32)
    weights[0] = 0
    number = gguf.GGMLQuantizationType[kind]
    expected = gguf.dequantize(gguf.quantize(weights, number), number)
    np.testing.assert_array_equal(quantised(torch.from_numpy(weights), kind).numpy(), expected)


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0"])
def test_a_simulation_runs_on_the_quantised_sum_and_can_be_ended(decoder: Decoder, kind: str) -> None:
    before = decoder(group())
    linear = decoder.layers[0].qkv
    delta = torch.cat([b @ a for a, b in zip(linear.a, linear.b, strict=True)]) * linear.scale
    decoder.simulate(kind)
    torch.testing.assert_close(linear.weight + delta, quantised(linear.original + delta, kind))
    assert not torch.equal(decoder(group()), before)
    decoder.simulate(None)
    torch.testing.assert_close(decoder(group()), before, atol=0, rtol=0)


def test_generation_is_what_recomputing_every_token_gives(decoder: Decoder) -> None:
    whole = group()
    answers = decoder.generate(whole, 5, end_id=-1)
    for q, answer in enumerate(answers):
        alone, length = one_question(whole, q), int(whole.question_lengths[q])
        for count, token in enumerate(answer):
            ids = torch.tensor([*whole.questions[q, :length].tolist(), *answer[: count + 1]])[None]
            targets = torch.zeros(ids.shape, dtype=torch.bool)
            targets[0, -1] = True
            lengths = torch.tensor([ids.shape[1]])
            step = dataclasses.replace(alone, questions=ids, question_lengths=lengths, targets=targets)
            assert decoder(step).argmax().item() == token
    ended = decoder.generate(whole, 5, end_id=answers[0][2])
    assert ended[0] == answers[0][: answers[0].index(answers[0][2])]
