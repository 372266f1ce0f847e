"""The system text of a glaive row: prose, then the functions as JSON objects one behind the other.

Objects are found by reading them, not by blank lines: a description may hold any of those.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

from callama.common.errors import CallamaError
from callama.contract.jsontext import loads_strict
from callama.contract.messages import Tool
from callama.data.checks import Declared
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair

_SPACE = " \t\r\n"
_DECODER = json.JSONDecoder(strict=False)
# The same texts recur in thousands of rows; beyond this length they do not, and would fill memory.
_CACHED_CHARS = 16_384


@dataclass(frozen=True)
class SystemPrompt:
    """What a system text says: prose (None where there is none) and the functions offered."""

    prose: str | None
    tools: tuple[Tool, ...]
    repairs: tuple[Repair, ...]
    declared: dict[str, Declared]


def parse_system(text: str | None) -> SystemPrompt:
    """Reads a row's ``system`` field; the role keyword in front is not part of the prose.

    Raises:
        DropError: functions that are not JSON, not valid, or declared twice in two ways.
    """
    text = (text or "").strip(_SPACE)
    return _parse_cached(text) if len(text) <= _CACHED_CHARS else _parse(text)


def _parse(text: str) -> SystemPrompt:
    text = text.removeprefix("SYSTEM:").strip(_SPACE)
    start = text.find("{")
    if start < 0:
        return SystemPrompt(text or None, (), (), {})
    declared: dict[str, Declared] = {}
    repairs: list[Repair] = []
    position = start
    while position < len(text):
        function, position = _take_function(text, position)
        name = function.tool.name
        if name not in declared:
            declared[name] = function
        elif declared[name].tool == function.tool:
            repairs.append(Repair.REPEATED_FUNCTION)
        else:
            raise DropError(Drop.FUNCTION_DECLARED_TWICE, f"{name} is declared in two ways", text[start:])
        while position < len(text) and text[position] in " \t\r\n,":
            position += 1
    tools = tuple(function.tool for function in declared.values())
    return SystemPrompt(text[:start].strip(_SPACE) or None, tools, tuple(repairs), declared)


_parse_cached = lru_cache(maxsize=2048)(_parse)


def _take_function(text: str, start: int) -> tuple[Declared, int]:
    try:
        _, end = _DECODER.raw_decode(text, start)
    except (RecursionError, ValueError) as error:
        raise DropError(Drop.FUNCTIONS_NOT_JSON, str(error), text[start : start + 500]) from None
    function = text[start:end]
    return (_read_cached if len(function) <= _CACHED_CHARS else _read)(function), end


def _read(function: str) -> Declared:
    try:
        value = loads_strict(function)
    except CallamaError as error:
        raise DropError(Drop.FUNCTIONS_NOT_JSON, str(error), function[:500]) from None
    try:
        return Declared(Tool.from_dict(value))
    except CallamaError as error:
        raise DropError(Drop.FUNCTION_INVALID, str(error), function[:500]) from None


_read_cached = lru_cache(maxsize=4096)(_read)
