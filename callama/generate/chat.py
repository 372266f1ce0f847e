"""A model that answers conversations: the renderer on one side of the engine, the parser on the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from callama.common.errors import UsageError
from callama.contract.grammar import Choice
from callama.contract.messages import Conversation
from callama.generate.constrain import Constrainer, MatcherGuide
from callama.generate.engine import Generation, Generator
from callama.generate.sampling import Sampling
from callama.model.device import choose_device, choose_dtype
from callama.model.lora import add_lora
from callama.model.packed import PackedTransformer
from callama.model.transformer import Transformer
from callama.text.render import Renderer
from callama.text.tokenizer import load_tokenizer
from callama.weights.adapter import adapter_facts, find_adapter, load_adapter, read_adapter
from callama.weights.merge import check_base
from callama.weights.native import build_model, open_native, read_native, require_own_tokenizer


class ChatModel:
    """A native checkpoint, ready to answer."""

    def __init__(
        self,
        folder: Path,
        tokenizer: Path | None = None,
        device: str = "auto",
        slots: int = 16,
        max_seq_len: int | None = None,
        adapter: Path | None = None,
    ) -> None:
        """Loads the checkpoint; the tokenizer is taken from its folder unless named. An ``adapter`` (or
        a training job's folder: its newest) is applied beside the weights, not merged into them.

        Raises:
            UsageError: a file is missing, there is no such device, or ``max_seq_len`` exceeds the context.
            CallamaError: the files do not fit together.
        """
        try:
            place = choose_device(device)
        except ValueError as error:
            raise UsageError(str(error)) from None
        checkpoint = read_native(folder)
        folder = checkpoint.path
        if max_seq_len is not None and max_seq_len > (context := checkpoint.params.max_seq_len):
            raise UsageError(f"max_seq_len {max_seq_len} is longer than the context of {folder}, {context} tokens")
        self.renderer = Renderer(load_tokenizer(tokenizer or folder))
        require_own_tokenizer(checkpoint, self.renderer.tokenizer)
        model = build_model(checkpoint, dtype=choose_dtype("auto", place), device=place).eval()
        if adapter is not None:
            _add_adapter(model, folder, find_adapter(adapter))
        self.model = PackedTransformer(model)
        self._generator = Generator(self.model, self.renderer.stop_ids, slots, max_seq_len, keep=True)

    @cached_property
    def _constrainer(self) -> Constrainer:
        return Constrainer(self.renderer.tokenizer, self.renderer.stop_ids)

    def guide(self, conversation: Conversation, choice: Choice) -> MatcherGuide:
        """A guide to one answer of this conversation; its grammar is kept for a while.

        Raises:
            CallamaError: a tool's schema cannot be made a grammar, or there is no such tool.
        """
        return self._constrainer.guide(conversation.tools, choice)

    def generate(
        self,
        conversations: Sequence[Conversation],
        max_new_tokens: int,
        sampling: Sampling | None = None,
        on_done: Callable[[int, Generation], None] | None = None,
        choice: Choice | None = None,
        logprobs: bool = False,
    ) -> list[Generation]:
        """The assistant's next turn in each conversation, as ids. Of conversations that were answered just before
        only what is new is read. With a ``choice`` it is text or calls that validate against the conversation's
        tools; an answer cut at ``max_new_tokens`` may end in the middle of a call.

        Raises:
            CallamaError: a prompt is too long, or a tool's schema cannot be made a grammar.
        """
        prompts = [self.renderer.prompt(c) for c in conversations]
        guides = None if choice is None else [self.guide(c, choice) for c in conversations]
        return self._generator.generate(prompts, max_new_tokens, sampling, on_done, guides, logprobs)

    def answer(
        self,
        conversations: Sequence[Conversation],
        max_new_tokens: int,
        sampling: Sampling | None = None,
        on_done: Callable[[int, bool], None] | None = None,
        choice: Choice | None = None,
    ) -> list[str]:
        """The assistant's next turn in each conversation, as text; see ``generate``. ``on_done`` gets the index of
        each as it ends, and whether it is whole."""
        out = [""] * len(conversations)

        def take(index: int, made: Generation) -> None:
            out[index] = self.renderer.tokenizer.decode(made.ids)
            if on_done is not None:
                on_done(index, made.stopped)

        self.generate(conversations, max_new_tokens, sampling, take, choice)
        return out

    def forget(self) -> None:
        """Frees what was kept of the conversations so far."""
        self._generator.forget()


def _add_adapter(model: Transformer, folder: Path, path: Path) -> None:
    base = open_native(folder)
    adapter = read_adapter(path, base.params)
    check_base(base, path, adapter, adapter_facts(path))
    load_adapter(add_lora(model, adapter.lora), adapter)
