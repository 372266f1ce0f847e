"""LoRA (arXiv:2106.09685) and DoRA (arXiv:2402.09353) as a module around a frozen linear layer.

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

from callama.model.nf4 import NF4Linear
from callama.model.transformer import Transformer

ALL_LINEAR = ("wq", "wk", "wv", "wo", "w1", "w2", "w3")
QV_ONLY = ("wq", "wv")


@dataclass(frozen=True)
class LoRAParams:
    """``rank`` of the update, the ``scaling`` that multiplies it, dropout on its input, layers by Meta's names.

    ``scaling`` is alpha / rank, or alpha / sqrt(rank) where ``rslora`` is set (arXiv:2312.03732).
    With ``dora`` the rows of the adapted weight have trained lengths.
    """

    rank: int
    scaling: float
    dropout: float = 0.0
    layers: tuple[str, ...] = ALL_LINEAR
    rslora: bool = False
    dora: bool = False

    @property
    def alpha(self) -> float:
        """What PEFT calls ``lora_alpha``: the shortest of the numbers that come nearest to this scaling again."""
        divisor = math.sqrt(self.rank) if self.rslora else self.rank
        product = self.scaling * divisor
        numbers = (float(f"{product:.{digits}g}") for digits in range(1, 18))
        return min(numbers, key=lambda alpha: abs(alpha / divisor - self.scaling))


class LoRALinear(nn.Module):
    """y = W x + scaling · B A x, with W frozen, A (rank, in) and B (out, rank) in fp32.

    With DoRA, y is then multiplied by m / ‖W + scaling · B A‖, row by row, with m (out,) in fp32 trained
    and the lengths taken as constants (section 4.3 of the paper).
    """

    def __init__(self, base: nn.Linear | NF4Linear, lora: LoRAParams) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scaling, self.dropout = lora.scaling, nn.Dropout(lora.dropout)
        device = base.weight.device
        self.lora_a = nn.Parameter(torch.empty(lora.rank, base.in_features, device=device, dtype=torch.float32))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, lora.rank, device=device, dtype=torch.float32))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))
        self.magnitude: nn.Parameter | None = None
        self._lengths: Tensor | None = None
        if lora.dora:
            self._base_lengths = torch.linalg.vector_norm(base.weight, dim=1, dtype=torch.float32)
            self.magnitude = nn.Parameter(self._base_lengths.clone())

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        y = self.base(x)
        low = F.linear(self.dropout(x), self.lora_a.to(x.dtype))
        update = low.flatten(0, -2), self.lora_b.to(x.dtype).t()
        y = y.flatten(0, -2).addmm_(*update, alpha=self.scaling).view_as(y)
        if self.magnitude is not None:
            y = y * (self.magnitude / self.lengths()).to(y.dtype)
        return y  # type: ignore[no-any-return]

    def train(self, mode: bool = True) -> LoRALinear:
        """Also forgets lengths that were kept for evaluation: A and B may have changed in between."""
        self._lengths = None
        return super().train(mode)

    @torch.no_grad()
    def lengths(self) -> Tensor:
        """Lengths (out,) in fp32 of the rows of W + scaling · B A, from products that are ``rank`` wide."""
        if self._lengths is not None:
            return self._lengths
        weight, a, b = self.base.weight, self.lora_a, self.lora_b
        across = ((weight @ a.to(weight.dtype).t()).float() * b).sum(1)
        within = ((b @ (a @ a.t())) * b).sum(1)
        square = self._base_lengths.square() + 2 * self.scaling * across + self.scaling**2 * within
        lengths: Tensor = square.clamp(min=0).sqrt()
        self._lengths = None if self.training else lengths
        return lengths


def add_lora(model: Transformer, lora: LoRAParams) -> Transformer:
    """Freezes the model and wraps the chosen layers in place; returns the model."""
    model.requires_grad_(False)
    for block in model.layers:
        for part in (block.attention, block.feed_forward):
            for name in lora.layers:
                if isinstance(linear := getattr(part, name, None), nn.Linear | NF4Linear):
                    setattr(part, name, LoRALinear(linear, lora))
    return model


def lora_modules(model: Transformer) -> Iterator[tuple[str, LoRALinear]]:
    """Wrapped layers by the names that they have in a native checkpoint, e.g. ``layers.0.attention.wq``."""
    for name, module in model.named_modules():
        if isinstance(module, LoRALinear):
            yield name, module
