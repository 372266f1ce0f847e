"""The transformer as it is read without gradients: fewer and faster products, for generation and evaluation.

Layers that read the same input become one product, and on CPUs its weight is laid out as oneDNN wants it, which
for the few rows of a decoding step takes a half to a quarter of the time of ``F.linear``. The weights
move: what was packed no longer stands in the model that it came from, so that nothing is held twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from callama.model.attend import Attend
from callama.model.lora import LoRALinear
from callama.model.rope import rotate, rotation
from callama.model.transformer import Block, Transformer


def _weight(layer: nn.Module) -> Tensor:
    return cast(Tensor, layer.base.weight if isinstance(layer, LoRALinear) else layer.weight)


class _Product:
    """Linear layers with one input as one product; adapters are added to it, never folded into it."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        weights = [_weight(layer) for layer in layers]
        weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        self._prepacked = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, None) if self._prepacked else weight
        self._adapters, start = [], 0
        for layer, own in zip(layers, weights, strict=True):
            if isinstance(layer, LoRALinear):
                self._adapters.append(_Adapter(layer, start))
            start += len(own)

    def __call__(self, x: Tensor) -> Tensor:
        """(…, in) → (…, sum of out), in the layers' order."""
        if self._prepacked:
            y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, None, "none", [], "")
        else:
            y = F.linear(x, self._packed)
        for adapter in self._adapters:
            adapter.apply(x, y)
        return y


class _Adapter:
    """What LoRA or DoRA does to the columns of a product that belong to its layer."""

    def __init__(self, layer: LoRALinear, start: int) -> None:
        dtype = _weight(layer).dtype
        self._a, self._b = layer.lora_a.to(dtype), layer.lora_b.to(dtype).t()
        self._columns, self._scaling = slice(start, start + layer.lora_b.shape[0]), layer.scaling
        self._stretch = None if layer.magnitude is None else (layer.magnitude / layer.lengths()).to(dtype)

    def apply(self, x: Tensor, y: Tensor) -> None:
        own = y.flatten(0, -2)[:, self._columns]
        own.addmm_(F.linear(x, self._a).flatten(0, -2), self._b, alpha=self._scaling)
        if self._stretch is not None:
            own.mul_(self._stretch)


class PackedBlock(nn.Module):
    """What ``Block`` computes."""

    def __init__(self, block: Block, head_dim: int) -> None:
        super().__init__()
        attention, feed_forward = block.attention, block.feed_forward
        self._layer, self._head_dim = attention.layer, head_dim
        self._q_heads, self._kv_heads = (_weight(w).shape[0] // head_dim for w in (attention.wq, attention.wk))
        self._qkv = _Product((attention.wq, attention.wk, attention.wv))
        self._wo = _Product((attention.wo,))
        self._gate_up = _Product((feed_forward.w1, feed_forward.w3))
        self._w2 = _Product((feed_forward.w2,))
        self.attention_norm, self.ffn_norm = block.attention_norm, block.ffn_norm

    def forward(self, x_bsd: Tensor, turn: Tensor, attend: Attend) -> Tensor:
        """(b, s, dim) → (b, s, dim)."""
        heads = self._qkv(_norm(self.attention_norm, x_bsd)).view(*x_bsd.shape[:-1], -1, self._head_dim)
        turned = rotate(heads[:, :, : -self._kv_heads], turn)
        q, k, v = turned[:, :, : self._q_heads], turned[:, :, self._q_heads :], heads[:, :, -self._kv_heads :]
        x_bsd = x_bsd + self._wo(attend(self._layer, q, k, v, 0.0).flatten(2))
        gate, up = self._gate_up(_norm(self.ffn_norm, x_bsd)).chunk(2, -1)
        return x_bsd + self._w2(F.silu(gate).mul_(up))


def _norm(norm: nn.Module, x: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], norm.weight, norm.eps)  # type: ignore[arg-type]


class PackedTransformer(nn.Module):
    """What ``Transformer`` computes, without gradients."""

    @torch.no_grad()
    def __init__(self, model: Transformer) -> None:
        """Takes the layers out of ``model``, one after the other."""
        super().__init__()
        self.params, self.tok_embeddings, self.norm = model.params, model.tok_embeddings, model.norm
        self._frequencies = model._frequencies
        self._output = _Product([model.tok_embeddings if model.output is None else model.output])
        model.output = None
        self.layers = nn.ModuleList()
        while len(model.layers):
            self.layers.append(PackedBlock(model.layers.pop(0), model.params.head_dim))  # type: ignore[arg-type]

    def forward(self, tokens_bs: Tensor, attend: Attend) -> Tensor:
        """Normed hidden states (b, s, dim) of token ids (b, s)."""
        turn = rotation(attend.positions, self._frequencies.to(tokens_bs.device))
        x_bsd = self.tok_embeddings(tokens_bs)
        for layer in self.layers:
            x_bsd = layer(x_bsd, turn, attend)
        return _norm(self.norm, x_bsd)

    def logits(self, hidden: Tensor) -> Tensor:
        """fp32 logits (…, vocab_size) of hidden states (…, dim)."""
        return self._output(hidden).float()
