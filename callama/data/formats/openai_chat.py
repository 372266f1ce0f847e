"""OpenAI chat: ``messages`` and ``tools``; the canonical form itself, and its older spelling.

The older spelling has ``functions``, ``function_call`` and results of role ``function``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from callama.contract.jsontext import check_json, dumps
from callama.data.formats.draft import Draft, Turn, check_answer, id_text, json_or, shape
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair

# How Kimi's template, and Toucan after it, shows tools in a system text.
_DECLARES = re.compile(r"<\|im_system\|>tool_declare<\|im_middle\|>(.*?)<\|im_end\|>", re.DOTALL)

BESIDE = ("tool_calls", "function_call")
"""Where calls stand beside a message's text."""


def matches(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format."""
    return "messages" in value


def read(value: Mapping[str, Any]) -> Draft:
    """Translates a record.

    Raises:
        DropError: it is not of this shape.
    """
    messages = json_or(value.get("messages"))
    if not isinstance(messages, list) or not messages:
        raise shape("'messages' is not a list with messages", messages)
    repairs: list[Repair] = []
    turns = [_turn(message, repairs) for message in messages]
    tools = json_or(value.get("tools"))
    if turns[0].role == "system" and (declared := _DECLARES.search(turns[0].text or "")):
        tools = tools or json_or(declared[1])
        turns[0].text = _DECLARES.sub("", turns[0].text or "").strip() or None
        turns = turns if turns[0].text else turns[1:]
        repairs.append(Repair.FORMAT_TEXT)
    system = text_of(value.get("system"))
    if (
        system
        and system.strip()
        and not (turns and turns[0].role == "system" and (turns[0].text or "").strip() == system.strip())
    ):
        turns.insert(0, Turn("system", system))
    return Draft(turns, tools or value.get("functions"), repairs)


def _turn(message: Any, repairs: list[Repair]) -> Turn:
    if not isinstance(message, Mapping):
        raise shape(f"a message is a {type(message).__name__}, not an object", message)
    role = message.get("role")
    if role in ("tool", "function"):
        text = text_of(message.get("content"), result=True)
        return Turn("tool", text, answers_id=id_text(message.get("tool_call_id")), answers_name=message.get("name"))
    if role not in ("system", "developer", "user", "assistant"):
        raise shape(f"a message's role is {str(role)[:40]!r}", message)
    if role == "assistant":
        check_answer(message, repairs, BESIDE)
    calls, ids = calls_beside(message)
    return Turn("system" if role == "developer" else role, text_of(message.get("content")), calls, ids)


def calls_beside(message: Mapping[str, Any]) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """The calls beside a message's text, and their ids.

    Raises:
        DropError: they are not of this shape.
    """
    calls: list[tuple[Any, Any]] = []
    ids: list[Any] = []
    raw_calls = json_or(message.get("tool_calls")) or []
    if old := json_or(message.get("function_call")):
        if raw_calls:
            raise shape("a message has both 'tool_calls' and 'function_call', expected one of them", message)
        raw_calls = [{"function": old}]
    if not isinstance(raw_calls, list):
        raise shape("'tool_calls' is not a list", raw_calls)
    for call in raw_calls:
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping):
            raise DropError(Drop.CALL_NOT_JSON, "a call without 'function'", repr(call)[:500])
        if "arguments" not in function:
            raise DropError(Drop.ARGUMENTS_MISSING, "", repr(call)[:500])
        calls.append((function.get("name"), function["arguments"]))
        ids.append(id_text(call.get("id")))
    return calls, ids


def text_of(content: Any, *, result: bool = False) -> str | None:
    """Content as text; parts of type ``text`` are joined. A ``result`` may be any JSON value.

    Raises:
        DropError: parts that are not text.
    """
    if content is None or isinstance(content, str):
        return content if content is not None or not result else ""
    is_parts = isinstance(content, list) and all(isinstance(part, Mapping) and "type" in part for part in content)
    if is_parts and all(part["type"] == "text" and isinstance(part.get("text"), str) for part in content):
        return "".join(part["text"] for part in content) if content or not result else "[]"
    if result:
        check_json(content)
        return dumps(content)
    raise shape(
        "content with parts that are not text" if is_parts else f"content is a {type(content).__name__}, not text",
        content,
    )
