"""Who may attend to whom. The transformer is the same for training and generation; what differs is
this object: documents packed side by side, or one new token on top of a cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

SHORT_TOKENS, BLOCK_TOKENS = 512, 64


class Attend(Protocol):
    """Positions of the tokens in the batch and attention over what each may see."""

    positions: Tensor  # (b, s), int64

    def __call__(self, layer: int, q_bshd: Tensor, k_bshd: Tensor, v_bshd: Tensor, dropout: float) -> Tensor:
        """Attention output (b, s, h, d) for rotated queries and keys; k and v may have fewer heads."""
        ...


class Documents:
    """Documents laid end to end in one row (b = 1): each sees only itself, positions restart.

    A document is a trunk and any number of branches. A branch sees the trunk and itself, as though it
    stood alone behind it, so that what several conversations begin with is read once. Attending piece
    by piece does no work between documents.
    """

    def __init__(self, documents: Sequence[Sequence[int]], device: torch.device | None = None) -> None:
        """``documents`` has the lengths of each document's trunk and branches."""
        self.documents = documents
        self.lengths = [n for document in documents for n in document]
        starts = [at for trunk, *branches in documents for at in (0, *[trunk] * len(branches))]
        pieces = zip(starts, self.lengths, strict=True)
        self.positions = torch.cat([torch.arange(at, at + n, device=device) for at, n in pieces])[None]

    def __call__(self, layer: int, q_bshd: Tensor, k_bshd: Tensor, v_bshd: Tensor, dropout: float) -> Tensor:
        """Causal attention within each document."""
        split = (torch.split(x.transpose(1, 2), self.lengths, dim=2) for x in (q_bshd, k_bshd, v_bshd))
        pieces = zip(*split, strict=True)
        out = []
        for _, *branches in self.documents:
            q, trunk_k, trunk_v = next(pieces)
            out.append(_causal(q, trunk_k, trunk_v, dropout))
            for _ in branches:
                q, k, v = next(pieces)
                out.append(_causal(q, torch.cat([trunk_k, k], 2), torch.cat([trunk_v, v], 2), dropout))
        return torch.cat(out, dim=2).transpose(1, 2)


def on_gpu(device: torch.device) -> bool:
    """Whether torch's kernels for GPUs work there."""
    return device.type == "cuda"


def _causal(q_bhsd: Tensor, k_bgld: Tensor, v_bgld: Tensor, dropout: float) -> Tensor:
    """Attention of the last s of l positions, each over itself and what stands before it."""
    s, length = q_bhsd.shape[2], k_bgld.shape[2]
    short = length <= SHORT_TOKENS and q_bhsd.device.type == "cpu" and q_bhsd.dtype == torch.bfloat16
    if short and not dropout:
        hidden = torch.ones(s, length, dtype=torch.bool).triu_(length - s + 1)
        return attention_written_out(q_bhsd, k_bgld, v_bgld, score_bias(hidden, q_bhsd, k_bgld))
    # Without a mask torch aligns the triangle with the first position, which is right for a trunk only.
    seen = None if s == length else torch.ones(s, length, dtype=torch.bool, device=q_bhsd.device).tril_(length - s)
    return attention_by_torch(q_bhsd, k_bgld, v_bgld, seen, dropout)


def attention_by_torch(
    q_bhsd: Tensor, k_bgld: Tensor, v_bgld: Tensor, seen: Tensor | None, dropout: float = 0.0
) -> Tensor:
    """Torch's fused attention (b, h, s, d); without a mask of what is ``seen`` it is causal."""
    shared = k_bgld.shape[1] < q_bhsd.shape[1]
    # Of torch's kernels on GPUs, flash takes neither masks nor fp32, and the memory-efficient one no shared heads:
    # where both meet, only the one that writes all scores out in fp32 is left.
    if shared and on_gpu(q_bhsd.device) and (seen is not None or q_bhsd.dtype == torch.float32):
        k_bgld, v_bgld, shared = own_heads(q_bhsd, k_bgld), own_heads(q_bhsd, v_bgld), False
    return F.scaled_dot_product_attention(
        q_bhsd,
        k_bgld,
        v_bgld,
        attn_mask=seen,
        is_causal=seen is None,
        dropout_p=dropout,
        enable_gqa=shared,
    )


