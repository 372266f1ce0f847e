"""Whole conversations side by side in micro-batches of a fixed budget of tokens.

There is no padding to waste work on: documents are laid end to end and attention stays inside each.
Conversations that open with the same system turn, and so with the same tools, form one document: the
opening is its trunk, read once, and what follows it in each conversation is a branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from callama.common.errors import CallamaError
from callama.data.dataset import Dataset, Example


@dataclass(frozen=True)
class Sizes:
    """Of each conversation: its ``lengths`` in ids, the ``openings`` among them, and ``groups``, equal
    where the openings are."""

    lengths: NDArray[np.int64]
    openings: NDArray[np.int64]
    groups: NDArray[np.int64]

    @classmethod
    def of(cls, dataset: Dataset) -> Sizes:
        """Those of a built data set."""
        return cls(dataset.lengths, dataset.opening_tokens, dataset.opening_hashes)

    def positions(self, index: int, before: int | None) -> int:
        """How many positions a conversation adds behind another. The last id is only ever a target."""
        shared = self.openings[index] if before is not None and self.groups[before] == self.groups[index] else 0
        return int(self.lengths[index] - 1 - shared)


@dataclass(frozen=True)
class MicroBatch:
    """Documents end to end. ``inputs`` (1, t); of the next token at each position, ``targets`` (t,),
    its ``kinds`` (t,) and whether it is ``supervised`` (t,). ``documents`` has the lengths of each
    document's trunk and branches; all of them sum to t."""

    inputs: Tensor
    targets: Tensor
    kinds: Tensor
    supervised: Tensor
    documents: list[list[int]]

    def to(self, device: torch.device) -> MicroBatch:
        """The same on another device."""
        inputs, targets = self.inputs.to(device), self.targets.to(device)
        return MicroBatch(inputs, targets, self.kinds.to(device), self.supervised.to(device), self.documents)


def spread(batches: Sequence[list[int]], count: int) -> list[list[int]]:
    """At most ``count`` of them, evenly spread: data stand in the order of their sources, and each shall be seen."""
    taken = min(count, len(batches))
    return [batches[at * len(batches) // taken] for at in range(taken)]


def plan(sizes: Sizes, order: Sequence[int] | NDArray[np.int64], budget: int) -> list[list[int]]:
    """Indices of each micro-batch: conversations in the given order, a new batch where the next would not fit.

    Raises:
        CallamaError: one conversation alone exceeds the budget of tokens.
    """
    batches: list[list[int]] = [[]]
    filled = 0
    for index in map(int, order):
        need = sizes.positions(index, batches[-1][-1] if batches[-1] else None)
        if filled + need > budget and batches[-1]:
            batches.append([])
            filled, need = 0, sizes.positions(index, None)
        if need > budget:
            raise CallamaError(f"conversation {index} has {need + 1} tokens, more than fit into {budget}")
        batches[-1].append(index)
        filled += need
    return [b for b in batches if b]


def _bundles(sizes: Sizes, order: NDArray[np.int64], budget: int) -> list[list[int]]:
    """Conversations with the same opening, in the given order, cut where a micro-batch is full."""
    members: dict[int, list[int]] = {}
    for index in map(int, order):
        members.setdefault(int(sizes.groups[index]), []).append(index)
    return [bundle for group in members.values() for bundle in plan(sizes, group, budget)]


class EpochPlans:
    """The micro-batches of each epoch, in an order that depends only on seed and epoch."""

    def __init__(self, sizes: Sizes, seed: int, budget: int) -> None:
        self._sizes, self._seed, self._budget = sizes, seed, budget
        self._epoch, self._batches = -1, list[list[int]]()

    def __getitem__(self, epoch: int) -> list[list[int]]:
        if epoch != self._epoch:
            rng = np.random.default_rng([self._seed, epoch])
            bundles = _bundles(self._sizes, rng.permutation(len(self._sizes.lengths)), self._budget)
            order = [index for at in rng.permutation(len(bundles)) for index in bundles[at]]
            self._epoch, self._batches = epoch, plan(self._sizes, order, self._budget)
        return self._batches


def collate(dataset: Dataset, indices: Sequence[int]) -> MicroBatch:
    """Lays the documents of a micro-batch end to end; neighbours with the same opening share it."""
    parts: list[tuple[Example, int, int]] = []  # of an example's positions, the first and the end
    documents: list[list[int]] = []
    for _, group in groupby(indices, key=lambda i: dataset.opening_hashes[i]):
        examples = [dataset[i] for i in group]
        trunk = examples[0].opening_tokens if len(examples) > 1 else 0
        own = [(e, trunk, len(e.input_ids) - 1) for e in examples]
        parts += [(examples[0], 0, trunk)] * bool(trunk) + own
        lengths = [end - start for _, start, end in own]
        documents += [[trunk, *lengths]] if trunk else [[n] for n in lengths]
    return MicroBatch(
        torch.from_numpy(np.concatenate([e.input_ids[a:b] for e, a, b in parts]).astype(np.int64))[None],
        torch.from_numpy(np.concatenate([e.input_ids[a + 1 : b + 1] for e, a, b in parts]).astype(np.int64)),
        torch.from_numpy(np.concatenate([e.kinds[a + 1 : b + 1] for e, a, b in parts]).astype(np.int64)),
        torch.from_numpy(np.concatenate([e.supervised[a + 1 : b + 1] for e, a, b in parts])),
        documents,
    )
