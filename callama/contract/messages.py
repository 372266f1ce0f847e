"""Tools, messages and conversations in OpenAI's chat shape, the canonical form everywhere in callama.

Objects of this module are immutable and valid: the only way in from the outside is
``Conversation.from_dict``, which normalises what the wild writes differently and refuses the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from callama.common.errors import CallamaError
from callama.contract.jsontext import canonical_result, loads_strict
from callama.contract.schema import normalise_schema

Role = Literal["system", "user", "assistant", "tool"]
JsonObject = dict[str, Any]
TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class Tool:
    """A function that the model may call; ``parameters`` is a JSON Schema of type object."""

    name: str
    description: str = ""
    parameters: JsonObject = field(default_factory=lambda: {"type": "object", "properties": {}})

    @classmethod
    def from_dict(cls, raw: Any) -> Tool:
        """Reads ``{"type": "function", "function": {…}}`` or the bare inner object.

        Raises:
            CallamaError: the name is missing or not ``[A-Za-z0-9_.-]{1,64}``, or the schema is
                not an object.
        """
        if isinstance(raw, Mapping) and isinstance(raw.get("function"), Mapping):
            raw = raw["function"]
        if not isinstance(raw, Mapping):
            raise CallamaError(f"a tool must be a JSON object, found {_short(raw)}")
        name = raw.get("name")
        if not isinstance(name, str) or not TOOL_NAME.fullmatch(name):
            raise CallamaError(f"tool name {_short(name)} is not 1 to 64 characters of letters, digits, '_', '.', '-'")
        description = raw.get("description") or ""
        if not isinstance(description, str):
            raise CallamaError(f"tool {name}: description must be text, found {_short(description)}")
        parameters = raw.get("parameters") or {}
        if not isinstance(parameters, Mapping):
            raise CallamaError(f"tool {name}: parameters must be a JSON Schema, found {_short(parameters)}")
        try:
            schema = normalise_schema(parameters)
        except CallamaError as error:
            raise CallamaError(f"tool {name}: {error}") from None
        schema["type"] = "object"
        schema.setdefault("properties", {})
        return cls(name, description, schema)

    def to_dict(self) -> JsonObject:
        """The OpenAI form."""
        inner = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": inner}


@dataclass(frozen=True)
class ToolCall:
    """One call; ``id`` links it to the tool message that holds its result."""

    name: str
    arguments: JsonObject
    id: str = ""


@dataclass(frozen=True)
class Message:
    """One turn. An assistant's has ``content``, ``tool_calls`` or both; a tool's has ``content`` and ``tool_call_id``."""

    role: Role
    content: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""

    def to_dict(self) -> JsonObject:
        """The OpenAI form; arguments stay objects (files are for people to read)."""
        out: JsonObject = {"role": self.role, "content": self.content}
        if self.tool_calls:
            out["tool_calls"] = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
                for c in self.tool_calls
            ]
        if self.role == "tool":
            out["tool_call_id"] = self.tool_call_id
        return out


@dataclass(frozen=True)
class Conversation:
    """Tools offered and what was said; ``labels`` carry what a step knows of it (scenario, origin)."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    labels: JsonObject = field(default_factory=dict)

    @classmethod
    def from_dict(cls, raw: Any) -> Conversation:
        """Reads ``{"messages": […], "tools": […], "labels": {…}}``.

        Arguments may be objects or JSON strings; results may come in any order of their ids and
        leave in call order; missing ids are filled in as ``call_0``, ``call_1`` ….

        Raises:
            CallamaError: naming the message and the key, what was expected and what was found.
        """
        if not isinstance(raw, Mapping) or not isinstance(raw.get("messages"), Sequence):
            raise CallamaError("a conversation must be an object with a list under 'messages'")
        raw_tools = raw.get("tools") or []
        if isinstance(raw_tools, str):
            raw_tools = loads_strict(raw_tools)
        if not isinstance(raw_tools, Sequence):
            raise CallamaError(f"'tools' must be a list, found {_short(raw_tools)}")
        tools = tuple(Tool.from_dict(t) for t in raw_tools)
        names = [t.name for t in tools]
        for name in names:
            if names.count(name) > 1:
                raise CallamaError(f"tool {name} is declared {names.count(name)} times")
        labels = raw.get("labels") or {}
        if not isinstance(labels, Mapping):
            raise CallamaError(f"'labels' must be an object, found {_short(labels)}")
        messages = _link_results([_read_message(m, i) for i, m in enumerate(raw["messages"])])
        if not messages:
            raise CallamaError("'messages' is empty")
        return cls(tuple(messages), tools, dict(labels))

    def to_dict(self) -> JsonObject:
        """The OpenAI form, as it stands in cleaned files."""
        out: JsonObject = {
            "tools": [t.to_dict() for t in self.tools],
            "messages": [m.to_dict() for m in self.messages],
        }
        if self.labels:
            out["labels"] = self.labels
        return out

    def called(self) -> list[str]:
        """Names of the functions called, in order, with repetitions."""
        return [c.name for m in self.messages for c in m.tool_calls]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _read_content(value: Any, where: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Sequence) and all(isinstance(p, Mapping) and p.get("type") == "text" for p in value):
        return "".join(str(p.get("text", "")) for p in value)
    raise CallamaError(f"{where}: content must be text or text parts, found {_short(value)}")


