"""Conversations come in through one door, which normalises or refuses in a sentence."""

from typing import Any

import pytest

from callama.common.errors import CallamaError
from callama.contract.messages import Conversation, Message, Tool, ToolCall
from callama.contract.turns import Turn, parse_turns, render_turns


def call(name: str = "f", **more: Any) -> dict[str, Any]:
    return {"id": more.pop("id", None), "function": {"name": name, "arguments": {}, **more}}


def read(*messages: Any, **more: Any) -> Conversation:
    return Conversation.from_dict({"messages": list(messages), **more})


USER = {"role": "user", "content": "hi"}


def test_results_come_in_any_order_and_leave_in_call_order() -> None:
    calls = {"role": "assistant", "tool_calls": [call(id="x"), call(id="y")]}
    results = [{"role": "tool", "tool_call_id": i, "content": i.upper()} for i in "yx"]
    assert [m.content for m in read(USER, calls, *results).messages[2:]] == ["X", "Y"]


def test_missing_ids_are_filled_in_without_taking_a_given_one() -> None:
    both = {"role": "assistant", "tool_calls": [call(), call(id="call_0"), call()]}
    assert [c.id for c in read(both).messages[0].tool_calls] == ["call_1", "call_0", "call_2"]


def test_what_says_nothing_is_left_out() -> None:
    assert read({"role": "system", "content": ""}, USER).messages == (Message("user", "hi"),)
    said = read({"role": "assistant", "content": " \n", "tool_calls": [call()]}).messages[0]
    assert said == Message("assistant", None, (ToolCall("f", {}, "call_0"),))


def test_contents_in_parts_and_results_as_objects() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert read({"role": "user", "content": parts}).messages[0].content == "ab"
    for content, canonical in (({"t": 21}, '{"t": 21}'), ([], "[]"), ('{"t":21}', '{"t": 21}'), ("21", "21")):
        result = {"role": "tool", "content": content}
        assert read({"role": "assistant", "tool_calls": [call()]}, result).messages[1].content == canonical


@pytest.mark.parametrize(
    "raw",
    [
        {"name": "f", "input_schema": {"properties": {"a": {"type": "string"}}, "required": ["a"]}},
        {
            "name": "f",
            "inputSchema": {"type": ["object", "null"], "properties": {"a": {"type": "str", "required": True}}},
        },
        {"type": "function", "function": {"name": "f", "parameters": {"a": {"type": "str"}}, "required": ["a"]}},
        {"name": "f", "description": None, "parameters": {"properties": {"a": "str"}, "required": ["a", "a"]}},
        {"name": "f", "arguments": {"type": "dict", "properties": {"a": {"type": "str"}}, "required": ["a"]}},
        {"name": "f", "parameters": None, "params": {"a": {"type": "str"}}, "required": ["a"]},
        {"name": "f", "parameters": {}, "args": {"a": {"type": "str"}}, "required": ["a"]},
    ],
)
def test_a_tool_s_parameters_are_found_wherever_they_stand(raw: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    assert Tool.from_dict(raw) == Tool("f", "", schema)


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("required_parameters", [{"name": "a", "type": "STRING"}]),
        ("api_arguments", {"a": "str"}),
        ("arguments", {"city": "Oslo"}),
        ("properties", {"a": {"type": "string"}}),
    ],
)
def test_a_tool_whose_parameters_are_not_read_is_none_without_parameters(key: str, given: Any) -> None:
    with pytest.raises(CallamaError, match=f"tool f: no 'parameters', but '{key}', which is not read; put a JSON"):
        Tool.from_dict({"name": "f", key: given})
    assert Tool.from_dict({"name": "f", key: type(given)()}) == Tool("f")
    assert Tool.from_dict({"name": "f", key: given, "parameters": {"type": "object"}}) == Tool("f")


