"""Norm and gate with gradients written by hand: what automatic differentiation would keep in fp32
for the way back is recomputed from the inputs, which the layers around them keep anyway. So is what
the projections behind them would keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True).add_(eps))
        ctx.save_for_backward(x, weight, scale)
        return (wide * scale).mul_(weight).type_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, weight, scale = ctx.saved_tensors
        normed = x.float() * scale
        gradient = gradients[0].float()
        for_weight = (gradient * normed).flatten(0, -2).sum(0).type_as(weight) if ctx.needs_input_grad[1] else None
        gradient = gradient * weight
        shared = (gradient * normed).mean(-1, keepdim=True)
        return gradient.addcmul(normed, shared, value=-1).mul_(scale).type_as(x), for_weight, None


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        (gradient,) = gradients
        return torch.ops.aten.silu_backward(gradient * up, gate), F.silu(gate).mul_(gradient)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """``x / rms(x) * weight`` over the last dimension, computed in fp32, in the dtype of x."""
    return _RMSNorm.apply(x, weight, eps)  # type: ignore[no-any-return,no-untyped-call]


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """``silu(gate) * up``."""
    return _SwiGLU.apply(gate, up)  # type: ignore[no-any-return,no-untyped-call]


@contextmanager
def recomputed(value: Tensor, recipe: Callable[[], Tensor]) -> Iterator[None]:
    """Within, autograd does not keep ``value`` for its way back, but makes it again by ``recipe``."""
    if not torch.is_grad_enabled():
        yield
        return
    place = value.untyped_storage().data_ptr()
    again: list[Tensor] = []
    wanted = 0

    def pack(saved: Tensor) -> Tensor | torch.Size:
        nonlocal wanted
        if saved.untyped_storage().data_ptr() != place:
            return saved
        wanted += 1
        return saved.shape

    def unpack(kept: Tensor | torch.Size) -> Tensor:
        nonlocal wanted
        if isinstance(kept, Tensor):
            return kept
        if not again:
            again.append(recipe())
        wanted -= 1
        made = again[0].view(kept)
        if not wanted:
            again.clear()
        return made

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield
