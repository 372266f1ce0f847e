"""JSON Schemas of the wild, normalised on reading.

Data sets write types as Python or Java words (``dict``, ``float``, ``List[int]``), put ``required``
inside a property, or leave the type out. Everything after this module sees JSON Schema.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from callama.common.errors import CallamaError

Schema = dict[str, Any]
MAX_DEPTH = 64
_WORDS = {
    "object": "object", "dict": "object", "dictionary": "object", "map": "object", "hashmap": "object",
    "json": "object", "string": "string", "str": "string", "text": "string", "char": "string",
    "number": "number", "float": "number", "double": "number", "decimal": "number",
    "integer": "integer", "int": "integer", "long": "integer", "short": "integer", "byte": "integer",
    "boolean": "boolean", "bool": "boolean", "array": "array", "list": "array", "tuple": "array",
    "set": "array", "arraylist": "array", "sequence": "array", "null": "null", "none": "null",
    "nonetype": "null", "any": "any",
}  # fmt: skip
_GENERIC = re.compile(r"(?:typing\.)?(\w+)\s*\[(.*)\]", re.DOTALL)
_SUBSCHEMAS = ("items", "additionalProperties", "not", "contains")
_SUBSCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SUBSCHEMA_MAPS = ("$defs", "definitions")


def _split_arguments(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for i, char in enumerate(text):
        depth += (char in "[(") - (char in "])")
        if char == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [p.strip() for p in (*parts, text[start:]) if p.strip()]


def type_word(word: str, depth: int = 0) -> Schema:
    """The schema of one type word: ``"float"`` → number, ``"List[int]"`` → array of integers.

    Raises:
        CallamaError: the word is not known or nested more than 64 deep.
    """
    bare = word.split(", optional")[0].strip()
    if bare.endswith("?"):
        return {"anyOf": [type_word(bare[:-1], depth + 1), {"type": "null"}]}
    if depth > MAX_DEPTH:
        raise CallamaError("a type nested more than 64 deep")
    if generic := _GENERIC.fullmatch(bare):
        head, inner = generic[1].lower(), [p for p in _split_arguments(generic[2]) if p != "..."]
        if head in ("optional", "union"):
            members = [type_word(p, depth + 1) for p in inner]
            if head == "optional":
                members.append({"type": "null"})
            schema: Schema = {"anyOf": members} if len(members) > 1 else members[0]
        elif head == "literal":
            schema = {"enum": [p.strip("'\"") for p in inner]}
        elif _WORDS.get(head) == "array":
            schema = {"type": "array"}
            if inner:
                schema["items"] = type_word(inner[0], depth + 1)
        elif _WORDS.get(head) == "object":
            schema = {"type": "object"}
            if len(inner) == 2:
                schema["additionalProperties"] = type_word(inner[1], depth + 1)
        else:
            raise CallamaError(f"unknown type {word[:40]!r}")
    elif bare.endswith("[]"):
        schema = {"type": "array", "items": type_word(bare[:-2], depth + 1)}
    elif (known := _WORDS.get(bare.lower())) is not None:
        schema = {} if known == "any" else {"type": known}
    else:
        raise CallamaError(f"unknown type {word[:40]!r}")
    return schema


def normalise_schema(raw: Mapping[str, Any], depth: int = 0) -> Schema:
    """A JSON Schema with the same meaning, in JSON Schema's own words.

    Raises:
        CallamaError: an unknown type word, a keyword of the wrong shape, or nesting beyond 64.
    """
    if depth > MAX_DEPTH:
        raise CallamaError("a schema nested more than 64 deep")
    schema: Schema = dict(raw)
    kind = schema.get("type")
    if isinstance(kind, str):
        del schema["type"]
        schema = {**type_word(kind), **schema}
    elif isinstance(kind, list):
        words = [type_word(w).get("type") for w in kind if isinstance(w, str)]
        if len(words) != len(kind) or None in words:
            raise CallamaError(f"unknown type {kind!r}")
        schema["type"] = words if len(words) > 1 else words[0]
    elif kind is not None:
        raise CallamaError(f"'type' must be a word or a list of words, found {kind!r}")
    for key in _SUBSCHEMAS:
        if isinstance(schema.get(key), Mapping):
            schema[key] = normalise_schema(schema[key], depth + 1)
    for key in _SUBSCHEMA_LISTS:
        if key in schema:
            members = schema[key]
            if not isinstance(members, list) or not all(isinstance(m, Mapping) for m in members):
                raise CallamaError(f"'{key}' must be a list of schemas")
            schema[key] = [normalise_schema(m, depth + 1) for m in members]
    for key in _SUBSCHEMA_MAPS:
        if isinstance(schema.get(key), Mapping):
            schema[key] = {k: normalise_schema(v, depth + 1) for k, v in schema[key].items()}
    if "properties" in schema:
        _normalise_properties(schema, depth)
    return schema


def _normalise_properties(schema: Schema, depth: int) -> None:
    properties = schema["properties"]
    if not isinstance(properties, Mapping):
        raise CallamaError(f"'properties' must be an object, found {type(properties).__name__}")
    required = schema.get("required")
    required = list(required) if isinstance(required, list) else []
    out: dict[str, Schema] = {}
    for name, value in properties.items():
        if not isinstance(value, Mapping):
            raise CallamaError(f"property {name!r} must be a schema, found {type(value).__name__}")
        value = dict(value)
        if isinstance(value.get("required"), bool):
            if value.pop("required") and name not in required:
                required.append(name)
        out[name] = normalise_schema(value, depth + 1)
    schema["properties"] = out
    schema.setdefault("type", "object")
    if required or "required" in schema:
        schema["required"] = [r for r in required if isinstance(r, str)]
