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
from callama.data.quarantine import DropError
from callama.data.reasons import Drop

_PUNCTUATION = re.compile(r"[^A-Za-z0-9]")
# With one of these, a schema's "properties" are not all that may be given.
_MAY_DECLARE_MORE = {"additionalProperties", "patternProperties", "$ref", "allOf", "anyOf", "oneOf"}


class Declared:
    """One declared function with its validator, compiled when a call first needs it."""

    def __init__(self, tool: Tool) -> None:
        self.tool = tool

    @cached_property
    def _validator(self) -> Any:
        return jsonschema_rs.validator_for(self.tool.parameters, retriever=_no_retrieval)

    def check(self, arguments: dict[str, Any]) -> None:
        """Makes sure that the arguments fit the function.

        Raises:
            DropError: they break its schema, or pass what it does not declare.
        """
        name = self.tool.name
        fragment = repr(arguments)[:500]
        try:
            self._validator.validate(arguments)
        except jsonschema_rs.ValidationError as error:
            path = "".join(f"[{key!r}]" for key in error.instance_path)
            detail = f"{name}: arguments{path}: {error.message[:300]}"
            raise DropError(Drop.ARGUMENTS_INVALID, detail, fragment) from None
        except ValueError as error:  # nested deeper than the validator goes
            raise DropError(Drop.ARGUMENTS_INVALID, f"{name}: {error}", fragment) from None
        if invented := _invented(arguments, self.tool.parameters):
            raise DropError(Drop.UNDECLARED_ARGUMENT, f"{name} has no parameter {invented[:100]!r}", fragment)


def _no_retrieval(uri: str) -> Any:
    raise ValueError(f"{uri} is not fetched: a schema must stand for itself")


def _invented(arguments: dict[str, Any], parameters: dict[str, Any]) -> str | None:
    """The path of an argument that the schema does not declare; None: there is none.

    An inner object without ``properties`` is free, a function without parameters takes none.
    """
    pending: list[tuple[str, Any, Any]] = [("", arguments, parameters)]
    while pending:
        path, value, schema = pending.pop()
        if not isinstance(schema, dict):
            continue
        if isinstance(value, list):
            pending += [(f"{path}[]", item, schema.get("items")) for item in value]
        elif isinstance(value, dict) and not _MAY_DECLARE_MORE & schema.keys():
            declared = schema.get("properties", {})
            if not declared and path:
                continue
            for key, inner in value.items():
                place = f"{path}.{key}" if path else key
                if key not in declared:
                    return place
                pending.append((place, inner, declared[key]))
    return None


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