def own_heads(q_bhsd: Tensor, x_bgld: Tensor) -> Tensor:
    """Keys or values (b, h, l, d), repeated so that each head of the queries has its own."""
    return x_bgld.repeat_interleave(q_bhsd.shape[1] // x_bgld.shape[1], 1)


def attention_in_groups(q_bhsd: Tensor, k_bgld: Tensor, v_bgld: Tensor, seen: Tensor) -> Tensor:
    """Attention (b, h, s, d) where few queries meet many keys: heads that share keys stand below each other as
    queries of one head, so that no key is repeated. ``seen`` (b, 1, s · h / g, l) is repeated as often."""
    b, groups, _, d = k_bgld.shape
    return attention_by_torch(q_bhsd.reshape(b, groups, -1, d), k_bgld, v_bgld, seen).reshape(q_bhsd.shape)


def score_bias(hidden: Tensor, q_bhsd: Tensor, k_bgld: Tensor) -> Tensor:
    """What ``attention_written_out`` adds to scores, so that queries do not look where ``hidden`` is true; it
    broadcasts to (b, s, l)."""
    (b, h, s, _), (groups, length) = q_bhsd.shape, k_bgld.shape[1:3]
    bias = torch.zeros(hidden.shape, dtype=q_bhsd.dtype, device=q_bhsd.device).masked_fill_(hidden, -torch.inf)
    return bias.expand(b, s, length).repeat(1, h // groups, 1).repeat_interleave(groups, 0)


def attention_written_out(q_bhsd: Tensor, k_bgld: Tensor, v_bgld: Tensor, bias: Tensor) -> Tensor:
    """Attention (b, h, s, d) as two products and a softmax, with the ``score_bias``.

    On CPUs in bf16 torch's fused kernel takes two to four times as long where scores are few: short
    documents, and single queries on a cache. In fp32 the two are about equal.
    """
    b, h, s, d = q_bhsd.shape
    groups = k_bgld.shape[1]
    # Heads that share keys stand below each other in one product.
    q, k, v = (x.reshape(b * groups, -1, d) for x in (q_bhsd, k_bgld, v_bgld))
    scores = torch.baddbmm(bias, q, k.transpose(1, 2), alpha=d**-0.5)
    return (scores.softmax(-1) @ v).view(b, h, s, d)


def attention_in_blocks(q_bhsd: Tensor, k_bgld: Tensor, v_bgld: Tensor) -> Tensor:
    """Causal attention (b, h, s, d) of the last s of l positions, without gradients.

    Blocks of queries see the keys up to their end only, and what they compute stays in the processor's cache: on
    CPUs in bf16 half the time of torch's fused kernel, in fp32 about the same.
    """
    b, h, s, d = q_bhsd.shape
    groups, length = k_bgld.shape[1:3]
    k, v = (x.reshape(b * groups, length, d) for x in (k_bgld, v_bgld))
    triangle = torch.full((BLOCK_TOKENS, BLOCK_TOKENS), -torch.inf, dtype=q_bhsd.dtype, device=q_bhsd.device).triu_(1)
    nothing, out = q_bhsd.new_zeros(1), torch.empty_like(q_bhsd)
    for first in range(0, s, BLOCK_TOKENS):
        rows = min(BLOCK_TOKENS, s - first)
        end = length - s + first + rows
        q = q_bhsd[:, :, first : first + rows].reshape(b * groups, -1, d)
        scores = torch.baddbmm(nothing, q, k[:, :end].transpose(1, 2), beta=0, alpha=d**-0.5)
        scores.view(b * groups, -1, rows, end)[..., end - rows :].add_(triangle[:rows, :rows])
        out[:, :, first : first + rows] = (scores.softmax(-1) @ v[:, :end]).view(b, h, rows, d)
    return out
