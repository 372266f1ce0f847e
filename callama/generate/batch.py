"""The requests that run side by side: one forward pass for whatever each has to read, one choice for each.

What may follow is asked of the grammars once the model's pass is on its way: a GPU computes meanwhile, and on
a CPU a thread for it would only take a core from the products.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from callama.common.errors import CallamaError
from callama.generate.cache import Append
from callama.generate.sampling import Sampling, choose, choose_each
from callama.generate.slots import Slots, common
from callama.model.attend import Attend
from callama.model.params import ModelParams

# Prompts start together as long as they have at most so many new tokens, which bounds a step's memory.
STEP_TOKENS = 2048


class Model(Protocol):
    """What is read with: a ``Transformer``, or a ``PackedTransformer``."""

    params: ModelParams
    tok_embeddings: nn.Embedding

    def __call__(self, tokens_bs: Tensor, attend: Attend) -> Tensor: ...

    def logits(self, hidden: Tensor) -> Tensor: ...

    def eval(self) -> object: ...


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
class Request:
    """One answer on its way."""

    index: int
    pending: list[int]  # the newest ids, not yet in the cache
    room: int  # how many ids may still come
    generator: torch.Generator
    guide: Guide | None
    out: Generation

    @property
    def chooses(self) -> bool:
        """Whether a token is to be chosen behind what is pending."""
        return self.room > 0 and not self.out.stopped

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


class Batch:
    """The running requests, one a slot."""

    def __init__(
        self, model: Model, slots: Slots, stop_ids: Collection[int], sampling: Sampling, logprobs: bool
    ) -> None:
        self._model, self._slots, self._stop_ids = model, slots, stop_ids
        self._sampling, self._logprobs = sampling, logprobs
        self.running: list[Request] = []

    def admits(self, prompt: Sequence[int]) -> bool:
        """Whether a prompt should start with the next step. One that shares more with what is about to be
        read than with what has been read waits for it."""
        held = self._slots.held
        now = max(common(ids, prompt) for ids in held)
        pending = sum(len(r.pending) for r in self.running)
        if self.running and pending + len(prompt) - now > STEP_TOKENS:
            return False
        return all(common(held[s] + r.pending, prompt) <= now for s, r in enumerate(self.running))

    def place(self, slot: int, request: Request) -> None:
        """Puts a request into a slot."""
        # The prompt's last token is read in any case: the first choice follows from it.
        shared = self._slots.place(slot, request.pending, len(request.pending) - len(request.out.ids) - 1)
        del request.pending[:shared]
        self.running[slot : slot + 1] = [request]

    def drop(self, slot: int) -> None:
        """Takes a request out; the last one moves to its slot."""
        last = self.running.pop()
        if slot < len(self.running):
            self._slots.swap(slot, len(self.running))
            self.running[slot] = last

    def advance(self) -> list[int]:
        """Reads what is pending and chooses what follows; the slots whose requests have ended."""
        requests, held = self.running, self._slots.held
        choosing = [r for r in requests if r.chooses]
        guides = [r.guide for r in choosing if r.guide is not None]
        attend = Append(
            self._slots.cache, [len(held[s]) for s in range(len(requests))], [len(r.pending) for r in requests]
        )
        tokens = torch.tensor([[t for r in requests for t in r.pending]], device=self._slots.cache.keys.device)
        hidden = self._model(tokens, attend)[0]
        banned = _banned(guides) if guides else None
        if self._logprobs:
            for request, last in zip(requests, attend.ends, strict=True):
                self._forced_logprobs(request, hidden[last - len(request.pending) : last])
        for slot, request in enumerate(requests):
            held[slot] += request.pending
            request.pending = []
        if choosing:
            rows = [last - 1 for request, last in zip(requests, attend.ends, strict=True) if request.chooses]
            logits = self._model.logits(hidden if len(rows) == len(hidden) else hidden[rows])
            self._choose(choosing, logits, banned)
        return [slot for slot, request in enumerate(requests) if self._over(request)]

    def _choose(self, requests: Sequence[Request], logits_rv: Tensor, banned_rv: Tensor | None) -> None:
        """Chooses the next token of each request, and what the guides force behind it."""
        logprobs_rv = logits_rv.log_softmax(-1) if self._logprobs else None
        if banned_rv is not None:
            logits_rv.masked_fill_(banned_rv.to(logits_rv.device), -torch.inf)
        tokens = choose_each(logits_rv, self._sampling, [r.generator for r in requests])
        for i, (request, chosen) in enumerate(zip(requests, tokens, strict=True)):
            token = self._fitting(request, logits_rv[i], chosen)
            if token in self._stop_ids:
                request.out.stopped = True
                continue
            request.extend([token])
            if logprobs_rv is not None:
                request.out.logprobs.append(float(logprobs_rv[i, token]))
            request.force()

    def _fitting(self, request: Request, logits_v: Tensor, token: int | None) -> int:
        """``token``, or the next best that the guide takes."""
        while token is not None and request.guide is not None and not request.guide.accept(token):
            logits_v[token] = -torch.inf
            token = choose(logits_v, self._sampling, request.generator)
        if token is None:
            raise CallamaError(f"prompt {request.index}: no token fits the grammar after {len(request.out.ids)} tokens")
        return token

    def _forced_logprobs(self, request: Request, hidden: Tensor) -> None:
        """Adds those of the pending ids that no row of logits has been read for yet."""
        if count := len(request.out.ids) - len(request.out.logprobs):
            rows = self._model.logits(hidden[-count - 1 : -1]).log_softmax(-1)
            ids = torch.tensor(request.pending[-count:], device=rows.device)
            request.out.logprobs += rows.gather(1, ids[:, None])[:, 0].tolist()

    def _over(self, request: Request) -> bool:
        """Whether there is nothing more to do for a request."""
        # Forced tokens at the end are read only for their probabilities.
        return not request.chooses and (not self._logprobs or len(request.out.logprobs) == len(request.out.ids))


def _banned(guides: Sequence[Guide]) -> Tensor:
    """What must not come next (guides, vocab)."""
    return torch.stack([guide.mask() for guide in guides]).logical_not_()
