"""The parameters of a tool as data sets write them: under several keys, as a schema or as a bare map of parameters."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import Any

from callama.common.errors import CallamaError
from callama.contract.jsontext import check_json
from callama.contract.schema import normalise_schema

_PLACES = ("parameters", "input_schema", "inputSchema")
# Other words for the same; they are believed where what stands there shows parameters.
_OTHER_PLACES = ("arguments", "params", "args")
_LOOKS_LIKE_PARAMETERS = re.compile(r"(?:^|_)(?:param|arg)|\A(?:properties|inputs?)\Z", re.IGNORECASE)
_OF_THE_RESULT = re.compile("output|return|response|result", re.IGNORECASE)
# Schema keywords whose value is an object; a map of parameters has none of these as its keys.
_MAP_WORDS = {"properties", "patternProperties", "additionalProperties", "$defs", "definitions", "dependentSchemas"}


def short(value: Any) -> str:
    """A value for a message: its beginning, where it is long."""
    text = reprlib.repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def read_parameters(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a function's parameters, normalised; one of no parameters where it has none.

    Raises:
        CallamaError: it is none of an object, or parameters stand under a key that is not read.
    """
    parameters: Any = next((raw[place] for place in _PLACES if raw.get(place)), None)
    if parameters is None:
        parameters = _elsewhere(raw)
    if not isinstance(parameters, Mapping):
        raise CallamaError(f"parameters must be a JSON Schema, found {short(parameters)}")
    schema = normalise_schema({"properties": parameters} if _is_bare_map(parameters) else parameters)
    if schema.get("type", "object") not in ("object", ["object", "null"]):
        raise CallamaError(f"parameters must be of type object, found {short(schema['type'])}")
    schema["type"] = "object"
    schema.setdefault("properties", {})
    if isinstance(raw.get("required"), list) and "required" not in schema:
        schema = normalise_schema({**schema, "required": raw["required"]})
    check_json(schema)
    return schema


def _is_bare_map(parameters: Mapping[str, Any]) -> bool:
    return all(isinstance(value, Mapping) for value in parameters.values()) and not set(parameters) & _MAP_WORDS


def _elsewhere(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """What stands under another word for parameters; a function that seems to have some has never none."""
    for place in _OTHER_PLACES:
        given = raw.get(place) or None
        if isinstance(given, Mapping) and (isinstance(given.get("properties"), Mapping) or _is_bare_map(given)):
            return given
    for key, given in raw.items():
        seems = _LOOKS_LIKE_PARAMETERS.search(str(key)) and not _OF_THE_RESULT.search(str(key))
        if given and isinstance(given, Mapping | list | str) and seems:
            raise CallamaError(
                f"no 'parameters', but {short(key)}, which is not read; put a JSON Schema under 'parameters'"
            )
    return {}
