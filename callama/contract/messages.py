"""Tools, messages and conversations in OpenAI's chat shape, the canonical form everywhere in callama.

Objects of this module are immutable and valid: the only way in from the outside is
``Conversation.from_dict``, which normalises what the wild writes differently and refuses the rest.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count, dropwhile
from typing import Any, Literal, cast, get_args

import orjson

from callama.common.errors import CallamaError
from callama.contract.jsontext import canonical_result, check_json, dumps, loads_strict
from callama.contract.parameters import read_parameters, short
from callama.contract.refused import check_message, check_record, check_trained

Role = Literal["system", "user", "assistant", "tool"]
JsonObject = dict[str, Any]
_ROLES = get_args(Role)
# Longer tools do not recur by the thousand, and would fill memory.
_REMEMBERED_CHARS = 16_384
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

        The schema may stand under ``input_schema`` or ``inputSchema`` (Anthropic, MCP), and may be
        a bare map of parameters (``{"city": {"type": "str", "required": true}}``).

        Raises:
            CallamaError: the name is missing or not ``[A-Za-z0-9_.-]{1,64}``, or the parameters
                are not a JSON Schema of an object.
        """
        if isinstance(raw, Mapping) and isinstance(raw.get("function"), Mapping):
            raw = raw["function"]
        if not isinstance(raw, Mapping):
            raise CallamaError(f"a tool must be a JSON object, found {short(raw)}")
        name = raw.get("name")
        if not isinstance(name, str) or not TOOL_NAME.fullmatch(name):
            raise CallamaError(f"tool name {short(name)} is not 1 to 64 characters of letters, digits, '_', '.', '-'")
        try:
            schema = read_parameters(raw)
            description = _read_text(raw.get("description") or "", "description")
        except CallamaError as error:
            raise CallamaError(f"tool {name}: {error}") from None
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
    """One turn. An assistant's has ``content``, ``tool_calls`` or both; a tool's has ``content`` and
    ``tool_call_id``."""

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
        leave in call order; missing ids are filled in as ``call_0``, ``call_1`` …. Empty system
        messages at the start say nothing and are left out.

        Raises:
            CallamaError: naming the message and the key, what was expected and what was found.
        """
        if not isinstance(raw, Mapping) or not isinstance(raw.get("messages"), list | tuple):
            raise CallamaError("a conversation must be an object with a list under 'messages'")
        check_record(raw)
        raw_tools = raw.get("tools") or []
        if isinstance(raw_tools, str):
            raw_tools = loads_strict(raw_tools)
        if not isinstance(raw_tools, list | tuple):
            raise CallamaError(f"'tools' must be a list, found {short(raw_tools)}")
        tools = tuple(map(_read_tool, raw_tools))
        for name, times in Counter(t.name for t in tools).items():
            if times > 1:
                raise CallamaError(f"tool {name} is declared {times} times")
        labels = raw.get("labels") or {}
        if not isinstance(labels, Mapping):
            raise CallamaError(f"'labels' must be an object, found {short(labels)}")
        try:
            check_json(labels)
        except CallamaError as error:
            raise CallamaError(f"labels: {error}") from None
        messages = link_results([_read_message(m, i) for i, m in enumerate(raw["messages"])])
        messages = list(dropwhile(lambda message: message == Message("system", ""), messages))
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


def _read_tool(raw: Any) -> Tool:
    """``Tool.from_dict``, remembered by the tool's JSON text: the same few tools stand in thousands of records."""
    try:
        text = orjson.dumps(raw)
    except TypeError:  # what JSON does not know, or whole numbers beyond 64 bits
        return Tool.from_dict(raw)
    # NaN reads "null" too.
    if len(text) > _REMEMBERED_CHARS or b"null" in text:
        return Tool.from_dict(raw)
    return _read_tool_text(text)


@lru_cache(maxsize=4096)
def _read_tool_text(text: bytes) -> Tool:
    return Tool.from_dict(orjson.loads(text))


def _read_text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise CallamaError(f"{what} must be text, found {short(value)}")
    try:
        value.isascii() or value.encode("utf-8")
    except UnicodeEncodeError:
        raise CallamaError(f"{what} is not Unicode: a lone surrogate") from None
    return value


def _read_content(value: Any, role: str) -> str | None:
    if value is None or isinstance(value, str):
        return None if value is None else _read_text(value, "content")
    if isinstance(value, list | tuple) and value and all(isinstance(p, Mapping) and "type" in p for p in value):
        kinds = sorted({str(p["type"]) for p in value} - {"text"})
        if not kinds:
            return "".join(_read_text(p.get("text"), "the text of a part") for p in value)
        if role != "tool":
            raise CallamaError(f"content must be text or text parts, found parts of type {', '.join(kinds)[:60]}")
    if role == "tool" and isinstance(value, Mapping | list | tuple):
        check_json(value)
        return dumps(value)
    return _read_text(value, "content")


