"""One small record of each format as its data sets write it, and what cleaning makes of a record."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callama.contract.messages import Conversation, dump_line
from callama.data.formats.registry import clean_record
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair
from callama.data.records import Record

TOOL = {
    "name": "get_weather",
    "description": "Weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
USER = "Weather in Oslo?"
ARGUMENTS = {"city": "Oslo"}
OPENAI = {
    "messages": [
        {"role": "user", "content": USER},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}]},
        {"role": "tool", "tool_call_id": "a", "content": '{"c": 7}'},
        {"role": "assistant", "content": "7 degrees."},
    ],
    "tools": [{"type": "function", "function": TOOL}],
}  # fmt: skip
OPENAI_OLD = {
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": USER}]},
        {"role": "assistant", "content": None,
         "function_call": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}},
        {"role": "function", "name": "get_weather", "content": '{"c": 7}'},
        {"role": "assistant", "content": "7 degrees."},
    ],
    "functions": [TOOL],
}  # fmt: skip
SHAREGPT = {
    "conversations": [
        {"from": "human", "value": USER},
        {"from": "function_call", "value": '{"name": "get_weather", "arguments": {"city": "Oslo"}}'},
        {"from": "observation", "value": '{"c": 7}'},
        {"from": "gpt", "value": "7 degrees."},
    ],
    "tools": json.dumps([TOOL]),
}
XLAM = {
    "id": 1,
    "query": USER,
    "tools": json.dumps([{**TOOL, "parameters": {"city": {"type": "str", "description": "a city"}}}]),
    "answers": json.dumps([{"name": "get_weather", "arguments": ARGUMENTS}]),
}
HERMES = {
    "conversations": [
        {"from": "system", "value": "You are a function calling AI model. <tools> "
         + json.dumps([{"type": "function", "function": TOOL}]) + " </tools> Use <tool_call> tags."},
        {"from": "human", "value": USER},
        {"from": "gpt", "value": "<tool_call>\n{'arguments': {'city': 'Oslo'}, 'name': 'get_weather'}\n</tool_call>"},
        {"from": "tool", "value": '<tool_response>\n{"name": "get_weather", "content": {"c": 7}}\n</tool_response>'},
        {"from": "gpt", "value": "7 degrees."},
    ]
}  # fmt: skip
TOOLACE = {
    "system": "You are an expert in composing functions. Here is a list of functions in JSON format that you can "
    "invoke:\n" + json.dumps([{**TOOL, "name": "Get Weather (v2)", "required": None}]) + ". \nShould you decide …",
    "conversations": [
        {"from": "user", "value": USER},
        {"from": "assistant", "value": '[Get Weather (v2)(city="Oslo")]'},
        {"from": "tool", "value": '[{"name": "Get Weather (v2)", "results": {"c": 7}}]'},
        {"from": "assistant", "value": "7 degrees."},
    ],
}
GLAIVE = {
    "system": "SYSTEM: Help. -\n" + json.dumps(TOOL, indent=4),
    "chat": f"USER: {USER}\n\n\nASSISTANT: <functioncall> "
    '{"name": "get_weather", "arguments": \'{"city": "Oslo"}\'} <|endoftext|>\n\n\n'
    'FUNCTION RESPONSE: {"c": 7}\n\n\nASSISTANT: 7 degrees. <|endoftext|>',
}
RECORDS = {
    "glaive": GLAIVE, "openai": OPENAI, "sharegpt": SHAREGPT, "xlam": XLAM, "hermes": HERMES, "toolace": TOOLACE,
}  # fmt: skip


def clean(value: Any, name: str | None = None) -> tuple[Conversation, tuple[Repair, ...]]:
    conversation, repairs = clean_record(Record(3, "line 4", "", value), name)
    assert Conversation.from_dict(json.loads(dump_line(conversation))) == conversation
    return conversation, repairs


def refusal(value: Any, name: str | None = None) -> Drop:
    with pytest.raises(DropError) as caught:
        clean_record(Record(0, "line 1", "", value), name)
    assert isinstance(caught.value.reason, Drop)
    return caught.value.reason


def said(conversation: Conversation) -> list[tuple[Any, ...]]:
    return [
        (m.role, m.content, *((c.name, c.arguments) for c in m.tool_calls))
        for m in conversation.messages
        if m.role != "system"
    ]
