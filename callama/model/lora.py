"""LoRA (arXiv:2106.09685) as a module around a frozen linear layer.

The product is never folded into the frozen weight here: folding and unfolding in bf16 changes the
base a little each time, and under ZeRO-3 there is nothing to fold into. Adapters are fp32 whatever
the base is; ``weights.merge`` makes the merged copy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from callama.model.transformer import Transformer

ALL_LINEAR = ("wq", "wk", "wv", "wo", "w1", "w2", "w3")
QV_ONLY = ("wq", "wv")


@dataclass(frozen=True)
class LoRAParams:
    """``rank`` of the update, its ``scaling`` (alpha / rank), dropout on its input, layers by Meta's names."""

    rank: int
    scaling: float
    dropout: float = 0.0
    layers: tuple[str, ...] = ALL_LINEAR


class LoRALinear(nn.Module):
    """y = W x + scaling · B A x, with W frozen, A (rank, in) and B (out, rank) in fp32."""

    def __init__(self, base: nn.Linear, lora: LoRAParams) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scaling, self.dropout = lora.scaling, nn.Dropout(lora.dropout)
        device = base.weight.device
        self.lora_a = nn.Parameter(torch.empty(lora.rank, base.in_features, device=device, dtype=torch.float32))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, lora.rank, device=device, dtype=torch.float32))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        y = self.base(x)
        low = F.linear(self.dropout(x), self.lora_a.to(x.dtype))
        update = low.flatten(0, -2), self.lora_b.to(x.dtype).t()
        return y.flatten(0, -2).addmm_(*update, alpha=self.scaling).view_as(y)  # type: ignore[no-any-return]


def add_lora(model: Transformer, lora: LoRAParams) -> Transformer:
    """Freezes the model and wraps the chosen layers in place; returns the model."""
    model.requires_grad_(False)
    for block in model.layers:
        for part in (block.attention, block.feed_forward):
            for name in lora.layers:
                if isinstance(linear := getattr(part, name, None), nn.Linear):
                    setattr(part, name, LoRALinear(linear, lora))
    return model


def lora_modules(model: Transformer) -> Iterator[tuple[str, LoRALinear]]:
    """Wrapped layers by the names that they have in a native checkpoint, e.g. ``layers.0.attention.wq``."""
    for name, module in model.named_modules():
        if isinstance(module, LoRALinear):
            yield name, module
