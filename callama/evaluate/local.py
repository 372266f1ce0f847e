"""A native checkpoint under test: each answer is kept as it ends, so that an interrupted run loses few."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict

from callama.common.errors import CallamaError, UsageError
from callama.common.files import read_manifest
from callama.contract.grammar import Choice
from callama.contract.jsontext import dumps
from callama.contract.tool_uses import answer_segments
from callama.evaluate.cases import Case
from callama.evaluate.reply import Reply
from callama.generate.batch import Generation
from callama.generate.chat import ChatModel
from callama.text.tokenizer import load_tokenizer
from callama.weights.adapter import find_adapter
from callama.weights.native import read_native

# Grammars are held for one portion; it is so large that the batch seldom runs dry at its end.
PORTIONS_PER_SLOT = 8

# Room for words beside a call, or for a text; and for the several calls of one step of a dialogue.
LEAST_TOKENS, LEAST_TOKENS_OF_STEPS = 160, 512


class Asked(TypedDict):
    """How every checkpoint of a run is asked."""

    max_new_tokens: int
    slots: int
    constrained: bool


def _digest(folder: Path) -> str:
    # Folders that other tools wrote have no manifest; size and time stand in for a hash of gigabytes.
    files = read_manifest(folder).get("files")
    known = files or {p.name: [p.stat().st_size, p.stat().st_mtime_ns] for p in sorted(folder.iterdir())}
    return hashlib.sha256(dumps(known).encode()).hexdigest()


def _call_lengths(folder: Path, cases: Sequence[Case]) -> list[int]:
    tokenizer = load_tokenizer(folder)
    wanted = (c.expected for c in cases if c.wants_call and not c.any_call and not c.by_effect)
    return [len(tokenizer.encode("".join(s.text for s in answer_segments(m)))) + 1 for m in wanted]


def enough_tokens(folder: Path, cases: Sequence[Case]) -> int:
    """A limit that no wanted call exceeds as a checkpoint's tokenizer writes it: the longest and a quarter more.

    Raises:
        UsageError: nothing is there. CallamaError: what is there is damaged.
    """
    longest = max(_call_lengths(read_native(folder).path, cases), default=0)
    least = LEAST_TOKENS_OF_STEPS if any(case.by_effect for case in cases) else LEAST_TOKENS
    return max(least, math.ceil(longest * 1.25))


class LocalModel:
    """One checkpoint folder, loaded when it is first needed."""

    def __init__(
        self, folder: Path, *, max_new_tokens: int, slots: int, constrained: bool = False, adapter: Path | None = None
    ) -> None:
        """Looks at the folders only. ``adapter`` is applied unmerged; ``constrained`` admits only text or
        calls that fit the offered tools.

        Raises:
            UsageError: nothing is there. CallamaError: what is there is damaged.
        """
        folder = read_native(folder).path  # cheap, and a slip in the second folder must not cost the first one's time
        load_tokenizer(folder)
        self.folder, self.max_new_tokens, self.slots = folder, max_new_tokens, slots
        self.adapter = None if adapter is None else find_adapter(adapter)
        if self.adapter is not None and not self.adapter.exists():
            raise UsageError(f"{adapter} does not exist; expected a LoRA folder, or a training job's")
        self._choice = Choice() if constrained else None
        self._chat: ChatModel | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the answers: the weights and how they are asked."""
        out = {"checkpoint": self.folder.name, "sha256": _digest(self.folder), "max_new_tokens": self.max_new_tokens}
        if self.adapter is not None:
            out |= {"adapter": self.adapter.name, "adapter_sha256": _digest(self.adapter)}
        return out | ({"constrained": True} if self._choice else {})

    @property
    def chat(self) -> ChatModel:
        """The loaded model."""
        if self._chat is None:
            self._chat = ChatModel(self.folder, slots=self.slots, adapter=self.adapter)
        return self._chat

    def calls_too_long(self, cases: Sequence[Case]) -> list[int]:
        """Tokens, with the stop token, of each case's wanted calls that are longer than ``max_new_tokens``."""
        return [length for length in _call_lengths(self.folder, cases) if length > self.max_new_tokens]

    def close(self) -> None:
        """Frees the weights, so that two models need the memory of one."""
        self._chat = None

    def answer(self, cases: Sequence[Case], keep: Callable[[int, Reply], None]) -> None:
        """Answers greedily; ``keep`` gets each case's index and reply. A prompt that cannot be put to the
        model, or has tools of which no grammar can be made, is a failed case, not the end of the run."""
        context, renderer = self.chat.model.params.max_seq_len, self.chat.renderer
        fitting = []
        for index, case in enumerate(cases):
            try:
                length = len(renderer.prompt(case.prompt))
            except CallamaError as error:
                keep(index, Reply.failed(f"the prompt cannot be rendered: {error}"))
                continue
            if length < context:
                fitting.append(index)
            else:
                keep(index, Reply.failed(f"the prompt has {length} tokens, the model's context {context}"))
        step = self.slots * PORTIONS_PER_SLOT
        for start in range(0, len(fitting), step):
            portion = self._expressible(cases, fitting[start : start + step], keep)
            self._ask(cases, portion, keep)

    def _ask(self, cases: Sequence[Case], portion: Sequence[int], keep: Callable[[int, Reply], None]) -> None:
        left = list(portion)

        def take(at: int, made: Generation) -> None:
            keep(portion[at], Reply.read(self.chat.renderer.tokenizer.decode(made.ids), not made.stopped))
            left.remove(portion[at])

        prompts = [cases[index].prompt for index in portion]
        try:
            self.chat.generate(prompts, self.max_new_tokens, on_done=take, choice=self._choice)
        except CallamaError as error:  # a grammar that grew too large in the middle of an answer: whose was it?
            self.chat.forget()
            if len(portion) == 1:
                keep(portion[0], Reply.failed(str(error)))
                return
            for index in left[:]:
                self._ask(cases, [index], keep)

    def _expressible(self, cases: Sequence[Case], portion: list[int], keep: Callable[[int, Reply], None]) -> list[int]:
        if self._choice is None:
            return portion
        out = []
        for index in portion:
            try:
                self.chat.guide(cases[index].prompt, self._choice)
            except CallamaError as error:
                keep(index, Reply.failed(str(error)))
            else:
                out.append(index)
        return out
