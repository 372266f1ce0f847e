"""The ``tool_uses`` dialect: how tools are shown, how calls are written, how results come back.

Tools stand in the system prompt as signatures; the model answers with
``{"tool_uses": [{"recipient_name": "functions.NAME", "parameters": {…}}, …]}``; results come back
as one JSON list in call order. Writing and reading live side by side here, so that they cannot
drift: reading what was written gives back what was meant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from callama.common.errors import CallamaError
from callama.contract.jsontext import MAX_TEXT_CHARS, canonical_result, dumps, loads_strict, result_json
from callama.contract.messages import TOOL_NAME, Message, Tool, ToolCall
from callama.contract.signatures import signature_of
from callama.contract.spans import Kind, Segment

NAME = "tool_uses"
_TOOLS_HEAD = "# Tools\n\n## functions\n\nnamespace functions {\n\n"
_TOOLS_TAIL = "\n\n} // namespace functions"
_KEY = r"""\{\s*(?:"tool_uses"|'tool_uses'|tool_uses\b)"""
_CALL_START = re.compile(rf"(?:\A\s*|\n)(?={_KEY})")
_CALL_WITHIN = re.compile(rf"{_KEY}\s*:")
# Other dialects' marks, at the start of a line; and Llama 3.2's [name(key=value)].
_FOREIGN_MARK = re.compile(
    r"^[ \t]*<(?:functioncall>|tool_call>|function=|\|python_tag\|>)|\A\s*\[[\w.]+\(", re.MULTILINE
)
_FENCE = re.compile(r"\A```\w*\s|```\s*\Z")
_NAME_KEYS = ("name", "function", "recipient_name")
_ARGUMENT_KEYS = ("parameters", "arguments")
_NAME_KEY = re.compile(rf"""["'](?:{"|".join(_NAME_KEYS)})["']\s*:""")
_ARGUMENT_KEY = re.compile(rf"""["'](?:{"|".join(_ARGUMENT_KEYS)})["']\s*:""")
_PREFIX = "functions."


@dataclass(frozen=True)
class Answer:
    """What a model's output is. ``call`` may have ``text`` beside it; ``malformed`` has a ``reason``."""

    kind: Literal["call", "text", "malformed"]
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    reason: str = ""


def system_text(system: str | None, tools: Sequence[Tool]) -> str | None:
    """The system turn's text: the user's own, then the tools; None where there is neither."""
    if not tools:
        return system
    block = _TOOLS_HEAD + "\n\n".join(map(signature_of, tools)) + _TOOLS_TAIL
    return f"{system}\n\n{block}" if system else block


def answer_segments(message: Message) -> list[Segment]:
    """The assistant's turn as typed runs of text; joined, they are what the model says, and
    ``parse_answer`` reads them back.

    Raises:
        CallamaError: the text would be read as a call, or the calls are longer than can be read.
    """
    segments: list[Segment] = []
    if message.content:
        if parse_answer(message.content).kind != "text":
            raise CallamaError(f"assistant text would be read as a call: {message.content[:80]!r}")
        segments.append(Segment(message.content, Kind.TEXT))
    if message.tool_calls:
        if segments:
            segments.append(Segment("\n", Kind.TEXT))
        calls = _call_segments(message.tool_calls)
        if (size := sum(len(segment.text) for segment in calls)) > MAX_TEXT_CHARS:
            raise CallamaError(f"calls of {size:,} characters in one message; the limit is {MAX_TEXT_CHARS:,}")
        segments += calls
    return segments


def _call_segments(calls: Sequence[ToolCall]) -> list[Segment]:
    out = [Segment('{"tool_uses": [', Kind.CALL_SYNTAX)]
    for index, call in enumerate(calls):
        opening = ("" if index == 0 else ", ") + f'{{"recipient_name": "{_PREFIX}'
        out.append(Segment(opening, Kind.CALL_SYNTAX))
        out.append(Segment(call.name, Kind.FUNCTION_NAME))
        out.append(Segment('", "parameters": ', Kind.CALL_SYNTAX))
        out += _value_segments(call.arguments)
        out.append(Segment("}", Kind.CALL_SYNTAX))
    out.append(Segment("]}", Kind.CALL_SYNTAX))
    return out


def _value_segments(value: Any) -> list[Segment]:
    """Segments whose texts, joined, equal ``dumps(value)``."""
    syntax = Kind.CALL_SYNTAX
    if isinstance(value, dict):
        out = [Segment("{", syntax)]
        for index, (key, inner) in enumerate(value.items()):
            out.append(Segment('"' if index == 0 else ', "', syntax))
            out.append(Segment(dumps(key)[1:-1], Kind.ARGUMENT_KEY))
            out.append(Segment('": ', syntax))
            out += _value_segments(inner)
        return [*out, Segment("}", syntax)]
    if isinstance(value, list | tuple):
        out = [Segment("[", syntax)]
        for index, inner in enumerate(value):
            if index:
                out.append(Segment(", ", syntax))
            out += _value_segments(inner)
        return [*out, Segment("]", syntax)]
    text = dumps(value)
    if isinstance(value, str):
        return [Segment('"', syntax), Segment(text[1:-1], Kind.ARGUMENT_VALUE), Segment('"', syntax)]
    return [Segment(text, Kind.ARGUMENT_VALUE)]


def parse_answer(text: str) -> Answer:
    """Reads a model's output. Never raises, whatever the text, in time linear in its length.

    A call is JSON under ``tool_uses`` that starts the output or a line of it and runs to its end;
    the first such start decides. What starts so but is broken is ``malformed``, and so is a call
    in the middle of a line or in somebody else's form: none of these is an abstention.
    """
    if "{" not in text and "<" not in text and not text.lstrip().startswith("["):
        return Answer("text", text)  # most answers; without these signs nothing is a call in any form
    if start := _CALL_START.search(text):
        said = text[: start.start()]
        if parse_answer(said).kind != "text":
            return Answer("malformed", text, (), "a call in another form stands before the call")
        try:
            return Answer("call", said if said.strip() else "", _read_calls(text[start.end() :]))
        except CallamaError as error:
            return Answer("malformed", text, (), str(error))
    if _CALL_WITHIN.search(text):
        return Answer("malformed", text, (), "a call must start the output or a line of it")
    if _is_foreign_call(text):
        return Answer("malformed", text, (), "a call in another form: no object with the key 'tool_uses'")
    return Answer("text", text)


def _is_foreign_call(text: str) -> bool:
    if _FOREIGN_MARK.search(text):
        return True
    body = _FENCE.sub("", text.strip()).strip()
    if not body.startswith(("{", "[")):
        return False
    try:
        value = loads_strict(body)
    except CallamaError:
        return bool(_NAME_KEY.search(body) and _ARGUMENT_KEY.search(body))
    return any(_is_call_object(item) for item in (value if isinstance(value, list) else [value]))


def _is_call_object(value: Any) -> bool:
    """Whether an object names a function and gives it arguments; a person's name is not enough."""
    if not isinstance(value, dict):
        return False
    if "tool_uses" in value or "tool_calls" in value or isinstance(value.get("function"), dict):
        return True
    named = any(isinstance(value.get(key), str) for key in _NAME_KEYS)
    return named and any(isinstance(value.get(key), dict | str) for key in _ARGUMENT_KEYS)


def _read_calls(text: str) -> tuple[ToolCall, ...]:
    value = loads_strict(text.strip())
    uses = value.get("tool_uses")
    if set(value) != {"tool_uses"}:
        raise CallamaError(f"unexpected key {next(k for k in value if k != 'tool_uses')[:80]!r} beside 'tool_uses'")
    if not isinstance(uses, list) or not uses:
        raise CallamaError("'tool_uses' must be a list with at least one call")
    calls = []
    for index, use in enumerate(uses):
        where = f"tool_uses[{index}]"
        if not isinstance(use, dict) or set(use) != {"recipient_name", "parameters"}:
            raise CallamaError(f"{where} must be an object with 'recipient_name' and 'parameters'")
        name, arguments = use["recipient_name"], use["parameters"]
        if not isinstance(name, str) or not name.startswith(_PREFIX):
            raise CallamaError(f"{where}: recipient_name must be 'functions.NAME'")
        if not TOOL_NAME.fullmatch(name.removeprefix(_PREFIX)):
            raise CallamaError(f"{where}: {name[:80]!r} names no valid function")
        if not isinstance(arguments, dict):
            raise CallamaError(f"{where}: parameters must be an object")
        calls.append(ToolCall(name.removeprefix(_PREFIX), arguments, f"call_{index}"))
    return tuple(calls)


def results_text(contents: Sequence[str]) -> str:
    """The tool turn's text: a JSON list with one item per call, in call order.

    Raises:
        CallamaError: together longer than a million characters.
    """
    text = f"[{', '.join(map(result_json, contents))}]"
    if len(text) > MAX_TEXT_CHARS:
        raise CallamaError(f"tool results of {len(text):,} characters; the limit is {MAX_TEXT_CHARS:,}")
    return text


def parse_results(text: str) -> list[str]:
    """The contents that ``results_text`` was given, in canonical spelling.

    Raises:
        CallamaError: not a JSON list.
    """
    value = loads_strict(text)
    if not isinstance(value, list):
        raise CallamaError("tool results must be a JSON list")
    return [item if isinstance(item, str) else canonical_result(dumps(item)) for item in value]
