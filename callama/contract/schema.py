"""JSON Schemas of the wild, normalised on reading.

Data sets write types as Python or Java words, put ``required`` inside a property, or use the words
of older drafts and of OpenAPI (``nullable``, a list under ``items``). Everything after this module
sees JSON Schema 2020-12 that a validator can compile and that refers to nothing outside itself.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import quote

import jsonschema_rs

from callama.common.errors import CallamaError
from callama.contract.typewords import MAX_DEPTH, Schema, either, type_word

__all__ = ["MAX_DEPTH", "Schema", "normalise_schema", "type_word"]

_SUBSCHEMAS = (
    "items", "additionalProperties", "not", "contains", "if", "then", "else", "propertyNames",
    "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip
_SUBSCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SUBSCHEMA_MAPS = ("$defs", "definitions", "patternProperties", "dependentSchemas")
# These name or move a schema's address; without them '#/…' always means the tool's own parameters
# and no validator goes looking on the network.
_ADDRESSES = ("$schema", "$id", "id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$vocabulary")
_FLAGS = {True: True, False: False, "true": True, "false": False, "True": True, "False": False}


def normalise_schema(raw: Mapping[str, Any]) -> Schema:
    """A JSON Schema with the same meaning, in JSON Schema's own words; doing it twice changes nothing.

    Raises:
        CallamaError: an unknown type word, a keyword of the wrong shape, a ``$ref`` that leads
            nowhere or outside, or nesting beyond 64.
    """
    schema = _normalise(raw, 0)
    try:
        jsonschema_rs.Draft202012Validator(schema, retriever=_refuse_retrieval)
    except jsonschema_rs.ValidationError as error:
        place = "/".join(str(part) for part in error.instance_path)
        raise CallamaError(f"not a JSON Schema{f' at {place}' if place else ''}: {error.message}") from None
    except ValueError as error:
        raise CallamaError(f"not a JSON Schema: {error}") from None
    return schema


def _refuse_retrieval(address: str) -> NoReturn:
    raise ValueError(f"{address} is outside the schema")


def _normalise(raw: Mapping[str, Any], depth: int) -> Schema:
    if depth > MAX_DEPTH:
        raise CallamaError(f"a schema nested more than {MAX_DEPTH} deep")
    # A keyword without a value says nothing, except where null is the value.
    schema = {k: v for k, v in raw.items() if k not in _ADDRESSES and (v is not None or k in ("const", "default"))}
    if isinstance(ref := schema.get("$ref"), str):
        if not ref.startswith("#"):
            raise CallamaError(f"$ref {ref[:80]!r} leads outside the schema; only '#/…' is followed")
        schema["$ref"] = "#" + quote(ref[1:], safe="%/~!$&'()*+,;=:@?")  # as addresses are written: no spaces
    schema = _normalise_keywords(_normalise_type(schema))
    for key in _SUBSCHEMAS:
        if key in schema:
            schema[key] = _subschema(schema[key], depth)
    for key in _SUBSCHEMA_LISTS:
        if isinstance(schema.get(key), list):
            schema[key] = [_subschema(member, depth) for member in schema[key]]
    for key in _SUBSCHEMA_MAPS:
        if isinstance(schema.get(key), Mapping):
            schema[key] = {name: _subschema(inner, depth) for name, inner in schema[key].items()}
    if isinstance(schema.get("properties"), Mapping):
        schema = _normalise_properties(schema, depth)
    return _with_null(schema) if _flag(schema.pop("nullable", None)) else schema


def _subschema(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return type_word(value)
    return _normalise(value, depth + 1) if isinstance(value, Mapping) else value


def _normalise_type(schema: Schema) -> Schema:
    kind = schema.get("type")
    if kind is None:
        return schema
    words = kind if isinstance(kind, list) else [kind]
    if not words or not all(isinstance(word, str) for word in words):
        raise CallamaError(f"'type' must be a word or a list of words, found {reprlib.repr(kind)}")
    said = either([type_word(word) for word in words])
    rest = {key: value for key, value in schema.items() if key != "type"}
    return {"allOf": [said, rest]} if "anyOf" in said and "anyOf" in rest else {**said, **rest}


def _normalise_keywords(schema: Schema) -> Schema:
    """Older drafts' and OpenAPI 3.0's words in those of 2020-12."""
    if isinstance(schema.get("items"), list):
        tuple_items = schema.pop("items")
        if tuple_items:
            schema["prefixItems"] = tuple_items
    if "examples" in schema and not isinstance(schema["examples"], list):
        schema["examples"] = [schema["examples"]]
    if schema.get("enum") == []:
        del schema["enum"]
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(exclusive), bool) and schema.pop(exclusive) and bound in schema:
            schema[exclusive] = schema.pop(bound)
    if _flag(schema.get("required")) is not None:
        del schema["required"]
    elif isinstance(names := schema.get("required"), list) and all(isinstance(name, str) for name in names):
        schema["required"] = list(dict.fromkeys(names))
    return schema


def _flag(value: Any) -> bool | None:
    return _FLAGS.get(value) if isinstance(value, bool | str) else None


def _normalise_properties(schema: Schema, depth: int) -> Schema:
    properties = schema["properties"]
    required = schema.get("required", [])
    lifted = [n for n, v in properties.items() if isinstance(v, Mapping) and _flag(v.get("required"))]
    schema["properties"] = {name: _subschema(value, depth) for name, value in properties.items()}
    schema.setdefault("type", "object")
    if lifted and isinstance(required, list):
        schema["required"] = list(dict.fromkeys([*required, *lifted]))
    return schema


def _with_null(schema: Schema) -> Schema:
    """OpenAPI's ``nullable: true`` as JSON Schema says it."""
    if set(schema) & {"$ref", "const", "anyOf", "oneOf", "allOf"}:
        outside: Schema = {key: schema.pop(key) for key in ("description", "default") if key in schema}
        return {"anyOf": [schema, {"type": "null"}], **outside}
    kind, values = schema.get("type"), schema.get("enum")
    if kind is not None:
        schema["type"] = either([{"type": kind}, {"type": "null"}])["type"]
    if isinstance(values, list) and None not in values:
        schema["enum"] = [*values, None]
    return schema
