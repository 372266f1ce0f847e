"""Whole conversations side by side in micro-batches of a fixed budget of tokens.

There is no padding to waste work on: documents are laid end to end and attention stays inside each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from callama.common.errors import CallamaError
from callama.data.dataset import Dataset


@dataclass(frozen=True)
class MicroBatch:
    """Documents end to end. ``inputs`` (1, t); of the next token at each position, ``targets`` (t,),
    its ``kinds`` (t,) and whether it is ``supervised`` (t,); ``lengths`` of the documents sum to t."""

    inputs: Tensor
    targets: Tensor
    kinds: Tensor
    supervised: Tensor
    lengths: list[int]


def plan(
    lengths: Sequence[int] | NDArray[np.int64], order: Sequence[int] | NDArray[np.int64], budget: int
) -> list[list[int]]:
    """Indices of each micro-batch: documents in the given order, a new batch where the next would not fit.

    A document of n ids takes n - 1 positions, because its last id is only ever a target.

    Raises:
        CallamaError: one document alone exceeds the budget of tokens.
    """
    batches: list[list[int]] = [[]]
    filled = 0
    for index in map(int, order):
        need = int(lengths[index]) - 1
        if need > budget:
            raise CallamaError(f"conversation {index} has {need + 1} tokens, more than fit into {budget}")
        if filled + need > budget:
            batches.append([])
            filled = 0
        batches[-1].append(index)
        filled += need
    return [b for b in batches if b]


class EpochPlans:
    """The micro-batches of each epoch, in an order that depends only on seed and epoch."""

    def __init__(self, lengths: NDArray[np.int64], seed: int, budget: int) -> None:
        self._lengths, self._seed, self._budget = lengths, seed, budget
        self._epoch, self._batches = -1, list[list[int]]()

    def __getitem__(self, epoch: int) -> list[list[int]]:
        if epoch != self._epoch:
            order = np.random.default_rng([self._seed, epoch]).permutation(len(self._lengths))
            self._epoch, self._batches = epoch, plan(self._lengths, order, self._budget)
        return self._batches


def collate(dataset: Dataset, indices: Sequence[int]) -> MicroBatch:
    """Lays the documents of a micro-batch end to end."""
    examples = [dataset[i] for i in indices]
    return MicroBatch(
        torch.from_numpy(np.concatenate([e.input_ids[:-1] for e in examples]).astype(np.int64))[None],
        torch.from_numpy(np.concatenate([e.input_ids[1:] for e in examples]).astype(np.int64)),
        torch.from_numpy(np.concatenate([e.kinds[1:] for e in examples]).astype(np.int64)),
        torch.from_numpy(np.concatenate([e.supervised[1:] for e in examples])),
        [len(e.input_ids) - 1 for e in examples],
    )
