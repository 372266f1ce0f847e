"""Which ids each slot of the cache holds, so that what requests begin with alike is read once.

Running requests stand at the front. Behind them is what ended ones left: a conversation that comes back
one turn longer finds its slot again and only its new turns are read.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from callama.generate.cache import KVCache
from callama.model.params import ModelParams


class Slots:
    """A cache and what is in it; ``held`` are the ids of each slot."""

    def __init__(
        self, params: ModelParams, slots: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.cache = KVCache(params, slots, capacity, dtype, device)
        self.held: list[list[int]] = [[] for _ in range(slots)]

    def take_over(self, other: Slots) -> None:
        """Copies what another, no larger one holds."""
        self.cache.take_over(other.cache, [len(ids) for ids in other.held])
        self.held[: len(other.held)] = other.held

    def place(self, slot: int, ids: Sequence[int], most: int) -> int:
        """Makes a slot hold what any slot holds of the beginning of ``ids``, at ``most`` so many; how many
        these are."""
        shared, at_home, source = max((common(held, ids), s == slot, s) for s, held in enumerate(self.held))
        shared = min(shared, most)
        if not at_home:
            self.cache.copy(source, slot, shared)
        self.held[slot] = list(ids[:shared])
        return shared

    def swap(self, a: int, b: int) -> None:
        """Exchanges two slots."""
        if a != b:
            self.cache.swap(a, b, max(len(self.held[a]), len(self.held[b])))
            self.held[a], self.held[b] = self.held[b], self.held[a]

    def homes(self, prompts: Sequence[Sequence[int]]) -> dict[int, int]:
        """Which prompt should take which slot, because that holds the most of it: {prompt: slot}."""
        pairs = [(common(held, p), s, i) for s, held in enumerate(self.held) if held for i, p in enumerate(prompts)]
        homes: dict[int, int] = {}
        for shared, slot, index in sorted(pairs, reverse=True):
            if shared and index not in homes and slot not in homes.values():
                homes[index] = slot
        return homes


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids two sequences begin with alike."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
