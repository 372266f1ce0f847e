"""Choosing the next token from logits: the likeliest, or one drawn from the nucleus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """``temperature`` 0 is greedy; ``top_p`` keeps the smallest set of tokens with that much
    probability (arXiv:1904.09751). Request i of a batch draws from its own stream of ``seed`` + i."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


def choose(logits_v: Tensor, sampling: Sampling, generator: torch.Generator) -> int | None:
    """The next token's id from fp32 logits (vocab,); None where all of them are -inf."""
    best, token = logits_v.max(-1)
    if best == -torch.inf:
        return None
    if sampling.temperature <= 0:
        return int(token)
    probabilities, ids = ((logits_v - best).cpu() / sampling.temperature).softmax(-1).sort(descending=True)
    before = probabilities.cumsum(-1) - probabilities
    probabilities[before >= sampling.top_p] = 0.0
    probabilities[0] = probabilities[0].clamp(min=torch.finfo(torch.float32).tiny)
    return int(ids[torch.multinomial(probabilities, 1, generator=generator)])


def choose_each(logits_bv: Tensor, sampling: Sampling, generators: Sequence[torch.Generator]) -> list[int | None]:
    """The next token of each row of logits (b, vocab); see ``choose``."""
    if sampling.temperature > 0:
        return [choose(row, sampling, generator) for row, generator in zip(logits_bv, generators, strict=True)]
    best, tokens = logits_bv.max(-1)
    return [None if b == -torch.inf else t for b, t in zip(best.tolist(), tokens.tolist(), strict=True)]
