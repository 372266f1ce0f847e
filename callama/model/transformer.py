"""The Llama 3 transformer: RMSNorm, grouped-query attention with RoPE, SwiGLU, and nothing more.

Module and parameter names are Meta's, so a native checkpoint is a plain state dict. A model without
``output.weight`` in its checkpoint has tied embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from callama.model.attend import Attend
from callama.model.fused import recomputed, rms_norm, swiglu
from callama.model.params import ModelParams
from callama.model.rope import rope_frequencies, rotate, rotation


@dataclass(frozen=True)
class Dropout:
    """Probabilities of dropping embeddings, attention weights and block outputs while training."""

    embed: float = 0.0
    attention: float = 0.0
    hidden: float = 0.0


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in fp32 (arXiv:1910.07467)."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape and dtype as x (…, dim)."""
        return rms_norm(x, self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query self-attention."""

    def __init__(self, params: ModelParams, layer: int, dropout: float) -> None:
        super().__init__()
        self.layer, self.dropout, self.head_dim = layer, dropout, params.head_dim
        kv_dim = params.kv_heads * params.head_dim
        self.wq = nn.Linear(params.dim, params.dim, bias=False)
        self.wk = nn.Linear(params.dim, kv_dim, bias=False)
        self.wv = nn.Linear(params.dim, kv_dim, bias=False)
        self.wo = nn.Linear(params.dim, params.dim, bias=False)

    def forward(self, x_bsd: Tensor, turn: Tensor, attend: Attend) -> Tensor:
        """(b, s, dim) → (b, s, dim); ``turn`` are the rotations of the tokens' positions."""
        q, k, v = (w(x_bsd).unflatten(-1, (-1, self.head_dim)) for w in (self.wq, self.wk, self.wv))
        dropout = self.dropout if self.training else 0.0
        out = attend(self.layer, rotate(q, turn), rotate(k, turn), v, dropout)
        return self.wo(out.flatten(2))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """SwiGLU (arXiv:2002.05202)."""

    def __init__(self, params: ModelParams) -> None:
        super().__init__()
        self.w1 = nn.Linear(params.dim, params.ffn_dim, bias=False)
        self.w2 = nn.Linear(params.ffn_dim, params.dim, bias=False)
        self.w3 = nn.Linear(params.dim, params.ffn_dim, bias=False)

    def forward(self, x_bsd: Tensor) -> Tensor:
        """(b, s, dim) → (b, s, dim)."""
        gate, up = self.w1(x_bsd), self.w3(x_bsd)
        hidden = swiglu(gate, up)
        with recomputed(hidden, lambda: swiglu(gate.detach(), up.detach())):
            return self.w2(hidden)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and beside a residual."""

    def __init__(self, params: ModelParams, layer: int, dropout: Dropout) -> None:
        super().__init__()
        self.attention = Attention(params, layer, dropout.attention)
        self.feed_forward = FeedForward(params)
        self.attention_norm = RMSNorm(params.dim, params.norm_eps)
        self.ffn_norm = RMSNorm(params.dim, params.norm_eps)
        self.dropout = nn.Dropout(dropout.hidden)

    def forward(self, x_bsd: Tensor, turn: Tensor, attend: Attend) -> Tensor:
        """(b, s, dim) → (b, s, dim)."""
        x_bsd = x_bsd + self.dropout(self._behind(self.attention_norm, x_bsd, self.attention, turn, attend))
        return x_bsd + self.dropout(self._behind(self.ffn_norm, x_bsd, self.feed_forward))  # type: ignore[no-any-return]

    @staticmethod
    def _behind(norm: nn.Module, x_bsd: Tensor, layer: nn.Module, *rest: Any) -> Tensor:
        normed = norm(x_bsd)
        with recomputed(normed, lambda: norm(x_bsd.detach()).detach()):
            return layer(normed, *rest)  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Token ids to hidden states; ``logits`` projects the ones that are asked for. With ``recompute``, of each
    block only its input is kept for the way back, where the block is run again."""

    def __init__(self, params: ModelParams, *, tied: bool, dropout: Dropout | None = None) -> None:
        super().__init__()
        dropout = dropout or Dropout()
        self.params, self.recompute = params, False
        self.tok_embeddings = nn.Embedding(params.vocab_size, params.dim)
        self.embed_dropout = nn.Dropout(dropout.embed)
        self.layers = nn.ModuleList(Block(params, i, dropout) for i in range(params.n_layers))
        self.norm = RMSNorm(params.dim, params.norm_eps)
        self.output = None if tied else nn.Linear(params.dim, params.vocab_size, bias=False)
        # Not a buffer: casting the model to bf16 must not round angles, and Meta's files do not hold it.
        with torch.device("cpu"):
            self._frequencies = rope_frequencies(params)

    @property
    def output_weight(self) -> Tensor:
        """The projection to logits (vocab_size, dim)."""
        return self.tok_embeddings.weight if self.output is None else self.output.weight

    def forward(self, tokens_bs: Tensor, attend: Attend) -> Tensor:
        """Normed hidden states (b, s, dim) of token ids (b, s)."""
        turn = rotation(attend.positions, self._frequencies.to(tokens_bs.device))
        x_bsd = self.embed_dropout(self.tok_embeddings(tokens_bs))
        again = self.recompute and torch.is_grad_enabled()
        if again:
            x_bsd.requires_grad_()  # nothing before the first block does where the embedding is frozen
        for layer in self.layers:
            # Reentrant, because it runs the block without a graph at first: what ``fused.recomputed`` leaves
            # out is then left out twice, and not kept past the other kind's own hooks.
            x_bsd = checkpoint(layer, x_bsd, turn, attend, use_reentrant=True) if again else layer(x_bsd, turn, attend)
        return self.norm(x_bsd)  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor) -> Tensor:
        """fp32 logits (…, vocab_size) of hidden states (…, dim)."""
        return F.linear(hidden, self.output_weight).float()
