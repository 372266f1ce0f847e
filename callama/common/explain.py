"""What pydantic finds wrong with a file of settings, said as every error is: where, what was expected, an example.

The library's own sentences speak of Python's types and never show a value that would be right; a
person who wrote JSON needs JSON's words.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

_SHOWN_CHARS = 80
# pydantic's kinds of errors (https://docs.pydantic.dev/latest/errors/validation_errors/) in the words of JSON;
# the braces are filled from the error's context.
_EXPECTED = {
    "greater_than": "a number greater than {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "too_short": "a list with at least {min_length} in it",
    "too_long": "a list with at most {max_length} in it",
    "string_too_short": "a text with at least {min_length} in it",
    "string_too_long": "a text of at most {max_length} characters",
    "finite_number": "a finite number",
}
_EXPECTED_BY_PREFIX = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a text",
    "path": "a path, written as a text",
    "list": "a list",
    "tuple": "a list",
    "dict": "an object",
    "model": "an object with settings",
}


def explain(model: type[BaseModel], error: ValidationError) -> str:
    """The first fault in a sentence: key, what was expected and found, an example; and how many more there are."""
    first, *others = error.errors(include_url=False)
    more = f" ({len(others)} more of its settings are wrong)" if others else ""
    return f"{_sentence(model, first)}{more}"


def takes_text(model: type[BaseModel], location: Sequence[str]) -> bool:
    """Whether the setting at this place is a text or a path."""
    *parents, key = location
    field = _fields(_model_at(model, parents)).get(key)
    # A path may be optional: Path | None. A list of them is no text.
    kinds = () if field is None or get_origin(field.annotation) is list else get_args(field.annotation)
    return field is not None and not {str, Path}.isdisjoint({field.annotation, *kinds})


def _sentence(model: type[BaseModel], fault: Any) -> str:
    location: tuple[str | int, ...] = fault["loc"]
    where = ".".join(map(str, location))
    if fault["type"] == "value_error":  # a rule of ours, in our words
        return f"{where}: {fault['ctx']['error']}".removeprefix(": ")
    # What is wrong with an item of a list is shown in a whole list.
    names = [part for part in location if isinstance(part, str)]
    if not names:
        return f"expected {_expected(fault, None)}"
    *parents, key = names
    if fault["type"] == "extra_forbidden":
        known = list(_fields(_model_at(model, parents)))
        near = difflib.get_close_matches(key, known, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return f"unknown key {where!r}{hint}; known here are {', '.join(known)}"
    field = _fields(_model_at(model, parents)).get(key)
    value = None if field is None else _value(field)
    example = "" if value is None else f'; for example "{key}": {json.dumps(value, default=str)}'
    if fault["type"] == "missing":
        return f"the key {where!r} is missing{example}"
    found = json.dumps(fault["input"], ensure_ascii=False, default=str)
    found = found if len(found) <= _SHOWN_CHARS else f"{found[:_SHOWN_CHARS]}…"
    return f"{where}: expected {_expected(fault, field)}, found {found}{example}"


def _expected(fault: Mapping[str, Any], field: FieldInfo | None) -> str:
    if fault["type"] == "literal_error" and field is not None:
        parts = (field.annotation, *get_args(field.annotation))
        options = [option for part in parts if get_origin(part) is Literal for option in get_args(part)]
        return f"{'one of ' if len(options) > 1 else ''}{', '.join(map(json.dumps, options))}"
    if fault["type"] in _EXPECTED:
        return _EXPECTED[fault["type"]].format(**fault["ctx"]) if "ctx" in fault else _EXPECTED[fault["type"]]
    return str(_EXPECTED_BY_PREFIX.get(fault["type"].partition("_")[0], fault["msg"]))


def _value(field: FieldInfo) -> Any:
    """A value that is right: the field's example, else its default; None where it has neither."""
    if field.examples:
        return field.examples[0]
    if section := _section(field):
        inner = {name: _value(one) for name, one in _fields(section).items()}
        return dict([next(((name, value) for name, value in inner.items() if value is not None), ("", ""))])
    return None if field.is_required() else field.get_default(call_default_factory=True, validated_data={})


def _section(field: FieldInfo) -> type[BaseModel] | None:
    # A section may be optional: Section | None.
    parts = (field.annotation, *get_args(field.annotation))
    return next((part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)), None)


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _model_at(model: type[BaseModel], location: Sequence[str]) -> type[BaseModel]:
    for part in location:
        field = _fields(model).get(part)
        model = (_section(field) if field is not None else None) or model
    return model
