"""Who may attend to whom. The transformer is the same for training and generation; what differs is
this object: documents packed side by side, or one new token on top of a cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

SHORT_TOKENS = 512


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
        return torch.cat([_causal(q, k, v, dropout) for q, k, v in parts], dim=2).transpose(1, 2)


def _causal(q_bhsd: Tensor, k_bhsd: Tensor, v_bhsd: Tensor, dropout: float) -> Tensor:
    short = q_bhsd.shape[2] <= SHORT_TOKENS and not dropout
    if short and q_bhsd.device.type == "cpu" and q_bhsd.dtype == torch.bfloat16:
        return _short_causal(q_bhsd, k_bhsd, v_bhsd)
    return F.scaled_dot_product_attention(q_bhsd, k_bhsd, v_bhsd, is_causal=True, dropout_p=dropout, enable_gqa=True)


def _short_causal(q_bhsd: Tensor, k_bhsd: Tensor, v_bhsd: Tensor) -> Tensor:
    """Causal attention written out. torch's CPU kernel takes about twice as long for short documents
    in bf16, and a short document's scores are small enough to keep."""
    b, h, s, d = q_bhsd.shape
    groups = k_bhsd.shape[1]
    scores = (q_bhsd.reshape(b, groups, -1, d) * d**-0.5) @ k_bhsd.transpose(2, 3)
    hidden = torch.ones(s, s, dtype=torch.bool).triu_(1)
    weights = scores.view(b, groups, -1, s, s).float().masked_fill_(hidden, -torch.inf).softmax(-1)
    out: Tensor = weights.type_as(v_bhsd).view(b, groups, -1, s) @ v_bhsd
    return out.view(b, h, s, d)
