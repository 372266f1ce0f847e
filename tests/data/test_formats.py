"""Every format that cleaning reads: one small record of each as its data sets write it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callama.data.formats.registry import FORMATS, clean_record
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair
from callama.data.records import Record, read_records
from tests.data.format_records import (
    ARGUMENTS,
    GLAIVE,
    HERMES,
    OPENAI,
    OPENAI_OLD,
    RECORDS,
    SHAREGPT,
    TOOL,
    TOOLACE,
    USER,
    XLAM,
    clean,
    refusal,
    said,
)

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "data" / "formats"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"{SAMPLES} is absent")


@pytest.mark.parametrize("name", FORMATS)
def test_a_record_says_the_same_in_every_format(name: str) -> None:
    conversation, _ = clean(RECORDS[name])
    function = "Get_Weather_v2_" if name == "toolace" else "get_weather"
    whole = [
        ("user", USER),
        ("assistant", None, (function, ARGUMENTS)),
        ("tool", '{"c": 7}'),
        ("assistant", "7 degrees."),
    ]
    assert said(conversation) == (whole[:2] if name == "xlam" else whole)
    assert [tool.name for tool in conversation.tools] == [function]
    assert conversation.tools[0].parameters["properties"]["city"]["type"] == "string"
    assert (conversation.labels["source"], conversation.labels["row"]) == (name, 3)
    assert clean(RECORDS[name], name)[0] == conversation


def test_openais_older_spelling() -> None:
    assert said(clean(OPENAI_OLD)[0]) == said(clean(OPENAI)[0])


def test_cleaning_what_was_cleaned_changes_nothing_but_the_origin() -> None:
    first, _ = clean(GLAIVE)
    again, repairs = clean(first.to_dict())
    assert (again.messages, again.tools, repairs) == (first.messages, first.tools, ())
    labelled, _ = clean({**OPENAI, "labels": {"split": "train"}})
    assert labelled.labels == {"split": "train", "source": "openai", "row": 3, "repairs": []}


def test_the_words_that_explain_another_way_of_calling_are_left_out() -> None:
    for value in (HERMES, TOOLACE):
        conversation, repairs = clean(value)
        assert Repair.FORMAT_TEXT in repairs
        assert not [m for m in conversation.messages if m.role == "system"]
    kept, _ = clean({**SHAREGPT, "system": "Be brief."})
    assert kept.messages[0].content == "Be brief."


def test_names_with_spaces_become_valid_in_tools_and_calls() -> None:
    conversation, repairs = clean(TOOLACE)
    assert Repair.NAME_MADE_VALID in repairs
    assert conversation.called() == [conversation.tools[0].name] == ["Get_Weather_v2_"]


def test_toolace_calls_are_read_as_literals_and_never_run() -> None:
    def calling(text: str) -> dict[str, Any]:
        talk = [{"from": "user", "value": USER}, {"from": "assistant", "value": text}]
        anything = {"name": "f", "parameters": {"type": "dict", "properties": {"a": {}, "b": {}}}}
        return {"system": f"functions in JSON format\n{json.dumps([anything])}", "conversations": talk}

    both, _ = clean(calling("[f(a=[1, true, {'x': null}], b=-2.5), f(a='f(b=1)')]"))
    calls = both.messages[-1].tool_calls
    assert [c.arguments for c in calls] == [{"a": [1, True, {"x": None}], "b": -2.5}, {"a": "f(b=1)"}]
    for text in ("[f(a=__import__('os').getcwd())]", "[f(1)]", "[f(**{'a': 1})]", "[f(a=open)]", "[f(a=1, a=2)]",
                 "[f(a=1)(b=2)]", "[f(a=" + "(" * 5000 + "]"):  # fmt: skip
        assert refusal(calling(text)) in (Drop.CALL_NOT_JSON, Drop.UNDECLARED_FUNCTION, Drop.OTHER_CALL_SYNTAX)


def test_hermes_parallel_calls_and_cut_calls() -> None:
    call = '<tool_call>{"name": "get_weather", "arguments": {"city": "%s"}}</tool_call>'
    answer = "<tool_response>%d</tool_response>"
    talk = [
        HERMES["conversations"][0],
        {"from": "human", "value": "Oslo and Bergen?"},
        {"from": "gpt", "value": "Sure.\n" + call % "Oslo" + "\n" + call % "Bergen"},
        {"from": "tool", "value": answer % 1 + answer % 2},
        {"from": "gpt", "value": "1 and 2."},
    ]
    conversation, _ = clean({"conversations": talk})
    assert said(conversation)[1:4] == [
        ("assistant", "Sure.", ("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Bergen"})),
        ("tool", "1"),
        ("tool", "2"),
    ]
    cut = [*talk[:2], {"from": "gpt", "value": '<tool_call>{"name": "get_weather"'}]
    assert refusal({"conversations": cut}) is Drop.CALL_CUT_OFF


def test_a_chat_as_query_with_fenced_calls() -> None:
    chat = [
        {"role": "user", "content": USER},
        {"role": "agent", "content": "Let me look.\nGenerate API Request:"},
    ]
    conversation, repairs = clean({**XLAM, "query": chat})
    assert said(conversation) == [("user", USER), ("assistant", "Let me look.", ("get_weather", ARGUMENTS))]
    assert set(repairs) == {Repair.PROMPT_MARKER, Repair.ASSISTANT_TURNS}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({}, Drop.UNKNOWN_FORMAT),
        ({"text": "x"}, Drop.UNKNOWN_FORMAT),
        ([1], Drop.NOT_AN_OBJECT),
        ({"messages": []}, Drop.WRONG_SHAPE),
        ({"messages": "x"}, Drop.WRONG_SHAPE),
        ({"messages": [{"role": "assistant", "content": "x"}]}, Drop.STARTS_WITHOUT_USER),
        ({"messages": [{"role": "user", "content": "x"}]}, Drop.NO_ANSWER),
        ({**OPENAI, "tools": []}, Drop.UNDECLARED_FUNCTION),
        ({**OPENAI, "tools": "["}, Drop.WRONG_SHAPE),
        ({**OPENAI, "tools": [{"name": ""}]}, Drop.FUNCTION_INVALID),
        ({**OPENAI, "tools": [TOOL, {**TOOL, "description": "x"}]}, Drop.FUNCTION_DECLARED_TWICE),
        ({**OPENAI, "messages": OPENAI["messages"][:2] + OPENAI["messages"][3:]}, Drop.CALL_WITHOUT_RESULT),
        ({**OPENAI, "messages": [*OPENAI["messages"][:3], *OPENAI["messages"][2:]]}, Drop.RESULTS_DO_NOT_MATCH),
        ({**OPENAI, "messages": [OPENAI["messages"][0], *OPENAI["messages"][2:]]}, Drop.ORPHAN_RESULT),
        ({"conversations": [{"from": "alien", "value": "x"}]}, Drop.WRONG_SHAPE),
        ({"conversations": [{"from": "human", "value": USER}, {"from": "function_call", "value": "f("}]},
         Drop.CALL_NOT_JSON),
        ({**XLAM, "answers": '[{"name": "get_weather"}]'}, Drop.ARGUMENTS_MISSING),
        ({**XLAM, "answers": '[{"name": "get_weather", "arguments": {"town": "Oslo"}}]'}, Drop.UNDECLARED_ARGUMENT),
        ({**XLAM, "answers": "[]"}, Drop.WRONG_SHAPE),
    ],
)  # fmt: skip
def test_what_is_refused_and_why(value: Any, reason: Drop) -> None:
    assert refusal(value) is reason


def test_a_forced_format_refuses_records_of_another() -> None:
    assert refusal(OPENAI, "sharegpt") is Drop.WRONG_SHAPE
    assert refusal(OPENAI, "glaive") is Drop.NO_CHAT


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["user", "gpt"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "name", "arguments", "function", "tool_calls"]), inner
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from(sorted(RECORDS)), st.data())
def test_any_record_is_kept_or_refused(name: str, data: st.DataObject) -> None:
    value = json.loads(json.dumps(RECORDS[name]))
    place: Any = value
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(JSON)
            break
        place = place[key]
    for forced in (None, *FORMATS):
        try:
            clean(value, forced)
        except DropError as error:
            assert isinstance(error.reason, Drop)


@pytest.mark.parametrize("name", FORMATS)
def test_nesting_500_deep_is_refused(name: str) -> None:
    deep: Any = 1
    for _ in range(500):
        deep = {"a": deep}
    for key in RECORDS[name].keys() - {"id"}:
        with pytest.raises(DropError):
            clean_record(Record(0, "", "", {**RECORDS[name], key: deep}), name)


@needs_samples
def test_genuine_sharegpt_conversations_are_all_kept() -> None:
    for record in read_records(SAMPLES / "sharegpt_tools_60.json"):
        conversation, _ = clean(record.value)
        raw = [turn for turn in record.value["conversations"] if turn["from"] == "function_call"]
        assert len(conversation.called()) == len(raw)


@needs_samples
def test_genuine_queries_and_answers() -> None:
    refused = []
    for record in read_records(SAMPLES / "query_tools_answers_70.json"):
        try:
            conversation, _ = clean(record.value)
        except DropError as error:
            refused.append((record.number, error.reason))
            continue
        assert len(conversation.messages[-1].tool_calls) == len(record.value["answers"])
    # Both give a list as text: what they mean is no JSON.
    assert refused == [(57, Drop.ARGUMENTS_INVALID), (69, Drop.ARGUMENTS_INVALID)]


@pytest.mark.parametrize("in_field", [True, False])
@pytest.mark.parametrize("openais", [True, False])
@pytest.mark.parametrize("name", [None, "glaive"])
def test_glaive_in_another_dress_is_read_as_glaive(in_field: bool, openais: bool, name: str | None) -> None:
    words = "SYSTEM: You are a helpful assistant with access to the following functions. Use them if required -\n"
    system = words + json.dumps(TOOL)
    call = '<functioncall> {"name": "get_weather", "arguments": \'{"city": "Oslo"}\'} <|endoftext|>'
    talk = [("user", USER), ("assistant", call), ("function" if openais else "function_response", '{"c": 7}'),
            ("assistant", "7 degrees.")]  # fmt: skip
    talk = talk if in_field else [("system", system), *talk]
    speaker, text = ("role", "content") if openais else ("from", "value")
    turns = [{speaker: who, text: what} for who, what in talk]
    value = {"messages" if openais else "conversations": turns, **({"system": system} if in_field else {})}
    expected, _ = clean({**GLAIVE, "system": system})
    conversation, _ = clean(value, name)
    assert (conversation.messages, conversation.tools) == (expected.messages, expected.tools)
    assert (conversation.tools[0].name, conversation.labels["source"]) == ("get_weather", "glaive")


GLAIVES_WORDS = "You are a bot with access to the following functions"


def glaive_talk(system: str, answer: str = "Hello.") -> dict[str, Any]:
    talk = [("system", system), ("user", USER), ("assistant", answer)]
    return {"messages": [{"role": who, "content": text} for who, text in talk]}


@pytest.mark.parametrize("braces", [": {json}. Be kind.", ', {"name": "Bo", "age": 3} of them.', ": {}", ": none {"])
def test_glaives_words_without_a_function_are_plain_text(braces: str) -> None:
    conversation, _ = clean(glaive_talk(GLAIVES_WORDS + braces))
    assert (conversation.messages[0].content, conversation.tools) == (GLAIVES_WORDS + braces, ())
    assert conversation.labels["source"] == "openai"


def test_damaged_functions_in_glaives_words_are_told() -> None:
    call = '<functioncall> {"name": "get_weather", "arguments": \'{"city": "Oslo"}\'} <|endoftext|>'
    for value in (
        glaive_talk(f"{GLAIVES_WORDS}: {json.dumps(TOOL)[:-9]}"),
        glaive_talk(f"{GLAIVES_WORDS}: {json.dumps(TOOL)} {{and more}}"),
        glaive_talk(f"{GLAIVES_WORDS}: {{json}}", call),
    ):
        assert refusal(value) is Drop.FUNCTIONS_NOT_JSON


def test_words_behind_glaives_functions_are_kept() -> None:
    system = f"{GLAIVES_WORDS}:\n{json.dumps(TOOL)}\n\n{json.dumps({**TOOL, 'name': 'b'})}\nAnswer in French."
    conversation, _ = clean(glaive_talk(system))
    assert [tool.name for tool in conversation.tools] == ["get_weather", "b"]
    assert conversation.messages[0].content == f"{GLAIVES_WORDS}:\nAnswer in French."
