"""Batched generation with a KV cache. Knows token ids only: no text, no conversations, no tools.

Requests wait in a queue; a slot that becomes free takes the next one, so a short answer never waits
for a long one. Prompts that begin alike follow one another, and each takes over what its predecessor
has read, so that a common beginning is computed once. Shaped this way, everything above it
(evaluation, chat, a server) is one caller.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from callama.common.errors import CallamaError
from callama.generate.cache import Append, KVCache
from callama.generate.sampling import Sampling, choose
from callama.model.transformer import Transformer


class Guide(Protocol):
    """What may come next in one answer, and what must."""

    @property
    def complete(self) -> bool:
        """Whether the answer has ended without a stop token."""
        ...

    def mask(self) -> Tensor:
        """Which ids may come next (vocab,), bool, on the CPU."""
        ...

    def accept(self, token: int) -> bool:
        """Takes a token that the mask allows; False, and nothing is taken, if it does not fit after all."""
        ...

    def forced(self) -> list[int]:
        """Takes and returns the tokens that have to come next."""
        ...


@dataclass
class Generation:
    """New ``ids`` without the stop token; ``stopped`` is False where the length limit ended them.
    ``forced`` of the ids were not sampled. ``logprobs``, where asked for, are the model's own natural
    log-probabilities of the ids, before temperature, nucleus and guide."""

    ids: list[int] = field(default_factory=list)
    stopped: bool = False
    forced: int = 0
    logprobs: list[float] = field(default_factory=list)


@dataclass
class _Running:
    index: int
    read: list[int]  # what the slot's cache holds
    pending: list[int]  # the newest tokens, not yet in the cache
    room: int  # how many ids may still come
    generator: torch.Generator
    guide: Guide | None
    out: Generation

    def extend(self, tokens: Sequence[int]) -> None:
        tokens = tokens[: self.room]
        self.out.ids += tokens
        self.pending += tokens
        self.room -= len(tokens)

    def force(self) -> None:
        """Appends what the guide forces, and sees whether that is all."""
        if self.guide is not None:
            tokens = self.guide.forced()
            self.out.stopped = self.guide.complete and len(tokens) <= self.room
            self.out.forced += min(len(tokens), self.room)
            self.extend(tokens)

    def choose(self, logits_v: Tensor, sampling: Sampling) -> int:
        """The next token, which the guide has taken."""
        if self.guide is None:
            return choose(logits_v, sampling, self.generator)
        logits_v = logits_v.masked_fill(~self.guide.mask().to(logits_v.device), -torch.inf)
        while logits_v.max() > -torch.inf:
            token = choose(logits_v, sampling, self.generator)
            if self.guide.accept(token):
                return token
            logits_v[token] = -torch.inf
        raise CallamaError(f"prompt {self.index}: no token fits the grammar after {len(self.out.ids)} tokens")


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
        guides: Sequence[Guide] | None = None,
        logprobs: bool = False,
    ) -> list[Generation]:
        """One generation per prompt, in order; ``on_done`` is told the index of each as it ends. With
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
        weight = self.model.tok_embeddings.weight
        capacity = min(context, max(map(len, prompts)) + max_new_tokens)
        cache = KVCache(self.model.params, min(self.slots, len(prompts)), capacity, weight.dtype, weight.device)
        batch = _Batch(self, cache, sampling or Sampling(), logprobs)
        out = [Generation() for _ in prompts]
        # In order of their ids, backwards, prompts that begin alike stand together.
        waiting = sorted(range(len(prompts)), key=lambda i: list(prompts[i]), reverse=True)

        def start(slot: int) -> bool:
            """Starts waiting requests in a slot until one of them has more to say."""
            while waiting:
                index = waiting.pop()
                room = min(max_new_tokens, context - len(prompts[index]))
                generator = torch.Generator().manual_seed(batch.sampling.seed + index)
                guide = guides[index] if guides is not None else None
                request = _Running(index, [], [*prompts[index]], room, generator, guide, out[index])
                request.force()
                batch.place(slot, request)
                if batch.advance(slot, slot + 1):
                    end(request)
                else:
                    return True
            return False

        def end(request: _Running) -> None:
            if on_done is not None:
                on_done(request.index)

        for slot in range(cache.keys.shape[1]):
            if not start(slot) and slot < len(batch.running):
                batch.drop(slot)
        while batch.running:
            for slot in reversed(batch.advance(0, len(batch.running))):
                end(batch.running[slot])
                if not start(slot):
                    batch.drop(slot)
        return out


class _Batch:
    """The running requests, one a slot."""

    def __init__(self, owner: Generator, cache: KVCache, sampling: Sampling, logprobs: bool) -> None:
        self._owner, self._cache, self.sampling, self._logprobs = owner, cache, sampling, logprobs
        self.running: list[_Running] = []

    def place(self, slot: int, request: _Running) -> None:
        """Puts a request into a slot, with what a slot holds of its beginning."""
        shared, source = max(
            ((_common(r.read, request.pending), s) for s, r in enumerate(self.running)), default=(0, 0)
        )
        # The prompt's last token is read in any case: the first choice follows from it.
        shared = min(shared, len(request.pending) - len(request.out.ids) - 1)
        if shared and source != slot:
            self._cache.copy(source, slot, shared)
        request.read, request.pending = request.pending[:shared], request.pending[shared:]
        self.running[slot : slot + 1] = [request]

    def drop(self, slot: int) -> None:
        """Takes a request out; the last one moves to its slot."""
        last = self.running.pop()
        if slot < len(self.running):
            self._cache.copy(len(self.running), slot, len(last.read))
            self.running[slot] = last

    def advance(self, first: int, end: int) -> list[int]:
        """Reads what is pending in these slots and chooses what follows; the slots whose requests have ended."""
        model, requests = self._owner.model, self.running[first:end]
        counts = [len(r.pending) for r in requests]
        attend = Append(self._cache, [len(r.read) for r in requests], counts, first)
        tokens = torch.tensor([[t for r in requests for t in r.pending]], device=self._cache.keys.device)
        hidden = model(tokens, attend)[0]
        ends = torch.tensor(counts).cumsum(0)
        rows = model.logits(hidden[ends - 1])
        ended = []
        for slot, (request, row, last) in enumerate(zip(requests, rows, ends.tolist(), strict=True), first):
            if self._logprobs:
                self._forced_logprobs(request, hidden[last - len(request.pending) : last])
            request.read += request.pending
            request.pending = []
            if self._ends(request, row):
                ended.append(slot)
        return ended

    def _forced_logprobs(self, request: _Running, hidden: Tensor) -> None:
        """Adds those of the pending ids that no row of logits has been read for yet."""
        if count := len(request.out.ids) - len(request.out.logprobs):
            rows = self._owner.model.logits(hidden[-count - 1 : -1]).log_softmax(-1)
            ids = torch.tensor(request.pending[-count:], device=rows.device)
            request.out.logprobs += rows.gather(1, ids[:, None])[:, 0].tolist()

    def _ends(self, request: _Running, logits_v: Tensor) -> bool:
        """Chooses a request's next tokens; whether there is nothing more to do for it."""
        out = request.out
        if out.stopped or not request.room:
            return True
        token = request.choose(logits_v, self.sampling)
        if token in self._owner.stop_ids:
            out.stopped = True
            return True
        request.extend([token])
        if self._logprobs:
            out.logprobs.append(float(logits_v.log_softmax(-1)[token]))
        request.force()
        # Forced tokens at the end are read only for their probabilities.
        return (out.stopped or not request.room) and (not self._logprobs or len(out.logprobs) == len(out.ids))


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids two sequences begin with alike."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