def _read_call(raw: Any) -> ToolCall:
    function = raw.get("function") if isinstance(raw, Mapping) else None
    if not isinstance(function, Mapping):
        raise CallamaError(f"a tool call needs an object under 'function', found {short(raw)}")
    name = function.get("name")
    if not isinstance(name, str) or not TOOL_NAME.fullmatch(name):
        raise CallamaError(f"function name {short(name)} is not a valid tool name")
    arguments = function.get("arguments", {})
    try:
        if isinstance(arguments, str):
            arguments = loads_strict(arguments) if arguments.strip() else {}
        check_json(arguments)
    except CallamaError as error:
        raise CallamaError(f"arguments of {name}: {error}") from None
    if not isinstance(arguments, Mapping):
        raise CallamaError(f"arguments of {name} must be an object, found {short(arguments)}")
    return ToolCall(name, dict(arguments), _read_id(raw.get("id")))


def _read_id(value: Any) -> str:
    return _read_text(value, "a call's id") if value is not None else ""


def _read_message(raw: Any, index: int) -> Message:
    try:
        if not isinstance(raw, Mapping):
            raise CallamaError(f"must be an object, found {short(raw)}")
        role = raw.get("role")
        if role not in _ROLES:
            raise CallamaError(f"role must be one of {', '.join(_ROLES)}, found {short(role)}")
        return _read_role(cast(Role, role), raw)
    except CallamaError as error:
        raise CallamaError(f"message {index}: {error}") from None


def _read_role(role: Role, raw: Mapping[str, Any]) -> Message:
    content, raw_calls = _read_content(raw.get("content"), role), raw.get("tool_calls") or ()
    if not isinstance(raw_calls, list | tuple):
        raise CallamaError(f"'tool_calls' must be a list, found {short(raw_calls)}")
    check_message(raw)
    if role == "assistant":
        check_trained(raw)
        said = content if content and content.strip() else None
        if said is None and not raw_calls:
            raise CallamaError("an assistant message needs content or tool_calls")
        return Message(role, said, tuple(_read_call(call) for call in raw_calls))
    if raw_calls:
        raise CallamaError(f"a {role} message cannot have tool_calls")
    if content is None:
        raise CallamaError(f"a {role} message needs content")
    if role == "tool":
        return Message(role, canonical_result(content), tool_call_id=_read_id(raw.get("tool_call_id")))
    return Message(role, content)


def link_results(messages: Sequence[Message]) -> list[Message]:
    """Gives every call an id and puts the results behind their calls, in call order.

    Raises:
        CallamaError: a result without a call, a call without its result (the last message's calls
            may still wait for theirs), or ids that do not match.
    """
    out: list[Message] = []
    taken = {call.id for message in messages for call in message.tool_calls}
    fresh = (name for name in map("call_{}".format, count()) if name not in taken)
    position = 0
    while position < len(messages):
        message = messages[position]
        position += 1
        if message.role == "tool":
            raise CallamaError(f"message {position - 1}: a tool result without a call before it")
        if not message.tool_calls:
            out.append(message)
            continue
        calls = [ToolCall(call.name, call.arguments, call.id or next(fresh)) for call in message.tool_calls]
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


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error("callama-json", _escaped)
# By identity, because equal tools may differ in type (1, 1.0, True); the tool is held so that its id stays its own.
_dumped: dict[int, tuple[Tool, orjson.Fragment]] = {}
_REMEMBERED_TOOLS = 4096


def _dumped_tool(tool: Tool) -> orjson.Fragment:
    known = _dumped.get(id(tool))
    if known is None or known[0] is not tool:
        if len(_dumped) >= _REMEMBERED_TOOLS:
            _dumped.clear()
        known = _dumped[id(tool)] = tool, orjson.Fragment(orjson.dumps(tool.to_dict()))
    return known[1]


def dump_line(conversation: Conversation) -> str:
    """One JSON Lines record (no newline at its end, ASCII-safe against U+0085 and U+2028)."""
    value = conversation.to_dict()
    try:
        line = orjson.dumps({**value, "tools": [_dumped_tool(tool) for tool in conversation.tools]})
    except TypeError:  # whole numbers beyond 64 bits
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    # orjson writes NaN as null; a number that is not finite never gets here.
    return _ascii(line)


def _ascii(line: bytes) -> str:
    """A line that orjson wrote, which leaves Unicode as it is, in ASCII alone."""
    return line.decode() if line.isascii() else line.decode().encode("ascii", "callama-json").decode()


def load_line(line: str) -> Any:
    """The value of a line that ``dump_line`` wrote; None for any other text.

    Text that comes out again as it went in has no key twice and nothing that readers take differently.
    """
    if line.startswith(" ", line.find('":') + 2):  # spaces behind the keys: not its spelling
        return None
    try:
        value = orjson.loads(line)
        return value if _ascii(orjson.dumps(value)) == line else None
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
