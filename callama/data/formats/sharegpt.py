"""ShareGPT with tools: ``conversations`` of ``{from, value}``, ``tools`` as a list or its JSON text.

Calls stand in turns of their own, from ``function_call``, as JSON: an object or a list of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from callama.common.errors import CallamaError
from callama.data.formats.draft import Draft, Turn, check_answer, either, shape
from callama.data.glaive.calls import parse_call
from callama.data.glaive.lenient import loads_lenient
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair

ROLES = {
    "system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
    "model": "assistant", "observation": "tool", "tool": "tool", "function_response": "tool",
    "function-response": "tool",
}  # fmt: skip
_GLAIVES_CALL = "function-call"
CALL_ROLES = ("function_call", "tool_call", _GLAIVES_CALL)
SPEAKER, TEXT = ("from", "role"), ("value", "content")


def matches(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format."""
    return "conversations" in value


def said(value: Mapping[str, Any], repairs: list[Repair], reads: Sequence[str] = ()) -> list[tuple[str, str]]:
    """The turns as (from, text), a ``system`` field in front; what was left out goes to ``repairs``, and calls
    may stand beside an assistant's text under the keys that the caller ``reads``.

    Raises:
        DropError: the record is not of this shape.
    """
    conversations = value.get("conversations")
    if conversations is None and "messages" in value:
        raise shape("its turns are OpenAI's messages (role, content, tool_calls), not ShareGPT's; give --format openai")
    if not isinstance(conversations, list) or not conversations:
        raise shape("'conversations' is not a list with turns", conversations)
    out: list[tuple[str, str]] = []
    for turn in conversations:
        if not isinstance(turn, Mapping):
            raise shape(f"a turn is a {type(turn).__name__}, not an object", turn)
        out.append((either(turn, *SPEAKER), either(turn, *TEXT)))
        if (is_call := str(out[-1][0]) in CALL_ROLES) or ROLES.get(str(out[-1][0])) == "assistant":
            check_answer(turn, repairs, () if is_call else reads)
    if (system := value.get("system")) and not _stands_first(system, out):
        out.insert(0, ("system", system))
    for speaker, text in out:
        if not isinstance(text, str) or not isinstance(speaker, str) or speaker not in {*ROLES, *CALL_ROLES}:
            raise shape(f"a turn from {str(speaker)[:40]!r} with a {type(text).__name__}", text)
    return out


def _stands_first(system: Any, turns: list[tuple[str, str]]) -> bool:
    """Whether the first turn says the same system text."""
    speaker, text = turns[0]
    return speaker == "system" and isinstance(system, str) and isinstance(text, str) and text.strip() == system.strip()


def read(value: Mapping[str, Any], reads: Sequence[str] = ()) -> Draft:
    """Translates a record; ``reads`` as for ``said``.

    Raises:
        DropError: it is not of this shape, or a call is not JSON.
    """
    repairs: list[Repair] = []
    turns = []
    for speaker, text in said(value, repairs, reads):
        if speaker == _GLAIVES_CALL:
            call = parse_call(text)
            repairs += call.repairs
            turns.append(Turn("assistant", None, [(call.name, call.arguments)]))
        elif speaker in CALL_ROLES:
            turns.append(Turn("assistant", None, calls_of(text, repairs)))
        else:
            turns.append(Turn(ROLES[speaker], text))
    return Draft(turns, value.get("tools"), repairs)


def calls_of(text: str, repairs: list[Repair]) -> list[tuple[Any, Any]]:
    """The calls of a JSON text: one object or a list; the arguments under any of their usual keys.

    Raises:
        DropError: not JSON, or not calls.
    """
    try:
        value, mended = loads_lenient(text.strip())
    except CallamaError as error:
        raise DropError(Drop.CALL_NOT_JSON, str(error), text) from None
    repairs += mended
    return [call_of(item) for item in (value if isinstance(value, list) else [value])]


def call_of(value: Any) -> tuple[Any, Any]:
    """Name and arguments of one call object.

    Raises:
        DropError: it is none.
    """
    if not isinstance(value, Mapping):
        raise DropError(Drop.CALL_NOT_JSON, f"a call is a {type(value).__name__}", repr(value)[:500])
    name = either(value, "name", "tool")
    for key in ("arguments", "parameters"):
        if key in value:
            return name, value[key]
    raise DropError(Drop.ARGUMENTS_MISSING, "", repr(value)[:500])