def _read_call(raw: Any, where: str) -> ToolCall:
    function = raw.get("function") if isinstance(raw, Mapping) else None
    if not isinstance(function, Mapping):
        raise CallamaError(f"{where}: a tool call needs an object under 'function', found {_short(raw)}")
    name = function.get("name")
    if not isinstance(name, str) or not TOOL_NAME.fullmatch(name):
        raise CallamaError(f"{where}: function name {_short(name)} is not a valid tool name")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = loads_strict(arguments) if arguments.strip() else {}
        except CallamaError as error:
            raise CallamaError(f"{where}: arguments of {name}: {error}") from None
    if not isinstance(arguments, Mapping):
        raise CallamaError(f"{where}: arguments of {name} must be an object, found {_short(arguments)}")
    return ToolCall(name, dict(arguments), str(raw.get("id") or ""))


def _read_message(raw: Any, index: int) -> Message:
    where = f"message {index}"
    if not isinstance(raw, Mapping):
        raise CallamaError(f"{where} must be an object, found {_short(raw)}")
    role = raw.get("role")
    if role not in get_args(Role):
        raise CallamaError(f"{where}: role must be one of {', '.join(get_args(Role))}, found {_short(role)}")
    content = _read_content(raw.get("content"), where)
    calls: tuple[ToolCall, ...] = ()
    if role == "assistant":
        calls = tuple(_read_call(c, where) for c in raw.get("tool_calls") or ())
        if calls:
            content = content or None
        elif not content:
            raise CallamaError(f"{where}: an assistant message needs content or tool_calls")
    elif content is None:
        raise CallamaError(f"{where}: a {role} message needs content")
    if role == "tool":
        content = canonical_result(content or "")
    return Message(cast(Role, role), content, calls, str(raw.get("tool_call_id") or "") if role == "tool" else "")


def _link_results(messages: list[Message]) -> list[Message]:
    """Gives every call an id and puts the results behind their calls, in call order."""
    out: list[Message] = []
    position, serial = 0, 0
    while position < len(messages):
        message = messages[position]
        position += 1
        if message.role == "tool":
            raise CallamaError(f"message {position - 1}: a tool result without a call before it")
        if not message.tool_calls:
            out.append(message)
            continue
        calls = []
        for call in message.tool_calls:
            calls.append(ToolCall(call.name, call.arguments, call.id or f"call_{serial}"))
            serial += 1
        ids = [c.id for c in calls]
        if len(set(ids)) < len(ids):
            raise CallamaError(f"message {position - 1}: two calls share an id: {ids}")
        out.append(Message("assistant", message.content, tuple(calls)))
        results: list[Message] = []
        while position < len(messages) and messages[position].role == "tool":
            results.append(messages[position])
            position += 1
        if not results and position == len(messages):
            break
        if len(results) != len(calls):
            raise CallamaError(
                f"message {position - len(results) - 1}: {len(calls)} calls but {len(results)} results; "
                "every call needs exactly one tool message behind it"
            )
        out += _order_results(results, ids, position - len(results))
    return out


def _order_results(results: list[Message], ids: list[str], first: int) -> list[Message]:
    if not any(r.tool_call_id for r in results):
        return [Message("tool", r.content, (), i) for r, i in zip(results, ids, strict=True)]
    by_id = {r.tool_call_id: r for r in results}
    if set(by_id) != set(ids):
        raise CallamaError(f"message {first}: results are for {sorted(by_id)}, the calls were {sorted(ids)}")
    return [by_id[i] for i in ids]


def dump_line(conversation: Conversation) -> str:
    """One JSON Lines record (no newline at its end, ASCII-safe against U+0085 and U+2028)."""
    return json.dumps(conversation.to_dict(), ensure_ascii=True)
