"""Calls against their declarations: what constrained answers of random weights brought to light."""

from __future__ import annotations

import time
from typing import Any

import pytest

from callama.contract.messages import Tool
from callama.data.checks import Declared, check_text, find_declared
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair

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


TEXT = {"type": "string"}


@pytest.mark.parametrize(
    ("more", "fits"),
    [
        ({"if": {"properties": {"k": {"const": "a"}}}, "then": {"properties": {"x": TEXT}}}, True),
        ({"if": {"properties": {"k": {"const": "b"}}}, "else": {"properties": {"x": TEXT}}}, True),
        ({"if": {"required": ["k"]}, "then": {"$ref": "#/$defs/X"}, "$defs": {"X": {"properties": {"x": TEXT}}}}, True),
        ({"dependentSchemas": {"k": {"properties": {"x": TEXT}}}}, True),
        ({"if": {"properties": {"k": {"const": "b"}}}, "then": {"required": ["k"]}}, False),
        ({"dependentSchemas": {"k": {"required": ["k"]}}}, False),
        ({"dependentRequired": {"k": ["k"]}}, False),
        ({"if": {"required": ["k"]}, "then": {"properties": {"k": {"minLength": 1}, "y": TEXT}}}, False),
        ({"dependentSchemas": {"k": {"properties": {"y": TEXT}}}}, False),
    ],
)
@pytest.mark.parametrize("depth", [0, 1])
def test_arguments_that_a_condition_declares(more: dict[str, Any], fits: bool, depth: int) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"k": TEXT}, **more}
    arguments: dict[str, Any] = {"k": "a", "x": "1"}
    if depth:
        definitions = {"$defs": schema.pop("$defs")} if "$defs" in schema else {}
        schema, arguments = {"type": "object", "properties": {"o": schema}, **definitions}, {"o": arguments}
    fault = Declared(Tool.from_dict({"name": "f", "parameters": schema})).fault(arguments)
    assert (None if fault is None else fault.reason) is (None if fits else Drop.UNDECLARED_ARGUMENT)


@pytest.mark.parametrize(
    ("schema", "said", "meant"),
    [
        ({"type": ["integer", "null"]}, "85", 85),
        ({"type": ["null", "string"]}, 85, "85"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "85", 85),
        ({"oneOf": [{"type": "number"}, {"type": "null"}]}, "8.5", 8.5),
        ({"anyOf": [{"type": "integer"}, {"type": "boolean"}]}, "85", 85),
        ({"anyOf": [{"$ref": "#/$defs/N"}, {"type": "null"}], "default": None}, "85", 85),
        ({"$ref": "#/$defs/N"}, "85", 85),
        ({"$ref": "#/$defs/O"}, {"n": "85"}, {"n": 85}),
        ({"type": "array", "items": {"$ref": "#/$defs/N"}}, ["1", 2], [1, 2]),
        ({"type": ["integer", "null"]}, "many", None),
        ({"type": ["integer", "boolean"]}, "true", None),
        ({"anyOf": [{"type": "integer"}, {"type": "string", "enum": ["all"]}]}, "85", None),
    ],
)
def test_a_number_in_the_wrong_spelling_where_the_type_is_a_union_or_a_reference(
    schema: dict[str, Any], said: Any, meant: Any
) -> None:
    definitions = {"N": {"type": "integer"}, "O": {"type": "object", "properties": {"n": {"$ref": "#/$defs/N"}}}}
    parameters = {"type": "object", "properties": {"a": schema}, "$defs": definitions}
    declared, repairs = Declared(Tool.from_dict({"name": "f", "parameters": parameters})), list[Repair]()
    if meant is None:
        with pytest.raises(DropError) as caught:
            declared.check({"a": said}, repairs)
        assert caught.value.reason is Drop.ARGUMENTS_INVALID and not repairs
    else:
        assert declared.check({"a": said}, repairs) == {"a": meant} and repairs == [Repair.ARGUMENT_TYPE]


@pytest.mark.parametrize(
    "name", ["get-weather", "Get Weather", "getWeather", "get\u2010weather", "get＿weather.", "✓get_weather"]
)
def test_a_name_that_differs_in_punctuation_and_case_is_meant(name: str) -> None:
    assert find_declared(name, ["get_time", "get_weather"]) == "get_weather"


