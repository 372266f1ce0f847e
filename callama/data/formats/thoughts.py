"""An assistant's thoughts in its text, told from what it says: a thought may name the tags and calls that it plans."""

from __future__ import annotations

import re
from collections.abc import Iterable

from callama.data.checks import check_text
from callama.data.quarantine import DropError

# At the start of the text. Templates that write the first tag themselves leave only the last one in the data.
_THOUGHT = re.compile(
    r"(?:\s*<(think|thinking|scratch_pad)>(?:(?!</?\1>).)*</\1>)++|\A(?:(?!</?think>|<tool_call>\s*\{).)*+</think>",
    re.DOTALL,
)


def apart(text: str) -> tuple[str, str]:
    """The thought that a text starts with, tags included, and the rest; an empty one where there is none."""
    found = _THOUGHT.match(text) if "</" in text else None
    return (found[0], text[found.end() :]) if found else ("", text)


def without_calls(text: str, declared: Iterable[str]) -> str:
    """The text without its thought, if that holds or names a call in any syntax: it would train the model to write
    such. Any other thought stays."""
    thought, rest = apart(text)
    try:
        check_text(thought, declared)
    except DropError:
        return rest.lstrip()
    return text
