"""Batched generation with a KV cache. Knows token ids only: no text, no conversations, no tools.

Requests wait in a queue; a slot that becomes free takes the next one, so a short answer never waits
for a long one. Prompts that begin alike follow one another, and each takes over what its predecessor
has read, so that a common beginning is computed once. Prompts are read in the same passes in which
others are answered. Shaped this way, everything above it (evaluation, chat, a server) is one caller.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch

from callama.common.errors import CallamaError, is_out_of_memory
from callama.generate.batch import Batch, Generation, Guide, Model, Request
from callama.generate.sampling import Sampling
from callama.generate.slots import Slots

__all__ = ["Generation", "Generator", "Guide"]

# A kept cache grows in steps, because conversations do and growing copies it.
CAPACITY_STEP = 1024


class Generator:
    """Generates for one model; ``slots`` requests run side by side, each of at most ``max_seq_len``
    tokens with its prompt (default: the model's context). With ``keep``, what was read stays for the next
    call, which is only right while the weights stay as they are."""

    def __init__(
        self,
        model: Model,
        stop_ids: Collection[int],
        slots: int = 16,
        max_seq_len: int | None = None,
        keep: bool = False,
    ) -> None:
        self.model, self.stop_ids, self.slots = model, frozenset(stop_ids), slots
        self.context = max_seq_len or model.params.max_seq_len
        self._keep = keep
        self._kept: Slots | None = None

    def forget(self) -> None:
        """Drops what was kept."""
        self._kept = None

    def _slots_for(self, requests: int, capacity: int) -> Slots:
        kept = self._kept
        if kept is not None and kept.cache.slots >= min(self.slots, requests) and kept.cache.capacity >= capacity:
            return kept
        slots = min(self.slots, requests)
        if self._keep:
            slots, capacity = self.slots, min(self.context, -(-capacity // CAPACITY_STEP) * CAPACITY_STEP)
        made = None if kept is None else self._grown(kept, slots, capacity)
        if made is None:
            self._kept = kept = None
            made = self._empty(slots, capacity)
        self._kept = made if self._keep else None
        return made

    def _empty(self, slots: int, capacity: int) -> Slots:
        weight = self.model.tok_embeddings.weight
        return Slots(self.model.params, slots, capacity, weight.dtype, weight.device)

    def _grown(self, kept: Slots, slots: int, capacity: int) -> Slots | None:
        """With what was kept; None where memory has no place for both at once, and all is to be read again."""
        try:
            made = self._empty(slots, capacity)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None
        made.take_over(kept)
        return made

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        sampling: Sampling | None = None,
        on_done: Callable[[int, Generation], None] | None = None,
        guides: Sequence[Guide] | None = None,
        logprobs: bool = False,
    ) -> list[Generation]:
        """One generation per prompt, in order; ``on_done`` gets the index of each and itself as it ends. With
        ``guides``, one for each prompt, answers keep to them.

        Raises:
            CallamaError: a prompt is empty or leaves no room in the model's context.
        """
        context = self.context
        for index, prompt in enumerate(prompts):
            if not 0 < len(prompt) < context:
                limit = f"expected at least 1, and room for an answer within {context}"
                raise CallamaError(f"prompt {index} has {len(prompt)} tokens; {limit}")
        if not prompts:
            return []
        self.model.eval()
        slots = self._slots_for(len(prompts), min(context, max(map(len, prompts)) + max_new_tokens))
        sampling = sampling or Sampling()
        out = [Generation() for _ in prompts]
        homes = slots.homes(prompts)
        # In order of their ids, backwards, prompts that begin alike stand together. Those whose beginning
        # a slot holds from another call come first, in the slots' order: none takes another's place.
        waiting = sorted(
            range(len(prompts)), key=lambda i: (homes.get(i, slots.cache.slots), list(prompts[i])), reverse=True
        )

        def request(index: int) -> Request:
            room = min(max_new_tokens, context - len(prompts[index]))
            generator = torch.Generator().manual_seed(sampling.seed + index)
            guide = guides[index] if guides is not None else None
            made = Request(index, [*prompts[index]], room, generator, guide, out[index])
            made.force()
            return made

        batch = Batch(self.model, slots, self.stop_ids, sampling, logprobs)
        ended: list[int] = []
        while True:
            for slot in reversed(ended):
                if waiting and waiting[-1] not in homes and batch.admits(prompts[waiting[-1]]):
                    batch.place(slot, request(waiting.pop()))
                else:
                    batch.drop(slot)
            while waiting and len(batch.running) < slots.cache.slots and batch.admits(prompts[waiting[-1]]):
                index, free = waiting.pop(), len(batch.running)
                slots.swap(homes.get(index, free), free)
                batch.place(free, request(index))
            if not batch.running:
                return out
            ended = batch.advance()
            if on_done is not None:
                for slot in ended:
                    on_done(batch.running[slot].index, batch.running[slot].out)
