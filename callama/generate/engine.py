"""Batched generation with a KV cache. Knows token ids only: no text, no conversations, no tools.

Requests wait in a queue; a slot that becomes free takes the next one, so a short answer never waits
for a long one. Shaped this way, everything above it (evaluation, chat, a server) is one caller.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch

from callama.common.errors import CallamaError
from callama.generate.cache import KVCache, Prefill, Step
from callama.generate.sampling import Sampling, choose
from callama.model.transformer import Transformer


@dataclass
class Generation:
    """New ``ids`` without the stop token; ``stopped`` is False where the length limit ended them."""

    ids: list[int] = field(default_factory=list)
    stopped: bool = False


@dataclass
class _Running:
    index: int
    length: int  # positions in the cache
    last: int  # the newest token, not yet in the cache
    generator: torch.Generator


class Generator:
    """Generates for one model; ``slots`` requests run side by side, each of at most ``max_seq_len``
    tokens with its prompt (default: the model's context)."""

    def __init__(
        self, model: Transformer, stop_ids: Collection[int], slots: int = 16, max_seq_len: int | None = None
    ) -> None:
        self.model, self.stop_ids, self.slots = model, frozenset(stop_ids), slots
        self.context = max_seq_len or model.params.max_seq_len

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        sampling: Sampling | None = None,
        on_done: Callable[[int], None] | None = None,
    ) -> list[Generation]:
        """One generation per prompt, in order; ``on_done`` is told the index of each as it ends.

        Raises:
            CallamaError: a prompt is empty or leaves no room in the model's context.
        """
        sampling = sampling or Sampling()
        context = self.context
        for index, prompt in enumerate(prompts):
            if not 0 < len(prompt) < context:
                limit = f"expected at least 1, and room for an answer within {context}"
                raise CallamaError(f"prompt {index} has {len(prompt)} tokens; {limit}")
        out = [Generation() for _ in prompts]
        if not prompts:
            return out
        self.model.eval()
        weight = self.model.tok_embeddings.weight
        capacity = min(context, max(map(len, prompts)) + max_new_tokens)
        cache = KVCache(self.model.params, min(self.slots, len(prompts)), capacity, weight.dtype, weight.device)
        # Longest first: the wide steps run together and the tail of the batch is short.
        waiting = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        running: list[_Running] = []

        def accept(request: _Running, token: int) -> bool:
            """Takes a request's next token; False when the request has ended."""
            generation = out[request.index]
            generation.stopped = token in self.stop_ids
            if not generation.stopped:
                generation.ids.append(token)
            request.last = token
            room = len(prompts[request.index]) + len(generation.ids) < context
            going = not generation.stopped and len(generation.ids) < max_new_tokens and room
            if not going and on_done is not None:
                on_done(request.index)
            return going

        while waiting or running:
            while waiting and len(running) < cache.keys.shape[1]:
                index = waiting.pop()
                request = self._start(prompts[index], index, cache, len(running), sampling)
                if accept(request, request.last):
                    running.append(request)
            if running:
                tokens = self._step(running, cache, sampling)
                ended = [slot for slot, token in enumerate(tokens) if not accept(running[slot], token)]
                for slot in reversed(ended):
                    last = running.pop()
                    if slot < len(running):
                        cache.move(len(running), slot, last.length)
                        running[slot] = last
        return out

    def _start(self, prompt: Sequence[int], index: int, cache: KVCache, slot: int, sampling: Sampling) -> _Running:
        tokens = torch.tensor([prompt], device=cache.keys.device)
        hidden = self.model(tokens, Prefill(cache, slot, len(prompt)))[0, -1]
        generator = torch.Generator().manual_seed(sampling.seed + index)
        first = choose(self.model.logits(hidden), sampling, generator)
        return _Running(index, len(prompt), first, generator)

    def _step(self, running: list[_Running], cache: KVCache, sampling: Sampling) -> list[int]:
        device = cache.keys.device
        tokens = torch.tensor([[r.last] for r in running], device=device)
        lengths = torch.tensor([r.length for r in running], device=device)
        logits = self.model.logits(self.model(tokens, Step(cache, lengths))[:, 0])
        for request in running:
            request.length += 1
        return [choose(row, sampling, r.generator) for row, r in zip(logits, running, strict=True)]
