"""Calls against their declarations: what constrained answers of random weights brought to light."""

from __future__ import annotations

from typing import Any

import pytest

from callama.contract.messages import Tool
from callama.data.checks import Declared
from callama.data.reasons import Drop

FREE = {"type": "object"}


@pytest.mark.parametrize(
    ("properties", "arguments", "fits"),
    [
        ({"": FREE}, {"": {"any": 1}}, True),
        ({"x": FREE}, {"": 1}, False),
        ({"x": {"type": "array", "prefixItems": [FREE], "items": {**FREE, "properties": {"a": {}}}}},
         {"x": [{"any": 1}, {"a": 1}]}, True),
        ({"x": {"type": "array", "prefixItems": [FREE], "items": {**FREE, "properties": {"a": {}}}}},
         {"x": [{"any": 1}, {"b": 1}]}, False),
    ],
)  # fmt: skip
def test_arguments_that_are_not_declared(properties: dict[str, Any], arguments: dict[str, Any], fits: bool) -> None:
    tool = Tool.from_dict({"name": "f", "parameters": {"type": "object", "properties": properties}})
    assert (Declared(tool).fault(arguments) is None) is fits


INNER = {"type": "object", "properties": {"city": {"type": "string"}}}
KNOWN, INVENTED = {"city": "Oslo"}, {"city": "Oslo", "zzz": 1}


@pytest.mark.parametrize(
    ("schema", "arguments", "fits"),
    [
        ({"properties": {"f": INNER}, "additionalProperties": False}, {"f": KNOWN}, True),
        ({"properties": {"f": INNER}, "additionalProperties": False}, {"f": INVENTED}, False),
        ({"properties": {"f": INNER}, "additionalProperties": True}, {"f": KNOWN, "own": INVENTED}, True),
        ({"properties": {"f": INNER}, "additionalProperties": True}, {"f": INVENTED}, False),
        ({"properties": {"f": INNER}, "additionalProperties": {}}, {"f": KNOWN, "own": INVENTED}, True),
        ({"properties": {"f": INNER}, "patternProperties": {"^x": {}}}, {"f": KNOWN, "xy": INVENTED}, True),
        ({"properties": {"f": INNER}, "patternProperties": {"^x": {}}}, {"f": INVENTED}, False),
        ({"patternProperties": {"^x": FREE}, "additionalProperties": INNER}, {"xy": INVENTED}, True),
        ({"additionalProperties": INNER}, {"own": KNOWN}, True),
        ({"additionalProperties": INNER}, {"own": INVENTED}, False),
        ({"properties": {"f": {**INNER, "additionalProperties": True}}}, {"f": INVENTED}, True),
        ({"properties": {"f": FREE}, "additionalProperties": False}, {"f": INVENTED}, True),
        ({"properties": {"l": {"type": "array", "items": {**INNER, "additionalProperties": True}}}},
         {"l": [INVENTED]}, True),
        ({"properties": {"l": {"type": "array", "items": INNER}}, "additionalProperties": False},
         {"l": [KNOWN, INVENTED]}, False),
        # What another part of the schema says of "f" is not followed: it may declare what seems invented.
        ({"properties": {"f": INNER}, "allOf": [{"properties": {"f": {"properties": {"zzz": {}}}}}]},
         {"f": INVENTED}, True),
        ({"properties": {"f": {"$ref": "#/$defs/F"}}, "$defs": {"F": INNER}, "additionalProperties": False},
         {"f": KNOWN}, True),
        ({"properties": {"f": {"$ref": "#/$defs/F"}}, "$defs": {"F": INNER}}, {"f": INVENTED}, False),
        ({"properties": {"f": {"anyOf": [{"$ref": "#/$defs/F"}, {"type": "null"}], "default": None}},
          "$defs": {"F": INNER}}, {"f": INVENTED}, False),
        ({"properties": {"f": {"anyOf": [INNER, FREE]}}}, {"f": INVENTED}, True),
        ({"properties": {"f": {"$ref": "#/$defs/F", "required": ["zzz"]}}, "$defs": {"F": INNER}},
         {"f": INVENTED}, True),
        ({"properties": {"f": {"$ref": "#/$defs/F"}}, "$defs": {"F": {"$ref": "#/$defs/F"}}}, {"f": INVENTED}, True),
    ],
)  # fmt: skip
def test_arguments_invented_inside_objects(schema: dict[str, Any], arguments: dict[str, Any], fits: bool) -> None:
    fault = Declared(Tool.from_dict({"name": "f", "parameters": {"type": "object", **schema}})).fault(arguments)
    assert (None if fault is None else fault.reason) is (None if fits else Drop.UNDECLARED_ARGUMENT)
