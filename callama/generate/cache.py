"""Keys and values of what has been read so far, one slot per running request.

Requests add different numbers of tokens at a time: a prompt's rest, one sampled token, a run of forced
ones. All of them are laid end to end, so that the linear layers see no padding; attention takes each
long piece by itself and the short ones together. Running slots stay packed at the front, so that the
short ones work on a plain slice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from callama.model.attend import attention_written_out
from callama.model.params import ModelParams

LONG_TOKENS = 16


class KVCache:
    """Keys and values (layers, slots, kv heads, capacity, head_dim)."""

    def __init__(
        self, params: ModelParams, slots: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (params.n_layers, slots, params.kv_heads, capacity, params.head_dim)
        # Zeros: positions beyond a slot's length get weight 0, and 0 times a stray NaN is NaN.
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)

    def copy(self, source: int, target: int, length: int) -> None:
        """Copies a slot's first ``length`` positions to another slot."""
        for tensor in (self.keys, self.values):
            tensor[:, target, :, :length] = tensor[:, source, :, :length]


class Append:
    """New tokens of several slots, laid end to end (b = 1); each sees its slot's cache up to itself.

    ``lengths`` count what the slots from ``first`` on have cached, ``counts`` what each adds.
    """

    def __init__(self, cache: KVCache, lengths: Sequence[int], counts: Sequence[int], first: int = 0) -> None:
        self._cache, device = cache, cache.keys.device
        spans = [(first + i, n, n + count) for i, (n, count) in enumerate(zip(lengths, counts, strict=True))]
        self.positions = torch.cat([torch.arange(start, end) for _, start, end in spans])[None].to(device)
        self._rows = torch.tensor([slot for slot, start, end in spans for _ in range(start, end)], device=device)
        ends = torch.tensor(counts).cumsum(0).tolist()
        self._long = [(*s, end) for s, count, end in zip(spans, counts, ends, strict=True) if count > LONG_TOKENS]
        self._short = _Short(spans, ends, device) if len(self._long) < len(spans) else None

    def __call__(self, layer: int, q_bshd: Tensor, k_bshd: Tensor, v_bshd: Tensor, dropout: float) -> Tensor:
        """Attention over each slot's own cache."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        at = self.positions[0]
        keys[self._rows, :, at] = k_bshd[0]
        values[self._rows, :, at] = v_bshd[0]
        out = torch.empty_like(q_bshd)
        if self._short is not None:
            self._short.attend(q_bshd[0], keys, values, out[0])
        for slot, start, end, last in self._long:
            piece = slice(last - (end - start), last)
            k, v = keys[slot : slot + 1, :, :end], values[slot : slot + 1, :, :end]
            seen = torch.ones(end - start, end, dtype=torch.bool, device=q_bshd.device).tril_(start) if start else None
            q = q_bshd[:, piece].transpose(1, 2)
            done = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=seen is None, enable_gqa=True)
            out[:, piece] = done.transpose(1, 2)
        return out


class _Short:
    """The pieces of a few tokens each, padded to one length beside each other."""

    def __init__(self, spans: Sequence[tuple[int, int, int]], ends: Sequence[int], device: torch.device) -> None:
        short = [
            (slot, start, end, last)
            for (slot, start, end), last in zip(spans, ends, strict=True)
            if end - start <= LONG_TOKENS
        ]
        width, self._span = max(end - start for _, start, end, _ in short), max(end for _, _, end, _ in short)
        slots = [slot for slot, *_ in short]
        packed = slots == [*range(slots[0], slots[0] + len(slots))]
        self._slots: slice | Tensor = slice(slots[0], slots[-1] + 1) if packed else torch.tensor(slots, device=device)
        # Padding stands in front and repeats a piece's first token; its result is not read.
        padded = [[max(last - width + i, last - (end - start)) for i in range(width)] for _, start, end, last in short]
        self._take = torch.tensor(padded, device=device)
        real = [[i >= width - (end - start) for i in range(width)] for _, start, end, _ in short]
        self._real = torch.tensor(real, device=device)
        positions = torch.tensor([[max(end - width + i, start) for i in range(width)] for _, start, end, _ in short])
        self._hidden = torch.arange(self._span, device=device) > positions.to(device)[..., None]

    def attend(self, q_thd: Tensor, keys: Tensor, values: Tensor, out_thd: Tensor) -> None:
        """Writes the pieces' attention into their places in ``out_thd``."""
        q = q_thd[self._take].transpose(1, 2)
        k, v = keys[self._slots, :, : self._span], values[self._slots, :, : self._span]
        if q.device.type == "cpu":
            done = attention_written_out(q, k, v, self._hidden)
        else:
            done = F.scaled_dot_product_attention(q, k, v, attn_mask=~self._hidden[:, None], enable_gqa=True)
        out_thd[self._take[self._real]] = done.transpose(1, 2)[self._real]
