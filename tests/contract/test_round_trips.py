"""What is written is read back as what was meant, for any conversation."""

import json

from hypothesis import given
from hypothesis import strategies as st

from callama.contract.jsontext import canonical_result, dumps
from callama.contract.messages import Conversation, Message, Tool, ToolCall, dump_line
from callama.contract.signatures import render_signature
from callama.contract.spans import Kind
from callama.contract.tool_uses import answer_segments, parse_results, results_text
from callama.contract.turns import parse_turns, render_turns
from tests.contract.strategies import answers, conversations, json_objects, names, texts, tools


@given(conversations())
def test_a_conversation_survives_its_turns(conversation: Conversation) -> None:
    turns = render_turns(conversation)
    again = parse_turns(turns, conversation.tools)
    assert again == conversation
    assert dump_line(again) == dump_line(conversation)  # 1, 1.0 and True are equal in Python only
    assert [turn.text for turn in render_turns(again)] == [turn.text for turn in turns]


@given(conversations())
def test_a_conversation_survives_its_line(conversation: Conversation) -> None:
    line = dump_line(conversation)
    assert line.isascii() and len(line.splitlines()) == 1
    again = Conversation.from_dict(json.loads(line))
    assert again == conversation and dump_line(again) == line


@given(conversations())
def test_only_assistants_say_what_is_not_prompt(conversation: Conversation) -> None:
    for turn in render_turns(conversation):
        kinds = {segment.kind for segment in turn.segments}
        assert (kinds <= {Kind.PROMPT}) if turn.role != "assistant" else (Kind.PROMPT not in kinds)


@given(st.none() | answers, st.lists(st.builds(ToolCall, names, json_objects), min_size=1, max_size=3))
def test_segments_spell_the_call_object(said: str | None, calls: list[ToolCall]) -> None:
    segments = answer_segments(Message("assistant", said, tuple(calls)))
    uses = [{"recipient_name": f"functions.{call.name}", "parameters": call.arguments} for call in calls]
    beside = "" if said is None else f"{said}\n"
    assert "".join(s.text for s in segments) == beside + dumps({"tool_uses": uses})
    assert [s.text for s in segments if s.kind is Kind.FUNCTION_NAME] == [call.name for call in calls]
    assert "".join(s.text for s in segments if s.kind is Kind.TEXT) == beside


def test_kinds_of_keys_and_values() -> None:
    arguments = {"city": "Zürich", "days": [1, {"deep": None}], "empty": ""}
    segments = answer_segments(Message("assistant", None, (ToolCall("f", arguments),)))
    assert [s.text for s in segments if s.kind is Kind.ARGUMENT_KEY] == ["city", "days", "deep", "empty"]
    assert [s.text for s in segments if s.kind is Kind.ARGUMENT_VALUE] == ["Zürich", "1", "null", ""]
    assert "".join(s.text for s in segments if s.kind is Kind.CALL_SYNTAX) == (
        '{"tool_uses": [{"recipient_name": "functions.", "parameters": {"": "", "": [, {"": }], "": ""}}]}'
    )


@given(st.lists(texts, max_size=4))
def test_results_survive(contents: list[str]) -> None:
    canonical = [canonical_result(content) for content in contents]
    assert parse_results(results_text(contents)) == canonical
    assert [canonical_result(content) for content in canonical] == canonical


@given(tools)
def test_a_tool_stays_itself_and_has_one_signature(tool: Tool) -> None:
    assert Tool.from_dict(tool.to_dict()) == tool
    text = render_signature(tool)
    assert text.splitlines() == text.split("\n")  # no other line break got through
    assert sum(line.startswith(f"type {tool.name} = (") for line in text.splitlines()) == 1
    for line in text.splitlines():
        # Outside comments, whatever came from a name or a value is inside JSON quotes.
        assert line.startswith("//") or "obey" not in line or '"' in line
