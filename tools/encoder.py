"""The reader in PyTorch: MiniLM over a question and a passage, with three heads.

Parameters bear the names of the original safetensors file, so that the encoder can be loaded from it and exported by
`tools.minilm`. Shapes: B pairs, L tokens. It computes logits and knows nothing of training or of text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.minilm import EPSILON, HEADS, WIDTH, Array

VOCABULARY, POSITIONS, INNER = 30_522, 512, 1_536
NOWHERE = -1e4  # the logit of a token that cannot be in a span


@dataclass(frozen=True, slots=True)
class Pairs:
    """A batch of encoded (question, passage) pairs, right-padded; all of shape (B, L)."""

    ids: Tensor
    types: Tensor  # 0 for [CLS] question [SEP], 1 for passage [SEP]
    mask: Tensor  # bool, False for padding


@dataclass(frozen=True, slots=True)
class Reading:
    """What the reader says of a batch: logits, the spans' with [CLS] as "nowhere"."""

    relevance: Tensor  # (B,)
    answerable: Tensor  # (B,)
    start: Tensor  # (B, L)
    end: Tensor  # (B, L)


class Reader(nn.Module):
    """MiniLM with heads for relevance, for whether the passage holds the answer, and for where."""

    def __init__(self, layers: int = 6) -> None:
        super().__init__()
        self.embeddings = _Embeddings()
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(_Layer() for _ in range(layers))
        self.judge = nn.Linear(WIDTH, 2)  # of [CLS]: relevance, answerable
        self.span = nn.Linear(WIDTH, 2)  # of each token: start, end
        for head in (self.judge, self.span):
            nn.init.normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)

    def load_encoder(self, weights: Mapping[str, Array], layers: Sequence[int]) -> None:
        """Take the embeddings and these layers, in this order, from `weights`."""
        own = self.state_dict()
        for name in own:
            if name.startswith(("judge", "span")) and name not in weights:
                continue
            source = name
            if name.startswith("encoder.layer."):
                _, _, number, rest = name.split(".", 3)
                source = f"encoder.layer.{layers[int(number)]}.{rest}"
            own[name] = torch.from_numpy(np.array(weights[source], dtype=np.float32))
        self.load_state_dict(own)

    def states(self, pairs: Pairs) -> Tensor:
        """Token vectors (B, L, 384) of the last layer."""
        hidden = self.embeddings(pairs.ids, pairs.types)
        mask = torch.where(pairs.mask, 0.0, NOWHERE)[:, None, None, :]
        for layer in self.encoder.layer:
            hidden = layer(hidden, mask)
        return hidden

    def forward(self, pairs: Pairs) -> Reading:
        """Logits; a span may start and end in the passage, or at [CLS] when there is none."""
        hidden = self.states(pairs)
        judged = self.judge(hidden[:, 0]).float()
        start, end = self.span(hidden).float().unbind(-1)
        allowed = (pairs.types == 1) & pairs.mask
        allowed[:, 0] = True
        return Reading(
            judged[:, 0], judged[:, 1], start.masked_fill(~allowed, NOWHERE), end.masked_fill(~allowed, NOWHERE)
        )


class _Embeddings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(VOCABULARY, WIDTH)
        self.position_embeddings = nn.Embedding(POSITIONS, WIDTH)
        self.token_type_embeddings = nn.Embedding(2, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH, eps=EPSILON)

    def forward(self, ids: Tensor, types: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1])
        total = self.word_embeddings(ids) + self.position_embeddings(positions) + self.token_type_embeddings(types)
        return self.LayerNorm(total)


class _Dense(nn.Module):
    """A linear map and the norm after the residual, under BERT's names."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH, eps=EPSILON)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + residual)


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        projections = nn.Module()
        for name in ("query", "key", "value"):
            projections.add_module(name, nn.Linear(WIDTH, WIDTH))
        self.add_module("self", projections)
        self.output = _Dense(WIDTH)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        own = self.get_submodule("self")
        heads = (
            own.get_submodule(name)(hidden).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        query, key, value = heads
        # Written out: the fused kernel's backward takes three times as long on a CPU.
        scores = query @ key.transpose(2, 3) / math.sqrt(WIDTH // HEADS) + mask
        mixed = scores.softmax(-1).to(value.dtype) @ value
        return self.output(mixed.transpose(1, 2).flatten(2), hidden)


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = _Attention()
        self.intermediate = nn.Module()
        self.intermediate.dense = nn.Linear(WIDTH, INNER)
        self.output = _Dense(INNER)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        attended = self.attention(hidden, mask)
        return self.output(functional.gelu(self.intermediate.dense(attended)), attended)
