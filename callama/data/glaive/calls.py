"""One glaive call, ``{"name": "f", "arguments": '{"a": 1}'}``, read without guessing.

The normal form is not JSON: the arguments stand in single quotes that nothing escapes. Their end is
the last quote before the closing brace, so an apostrophe inside is text. What cannot be read in
exactly one way is refused with a reason.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from callama.common.errors import CallamaError
from callama.data.glaive.lenient import loads_lenient
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair

_SPACE = " \t\r\n"
_QUOTED_HEAD = re.compile(r'\{\s*"name"\s*:\s*"([^"\\]*)"\s*,\s*"arguments"\s*:\s*\'')
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_DECODER = json.JSONDecoder(strict=False)


@dataclass(frozen=True)
class ParsedCall:
    """A call as written; neither name nor arguments are checked against what is declared."""

    name: str
    arguments: dict[str, Any]
    repairs: tuple[Repair, ...] = ()


def parse_call(text: str) -> ParsedCall:
    """Reads what follows ``<functioncall>``. Linear in the text's length.

    Raises:
        DropError: with the reason, its detail and the text.
    """
    text = text.strip(_SPACE)
    if head := _QUOTED_HEAD.match(text):
        return _parse_quoted(text, head[1], head.end())
    return _parse_json(text)


def _parse_quoted(text: str, name: str, start: int) -> ParsedCall:
    end = len(text)
    while end > start and text[end - 1] in "} \t\r\n":
        end -= 1
    braces = text.count("}", end)
    quote = end - 1
    if quote < start or text[quote] != "'":
        # No quote closes the text: either it was cut off, or something stands behind the call.
        close = max(text.rfind("'}", start), text.rfind("'\n}", start))
        reason = Drop.CALL_CUT_OFF if close < 0 else Drop.TEXT_AFTER_CALL
        raise DropError(reason, "the quoted arguments do not close at the end of the turn", text)
    repairs: list[Repair] = []
    if braces != 1:
        repairs.append(Repair.EXTRA_BRACE if braces else Repair.MISSING_BRACE)
    arguments = _read_arguments(text[start:quote], text, repairs)
    return ParsedCall(name, arguments, tuple(repairs))


def _read_arguments(inner: str, text: str, repairs: list[Repair]) -> dict[str, Any]:
    unescaped = inner
    if "\\'" in inner:
        # One layer: "\'" becomes "'", while "\\" and every other escape stay for the JSON reader.
        unescaped = _ESCAPE.sub(lambda m: "'" if m[1] == "'" else m[0], inner)
    try:
        value, mended = loads_lenient(unescaped)
    except CallamaError as error:
        reason = Drop.TEXT_AFTER_CALL if "'}" in inner else Drop.ARGUMENTS_NOT_JSON
        raise DropError(reason, str(error), text) from None
    if unescaped != inner:
        repairs.append(Repair.BACKSLASH_APOSTROPHE)
    elif "'" in inner:
        repairs.append(Repair.APOSTROPHE)
    repairs += mended
    return _require_object(value, text)


def _require_object(value: Any, text: str) -> dict[str, Any]:
    if value is None:
        raise DropError(Drop.ARGUMENTS_NULL, "", text)
    if not isinstance(value, dict):
        raise DropError(Drop.ARGUMENTS_NOT_OBJECT, f"found a {type(value).__name__}", text)
    return value


def _parse_json(text: str) -> ParsedCall:
    try:
        _, end = _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        cut = error.msg.startswith("Unterminated") or error.pos >= len(text)
        reason = Drop.CALL_CUT_OFF if cut else Drop.CALL_NOT_JSON
        raise DropError(reason, str(error), text) from None
    except (RecursionError, ValueError) as error:
        raise DropError(Drop.CALL_NOT_JSON, str(error), text) from None
    rest = text[end:].strip("} \t\r\n")
    if rest:
        raise DropError(Drop.TEXT_AFTER_CALL, f"behind the call: {rest[:100]!r}", text)
    try:
        call, mended = loads_lenient(text[:end])
    except CallamaError as error:
        raise DropError(Drop.CALL_NOT_JSON, str(error), text) from None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        raise DropError(Drop.CALL_NOT_JSON, "no object with a name", text)
    if "arguments" not in call:
        reason = Drop.ARGUMENTS_MISNAMED if "parameters" in call else Drop.ARGUMENTS_MISSING
        raise DropError(reason, "", text)
    if unknown := sorted(set(call) - {"name", "arguments"}):
        raise DropError(Drop.CALL_NOT_JSON, f"a call has no key {unknown[0][:100]!r}", text)
    repairs = [Repair.CALL_IN_JSON, *mended]
    if end < len(text):
        repairs.append(Repair.EXTRA_BRACE)
    arguments = call["arguments"]
    if isinstance(arguments, str):
        arguments = _read_arguments(arguments, text, repairs)
    return ParsedCall(call["name"], _require_object(arguments, text), tuple(repairs))
