"""The matrix products that a training step cannot do without, and nothing else: what they alone cost is the floor that
``train_step.py`` holds the whole step against."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from callama.model.lora import lora_modules
from callama.model.transformer import Transformer
from callama.train.loss import CHUNK_POSITIONS


@torch.no_grad()
def products(model: Transformer, tokens: int, supervised: int) -> None:
    """The products of one step, there and back, on tensors of its shapes: frozen weights, adapters, and supervised
    positions with the vocabulary. Those of attention are left out, so the rate that this allows is out of reach."""
    dtype = model.output_weight.dtype
    widths = {width for _, m in lora_modules(model) for width in m.base.weight.shape}
    wide = {width: torch.randn(tokens, width, dtype=dtype) for width in widths}
    for _, module in lora_modules(model):
        weight, a, b = module.base.weight, module.lora_a.to(dtype), module.lora_b.to(dtype)
        x, y = wide[weight.shape[1]], wide[weight.shape[0]]
        F.linear(x, weight)
        low = F.linear(x, a)
        F.linear(low, b)
        y @ weight
        back = y @ b
        y.t() @ low
        back.t() @ x
        back @ a
    hidden = wide[model.params.dim][:supervised]
    for chunk in hidden.split(CHUNK_POSITIONS):
        F.linear(chunk, model.output_weight) @ model.output_weight
