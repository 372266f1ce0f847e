"""Whatever a row holds, cleaning keeps it or refuses it with a reason, in time linear in its length."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callama.contract.messages import Conversation, dump_line
from callama.contract.tool_uses import answer_segments, parse_answer
from callama.data.formats.registry import clean_record
from callama.data.quarantine import DropError, quarantine_line
from callama.data.records import Record

SYSTEM = (
    "SYSTEM: You are a helpful assistant with access to the following functions. Use them if required -\n"
    '{\n "name": "send",\n "description": "Send it",\n "parameters": {"type": "object", "properties": '
    '{"text": {"type": "string"}, "n": {"type": "integer"}}, "required": ["text"]}\n}\n\n{"name": "ping"}\n'
)
CHAT = (
    'USER: Send "it\'s" to Ann\n\n\nASSISTANT: Sure, let me. <|endoftext|>\n\n\nASSISTANT: <functioncall> '
    """{"name": "send", "arguments": '{"text": "it's", "n": 7}'} <|endoftext|>\n\n\n"""
    'FUNCTION RESPONSE: {"sent": [1, "b"]}\n\n\nASSISTANT: Sent the \x85book on AI. <|endoftext|>\n\n\n'
    'USER: Ping\n\n\nASSISTANT: <functioncall> {"name": "ping", "arguments": \'{}\'} <|endoftext|>\n\n\n'
    "FUNCTION RESPONSE: pong\n\n\nASSISTANT: Pong! <|endoftext|>\n\n\n"
)
PIECES = [
    "USER:", "ASSISTANT:", "FUNCTION RESPONSE:", "\n\n\n", "\n\n", "\n", " ", "<|endoftext|>", "<functioncall>", "AI:",
    '"', "'", "{", "}", "[", "]", "\\", "'}", "\\'", ",", ":", "null", "Infinity", "1e999", "\ud800", "\u2028", "\x85",
    "\x00", "é", "😀", '{"name": "send", "arguments": ', "'{\"text\": \"x\"}'}", '{"tool_uses": [', "[" * 500,
    '{"a":' * 500,
]  # fmt: skip
FAST = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))


def check(value: Any) -> Conversation | None:
    record = Record(0, "line 1", json.dumps(value), value)
    try:
        conversation, _ = clean_record(record, "glaive")
    except DropError as error:
        entry = json.loads(quarantine_line(record, error))
        assert entry["reason"] == error.reason and entry["detail"]
        return None
    assert Conversation.from_dict(json.loads(dump_line(conversation))) == conversation
    for message in conversation.messages:
        if message.role == "assistant":
            text = "".join(segment.text for segment in answer_segments(message))
            assert [c.arguments for c in parse_answer(text).calls] == [c.arguments for c in message.tool_calls]
    return conversation


def test_the_row_under_the_knife_is_whole() -> None:
    conversation = check({"system": SYSTEM, "chat": CHAT})
    assert conversation is not None and conversation.called() == ["send", "ping"]


@st.composite
def damaged(draw: st.DrawFn, text: str) -> str:
    """The text with a few cuts, splices and replacements."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 40)))
        middle = draw(st.one_of(st.just(""), st.sampled_from(PIECES), st.text(max_size=5)))
        text = text[:start] + middle + text[end:]
    return text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text


@FAST
@given(damaged(CHAT))
def test_a_damaged_chat(chat: str) -> None:
    check({"system": SYSTEM, "chat": chat})


@FAST
@given(damaged(SYSTEM))
def test_a_damaged_system_text(system: str) -> None:
    check({"system": system, "chat": CHAT})


@FAST
@given(st.lists(st.sampled_from(PIECES), max_size=25))
def test_a_chat_of_loose_pieces(pieces: list[str]) -> None:
    check({"system": SYSTEM, "chat": "USER: a\n\n\nASSISTANT: " + "".join(pieces)})


@FAST
@given(st.permutations(CHAT.split("\n\n\n")))
def test_turns_in_any_order(turns: list[str]) -> None:
    check({"system": SYSTEM, "chat": "\n\n\n".join(turns)})


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5)


@FAST
@given(st.one_of(JSON, st.dictionaries(st.sampled_from(["system", "chat", "x"]), JSON)))
def test_any_json_value_as_a_row(value: Any) -> None:
    check(value)


def test_swapped_quotes() -> None:
    check({"system": SYSTEM, "chat": CHAT.replace('"', "\0").replace("'", '"').replace("\0", "'")})


@pytest.mark.parametrize("depth", [50, 199, 200, 201, 204, 205, 500, 100_000])
def test_nested_arguments_and_results(depth: int) -> None:
    nested = '{"a":' * depth + "1" + "}" * depth
    system = 'x {"name": "f", "parameters": {"properties": {"a": {}}}}'
    call = f"""USER: x\n\n\nASSISTANT: <functioncall> {{"name": "f", "arguments": '{nested}'}}"""
    check({"system": system, "chat": call})
    check({"system": system, "chat": call.replace(nested, '{"a": 1}') + f"\n\n\nFUNCTION RESPONSE: {nested}"})
    check({"system": system, "chat": f"{call}\n\n\nFUNCTION RESPONSE: {nested}\n\n\nASSISTANT: ok"})


@pytest.mark.parametrize("piece", [p for p in PIECES if len(p) < 40])
@pytest.mark.parametrize("start", ["", "USER: a\n\n\nASSISTANT: ", 'USER: "\n\n\nASSISTANT: <functioncall> '])
def test_a_megabyte_takes_linear_time(piece: str, start: str) -> None:
    begin = time.process_time()
    for system, chat in ((SYSTEM, start + piece * (600_000 // len(piece))), (piece * (600_000 // len(piece)), CHAT)):
        with contextlib.suppress(DropError):
            clean_record(Record(0, "line 1", "", {"system": system, "chat": chat}))
    assert time.process_time() - begin < 3


@pytest.mark.parametrize(
    "unit",
    [
        "\n\n\nASSISTANT: a",
        "\n\n\nASSISTANT:\na",
        '\n\n\nASSISTANT: "',
        "\n\n\nUSER: a\n\n\nASSISTANT: b",
        "a \nASSISTANT:",
    ],
)
def test_a_megabyte_of_turns_takes_linear_time(unit: str) -> None:
    begin = time.process_time()
    with contextlib.suppress(DropError):
        clean_record(Record(0, "line 1", "", {"system": None, "chat": "USER: a" + unit * (600_000 // len(unit))}))
    assert time.process_time() - begin < 3