DEEP: Any = []
for _ in range(500):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (5, "list under 'messages'"),
        ({"messages": "hi"}, "list under 'messages'"),
        ({"messages": []}, "'messages' is empty"),
        ({"messages": [{"role": "system", "content": ""}]}, "'messages' is empty"),
        ({"messages": [USER], "tools": 5}, "'tools' must be a list"),
        ({"messages": [USER], "tools": [{"name": "f"}, {"name": "f"}]}, "tool f is declared 2 times"),
        ({"messages": [USER], "tools": [{"name": "a b"}]}, "tool name 'a b'"),
        ({"messages": [USER], "tools": [{"name": "f", "description": 5}]}, "tool f: description must be text"),
        ({"messages": [USER], "tools": [{"name": "f", "parameters": {"type": "array"}}]}, "must be of type object"),
        ({"messages": [USER], "labels": {"score": float("nan")}}, "labels: "),
        ({"messages": [5]}, "message 0: must be an object"),
        ({"messages": [{"role": ["user"]}]}, "message 0: role must be one of"),
        ({"messages": [{"role": "user"}]}, "message 0: a user message needs content"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "message 0: content is not Unicode"),
        ({"messages": [{"role": "user", "content": DEEP}]}, "message 0: content must be text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "found parts of type image_url"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [call()]}]}, "cannot have tool_calls"),
        ({"messages": [{"role": "assistant", "content": " "}]}, "message 0: an assistant message needs content"),
        ({"messages": [{"role": "assistant", "tool_calls": 5}]}, "'tool_calls' must be a list"),
        ({"messages": [{"role": "assistant", "content": "x", "function_call": {"name": "f"}}]}, "old form"),
        ({"messages": [{"role": "assistant", "content": "x", "function_calls": "f()"}]}, "message 0: 'function_calls'"),
        ({"messages": [{"role": "system", "content": "x", "functions": "[]"}]}, "message 0: 'functions' is not"),
        (
            {"messages": [USER], "functions": [{"name": "f"}]},
            "'functions' is OpenAI's old form; expected 'tools'; `cal",
        ),
        ({"messages": [USER], "system": "Be brief."}, "expected a message of role system; `callama clean` reads it"),
        ({"messages": [{"role": "assistant", "tool_calls": [call("a b")]}]}, "not a valid tool name"),
        ({"messages": [{"role": "assistant", "tool_calls": [call(arguments=None)]}]}, "must be an object"),
        ({"messages": [{"role": "assistant", "tool_calls": [call(arguments="{")]}]}, "arguments of f: not JSON"),
        ({"messages": [{"role": "assistant", "tool_calls": [call(arguments={"a": float("inf")})]}]}, "arguments of f"),
        ({"messages": [{"role": "assistant", "tool_calls": [call(arguments={"a": DEEP})]}]}, "nested more than"),
        ({"messages": [{"role": "assistant", "tool_calls": [call(arguments=DEEP)]}]}, "nested more than"),
        ({"messages": [{"role": "assistant", "tool_calls": [call(id="x"), call(id="x")]}]}, "share an id"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "message 0: a tool result without a call"),
        ({"messages": [{"role": "assistant", "tool_calls": [call()]}, USER]}, "message 0: 1 calls but 0 results"),
        (
            {
                "messages": [
                    {"role": "assistant", "tool_calls": [call()]},
                    {"role": "tool", "content": "", "tool_call_id": "z"},
                ]
            },
            "results are for ['z']",
        ),
    ],
)
def test_what_is_no_conversation_is_refused_in_a_sentence(raw: Any, says: str) -> None:
    with pytest.raises(CallamaError) as caught:
        Conversation.from_dict(raw)
    assert says in str(caught.value) and len(str(caught.value)) < 300


def test_turns_that_do_not_fit_are_refused() -> None:
    tool = Tool("f")
    turns = render_turns(read(USER, tools=[tool.to_dict()]))
    with pytest.raises(CallamaError, match="turn 0 must be a system turn"):
        parse_turns(turns, [Tool("g")])
    broken = Turn("assistant", tuple(s._replace(text='{"tool_uses": ') for s in turns[1].segments))
    with pytest.raises(CallamaError, match="turn 2: malformed answer"):
        parse_turns([*turns, broken], [tool])
