"""Cross-entropy where it is wanted: only supervised positions are projected onto the vocabulary.

In tool data most tokens are prompt, and the projection is the widest product of all. Positions are
projected in chunks, and the gradient is taken while a chunk's logits are at hand, so that memory
does not grow with the vocabulary times the sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from callama.data.pack import MicroBatch
from callama.model.attend import Documents
from callama.model.transformer import Transformer

CHUNK_POSITIONS = 128


class SupervisedLoss(NamedTuple):
    """``total``: summed loss with its gradient. Per supervised position, without gradient: ``losses``
    (n,), whether the greedy token was ``right`` (n,), and its ``kinds`` (n,)."""

    total: Tensor
    losses: Tensor
    right: Tensor
    kinds: Tensor


def _chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    for start in range(0, len(tensors[0]), CHUNK_POSITIONS):
        yield tuple(t[start : start + CHUNK_POSITIONS] for t in tensors)


class _ProjectedCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of ``hidden @ weight.T`` for a frozen weight; keeps (n, dim), not (n, vocab)."""

    @staticmethod
    def forward(ctx: Any, hidden_nd: Tensor, weight_vd: Tensor, targets_n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        losses, right, gradients = [], [], []
        for hidden, targets in _chunks(hidden_nd, targets_n):
            logits = F.linear(hidden, weight_vd).float()
            losses.append(F.cross_entropy(logits, targets, reduction="none"))
            right.append(logits.argmax(-1) == targets)
            if ctx.needs_input_grad[0]:
                gradient = logits.softmax(-1)
                gradient[torch.arange(len(targets), device=targets.device), targets] -= 1.0
                gradients.append(gradient.to(weight_vd.dtype) @ weight_vd)
        each, hits = torch.cat(losses), torch.cat(right)
        if gradients:
            ctx.save_for_backward(torch.cat(gradients))
        ctx.mark_non_differentiable(each, hits)
        return each.sum(), each, hits

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient_nd,) = ctx.saved_tensors
        return gradient_nd * gradients[0].to(gradient_nd.dtype), None, None


def supervised_loss(
    model: Transformer, batch: MicroBatch, whole: Callable[[Tensor], AbstractContextManager[Any]] = nullcontext
) -> SupervisedLoss:
    """Runs a micro-batch and scores its supervised positions. The output projection must be frozen; where
    processes hold parts of it, it is all there within ``whole(weight)``."""
    hidden_td = model(batch.inputs, Documents(batch.documents, batch.inputs.device))[0]
    chosen = batch.supervised.nonzero()[:, 0]
    with whole(model.output_weight):
        weight = model.output_weight.detach()
        total, losses, right = _ProjectedCrossEntropy.apply(hidden_td[chosen], weight, batch.targets[chosen])  # type: ignore[no-untyped-call]
    return SupervisedLoss(total, losses, right, batch.kinds[chosen])
