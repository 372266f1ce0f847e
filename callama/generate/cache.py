"""Keys and values of what has been read so far, one slot per running request.

Prompts are read one at a time into their slot, without padding; all running requests then take each
step together. Running slots stay packed at the front, so that a step works on a plain slice.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from callama.model.attend import attention_written_out
from callama.model.params import ModelParams


class KVCache:
    """Keys and values (layers, slots, kv heads, capacity, head_dim)."""

    def __init__(
        self, params: ModelParams, slots: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (params.n_layers, slots, params.kv_heads, capacity, params.head_dim)
        # Zeros: positions beyond a slot's length get weight 0, and 0 times a stray NaN is NaN.
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)

    def move(self, source: int, target: int, length: int) -> None:
        """Copies a slot's first ``length`` positions to another slot."""
        for tensor in (self.keys, self.values):
            tensor[:, target, :, :length] = tensor[:, source, :, :length]


class Prefill:
    """Reads one prompt (b = 1) into a slot."""

    def __init__(self, cache: KVCache, slot: int, length: int) -> None:
        self._cache, self._slot = cache, slot
        self.positions = torch.arange(length, device=cache.keys.device)[None]

    def __call__(self, layer: int, q_bshd: Tensor, k_bshd: Tensor, v_bshd: Tensor, dropout: float) -> Tensor:
        """Causal attention within the prompt."""
        q, k, v = (x.transpose(1, 2) for x in (q_bshd, k_bshd, v_bshd))
        length = k.shape[2]
        self._cache.keys[layer, self._slot, :, :length] = k[0]
        self._cache.values[layer, self._slot, :, :length] = v[0]
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2)


class Step:
    """One new token for each of the first ``len(lengths)`` slots; ``lengths`` (b,) count what is cached."""

    def __init__(self, cache: KVCache, lengths: Tensor) -> None:
        self._cache, self._rows = cache, torch.arange(len(lengths), device=lengths.device)
        self.positions = lengths[:, None]
        self._span = int(lengths.max()) + 1
        span = torch.arange(self._span, device=lengths.device)
        self._hidden = (span > self.positions)[:, None]

    def __call__(self, layer: int, q_bshd: Tensor, k_bshd: Tensor, v_bshd: Tensor, dropout: float) -> Tensor:
        """Attention over each slot's own cache."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        at = self.positions[:, 0]
        keys[self._rows, :, at] = k_bshd[:, 0]
        values[self._rows, :, at] = v_bshd[:, 0]
        count = len(self._rows)
        q = q_bshd.transpose(1, 2)
        k, v = keys[:count, :, : self._span], values[:count, :, : self._span]
        if q.device.type == "cpu":
            return attention_written_out(q, k, v, self._hidden).transpose(1, 2)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=~self._hidden[:, None], enable_gqa=True).transpose(
            1, 2
        )
