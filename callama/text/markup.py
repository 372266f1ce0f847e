"""How turns are framed: it belongs to the tokenizer's family, not to the dialect.

A frame is a list of parts, each a special token or text that is tokenized on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from callama.common.errors import CallamaError
from callama.text.tokenizer import Tokenizer


class Part(NamedTuple):
    """A special token's name, or ordinary text."""

    text: str
    special: bool = False


@dataclass(frozen=True)
class Markup:
    """``begin`` opens a conversation, ``header`` a turn (``ROLE`` stands for the role), ``end`` is the
    one stop token that is trained, ``after`` stands behind it; generation stops at any of ``stops``."""

    name: str
    begin: tuple[Part, ...]
    header: tuple[Part, ...]
    end: str
    after: tuple[Part, ...]
    stops: tuple[str, ...]


ROLE = "{role}"
LLAMA3 = Markup(
    name="llama3",
    begin=(Part("<|begin_of_text|>", True),),
    header=(Part("<|start_header_id|>", True), Part(ROLE), Part("<|end_header_id|>", True), Part("\n\n")),
    end="<|eot_id|>",
    after=(),
    stops=("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"),
)
CHATML = Markup(
    name="chatml",
    begin=(),
    header=(Part("<|im_start|>", True), Part(f"{ROLE}\n")),
    end="<|im_end|>",
    after=(Part("\n"),),
    stops=("<|im_end|>", "<|endoftext|>"),
)


def markup_of(tokenizer: Tokenizer) -> Markup:
    """The markup whose special tokens this tokenizer has.

    Raises:
        CallamaError: neither Llama 3's headers nor ChatML's.
    """
    for markup in (LLAMA3, CHATML):
        needed = [p.text for p in (*markup.begin, *markup.header) if p.special] + [markup.end]
        if all(name in tokenizer.special_tokens for name in needed):
            return markup
    raise CallamaError(f"{tokenizer.file} has neither Llama 3's header tokens nor ChatML's; callama cannot frame turns")


def encode_parts(parts: Sequence[Part], tokenizer: Tokenizer, role: str) -> list[int]:
    """Ids of a frame's parts."""
    ids: list[int] = []
    for part in parts:
        if part.special:
            ids.append(tokenizer.special(part.text))
        else:
            ids += tokenizer.encode(part.text.replace(ROLE, role))
    return ids
