"""What every kept call must pass: declared, arguments valid, required present, nothing invented.

All formats meet here, so that no reader can be laxer than another. A respelled name counts only
where exactly one declared function differs from it in punctuation and case alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import jsonschema_rs

from callama.contract.messages import Tool
from callama.contract.schema import MAX_DEPTH
from callama.contract.tool_uses import parse_answer
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair

_PUNCTUATION = re.compile(r"[^A-Za-z0-9]")
# As JSON writes numbers, and short enough that a float or int says exactly the same.
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,6})?")
# With one of these, what an object may hold is declared elsewhere too, at any depth.
_DECLARE_ELSEWHERE = {"$ref", "allOf", "anyOf", "oneOf"}
_ANNOTATIONS = {"title", "description", "default", "examples", "deprecated"}

# Spellings of a call that stand in data sets and that the dialect's own reader does not know.
_OTHER_SYNTAX = (
    ("to=", re.compile(r"to= ?[\w.-]{1,64} ?:? ?\{")),
    ("<", re.compile(r"<\W{0,2}function[ _-]?calls?\W{0,2}>", re.IGNORECASE)),
)


class Declared:
    """One declared function with its validator, compiled when a call first needs it."""

    def __init__(self, tool: Tool) -> None:
        self.tool = tool

    @cached_property
    def _validator(self) -> Any:
        return jsonschema_rs.validator_for(self.tool.parameters, retriever=_no_retrieval)

    def check(self, arguments: dict[str, Any], repairs: list[Repair]) -> dict[str, Any]:
        """The arguments, if they fit the function; a number in the wrong one of JSON's two spellings
        (``"85"``, ``85``) gets the one that the schema wants.

        Raises:
            DropError: they break its schema, or pass what it does not declare.
        """
        if fault := self.fault(arguments):
            respelled = _respelled(arguments, self.tool.parameters, 0)
            if fault.reason is not Drop.ARGUMENTS_INVALID or respelled == arguments or self.fault(respelled):
                raise fault
            repairs.append(Repair.ARGUMENT_TYPE)
            return dict(respelled)
        return arguments

    def fault(self, arguments: dict[str, Any]) -> DropError | None:
        """Why the arguments do not fit the function as they stand; None: they do."""
        name = self.tool.name
        try:
            self._validator.validate(arguments)
        except jsonschema_rs.ValidationError as error:
            path = "".join(f"[{key!r}]" for key in error.instance_path)
            detail = f"{name}: arguments{path}: {error.message[:300]}"
            return DropError(Drop.ARGUMENTS_INVALID, detail, repr(arguments)[:500])
        except ValueError as error:  # nested deeper than the validator goes
            return DropError(Drop.ARGUMENTS_INVALID, f"{name}: {error}", repr(arguments)[:500])
        if (invented := _invented(arguments, self.tool.parameters)) is not None:
            detail = f"{name} has no parameter {invented[:100]!r}"
            return DropError(Drop.UNDECLARED_ARGUMENT, detail, repr(arguments)[:500])
        return None


def _respelled(value: Any, schema: Any, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return value
    if isinstance(value, dict):
        declared = schema.get("properties", {})
        return {key: _respelled(inner, declared.get(key), depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_respelled(item, schema.get("items"), depth + 1) for item in value]
    wanted = schema.get("type")
    if isinstance(value, str) and wanted in ("number", "integer") and _NUMBER.fullmatch(value):
        return float(value) if "." in value else int(value)
    if isinstance(value, int) and not isinstance(value, bool) and wanted == "string":
        return str(value)
    return value


def _no_retrieval(uri: str) -> Any:
    raise ValueError(f"{uri} is not fetched: a schema must stand for itself")


def _invented(arguments: dict[str, Any], parameters: dict[str, Any]) -> str | None:
    """The path of an argument that the schema does not declare; None: there is none.

    An inner object without ``properties`` is free, a function without parameters takes none. An object
    that allows more keys than it declares is open for these, not for what stands in the declared ones.
    """
    pending: list[tuple[str, Any, Any]] = [("", arguments, parameters)]
    while pending:
        path, value, schema = pending.pop()
        if not isinstance(schema, dict):
            continue
        schema = _meant(schema, parameters)
        if isinstance(value, list):
            first, rest = schema.get("prefixItems", []), schema.get("items")
            pending += [(f"{path}[]", v, first[i] if i < len(first) else rest) for i, v in enumerate(value)]
        elif isinstance(value, dict) and not _DECLARE_ELSEWHERE & schema.keys():
            declared, more = schema.get("properties", {}), schema.get("additionalProperties", False)
            patterns = "patternProperties" in schema  # a key that fits one is not an additional one
            is_open = patterns or more is not False or (not declared and path)
            for key, inner in value.items():
                place = f"{path}.{key}"
                # What is required is shown with the others, whatever it may be.
                if key not in declared and not is_open and key not in schema.get("required", ()):
                    return place[1:]
                if isinstance(inner, dict | list):
                    pending.append((place, inner, declared.get(key, None if patterns else more)))
    return None


def _meant(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """What a reference or "this or null" stands for where it stands alone, as pydantic writes them."""
    for _ in range(MAX_DEPTH):
        said = schema.keys() - _ANNOTATIONS
        inner: Any = None
        if said == {"$ref"}:
            places, _, name = schema["$ref"].removeprefix("#/").partition("/")
            inner = root.get(places, {}).get(name) if places in ("$defs", "definitions") else None
        elif said == {"anyOf"}:
            members = [member for member in schema["anyOf"] if member != {"type": "null"}]
            inner = members[0] if len(members) == 1 else None
        if not isinstance(inner, dict):
            return schema
        schema = inner
    return schema


def find_declared(name: str, names: Iterable[str]) -> str:
    """The declared name that is meant by ``name``.

    Raises:
        DropError: none is, or more than one may be.
    """
    names = list(names)
    if name in names:
        return name
    bare = _PUNCTUATION.sub("", name).lower()
    alike = [n for n in names if bare and _PUNCTUATION.sub("", n).lower() == bare]
    if len(alike) == 1:
        return alike[0]
    declared = ", ".join(names[:8]) or "none"
    raise DropError(Drop.UNDECLARED_FUNCTION, f"{name[:100]!r} is called; declared: {declared}", name)


def check_text(text: str) -> None:
    """Refuses text that is a call in other clothes: it would train the model to write such.

    Raises:
        DropError: the text holds a call in any syntax.
    """
    if "{" not in text and "<" not in text and "[" not in text:
        return  # most texts; without these signs nothing is a call in any syntax
    for sign, pattern in _OTHER_SYNTAX:
        if sign in text and (found := pattern.search(text)):
            raise DropError(Drop.OTHER_CALL_SYNTAX, "", text[found.start() :])
    if (answer := parse_answer(text)).kind != "text":
        raise DropError(Drop.OTHER_CALL_SYNTAX, answer.reason, text)
