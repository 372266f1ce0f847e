"""Hermes: calls as ``<tool_call>{…}</tool_call>`` in the assistant's text, in ShareGPT or OpenAI shape.

Tools stand in the system text between ``<tools>`` tags or in a field of their own. The system text
that explains this way of calling is left out: it would teach a second one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from callama.common.errors import CallamaError
from callama.contract.jsontext import dumps, loads_strict
from callama.data.formats import openai_chat, sharegpt
from callama.data.formats.draft import Draft, Turn
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair

_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_RESPONSE = re.compile(r"<tool_response>(.*?)</tool_response>", re.DOTALL)
_TOOLS = re.compile(r"<tools>(.*?)</tools>", re.DOTALL)
_MARKS = ("<tool_call>", "<tools>")
# ast reads what it is given in one go; no genuine call comes near this.
_MAX_LITERAL_CHARS = 100_000


def matches(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: a mark in a turn that is not the user's."""
    for key in ("conversations", "messages"):
        turns = value.get(key)
        for turn in turns if isinstance(turns, list) else ():
            if isinstance(turn, Mapping) and turn.get("from", turn.get("role")) in ("system", "gpt", "assistant"):
                text = turn.get("value", turn.get("content"))
                if isinstance(text, str) and any(mark in text for mark in _MARKS):
                    return True
    return isinstance(value.get("system"), str) and "<tools>" in value["system"] and "conversations" in value


def read(value: Mapping[str, Any]) -> Draft:
    """Translates a record.

    Raises:
        DropError: it is not of this shape, or a call or the tools cannot be read.
    """
    draft = openai_chat.read(value) if "messages" in value else sharegpt.read(value)
    tools = draft.tools
    turns: list[Turn] = []
    for turn in draft.turns:
        text = turn.text if isinstance(turn.text, str) else ""
        if turn.role == "system" and any(mark in text for mark in _MARKS):
            if (shown := _TOOLS.search(text)) and not tools:
                tools = _tools(shown[1])
            draft.repairs.append(Repair.FORMAT_TEXT)
        elif turn.role == "assistant" and "<tool_call>" in text:
            turns.append(_calling(text))
        elif turn.role == "tool" and (responses := _RESPONSE.findall(text)):
            turns += [Turn("tool", _response(response)) for response in responses]
        else:
            turns.append(turn)
    return Draft(turns, tools, draft.repairs)


def _tools(text: str) -> list[Any]:
    text = text.strip()
    try:
        value = loads_strict(text)
        return value if isinstance(value, list) else [value]
    except CallamaError:
        return [_literal(line, Drop.FUNCTIONS_NOT_JSON) for line in text.split("\n") if line.strip()]


def _calling(text: str) -> Turn:
    calls = [sharegpt.call_of(_literal(inner, Drop.CALL_NOT_JSON)) for inner in _CALL.findall(text)]
    before, *rest = _CALL.split(text)
    behind = "".join(rest[1::2]).strip()
    if not calls or "<tool_call>" in behind:
        raise DropError(Drop.CALL_CUT_OFF, "<tool_call> without </tool_call>", text)
    if behind:
        raise DropError(Drop.TEXT_AFTER_CALL, f"behind the call: {behind[:100]!r}", text)
    return Turn("assistant", before.strip() or None, calls)


def _literal(text: str, reason: Drop) -> Any:
    """JSON, or the Python literal that Hermes' data often has in its place."""
    text = text.strip()
    try:
        return loads_strict(text)
    except CallamaError as error:
        try:
            if len(text) > _MAX_LITERAL_CHARS:
                raise ValueError
            return loads_strict(dumps(ast.literal_eval(text)))
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError, CallamaError):
            raise DropError(reason, str(error), text) from None


def _response(text: str) -> str:
    text = text.strip()
    try:
        value = loads_strict(text)
    except CallamaError:
        return text
    if isinstance(value, dict) and "content" in value and value.keys() <= {"name", "content", "tool_call_id"}:
        content = value["content"]
        return content if isinstance(content, str) else dumps(content)
    return text
