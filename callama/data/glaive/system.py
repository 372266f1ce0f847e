"""The system text of a glaive row: prose, then the functions as JSON objects one behind the other.

Objects are found by reading them, not by blank lines: a description may hold any of those.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jsonschema_rs

from callama.common.errors import CallamaError
from callama.contract.jsontext import loads_strict
from callama.contract.messages import Tool
from callama.data.glaive.reasons import Drop, Repair
from callama.data.quarantine import DropError

_SPACE = " \t\r\n"
_DECODER = json.JSONDecoder(strict=False)
# The same texts recur in thousands of rows; beyond this length they do not, and would fill memory.
_CACHED_CHARS = 16_384
# With one of these, a schema's "properties" are not all that a function may be given.
_MAY_DECLARE_MORE = {"additionalProperties", "patternProperties", "$ref", "allOf", "anyOf", "oneOf"}


@dataclass(frozen=True)
class SystemPrompt:
    """What a system text says: prose (None where there is none) and the functions offered."""

    prose: str | None
    tools: tuple[Tool, ...]
    repairs: tuple[Repair, ...]
    _validators: dict[str, Any]

    def validation_fault(self, name: str, arguments: dict[str, Any]) -> tuple[Drop, str] | None:
        """Why the arguments do not fit the declared function ``name``; None: they do."""
        tool = next(t for t in self.tools if t.name == name)
        try:
            if name not in self._validators:
                self._validators[name] = jsonschema_rs.validator_for(tool.parameters, retriever=_no_retrieval)
            self._validators[name].validate(arguments)
        except jsonschema_rs.ValidationError as error:
            path = "".join(f"[{key!r}]" for key in error.instance_path)
            return Drop.ARGUMENTS_INVALID, f"{name}: arguments{path}: {error.message[:300]}"
        except ValueError as error:  # nested deeper than the validator goes
            return Drop.ARGUMENTS_INVALID, f"{name}: {error}"
        declared = tool.parameters["properties"]
        if not _MAY_DECLARE_MORE & tool.parameters.keys():
            for key in arguments:
                if key not in declared:
                    return Drop.UNDECLARED_ARGUMENT, f"{name} has no parameter {key[:100]!r}"
        return None


def _no_retrieval(uri: str) -> Any:
    raise ValueError(f"{uri} is not fetched: a schema must stand for itself")


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
    tools: dict[str, Tool] = {}
    repairs: list[Repair] = []
    position = start
    while position < len(text):
        tool, position = _take_function(text, position)
        if tool.name not in tools:
            tools[tool.name] = tool
        elif tools[tool.name] == tool:
            repairs.append(Repair.REPEATED_FUNCTION)
        else:
            raise DropError(Drop.FUNCTION_DECLARED_TWICE, f"{tool.name} is declared in two ways", text[start:])
        while position < len(text) and text[position] in " \t\r\n,":
            position += 1
    return SystemPrompt(text[:start].strip(_SPACE) or None, tuple(tools.values()), tuple(repairs), {})


_parse_cached = lru_cache(maxsize=2048)(_parse)


def _take_function(text: str, start: int) -> tuple[Tool, int]:
    fragment = text[start : start + 500]
    try:
        _, end = _DECODER.raw_decode(text, start)
        value = loads_strict(text[start:end])
    except (CallamaError, RecursionError, ValueError) as error:
        raise DropError(Drop.FUNCTIONS_NOT_JSON, str(error), fragment) from None
    try:
        return Tool.from_dict(value), end
    except CallamaError as error:
        raise DropError(Drop.FUNCTION_INVALID, str(error), fragment) from None
