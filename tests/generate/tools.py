"""Tools of every shape that a grammar can express, and the reading of what a model called."""

from __future__ import annotations

from typing import Any

import jsonschema_rs

from callama.contract.messages import Tool
from callama.contract.tool_uses import Answer, parse_answer


def tool(name: str, properties: dict[str, Any], required: tuple[str, ...] = (), **more: Any) -> Tool:
    schema = {"type": "object", "properties": properties, "required": list(required), **more}
    return Tool.from_dict({"name": name, "parameters": schema})


WORD, WHOLE, MAYBE = {"type": "string", "maxLength": 8}, {"type": "integer"}, {"type": ["string", "null"]}
CODE, NODE = {"type": "string", "pattern": "^[A-Z]{3}$"}, {"$ref": "#/$defs/node"}
TOOLS = (
    tool("get_weather", {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}}, ("city",)),
    tool("get_weather.v2", {"days": {"type": "integer", "minimum": 1, "maximum": 14}, "exact": {"type": "boolean"}}),
    tool("now", {}),
    tool("pay", {"amount": {"type": "number", "exclusiveMinimum": 0}, "to": WORD}, ("amount", "to")),
    tool("book", {"on": {"type": "string", "format": "date"}, "code": CODE}, ("on",)),
    tool("tag", {"tags": {"type": "array", "items": WORD, "minItems": 1, "maxItems": 3}, "note": MAYBE}),
    tool("grade", {}, ("points",), additionalProperties={"type": "integer"}),
    tool("label", {"labels": {"type": "object", "additionalProperties": {"type": "integer"}}}, ("labels",)),
    tool("anything", {"value": {}, "number": {"type": "number"}}),
    tool("place", {"at": {"$ref": "#/$defs/point"}, "to": {"anyOf": [{"$ref": "#/$defs/point"}, WORD]}}, ("at",), **{
        "$defs": {"point": {"type": "object", "properties": {"x": WHOLE, "y": WHOLE}, "required": ["x"]}},
    }),
    tool("tree", {"node": NODE}, ("node",), **{
        "$defs": {"node": {"type": "object", "properties": {"v": {"const": "é\n\"{"}, "kid": NODE}}},
    }),
)  # fmt: skip


def read_valid(text: str, tools: tuple[Tool, ...]) -> Answer:
    """Parses an answer; calls name one of the tools and validate, closed objects with what they declare only."""
    answer = parse_answer(text)
    assert answer.kind != "malformed", (answer.reason, text)
    by_name = {t.name: t for t in tools}
    for call in answer.calls:
        schema = by_name[call.name].parameters
        jsonschema_rs.validate(schema, call.arguments)
        if "additionalProperties" not in schema:
            assert list(call.arguments) == [name for name in schema["properties"] if name in call.arguments]
    return answer
