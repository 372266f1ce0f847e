"""Keys and values of what has been read so far, one slot per running request.

Requests add different numbers of tokens at a time: a prompt's rest, one sampled token, a run of forced
ones. All of them are laid end to end, so that the linear layers see no padding; attention takes each
long piece by itself and the short ones together. Running slots stay packed at the front, so that the
short ones work on a plain slice. What all layers need alike is made once for a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from callama.model.attend import (
    attention_by_torch,
    attention_in_blocks,
    attention_in_groups,
    attention_written_out,
    on_gpu,
    score_bias,
)
from callama.model.params import ModelParams

LONG_TOKENS = 16


class KVCache:
    """Keys and values (layers, slots, kv heads, capacity, head_dim)."""

    def __init__(
        self, params: ModelParams, slots: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        rows = params.n_layers, slots, params.kv_heads
        # Zeros: positions beyond a slot's length get weight 0, and 0 times a stray NaN is NaN.
        self.values = torch.zeros(*rows, capacity, params.head_dim, dtype=dtype, device=device)
        if device.type == "cpu":
            # In memory a channel's positions stand beside each other: in bf16, queries of a few tokens are
            # multiplied with such keys in a quarter of the time.
            self.keys = torch.zeros(*rows, params.head_dim, capacity, dtype=dtype).transpose(3, 4)
        else:
            self.keys = torch.zeros_like(self.values)

    @property
    def slots(self) -> int:
        """How many requests it holds."""
        return self.keys.shape[1]

    @property
    def capacity(self) -> int:
        """How many tokens of each."""
        return self.keys.shape[3]

    def copy(self, source: int, target: int, length: int) -> None:
        """Copies a slot's first ``length`` positions to another slot."""
        for tensor in (self.keys, self.values):
            tensor[:, target, :, :length] = tensor[:, source, :, :length]

    def swap(self, a: int, b: int, length: int) -> None:
        """Exchanges the first ``length`` positions of two slots."""
        for tensor in (self.keys, self.values):
            kept = tensor[:, a, :, :length].clone()
            tensor[:, a, :, :length] = tensor[:, b, :, :length]
            tensor[:, b, :, :length] = kept

    def take_over(self, other: KVCache, lengths: Sequence[int]) -> None:
        """Copies the first positions of another cache's slots, ``lengths`` many of each."""
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            for slot, length in enumerate(lengths):
                mine[:, slot, :, :length] = theirs[:, slot, :, :length]


@dataclass
class _Piece:
    """New tokens of one slot: their positions, and where they end among all new tokens."""

    slot: int
    start: int
    end: int
    last: int

    @property
    def length(self) -> int:
        return self.end - self.start

    @property
    def first(self) -> int:
        return self.last - self.length


class Append:
    """New tokens of several slots, laid end to end (b = 1); each sees its slot's cache up to itself.

    ``lengths`` count what the slots from 0 on have cached, ``counts`` what each adds.
    """

    def __init__(self, cache: KVCache, lengths: Sequence[int], counts: Sequence[int]) -> None:
        self._cache, device = cache, cache.keys.device
        self.ends = torch.tensor(counts).cumsum(0).tolist()
        pieces = [
            _Piece(slot, n, n + count, last)
            for slot, (n, count, last) in enumerate(zip(lengths, counts, self.ends, strict=True))
        ]
        self.positions = torch.cat([torch.arange(p.start, p.end) for p in pieces])[None].to(device)
        self._long = [_Long(p, device) for p in pieces if p.length > LONG_TOKENS]
        short = [p for p in pieces if p.length <= LONG_TOKENS]
        self._short = _Short(short, len(short) == len(pieces), device) if short else None

    def __call__(self, layer: int, q_bshd: Tensor, k_bshd: Tensor, v_bshd: Tensor, dropout: float) -> Tensor:
        """Attention over each slot's own cache."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        q, k, v = q_bshd[0], k_bshd[0], v_bshd[0]
        if not self._long and self._short is not None and self._short.alone:
            return self._short.attend(q, k, v, keys, values)[None]
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        if self._short is not None:
            out[self._short.rows] = self._short.attend(q, k, v, keys, values)
        for piece in self._long:
            piece.attend(q, k, v, keys, values, out)
        return out[None]


class _Long:
    """A piece of many tokens."""

    def __init__(self, piece: _Piece, device: torch.device) -> None:
        self._piece = piece
        self._seen: Tensor | None = None
        if piece.start and on_gpu(device):
            shape = (piece.length, piece.end)
            self._seen = torch.ones(shape, dtype=torch.bool, device=device).tril_(piece.start)

    def attend(self, q_thd: Tensor, k_tgd: Tensor, v_tgd: Tensor, keys: Tensor, values: Tensor, out: Tensor) -> None:
        """Adds the piece to its slot's cache, and writes its attention into its place in ``out`` (t, h, d)."""
        piece, own = self._piece, slice(self._piece.first, self._piece.last)
        slot, end = piece.slot, piece.end
        keys[slot, :, piece.start : end] = k_tgd[own].transpose(0, 1)
        values[slot, :, piece.start : end] = v_tgd[own].transpose(0, 1)
        q = q_thd[None, own].transpose(1, 2)
        k, v = (x[slot : slot + 1, :, :end] for x in (keys, values))
        done = attention_by_torch(q, k, v, self._seen) if on_gpu(q.device) else attention_in_blocks(q, k, v)
        out[own] = done[0].transpose(0, 1)


