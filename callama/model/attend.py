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


def _causal(q_bhsd: Tensor, k_bgsd: Tensor, v_bgsd: Tensor, dropout: float) -> Tensor:
    tokens = q_bhsd.shape[2]
    if tokens <= SHORT_TOKENS and not dropout and q_bhsd.device.type == "cpu" and q_bhsd.dtype == torch.bfloat16:
        return attention_written_out(q_bhsd, k_bgsd, v_bgsd, torch.ones(tokens, tokens, dtype=torch.bool).triu_(1))
    return F.scaled_dot_product_attention(q_bhsd, k_bgsd, v_bgsd, is_causal=True, dropout_p=dropout, enable_gqa=True)


def attention_written_out(q_bhsd: Tensor, k_bgld: Tensor, v_bgld: Tensor, hidden: Tensor) -> Tensor:
    """Attention (b, h, s, d) as two products and a softmax in fp32; ``hidden``, true where a query must
    not look, broadcasts to (b, g, h / g, s, l).

    On CPUs in bf16 torch's fused kernel takes two to four times as long where scores are few: short
    documents, and single queries on a cache. In fp32 the two are about equal.
    """
    b, h, s, d = q_bhsd.shape
    groups, length = k_bgld.shape[1:3]
    scores = (q_bhsd.reshape(b, groups, -1, d) * d**-0.5) @ k_bgld.transpose(2, 3)
    weights = scores.view(b, groups, -1, s, length).float().masked_fill_(hidden, -torch.inf).softmax(-1)
    out: Tensor = weights.type_as(v_bgld).view(b, groups, -1, length) @ v_bgld
    return out.view(b, h, s, d)
