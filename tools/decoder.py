"""A Llama-architecture decoder in PyTorch that trains LoRA matrices on *independent passages*.

Weights are read from a GGUF and kept in its layout: llama.cpp permutes the rows of Q and K at conversion so that the
rotary embedding turns neighbouring pairs, which is what is done here, so the LoRA matrices fit the GGUF as they are.
The base is frozen and may be replaced by what quantisation would make of it. It knows nothing of text, prompts or
training loops.

The unit of training is a `Group`. A passage sees the prefix and itself, never another passage, and every passage starts
at the same position, right behind the prefix: its keys and values can then be stored once and used by any question,
next to any other passages. RoPE: arXiv:2104.09864; SwiGLU: arXiv:2002.05202.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from gguf import GGUFReader, dequantize
from torch import Tensor, nn
from torch.nn import functional

from tools.lora import LoraLinear, quantised

# What one fused product computes, in the order of its output columns.
FUSED = (("attn_q", "attn_k", "attn_v"), ("attn_output",), ("ffn_gate", "ffn_up"), ("ffn_down",))

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]  # layer, q, k, v (T, heads, size) -> (T, heads * size)


@dataclass(frozen=True)
class Group:
    """Passages behind one prefix, and questions that use some of them; right-padded with any token id.

    A question's tokens are everything from the history to the end token of the answer. The first token of a question
    cannot be a target.
    """

    prefix: Tensor  # (Lx,) int64, at least one token
    passages: Tensor  # (P, Lp) int64; P may be 0
    passage_lengths: Tensor  # (P,) int64
    questions: Tensor  # (Q, Lq) int64
    question_lengths: Tensor  # (Q,) int64
    uses: Tensor  # (Q, P) bool
    targets: Tensor  # (Q, Lq) bool, tokens of the answer


class Block(NamedTuple):
    """Sequences that are attended to at once; all rows are places in the flat list of tokens."""

    rows: Tensor  # (N, L) of the sequences' own tokens; 0 for padding
    real: Tensor  # (N, L) bool
    key_rows: Tensor  # (N, K + L) of what they see: tokens before them, then themselves
    mask: Tensor  # (N or 1, 1, L, K + L) bool, True where a token is seen


class Layout(NamedTuple):
    """The tokens of a group as one flat list (prefix, passages, questions, no padding), and who sees whom."""

    tokens: Tensor  # (T,)
    positions: Tensor  # (T,)
    prefix: int  # tokens of the prefix
    passages: Block
    questions: Block
    predicting: Tensor  # (N,) rows whose logits predict a target, question by question
    answers: Tensor  # (N,) ids of the targets
    owner: Tensor  # (N,) the question each target belongs to


def lay_out(group: Group) -> Layout:
    """Flatten a group and build its masks; once per group, for all layers."""
    prefix = len(group.prefix)
    columns, steps = torch.arange(group.passages.shape[1]), torch.arange(group.questions.shape[1])
    passage_real = columns < group.passage_lengths[:, None]
    question_real = steps < group.question_lengths[:, None]
    shared = prefix + int(passage_real.sum())
    passage_of = torch.arange(len(group.passages)).repeat_interleave(group.passage_lengths)
    seen = functional.pad(group.uses[:, passage_of], (prefix, 0), value=True)  # (Q, shared)
    questions = _block(question_real, shared, seen)
    start = prefix + functional.pad(group.uses * group.passage_lengths, (0, 1)).amax(1)
    positions = [torch.arange(prefix), (prefix + columns).expand_as(passage_real)[passage_real]]
    owner, step = group.targets.nonzero(as_tuple=True)
    return Layout(
        tokens=torch.cat([group.prefix, group.passages[passage_real], group.questions[question_real]]),
        positions=torch.cat([*positions, (start[:, None] + steps).expand_as(question_real)[question_real]]),
        prefix=prefix,
        passages=_block(passage_real, prefix, torch.ones(len(passage_real), prefix, dtype=torch.bool)),
        questions=questions,
        predicting=questions.rows[owner, step - 1],
        answers=group.questions[owner, step],
        owner=owner,
    )


def _block(real: Tensor, first: int, seen: Tensor) -> Block:
    """Sequences (N, L) that begin at row `first` and see the rows marked in `seen` (N, first) and themselves."""
    rows = torch.zeros(real.shape, dtype=torch.int64)
    rows[real] = torch.arange(first, first + int(real.sum()))
    count = seen.sum(1, keepdim=True)
    width, length = int(count.amax()) if len(seen) else 0, real.shape[1]
    # What a question does not see is left out instead of masked: most see a few of many passages.
    before = seen.byte().argsort(dim=1, descending=True, stable=True)[:, :width]
    known = (torch.arange(width) < count)[:, None, None].expand(-1, 1, length, -1)
    own = torch.ones(length, length, dtype=torch.bool).tril().expand(len(real), 1, -1, -1)
    return Block(rows, real, torch.cat([before, rows], 1), torch.cat([known, own], 3))


class _RmsNorm(torch.autograd.Function):
    """Root mean square normalisation in float32 with a result in the weights' type; arXiv:1910.07467."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        inverse = torch.linalg.vector_norm(x, dim=1, keepdim=True).square_().div_(x.shape[1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, gain, inverse)
        return (x * inverse).mul_(gain).to(dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        x, gain, inverse = ctx.saved_tensors
        grad = grad * gain
        share = torch.linalg.vecdot(grad, x).unsqueeze(1).mul_(inverse.pow(3)).div_(x.shape[1])
        return grad.mul_(inverse).addcmul_(x, share, value=-1), None, None, None


class Layer(nn.Module):
    """One transformer block on a flat list of tokens."""

    attention_gain: Tensor
    feed_gain: Tensor

    def __init__(self, shape: Shape, linears: list[LoraLinear], gains: list[Tensor], dtype: torch.dtype) -> None:
        super().__init__()
        self.shape, self.dtype = shape, dtype
        self.qkv, self.output, self.gate_up, self.down = linears
        self.register_buffer("attention_gain", gains[0], persistent=False)
        self.register_buffer("feed_gain", gains[1], persistent=False)

    def forward(self, x: Tensor, rotation: Tensor, attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        """(T, width) float32 -> the same; `rotation` is complex64 (T, 1, size / 2)."""
        heads, kv_heads, size = self.shape.heads, self.shape.kv_heads, self.shape.size
        hidden = self.qkv(_RmsNorm.apply(x, self.attention_gain, self.shape.epsilon, self.dtype))
        q_k, v = hidden.split([(heads + kv_heads) * size, kv_heads * size], 1)
        q, k = _rotated(q_k.view(len(x), -1, size), rotation).split([heads, kv_heads], 1)
        x = x + self.output(attend(q, k, v.view(len(x), kv_heads, size)))
        gate, up = self.gate_up(_RmsNorm.apply(x, self.feed_gain, self.shape.epsilon, self.dtype)).chunk(2, 1)
        return x + self.down(functional.silu(gate) * up)

    def linears(self) -> Iterator[tuple[str, LoraLinear, int]]:
        """The name in the GGUF, the fused product and the place in it of each linear map."""
        for names, linear in zip(FUSED, (self.qkv, self.output, self.gate_up, self.down), strict=True):
            for place, name in enumerate(names):
                yield name, linear, place


def _rotated(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn each pair of neighbouring columns of (T, heads, size) by its angle."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotation).flatten(-2).to(x.dtype)


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Grouped-query attention of (batch, L, heads, size) -> (batch, L, heads * size).

    `mask` (batch or 1, 1, L, S) is True where a key is seen; None = causal. Written out, because the fused kernel's
    gradient takes five times as long on a CPU.
    """
    batch, length, heads, size = q.shape
    groups = k.shape[2]
    if mask is None:
        mask = torch.ones(length, k.shape[1], dtype=torch.bool, device=q.device).tril()[None, None]
    q = q.unflatten(2, (groups, -1)).permute(0, 2, 3, 1, 4).reshape(batch, groups, -1, size) * size**-0.5
    scores = (q @ k.permute(0, 2, 3, 1)).unflatten(2, (-1, length))  # (batch, groups, heads / groups, L, S)
    seen = torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, float("-inf"))
    shares = (scores + seen[:, :, None]).softmax(-1).flatten(2, 3)
    mixed = (shares @ v.transpose(1, 2)).unflatten(2, (-1, length))
    return mixed.permute(0, 3, 1, 2, 4).reshape(batch, length, heads * size)


def _taken(x: Tensor, rows: Tensor) -> Tensor:
    """(T, heads, size) -> (N, L, heads, size); `index_select` has a faster gradient than indexing."""
    return x.index_select(0, rows.flatten()).unflatten(0, rows.shape)


def _attend_group(layout: Layout, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of a whole group: the prefix, all passages at once, all questions at once."""
    q_prefix, k_prefix, v_prefix = (x[None, : layout.prefix] for x in (q, k, v))
    outs = [_attention(q_prefix, k_prefix, v_prefix)[0]]
    for block in (layout.passages, layout.questions):
        if len(block.rows):
            keys, values = _taken(k, block.key_rows), _taken(v, block.key_rows)
            outs.append(_attention(_taken(q, block.rows), keys, values, block.mask)[block.real])
    return torch.cat(outs)


class Shape(NamedTuple):
    """Hyper-parameters of the model."""

    layers: int
    heads: int
    kv_heads: int
    size: int  # of a head
    epsilon: float
    theta: float  # base of the rotary frequencies


class Decoder(nn.Module):
    """The model: a frozen base and trainable LoRA matrices (float32, `parameters()`) on all linear maps."""

    embedding: Tensor
    head: Tensor
    gain: Tensor

    def __init__(
        self, shape: Shape, tensors: dict[str, Tensor], rank: int, alpha: float, dtype: torch.dtype, seed: int
    ) -> None:
        super().__init__()
        self.shape, self.rank, self.alpha, self.dtype = shape, rank, alpha, dtype
        self.simulated: str | None = None
        random = torch.Generator().manual_seed(seed)
        layers = []
        for index in range(shape.layers):
            own = {name.split(".")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"blk.{index}.")}
            linears = [LoraLinear([own[name] for name in names], rank, alpha, dtype, random) for names in FUSED]
            layers.append(Layer(shape, linears, [own["attn_norm"], own["ffn_norm"]], dtype))
        self.layers = nn.ModuleList(layers)
        self.original = tensors["token_embd.weight"]
        self.register_buffer("embedding", self.original.to(dtype, copy=True), persistent=False)
        head = tensors.get("output.weight")
        self.register_buffer("head", self.embedding if head is None else head.to(dtype), persistent=False)
        self.register_buffer("gain", tensors["output_norm.weight"], persistent=False)

    @classmethod
    def from_gguf(
        cls, path: Path | str, rank: int = 24, alpha: float = 48.0, dtype: torch.dtype = torch.bfloat16, seed: int = 0
    ) -> Decoder:
        """Read a model of architecture "llama" of any type that the gguf package can dequantise."""
        reader = GGUFReader(path)
        tensors = {t.name: torch.from_numpy(dequantize(t.data, t.tensor_type).copy()) for t in reader.tensors}

        def value(key: str, default: Any = None) -> Any:
            field = reader.fields.get(f"llama.{key}")
            return default if field is None else field.contents()

        heads = value("attention.head_count")
        shape = Shape(
            layers=value("block_count"),
            heads=heads,
            kv_heads=value("attention.head_count_kv", heads),
            size=value("embedding_length") // heads,
            epsilon=value("attention.layer_norm_rms_epsilon"),
            theta=value("rope.freq_base", 10000.0),
        )
        return cls(shape, tensors, rank, alpha, dtype, seed)

    def lora(self) -> Iterator[tuple[str, nn.Parameter, nn.Parameter]]:
        """Name of the weight in the GGUF, A (r, in) and B (out, r) of every linear map."""
        for index, layer in enumerate(self.layers):
            for name, linear, place in layer.linears():
                yield f"blk.{index}.{name}.weight", linear.a[place], linear.b[place]

    def products(self) -> Iterator[LoraLinear]:
        """All fused linear maps."""
        return (module for module in self.modules() if isinstance(module, LoraLinear))

    @contextlib.contextmanager
    def base_only(self) -> Iterator[None]:
        """Without the adapter. Raises `ValueError` during a simulation, which is of base plus adapter."""
        if self.simulated is not None:
            raise ValueError("end the simulation first: its weights are not those of the base")
        for product in self.products():
            product.enabled = False
        try:
            yield
        finally:
            for product in self.products():
                product.enabled = True

    def simulate(self, kind: str | None) -> None:
        """Run on what "Q4_0" or "Q8_0" would make of base plus adapter as it is now; None: on the base as read.

        The token embedding gets Q8_0 either way: llama.cpp gives tied embeddings 6 bits or more.
        """
        self.simulated = kind
        for product in self.products():
            product.simulate(kind)
        self.embedding.copy_(self.original if kind is None else quantised(self.original, "Q8_0"))

    def _states(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Normalised last hidden states (T, width) of a flat list of tokens."""
        frequencies = self.shape.theta ** (-torch.arange(0, self.shape.size, 2, dtype=torch.float64) / self.shape.size)
        angles = torch.outer(positions.double(), frequencies).float()
        rotation = torch.polar(torch.ones_like(angles), angles)[:, None]
        x = self.embedding[tokens].float()
        for index, layer in enumerate(self.layers):
            x = layer(x, rotation, partial(attend, index))
        normalised: Tensor = _RmsNorm.apply(x, self.gain, self.shape.epsilon, self.dtype)
        return normalised

    def logits(self, states: Tensor) -> Tensor:
        """Logits (N, vocabulary) float32 of last hidden states (N, width)."""
        return functional.linear(states, self.head).float()

    def states(self, group: Group | Layout) -> Tensor:
        """Last hidden states (N, width), normalised, at the places that predict the targets, question by question."""
        layout = lay_out(group) if isinstance(group, Group) else group
        states = self._states(layout.tokens, layout.positions, partial(_attend_group, layout))
        return states[layout.predicting]

    def forward(self, group: Group | Layout) -> Tensor:
        """Logits (N, vocabulary) float32 at the places that predict the targets, question by question."""
        return self.logits(self.states(group))

    def _surprise(self, group: Group) -> tuple[Tensor, Tensor]:
        """Summed -ln p of the targets and their number, per question (Q,)."""
        layout = lay_out(group)
        each = functional.cross_entropy(self(layout), layout.answers, reduction="none")
        total = each.new_zeros(len(group.questions)).index_add(0, layout.owner, each)
        return total, group.targets.sum(1)

    def loss(self, group: Group, weights: Tensor | None = None) -> Tensor:
        """Mean cross-entropy of the target tokens, per question and then over questions (weighted by (Q,))."""
        total, count = self._surprise(group)
        weights = torch.ones_like(total) if weights is None else weights
        return (total / count.clamp(min=1) * weights).sum() / weights.sum()

    def log_likelihood(self, group: Group) -> Tensor:
        """Summed log-probability of each question's targets, (Q,)."""
        return -self._surprise(group)[0]

    @torch.no_grad()
    def plain_logits(self, ids: list[int], first: int = 0) -> Tensor:
        """Logits (len(ids) - first, vocabulary) of a flat prompt under ordinary causal attention."""

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return _attention(q[None], k[None], v[None])[0]

        states = self._states(torch.tensor(ids), torch.arange(len(ids)), attend)
        return self.logits(states[first:])

    @torch.no_grad()
    def generate(self, group: Group, max_tokens: int, end_id: int) -> list[list[int]]:
        """Continue every question (without its answer) greedily; ids without `end_id`, which ends an answer."""
        layout, count = lay_out(group), len(group.questions)
        block = layout.questions
        written = block.key_rows.shape[1]
        memory: list[tuple[Tensor, ...]] = []  # keys and values per layer, (Q, written + max_tokens, heads, size)

        def remember(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            room = (0, 0, 0, 0, 0, max_tokens)
            memory.append(tuple(functional.pad(_taken(x, block.key_rows), room) for x in (k, v)))
            return _attend_group(layout, layer, q, k, v)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = memory[layer]
            keys[:, end - 1], values[:, end - 1] = k, v
            return _attention(q[:, None], keys[:, :end], values[:, :end], seen[..., :end])[:, 0]

        last = block.rows[torch.arange(count), group.question_lengths - 1]
        before = block.mask[:, :, -1:, : -block.real.shape[1]]
        seen = torch.cat([before, functional.pad(block.real, (0, max_tokens), value=True)[:, None, None]], 3)
        positions = layout.positions[last]
        chosen = [self.logits(self._states(layout.tokens, layout.positions, remember)[last]).argmax(1)]
        for end in range(written + 1, written + max_tokens):  # noqa: B007 read by `attend`
            if all(end_id in row for row in torch.stack(chosen, 1).tolist()):
                break
            positions = positions + 1
            chosen.append(self.logits(self._states(chosen[-1], positions, attend)).argmax(1))
        rows = torch.stack(chosen, 1).tolist()
        return [row[: row.index(end_id)] if end_id in row else row for row in rows]
