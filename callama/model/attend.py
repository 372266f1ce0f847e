"""Who may attend to whom. The transformer is the same for training and generation; what differs is
this object: documents packed side by side, or one new token on top of a cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Attend(Protocol):
    """Positions of the tokens in the batch and attention over what each may see."""

    positions: Tensor  # (b, s), int64

    def __call__(self, layer: int, q_bshd: Tensor, k_bshd: Tensor, v_bshd: Tensor, dropout: float) -> Tensor:
        """Attention output (b, s, h, d) for rotated queries and keys; k and v may have fewer heads."""
        ...


class Documents:
    """Documents laid end to end in one row (b = 1): each sees only itself, positions restart.

    Attending document by document needs no mask and does no work between documents.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device | None = None) -> None:
        self.lengths = list(lengths)
        self.positions = torch.cat([torch.arange(n, device=device) for n in self.lengths])[None]

    def __call__(self, layer: int, q_bshd: Tensor, k_bshd: Tensor, v_bshd: Tensor, dropout: float) -> Tensor:
        """Causal attention within each document."""
        parts = zip(
            *(torch.split(x.transpose(1, 2), self.lengths, dim=2) for x in (q_bshd, k_bshd, v_bshd)), strict=True
        )
        outs = [
            F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout, enable_gqa=True)
            for q, k, v in parts
        ]
        return torch.cat(outs, dim=2).transpose(1, 2)
