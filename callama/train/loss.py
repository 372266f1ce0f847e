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
_SUMMED_ROWS = 4096


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


def _add_product(sum_vd: Tensor, gradient_nv: Tensor, hidden_nd: Tensor) -> None:
    """Adds ``gradient.T @ hidden``; where the sum is more precise than these, some rows at a time, so that the product
    never takes another table."""
    if sum_vd.dtype == hidden_nd.dtype:
        sum_vd.addmm_(gradient_nv.t(), hidden_nd)
        return
    rows, parts = torch.split(sum_vd, _SUMMED_ROWS), torch.split(gradient_nv, _SUMMED_ROWS, 1)
    for rows_rd, part_nr in zip(rows, parts, strict=True):
        rows_rd += part_nr.t() @ hidden_nd


class _ProjectedCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of ``hidden @ weight.T``; keeps (n, dim) and, unless the weight is frozen, its
    gradient (vocab, dim), but not (n, vocab)."""

    @staticmethod
    def forward(ctx: Any, hidden_nd: Tensor, weight_vd: Tensor, targets_n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        losses, right, gradients = [], [], []
        trained = all(ctx.needs_input_grad[:2])  # the second alone is also true where nothing is to be learned
        # Of several chunks in fp32: rounding at each would add up.
        dtype = torch.float32 if len(targets_n) > CHUNK_POSITIONS else weight_vd.dtype
        for_weight = torch.zeros_like(weight_vd, dtype=dtype) if trained else None
        for hidden, targets in _chunks(hidden_nd, targets_n):
            logits = F.linear(hidden, weight_vd).float()
            losses.append(F.cross_entropy(logits, targets, reduction="none"))
            right.append(logits.argmax(-1) == targets)
            if ctx.needs_input_grad[0]:
                gradient = logits.softmax(-1)
                gradient[torch.arange(len(targets), device=targets.device), targets] -= 1.0
                gradients.append(gradient.to(weight_vd.dtype) @ weight_vd)
                if for_weight is not None:
                    _add_product(for_weight, gradient.to(weight_vd.dtype), hidden)
        each, hits = torch.cat(losses), torch.cat(right)
        if gradients:
            for_weight = for_weight if for_weight is None else for_weight.to(weight_vd.dtype)
            ctx.save_for_backward(torch.cat(gradients), for_weight)
        ctx.mark_non_differentiable(each, hits)
        return each.sum(), each, hits

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        gradient_nd, for_weight = ctx.saved_tensors
        factor = gradients[0].to(gradient_nd.dtype)
        return gradient_nd * factor, for_weight if for_weight is None else for_weight.mul_(factor), None


def projected_cross_entropy(hidden_nd: Tensor, weight_vd: Tensor, targets_n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of ``hidden @ weight.T``: the summed loss, the losses (n,), and whether the likeliest token is right (n,)."""
    return _ProjectedCrossEntropy.apply(hidden_nd, weight_vd, targets_n)  # type: ignore[no-any-return,no-untyped-call]


def supervised_loss(
    model: Transformer, batch: MicroBatch, whole: Callable[[Tensor], AbstractContextManager[Any]] = nullcontext
) -> SupervisedLoss:
    """Runs a micro-batch and scores its supervised positions. Where processes hold parts of the output
    projection, it is all there within ``whole(weight)``."""
    hidden_td = model(batch.inputs, Documents(batch.documents, batch.inputs.device))[0]
    chosen = batch.supervised.nonzero()[:, 0]
    with whole(weight := model.output_weight):
        total, losses, right = projected_cross_entropy(hidden_td[chosen], weight, batch.targets[chosen])
    return SupervisedLoss(total, losses, right, batch.kinds[chosen])