@pytest.mark.parametrize(
    "name", ["非get_weather", "get_weather天气", "gét_weather", "get_weather\u0301", "get_weather२", "天气", "_"]
)
def test_a_name_with_other_letters_is_another_name(name: str) -> None:
    with pytest.raises(DropError) as caught:
        find_declared(name, ["get_time", "get_weather"])
    assert caught.value.reason is Drop.UNDECLARED_FUNCTION


CALLS_IN_TEXT = [
    'Sure, let me check.\n{"name": "get_weather", "arguments": {"city": "Paris"}}',
    'Sure, let me check. {"name": "get_weather", "arguments": {"city": "Paris"}} One moment.',
    'Sure:\n```json\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n```',
    'Sure: {"name": "get_weather", "arguments": \'{"city": "Paris"}\'}',
    "Sure: {'name': 'get_weather', 'arguments': {'city': 'Paris'}}",
    'Sure: {"arguments": "{}", "name": "get_weather"}',
    'Sure: {"type": "function", "name": "get_weather", "parameters": {"city": "Paris"}}',
    'Sure: {"id": 1, "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}',
    'Sure: [{"name": "get_weather", "arguments": {}}]',
    'Cut off: {"name": "get_weather", "arguments": {"city": "Par',
    'For example {"id": 7} and then {"name": "get_weather", "arguments": {}}',
    'Sure <tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>',
    "Sure <tool_call> get_weather </tool_call>",
    "Sure <functioncall> get_weather",
    "Sure <function=get_weather>{}</function>",
    'Ok: [get_weather(city="Paris")]',
    'Ok: [get_weather(city="Paris (France)", days=[1, 2])], one moment.',
    'Sure. [Convert Money(to="EUR")]',
    '[Convert Money(to="EUR")].',
    '[Convert Money(to="EUR"), get_time()] Let me look.',
    "Sure. [get_time()]",
    'Sure:\n```\n[get_weather(city="Paris")]\n```',
    'Sure: `[get_weather(city="Paris")]`',
    'Sure, [get_weather(city="Paris")]',
    "I call [get_weather(city=Paris)] now.",
    '* [get_weather(city="Paris")]',
    'Press ` first.\n\n[get_weather(city="Paris")]',
    "Sure: [获取天气(city='巴黎')]",
]
DECLARED = ["get_weather", "get_time", "Convert_Money", "获取天气"]
CALLS_IN_TEXT += [
    "Sure! get_weather(city='Paris')",
    "Sure: get_weather(city=Paris",
    "Sure!\nConvert Money(to='EUR')",
    "Let me convert money(amount=3)",
    "`get_weather(city='Paris')`",
    "Sure:\n```python\nget_weather(\n    city='Paris',\n)\n```",
    'functions.get_weather({"city": "Paris"})',
    'I call functions.get_weather(city="Paris") now.',
    "I call [functions.get_weather(city=What's up)] now.",
    "[find(x=1), get_weather(city='Paris')] it is.",
    'Sure! {"tool": "get_weather", "arguments": {"city": "Paris"}}',
    "Sure! {'tool': 'get_weather', 'parameters': {'city': 'Paris'}}",
    'Sure! {"name": "functions.get_weather", "arguments": {"city": "Paris"}}',
    'Sure! {"name": "Get Weather", "arguments": {"city": "Paris"}}',
    "Thought: I look.\nAction: get_weather\nAction Input: {}",
    "Thought: I look.\nAction: get_weather\nAction Input: Paris",
    "Sure:\n```python\nget_weather(city='Paris')\nget_weather(city='Rome')\n```",
    "Sure <tool call> get_weather </tool call>",
    'Sure <function calls>\n[{"name": "x"}]',
    # A text that is nothing else is a call, whatever it names.
    "[Person(name='Alice', age=30)]",
    "```python\n[My Person(name='Alice')]\n```",
    '{"name": "Debug server", "arguments": {"port": 3000}}',
]
PLAIN_TEXTS = [
    'JSON looks like this:\n```json\n{"name": "Bob", "age": 3}\n```',
    'Take {"name": "Bob", "age": 3}; its keys are "name" and "age", parameters of a person.',
    '{"name": "Bob"} has no arguments.',
    'A function is described so: {"name": "add", "description": "Adds", "parameters": {"type": "object"}}',
    'In short: {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "number"}}}}',
    'Declare the queue: {"name": "jobs", "durable": true, "arguments": {"x-max-length": 10}}',
    'function add(a, b) { return a + b; } // its parameters: {"a": 1}',
    "See [the docs](https://example.org/?q=f(x=1)) or [f(x=1)](https://example.org).",
    "See [the docs (new=yes)] and [1] (page=2).",
    "<div><a href='x'>[link]</a> <function> <tool></div>",
    "A list: [1, 2, 3], [x for x in range(3)], [str(x) for x in y], [f(x=1) for x in y].",
    "points = [Point(x=1, y=2), Point(x=3, y=4)]",
    "Write:\n```python\npoints = [\n  Point(x=1, y=2)]\nprint([Point(x=1)])\n[Point(x=1)]\n```",
    "Then self.items[f()].total, a[b(c=1)] and x[0][f()].",
    "Use `sorted([f(x=1)])`, or `a = 1` and `b[f(x=1)] + 1`.",
    "Then print([Point(x=1)]), or >>> [Point(x=1)]",
    "Output:\n```\n[Person(name='Alice', age=30), Person(name='Bob', age=25)]\n```",
    "With f(x) = 2x, evaluating both ends gives [f(x=0), f(x=1)], that is 0 and 2.",
    "The brackets around [setup()] only mark the entry point.",
    'Use this:\n```json\n{"name": "Debug server", "type": "node", "arguments": {"port": 3000}}\n```',
    "Use {'name': 'Debug server', 'arguments': {'port': 3000}} here.",
    "Choose <Function Calls> in the View menu.",
    "Write Action: your action\nAction Input: its input in {}",
    "I have the function get_weather(city), or get_weather() (see get_time).",
    "Write:\n```python\ndef get_weather(city='Paris'):\n    return get(city)\n```",
    "Write:\n```python\nprint('Hi')\nweather = get_weather(city='Paris')\n```",
    "Write:\n```python\nget_weather(city='Paris')\nprint(df.head())\n```",
    "Write:\n```python\nget_weather(city='Paris')\nfor i in y:\n    print(i)\n```",
    "In Python: w = get_weather(city='Paris'), or self.get_weather(city=1), or quick_get_weather(city=1).",
    'It is {"name": "get_weather", "description": "Tells it", "parameters": {"city": "a text"}}',
    "The cost is [a(b)] where f(x) = {x | x > 0} and [see (i) above].",
]


