"""A model that answers conversations: the renderer on one side of the engine, the parser on the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from callama.common.errors import UsageError
from callama.contract.messages import Conversation
from callama.generate.engine import Generator
from callama.generate.sampling import Sampling
from callama.model.device import choose_device, choose_dtype
from callama.text.render import Renderer
from callama.text.tokenizer import load_tokenizer
from callama.weights.native import build_model, read_native, require_own_tokenizer


class ChatModel:
    """A native checkpoint, ready to answer."""

    def __init__(
        self,
        folder: Path,
        tokenizer: Path | None = None,
        device: str = "auto",
        slots: int = 16,
        max_seq_len: int | None = None,
    ) -> None:
        """Loads the checkpoint; the tokenizer is taken from its folder unless named.

        Raises:
            UsageError: a file is missing, there is no such device, or ``max_seq_len`` exceeds the context.
            CallamaError: the files do not fit together.
        """
        try:
            place = choose_device(device)
        except ValueError as error:
            raise UsageError(str(error)) from None
        checkpoint = read_native(folder)
        if max_seq_len is not None and max_seq_len > (context := checkpoint.params.max_seq_len):
            raise UsageError(f"max_seq_len {max_seq_len} is longer than the context of {folder}, {context} tokens")
        self.renderer = Renderer(load_tokenizer(tokenizer or folder))
        require_own_tokenizer(checkpoint, self.renderer.tokenizer)
        self.model = build_model(checkpoint, dtype=choose_dtype("auto", place), device=place)
        self._generator = Generator(self.model, self.renderer.stop_ids, slots, max_seq_len)

    def answer(
        self,
        conversations: Sequence[Conversation],
        max_new_tokens: int,
        sampling: Sampling | None = None,
        on_done: Callable[[int], None] | None = None,
    ) -> list[str]:
        """The assistant's next turn in each conversation, as text."""
        prompts = [self.renderer.prompt(c) for c in conversations]
        done = self._generator.generate(prompts, max_new_tokens, sampling, on_done)
        return [self.renderer.tokenizer.decode(g.ids) for g in done]
