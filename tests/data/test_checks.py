"""Calls against their declarations: what constrained answers of random weights brought to light."""

from __future__ import annotations

from typing import Any

import pytest

from callama.contract.messages import Tool
from callama.data.checks import Declared

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
