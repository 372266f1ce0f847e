"""Tools as TypeScript signatures: how a model is shown what it may call.

The form is the one OpenAI's models are shown (the original project's choice). Every schema has a
rendering; nothing vanishes from the prompt. JSON Schema's ``integer`` stays a word of its own
because the difference matters to the caller; constraints that TypeScript cannot say stand in a
comment behind the property.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from callama.contract.jsontext import dumps
from callama.contract.messages import Tool
from callama.contract.schema import Schema

_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_CONSTRAINTS = (
    "format", "pattern", "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf",
    "minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "default",
)  # fmt: skip
_PLAIN = {"string", "number", "integer", "boolean", "null"}


def render_signature(tool: Tool) -> str:
    """The signature of one tool, e.g. ``type get_time = (_: {…}) => any;`` with its comments."""
    lines = _comment(tool.description)
    body = _object(tool.parameters, tool.parameters, ())
    has_parameters = bool(tool.parameters.get("properties")) or body != "object"
    argument = f"_: {body}" if has_parameters else ""
    return "\n".join([*lines, f"type {tool.name} = ({argument}) => any;"])


def _comment(text: str) -> list[str]:
    # splitlines() knows every line break there is (CR, U+0085, U+2028 …): none may escape its comment.
    return [f"// {line}".rstrip() for line in text.strip().splitlines()]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _constraints(schema: Schema) -> str:
    said = [f"{key}: {dumps(schema[key])}" for key in _CONSTRAINTS if key in schema]
    return _one_line(", ".join(said))


def _object(schema: Schema, root: Schema, seen: tuple[str, ...]) -> str:
    properties = schema.get("properties") or {}
    extra = schema.get("additionalProperties")
    if not properties:
        if isinstance(extra, Mapping) and extra:
            return f"Record<string, {_type(dict(extra), root, seen)}>"
        return "object"
    required = schema.get("required") or ()
    lines = ["{"]
    for name, value in properties.items():
        lines += _comment(str(value.get("description") or ""))
        key = name if _IDENTIFIER.fullmatch(name) else dumps(name)
        mark = "" if name in required else "?"
        constraints = _constraints(value)
        note = f" // {constraints}" if constraints else ""
        lines.append(f"{key}{mark}: {_type(value, root, seen)},{note}")
    if isinstance(extra, Mapping) and extra:
        lines.append(f"[key: string]: {_type(dict(extra), root, seen)},")
    return "\n".join([*lines, "}"])


def _resolve(ref: str, root: Schema) -> Schema | None:
    node: Any = root
    for part in ref.removeprefix("#").split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        node = node.get(part) if isinstance(node, Mapping) else None
    return dict(node) if isinstance(node, Mapping) and ref.startswith("#") else None


def _join(parts: list[str], operator: str) -> str:
    return f" {operator} ".join(dict.fromkeys(parts)) or "any"


def _array(schema: Schema, root: Schema, seen: tuple[str, ...]) -> str:
    if prefix := schema.get("prefixItems"):
        return f"[{', '.join(_type(p, root, seen) for p in prefix)}]"
    items = schema.get("items")
    inner = _type(items, root, seen) if isinstance(items, Mapping) else "any"
    compound = isinstance(items, Mapping) and (" | " in inner or " & " in inner) and not inner.endswith("}")
    return f"({inner})[]" if compound else f"{inner}[]"


def _type(schema: Mapping[str, Any], root: Schema, seen: tuple[str, ...]) -> str:
    schema = dict(schema)
    text = _bare_type(schema, root, seen)
    if schema.get("nullable") is True and text != "any" and "null" not in text.split(" | "):
        text += " | null"
    return text


def _bare_type(schema: Schema, root: Schema, seen: tuple[str, ...]) -> str:
    if isinstance(ref := schema.get("$ref"), str):
        name = ref.rsplit("/", 1)[-1]
        target = _resolve(ref, root)
        # A type that contains itself is named once and then referred to by that name.
        return _type(target, root, (*seen, ref)) if target is not None and ref not in seen else name
    if "const" in schema:
        return _literal(schema["const"])
    if isinstance(values := schema.get("enum"), list):
        return _join([_literal(v) for v in values], "|")
    for key, operator in (("anyOf", "|"), ("oneOf", "|"), ("allOf", "&")):
        if key in schema:
            parts = [_type(member, root, seen) for member in schema[key]]
            if schema.get("properties"):
                parts.insert(0, _object(schema, root, seen))
            return _join(parts, operator)
    kind = schema.get("type")
    if isinstance(kind, list):
        return _join([_bare_type({**schema, "type": k}, root, seen) for k in kind], "|")
    if kind == "array":
        return _array(schema, root, seen)
    if kind == "object" or "properties" in schema:
        return _object(schema, root, seen)
    return kind if kind in _PLAIN else "any"


def _literal(value: Any) -> str:
    # U+2028 and its kin are legal inside JSON strings but end a line for some readers.
    return "".join(f"\\u{ord(c):04x}" if c in "\x85\u2028\u2029" else c for c in dumps(value))
