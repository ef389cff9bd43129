"""Frozen linear maps with trainable LoRA matrices, and what ggml's block quantisation would make of their sum.

Several maps of one input are computed as one product. It knows nothing of models or files. LoRA: arXiv:2106.09685.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCK = 32  # weights that share one scale in Q4_0 and Q8_0


class _LoraProduct(torch.autograd.Function):
    """`x W^T + (x A^T) B^T` without a gradient for W and without keeping more than x and x A^T."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
        inner = x @ a.t()
        ctx.save_for_backward(x, weight, a, b, inner)
        return functional.linear(x, weight).addmm_(inner, b.t())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
        x, weight, a, b, inner = ctx.saved_tensors
        grad_inner = grad @ b
        grad_x = (grad @ weight).addmm_(grad_inner, a)
        return grad_x, None, grad_inner.t() @ x, grad.t() @ inner


class LoraLinear(nn.Module):
    """Several frozen linear maps of one input as one product, each with LoRA matrices A (r, in) and B (out, r)."""

    weight: Tensor

    def __init__(
        self, weights: list[Tensor], rank: int, alpha: float, dtype: torch.dtype, random: torch.Generator
    ) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.enabled = True
        self.original = torch.cat(weights)  # float32
        self.register_buffer("weight", self.original.to(dtype, copy=True), persistent=False)
        bound = weights[0].shape[1] ** -0.5  # Kaiming-uniform with a = sqrt(5), as in the paper's code
        shape = (rank, weights[0].shape[1])
        self.a = nn.ParameterList([torch.empty(shape).uniform_(-bound, bound, generator=random) for _ in weights])
        self.b = nn.ParameterList([torch.zeros(len(weight), rank) for weight in weights])

    def forward(self, x: Tensor) -> Tensor:
        """(T, in) -> (T, out of all maps)."""
        if not self.enabled:
            return functional.linear(x, self.weight)
        a = torch.cat(list(self.a)).to(x.dtype)
        b = (torch.block_diag(*self.b) * self.scale).to(x.dtype)
        product: Tensor = _LoraProduct.apply(x, self.weight, a, b)
        return product

    def simulate(self, kind: str | None) -> None:
        """Make the frozen weight what it would be if base and adapter were merged and quantised."""
        weight = self.original
        if kind is not None:
            with torch.no_grad():
                delta = torch.cat([b @ a for a, b in zip(self.a, self.b, strict=True)]).mul_(self.scale)
                weight = quantised(weight + delta, kind).sub_(delta)
        self.weight.copy_(weight)


def quantised(weight: Tensor, kind: str) -> Tensor:
    """What ggml keeps of a float32 weight (rows, columns) in "Q4_0" or "Q8_0", as float32.

    Source: quantize_row_q4_0_ref and quantize_row_q8_0_ref in ggml's ggml-quants.c.
    """
    blocks = weight.float().reshape(-1, BLOCK)
    if kind == "Q8_0":
        scale = blocks.abs().amax(1, keepdim=True) / 127
        levels = blocks * _reciprocal(scale)
        # ggml rounds halves away from zero, torch to even.
        levels = levels.abs().add_(0.5).floor_().copysign_(blocks)
    elif kind == "Q4_0":
        low, high = blocks.amin(1, keepdim=True), blocks.amax(1, keepdim=True)
        scale = torch.where(high > -low, high, low) / -8
        levels = (blocks * _reciprocal(scale)).add_(8.5).floor_().clamp_(0, 15).sub_(8)
    else:
        raise ValueError(f"there is no simulation of {kind!r}")
    return levels.mul_(scale.half().float()).view_as(weight)


def _reciprocal(scale: Tensor) -> Tensor:
    return torch.where(scale == 0, 0, 1 / scale)
