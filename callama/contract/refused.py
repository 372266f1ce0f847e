"""Keys of a raw record or message that change what it means, and that the canonical form does not have.

They are refused by name: to pass over them would train on what is not to be trained on, or lose tools,
calls and system texts in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from callama.common.errors import CallamaError

# Marks of ms-swift ("loss") and axolotl ("train", "training"); OpenAI's and Mistral's is "weight".
_TRAINED = ("loss", "train", "training")
_OF_A_RECORD = (
    ("functions", "OpenAI's old form; expected 'tools'"),
    ("system", "beside 'messages'; expected a message of role system"),
)
_OF_A_MESSAGE = (
    ("function_call", "OpenAI's old form; expected 'tool_calls'"),
    ("function_calls", "not the canonical form; expected 'tool_calls'"),
    ("functions", "not the canonical form; expected 'tools' beside 'messages'"),
)
_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")


def check_trained(raw: Mapping[str, Any]) -> None:
    """Refuses an assistant's message that is not to be trained on: it cannot be kept as context alone.

    Raises:
        CallamaError: its ``weight`` is neither 1 nor absent, or its ``loss``, ``train`` or ``training`` is false.
    """
    if raw.get("weight") not in (None, 1):
        raise CallamaError(
            f"an assistant's message has weight {str(raw['weight'])[:40]}, expected 1 or none: it is "
            "not to be trained on; take the record out, or the message's weight"
        )
    for key in _TRAINED:
        # 0 and 0.0 too, which equal False: tables make 0.0 of a flag in a column with gaps. Any other number that is
        # not whole, like 0.37, is something that was measured.
        if raw.get(key) in (False, "false", "False"):
            raise CallamaError(
                f"an assistant's message has '{key}' {str(raw[key]).lower()}, expected true or none: it is "
                f"not to be trained on; take the record out, or the message's '{key}'"
            )


def check_record(raw: Mapping[str, Any]) -> None:
    """Refuses what stands beside ``messages`` and is not read there.

    Raises:
        CallamaError: naming the key.
    """
    _refuse(raw, _OF_A_RECORD)


def check_message(raw: Mapping[str, Any]) -> None:
    """Refuses what stands in a message and is not read there.

    Raises:
        CallamaError: naming the key.
    """
    _refuse(raw, _OF_A_MESSAGE)


def _refuse(raw: Mapping[str, Any], keys: Iterable[tuple[str, str]]) -> None:
    for key, why in keys:
        if raw.get(key):
            raise CallamaError(f"'{key}' is {why}; `callama clean` reads it")


def has_thoughts(raw: Mapping[str, Any]) -> bool:
    """Whether a message has thoughts beside its text, under a key of their own."""
    return any(value.strip() if isinstance(value := raw.get(key), str) else value for key in _THOUGHTS)