@pytest.mark.parametrize("text", CALLS_IN_TEXT)
def test_trap_11_a_call_that_stands_in_prose_is_refused(text: str) -> None:
    with pytest.raises(DropError) as caught:
        check_text(text, DECLARED)
    assert caught.value.reason is Drop.OTHER_CALL_SYNTAX


@pytest.mark.parametrize("text", PLAIN_TEXTS)
def test_text_about_json_and_code_is_kept(text: str) -> None:
    check_text(text, DECLARED)


@pytest.mark.parametrize(
    "piece",
    ['{"name":', '{"id": [', '{"id": "', '{"name": "a", ', '"arguments": {"id": 1', "[f(a=", '[f(a="', "[f(a=1), ",
     "[f(a=(1", '[f(a=(")', "[a ", "[f(a=1)](", "[g(), `", "[f(a=1) ",
     "f(a=", "f(a='", "`f(a=", "```f(a=1 ", "get weather b(a=", "[f(a=' ", "<tool call> a ", "Action: a\n",
     "= [f(a=1)] ", "`x [f(a=1)]` ", "```x = [f(a=1)]``` ", "[f( ", "[f(a= "],
)  # fmt: skip
def test_texts_made_of_beginnings_are_read_in_linear_time(piece: str) -> None:
    started = time.perf_counter()
    check_text('x "arguments" Action Input: ' + piece * (300_000 // len(piece)), DECLARED)
    assert time.perf_counter() - started < 10
