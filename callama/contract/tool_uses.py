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
from callama.contract.jsontext import canonical_result, dumps, loads_strict, result_value
from callama.contract.messages import TOOL_NAME, Message, Tool, ToolCall
from callama.contract.signatures import render_signature
from callama.contract.spans import Kind, Segment

NAME = "tool_uses"
_TOOLS_HEAD = "# Tools\n\n## functions\n\nnamespace functions {\n\n"
_TOOLS_TAIL = "\n\n} // namespace functions"
_CALL_START = re.compile(r'(?:\A\s*|\n)(?=\{\s*"tool_uses")')
_FOREIGN_CALL = re.compile(
    r'\A\s*(?:```(?:json)?\s*)?[\[{].*"(?:recipient_name|tool_uses|function|name)"\s*:', re.DOTALL
)
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
    block = _TOOLS_HEAD + "\n\n".join(render_signature(t) for t in tools) + _TOOLS_TAIL
    return f"{system}\n\n{block}" if system else block


def answer_segments(message: Message) -> list[Segment]:
    """The assistant's turn as typed runs of text; joined, they are what the model says.

    Raises:
        CallamaError: the text alone would be read as a call.
    """
    segments: list[Segment] = []
    if message.content:
        if parse_answer(message.content).kind != "text":
            raise CallamaError(f"assistant text would be read as a call: {message.content[:80]!r}")
        segments.append(Segment(message.content, Kind.TEXT))
    if message.tool_calls:
        if segments:
            segments.append(Segment("\n", Kind.TEXT))
        segments += _call_segments(message.tool_calls)
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
    """Reads a model's output. Never raises, whatever the text.

    A call is JSON under ``tool_uses`` that starts the output or a line of it and runs to its end.
    What starts so but is broken is ``malformed``, and so is a whole output that is a call in
    somebody else's form: neither is an abstention.
    """
    reason = ""
    for match in _CALL_START.finditer(text):
        try:
            calls = _read_calls(text[match.end() :])
        except CallamaError as error:
            reason = reason or str(error)
            continue
        return Answer("call", text[: match.start()] if text[: match.start()].strip() else "", calls)
    if reason:
        return Answer("malformed", text, (), reason)
    if _FOREIGN_CALL.match(text) and _looks_like_call(text):
        return Answer("malformed", text, (), "a call in another form: no object with the key 'tool_uses'")
    return Answer("text", text)


def _looks_like_call(text: str) -> bool:
    return any(f'"{key}"' in text for key in ("parameters", "arguments", "recipient_name", "tool_uses"))


def _read_calls(text: str) -> tuple[ToolCall, ...]:
    value = loads_strict(text.strip())
    uses = value["tool_uses"]
    if set(value) != {"tool_uses"}:
        raise CallamaError(f"unexpected key {next(k for k in value if k != 'tool_uses')!r} beside 'tool_uses'")
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
    """The tool turn's text: a JSON list with one item per call, in call order."""
    return dumps([result_value(content) for content in contents])


def parse_results(text: str) -> list[str]:
    """The contents that ``results_text`` was given, in canonical spelling.

    Raises:
        CallamaError: not a JSON list.
    """
    value = loads_strict(text)
    if not isinstance(value, list):
        raise CallamaError("tool results must be a JSON list")
    return [item if isinstance(item, str) else canonical_result(dumps(item)) for item in value]