class _Short:
    """The pieces of a few tokens each, padded to one length beside each other.

    Padding stands in front and repeats a piece's first token; its result is not read.
    """

    def __init__(self, pieces: Sequence[_Piece], alone: bool, device: torch.device) -> None:
        """``alone`` when they are all there is."""
        self._width = width = max(p.length for p in pieces)
        self._span = max(p.end for p in pieces)
        slots = [p.slot for p in pieces]
        packed = slots == [*range(slots[0], slots[0] + len(slots))]
        self._slots: slice | Tensor = slice(slots[0], slots[-1] + 1) if packed else torch.tensor(slots, device=device)
        self.alone, self._even = alone, alone and all(p.length == width for p in pieces)
        take = torch.tensor([[max(p.last - width + i, p.first) for i in range(width)] for p in pieces])
        real = torch.tensor([[i >= width - p.length for i in range(width)] for p in pieces])
        positions = torch.tensor([[max(p.end - width + i, p.start) for i in range(width)] for p in pieces])
        self._hidden = (torch.arange(self._span) > positions[..., None]).to(device)
        self._bias: Tensor | None = None
        self._seen: Tensor | None = None
        self._take, self._real = take.to(device), real.to(device)
        self.rows, self._at = take[real].to(device), positions[real].to(device)
        self._owner = torch.tensor(slots)[:, None].expand_as(real)[real].to(device)
        self._only = pieces[0] if self.alone and len(pieces) == 1 else None

    def attend(self, q_thd: Tensor, k_tgd: Tensor, v_tgd: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Adds the pieces to their slots' caches; their attention, row by row as ``rows`` says."""
        if (one := self._only) is not None:  # places by number cost five times as much as a slice
            keys[one.slot, :, one.start : one.end] = k_tgd.transpose(0, 1)
            values[one.slot, :, one.start : one.end] = v_tgd.transpose(0, 1)
        else:
            keys[self._owner, :, self._at] = k_tgd if self.alone else k_tgd[self.rows]
            values[self._owner, :, self._at] = v_tgd if self.alone else v_tgd[self.rows]
        q = q_thd.view(-1, self._width, *q_thd.shape[1:]) if self._even else q_thd[self._take]
        q = q.transpose(1, 2)
        k, v = keys[self._slots, :, : self._span], values[self._slots, :, : self._span]
        if on_gpu(q.device):
            if self._seen is None:
                self._seen = ~self._hidden.repeat(1, q.shape[1] // k.shape[1], 1)[:, None]
            done = attention_in_groups(q, k, v, self._seen)
        else:
            if self._bias is None:
                self._bias = score_bias(self._hidden, q, k)
            done = attention_written_out(q, k, v, self._bias)
        done = done.transpose(1, 2)
        return done.flatten(0, 1) if self._even else done[self._real]
