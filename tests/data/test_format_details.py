"""Formats in the wordings that data sets really use: nothing is lost or rewritten in silence."""

from __future__ import annotations

import ast
import json
from typing import Any

import pytest

from callama.common.errors import CallamaError
from callama.contract.messages import Conversation
from callama.data.formats.registry import clean_record
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair
from callama.data.records import Record
from tests.data.format_records import (
    ARGUMENTS,
    HERMES,
    OPENAI,
    SHAREGPT,
    TOOL,
    TOOLACE,
    USER,
    XLAM,
    clean,
    refusal,
    said,
)

OWN = "You are a clerk. Current date: 2024-05-01. Speak like a pirate!"


@pytest.mark.parametrize("own", [OWN, ""])
@pytest.mark.parametrize("gap", ["", " ", "\n\n"])
@pytest.mark.parametrize(
    "explains",
    [
        "# Tools\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>%s</tools>",
        "You are a function calling AI model. Use <tools>%s</tools>",
        "Here are the tools: <tools>%s</tools>\nReturn <tool_call>…</tool_call>",
        "<tools>%s</tools>",
    ],
)
@pytest.mark.parametrize("before", ["", "You are a function calling AI. "])
def test_hermes_keeps_what_stands_before_the_explanation(own: str, gap: str, explains: str, before: str) -> None:
    system = before + own + ("\n" if explains.startswith("#") else gap) + explains % json.dumps([TOOL])
    talk = HERMES["conversations"][1:]
    in_messages = [{"role": turn["from"].replace("human", "user").replace("gpt", "assistant"),
                    "content": turn["value"]} for turn in talk]  # fmt: skip
    for value in (
        {"conversations": [{"from": "system", "value": system}, *talk]},
        {"conversations": talk, "system": system},
        {"messages": in_messages, "system": system},
    ):
        conversation, repairs = clean(value)
        assert Repair.FORMAT_TEXT in repairs
        assert [m.content for m in conversation.messages if m.role == "system"] == ([own] if own else [])
        assert said(conversation) == said(clean(HERMES)[0])


@pytest.mark.parametrize("own", [OWN, ""])
@pytest.mark.parametrize(
    "explains",
    [
        "Here is a list of functions in JSON format that you can invoke:\n%s.",
        "You are an expert in composing functions. Here is a list of functions in JSON format:\n%s. Should you …",
        "Should you return function calls, write [func1(key=value)]. Here is a list of functions in JSON format:\n%s",
    ],
)
def test_toolace_keeps_what_stands_before_the_explanation(own: str, explains: str) -> None:
    for gap in ("\n", " ", ""):
        conversation, _ = clean({**toolace_calling("Hello."), "system": own + gap + explains % json.dumps([TOOL])})
        assert [m.content for m in conversation.messages if m.role == "system"] == ([own] if own else [])


@pytest.mark.parametrize("system", ["Be brief.", [{"type": "text", "text": "Be brief."}]])
def test_openais_shape_with_a_system_text_beside_the_messages(system: Any) -> None:
    conversation, _ = clean({**OPENAI, "system": system})
    assert (conversation.messages[0].content, said(conversation)) == ("Be brief.", said(clean(OPENAI)[0]))
    assert clean({**conversation.to_dict(), "system": system})[0].messages == conversation.messages
    assert clean({**OPENAI, "system": None})[0].messages == clean(OPENAI)[0].messages
    assert refusal({**OPENAI, "system": 7}) is Drop.WRONG_SHAPE


def toolace_calling(text: str, *tools: dict[str, Any]) -> dict[str, Any]:
    talk = [{"from": "user", "value": USER}, {"from": "assistant", "value": text}]
    return {"system": f"Here is a list of functions in JSON format\n{json.dumps(tools)}", "conversations": talk}


@pytest.mark.parametrize(("speaker", "text"), [("from", "value"), ("role", "content")])
def test_toolace_with_its_system_text_as_the_first_turn(speaker: str, text: str) -> None:
    value = toolace_calling("[sum(code=1)]", {"name": "sum", "parameters": {"properties": {"code": {}}}})
    turns = [
        {speaker: "system", text: value["system"]},
        *({speaker: t["from"], text: t["value"]} for t in value["conversations"]),
    ]
    conversation, _ = clean({"conversations": turns})
    assert conversation == clean(value)[0] and conversation.messages[-1].tool_calls[0].name == "sum"


@pytest.mark.parametrize(
    "code",
    ['"x = sum(1, 2)"', "'it\\'s, sum(1)'", '"say \\"a\\", sum(1)"', '"""a "quoted, sum(1)" word"""', '"a, from=1"',
     '"name_0(1)"', "{'sum(1)': [' sum(1)']}", "'f(a, x-key=1)'"],
)  # fmt: skip
def test_toolace_leaves_what_stands_in_strings_as_it_is(code: str) -> None:
    tools = [{"name": name, "parameters": {"properties": {"code": {}, "a b": {}}}} for name in ("sum", "Explain It")]
    conversation, _ = clean(toolace_calling(f"[Explain It(code={code}), sum(code=1)]", *tools))
    first, second = conversation.messages[-1].tool_calls
    assert (first.arguments, second.name) == ({"code": ast.literal_eval(code)}, "sum")


def test_toolace_arguments_may_have_names_that_python_does_not_take() -> None:
    names = ["from", "x-key", "start date", "größe", "ﬁ", "to", "None"]
    tool = {"name": "Convert Money", "parameters": {"properties": {key: {} for key in names}}}
    written = ", ".join(f"{name} = '{name}=1, in=2'" for name in names)
    conversation, _ = clean(toolace_calling(f"[Convert Money({written})]", tool))
    assert conversation.messages[-1].tool_calls[0].arguments == {name: f"{name}=1, in=2" for name in names}
    assert refusal(toolace_calling("[Convert Money(from=1, from=2)]", tool)) is Drop.CALL_NOT_JSON
    assert refusal(toolace_calling("[Convert Money(from==1)]", tool)) is Drop.CALL_NOT_JSON


NAMED_TAGS = "You are provided with function signatures within <tools></tools> XML tags:\n<tools>%s</tools>\nCall so: "
FUNCTION = {"type": "function", "function": TOOL}


@pytest.mark.parametrize(
    "system",
    [
        NAMED_TAGS % json.dumps(FUNCTION),
        NAMED_TAGS.replace("></", "> </") % f"\n{json.dumps(FUNCTION)}\n",
        NAMED_TAGS.replace("<tools></tools> XML tags", "<tools> tags") % json.dumps([FUNCTION]),
        NAMED_TAGS % repr([FUNCTION]),
        NAMED_TAGS % repr([FUNCTION]).replace(", 'function'", ",\n 'function'"),
        NAMED_TAGS % f"[{FUNCTION!r}]\n{json.dumps(FUNCTION)}",
        NAMED_TAGS % json.dumps([FUNCTION], indent=2),
    ],
)
@pytest.mark.parametrize("field", [{}, {"tools": ""}, {"tools": "[]"}, {"tools": None}])
def test_hermes_tools_are_found_behind_the_words_that_name_their_tags(system: str, field: dict[str, Any]) -> None:
    talk = [{"from": "system", "value": system}, *HERMES["conversations"][1:]]
    conversation, _ = clean({"conversations": talk, **field})
    assert (conversation.tools, said(conversation)) == (clean(HERMES)[0].tools, said(clean(HERMES)[0]))


def hermes_talk(calls: list[Any], *results: dict[str, str], name: str = "from", text: str = "value") -> dict[str, Any]:
    """Hermes' shape with two tools: a question, calls, their results and an answer."""
    other = {"name": "get_time", "parameters": TOOL["parameters"]}
    written = "".join(f"<tool_call>{json.dumps(call)}</tool_call>" for call in calls)
    talk = [
        {name: "system", text: f"<tools>{json.dumps([TOOL, other])}</tools>"},
        {name: "user", text: USER},
        {name: "assistant", text: written},
        *({name: role, text: said} for result in results for role, said in result.items()),
        {name: "assistant", text: "Done."},
    ]
    return {"conversations" if name == "from" else "messages": talk}


WEATHER, TIME = ({"name": function, "arguments": ARGUMENTS} for function in ("get_weather", "get_time"))


@pytest.mark.parametrize(("name", "text"), [("from", "value"), ("role", "content")])
def test_hermes_results_in_a_users_turn(name: str, text: str) -> None:
    both = "<tool_response>\n7\n</tool_response>\n<tool_response>\nnoon\n</tool_response>"
    conversation, _ = clean(hermes_talk([WEATHER, TIME], {"user": both}, name=name, text=text))
    assert said(conversation)[2:] == [("tool", "7"), ("tool", "noon"), ("assistant", "Done.")]
    beside = hermes_talk([WEATHER], {"user": "Look: <tool_response>7</tool_response>"}, name=name, text=text)
    assert refusal(beside) is Drop.CALL_WITHOUT_RESULT


def response(**value: Any) -> str:
    return f"<tool_response>{json.dumps(value)}</tool_response>"


@pytest.mark.parametrize("second", [{"name": "get_weather"}, {"name": "Get-Weather"}, {}])
def test_hermes_results_stand_behind_the_call_whose_name_they_give(second: dict[str, str]) -> None:
    results = response(name="get_time", content="noon") + response(**second, content="sun")
    conversation, _ = clean(hermes_talk([WEATHER, TIME], {"tool": results}))
    assert said(conversation)[2:4] == [("tool", "sun"), ("tool", "noon")]
    twice = response(name="get_time", content="a") + response(name="get_time", content="b")
    assert said(clean(hermes_talk([TIME, TIME], {"tool": twice}))[0])[2:4] == [("tool", "a"), ("tool", "b")]
    assert refusal(hermes_talk([WEATHER, TIME], {"tool": twice})) is Drop.RESULTS_DO_NOT_MATCH
    assert refusal(hermes_talk([WEATHER], {"tool": response(name="get_time", content=1)})) is Drop.RESULTS_DO_NOT_MATCH


@pytest.mark.parametrize("ids", [("a", "b"), (1, 2)])
def test_hermes_results_stand_behind_the_call_whose_id_they_give(ids: tuple[Any, Any]) -> None:
    calls = [{**WEATHER, "id": ids[0]}, {**WEATHER, "id": ids[1]}]
    results = response(tool_call_id=ids[1], content="second") + response(tool_call_id=ids[0], content="first")
    assert said(clean(hermes_talk(calls, {"tool": results}))[0])[2:4] == [("tool", "first"), ("tool", "second")]
    stray = response(tool_call_id="z", content="second") + response(tool_call_id=ids[0], content="first")
    assert refusal(hermes_talk(calls, {"tool": stray})) is Drop.WRONG_SHAPE


@pytest.mark.parametrize(
    "text",
    ["<tool_response>7</tool_response> It may be stale.", "Note: <tool_response>7</tool_response>", "<tool_response>7",
     "<tool_response>7</tool_response><tool_response>8"],
)  # fmt: skip
@pytest.mark.parametrize("role", ["tool", "user"])
def test_text_around_hermes_results_is_not_lost_in_silence(text: str, role: str) -> None:
    reasons = (Drop.WRONG_SHAPE,) if role == "tool" else (Drop.WRONG_SHAPE, Drop.CALL_WITHOUT_RESULT)
    assert refusal(hermes_talk([WEATHER], {role: text})) in reasons


def test_hermes_calls_and_other_calls_of_openais_form_in_one_message_are_refused() -> None:
    talk = hermes_talk([TIME], {"tool": "7"}, name="role", text="content")
    talk["messages"][2]["tool_calls"] = OPENAI["messages"][1]["tool_calls"]
    assert refusal(talk) is Drop.WRONG_SHAPE


TWO_CALLS = [{"name": "get_weather", "arguments": {"city": city}} for city in ("Oslo", "Bergen")]


@pytest.mark.parametrize(
    ("observations", "results"),
    [
        (['[{"c": 7}, "rain"]'], ['{"c": 7}', "rain"]),
        (["[1, 2]", "[3, 4]"], ["[1, 2]", "[3, 4]"]),
        (['[{"name": "get_weather", "results": 1}, {"name": "get_weather", "results": "2"}]'], ["1", "2"]),
        (['[{"results": 1, "note": "x"}, 2]'], ['{"results": 1, "note": "x"}', "2"]),
    ],
)
def test_two_calls_answered_by_one_list(observations: list[str], results: list[str]) -> None:
    head, tail = SHAREGPT["conversations"][0], SHAREGPT["conversations"][-1]
    calls = {"from": "function_call", "value": json.dumps(TWO_CALLS)}
    talk = [head, calls, *({"from": "observation", "value": text} for text in observations), tail]
    assert [m.content for m in clean({**SHAREGPT, "conversations": talk})[0].messages if m.role == "tool"] == results
    written = {"from": "assistant", "value": '[get_weather(city="Oslo"), get_weather(city="Bergen")]'}
    if len(observations) == 1:
        value = toolace_calling("", TOOL) | {"conversations": [head, written, {**talk[2], "from": "tool"}, tail]}
        assert [m.content for m in clean(value)[0].messages if m.role == "tool"] == results


def test_one_list_of_another_length_answers_no_two_calls() -> None:
    calls = {"from": "function_call", "value": json.dumps(TWO_CALLS)}
    for text in ("[1, 2, 3]", "[1]", "1", "x"):
        talk = [SHAREGPT["conversations"][0], calls, {"from": "observation", "value": text}]
        assert refusal({**SHAREGPT, "conversations": [*talk, SHAREGPT["conversations"][-1]]}) is (
            Drop.RESULTS_DO_NOT_MATCH
        )


def test_toolace_results_stand_behind_the_call_whose_name_they_give() -> None:
    tools = [TOOL, {"name": "get_time", "parameters": TOOL["parameters"]}]
    value = toolace_calling('[get_weather(city="Oslo"), get_time(city="Oslo")]', *tools)
    given = [{"name": "get_time", "results": "noon"}, {"name": "get_weather", "results": "sun"}]
    value["conversations"] += [{"from": "tool", "value": json.dumps(given)}, {"from": "assistant", "value": "Done."}]
    assert said(clean(value)[0])[2:4] == [("tool", "sun"), ("tool", "noon")]
    value["conversations"][2]["value"] = json.dumps([given[1], given[1]])
    assert refusal(value) is Drop.RESULTS_DO_NOT_MATCH


@pytest.mark.parametrize("tools", ["", " ", "[]", "null", None])
def test_blank_tools_are_no_tools(tools: str | None) -> None:
    talk = [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "Hello."}]
    assert clean({"conversations": talk, "tools": tools})[0].tools == ()


def openai_calling(*calls: dict[str, Any], **message: Any) -> dict[str, Any]:
    """A question and a message with these calls, each a function's name and arguments, perhaps an id."""
    tool_calls = [{"id": call.get("id"), "function": {k: call[k] for k in call if k != "id"}} for call in calls]
    tools = [TOOL, {"name": "get_time", "parameters": TOOL["parameters"]}, {"name": "free", "parameters": {}}]
    answer = {"role": "assistant", "content": None, "tool_calls": tool_calls, **message}
    return {"messages": [{"role": "user", "content": USER}, answer], "tools": tools}


def test_results_of_calls_without_ids_go_by_name_or_order() -> None:
    def results(value: dict[str, Any], *messages: dict[str, Any]) -> list[str | None]:
        last = {"role": "assistant", "content": "Done."}
        whole = {**value, "messages": [*value["messages"], *({"role": "tool", **m} for m in messages), last]}
        return [m.content for m in clean(whole)[0].messages if m.role == "tool"]

    first, second = {"tool_call_id": "x", "content": "1"}, {"tool_call_id": "y", "content": {"a": 2}}
    assert results(openai_calling(WEATHER), first) == ["1"]
    assert results(openai_calling({**WEATHER, "id": ""}), {**first, "content": 42}) == ["42"]
    assert results(openai_calling(WEATHER, TIME), first, second) == ["1", '{"a": 2}']
    names = {**first, "name": "get_time"}, {**second, "name": "get_weather"}
    assert results(openai_calling(WEATHER, TIME), *names) == ['{"a": 2}', "1"]
    with pytest.raises(DropError):
        results(openai_calling({**WEATHER, "id": "a"}), first)
    with pytest.raises(DropError):
        results(openai_calling(WEATHER), {**first, "name": "get_time"})


TWICE = '{"city": "Oslo", "city": "Rome"}'
TOOL_TWICE = json.dumps([TOOL]).replace('"city": {', '"city": {"type": "integer"}, "city": {')


@pytest.mark.parametrize(
    "value",
    [
        openai_calling({"name": "get_weather", "arguments": TWICE}),
        {**OPENAI, "tools": TOOL_TWICE},
        {"messages": json.dumps(OPENAI["messages"]).replace('"content": "7', '"content": "8", "content": "7'),
         "tools": [TOOL]},
        {**SHAREGPT, "tools": TOOL_TWICE},
        {**XLAM, "answers": json.dumps([WEATHER]).replace('{"city": "Oslo"}', TWICE)},
        {"conversations": [{"from": "human", "value": USER},
                           {"from": "function_call", "value": json.dumps(WEATHER).replace('{"city": "Oslo"}', TWICE)}],
         "tools": [TOOL]},
        *({"conversations": [
            {"from": "system", "value": f"<tools>{json.dumps([TOOL])}</tools>"}, {"from": "human", "value": USER},
            {"from": "gpt", "value": f"<tool_call>{written(WEATHER).replace(written(ARGUMENTS), twice)}</tool_call>"}]}
          for written, twice in ((json.dumps, TWICE), (repr, TWICE.replace('"', "'")))),
        {"conversations": [{"from": "system", "value": f"<tools>{TOOL_TWICE}</tools>"}, *HERMES["conversations"][1:]]},
        {"conversations": [{"from": "system", "value": "<tools>" + TOOL_TWICE.replace('"', "'") + "</tools>"},
                           *HERMES["conversations"][1:]]},
        {**TOOLACE, "system": f"functions in JSON format {TOOL_TWICE}"},
        toolace_calling("[free(a={'city': 1, 'city': 2})]", {"name": "free", "parameters": {"properties": {"a": {}}}}),
    ],
)  # fmt: skip
def test_a_key_given_twice_is_refused_wherever_it_stands(value: Any) -> None:
    with pytest.raises(DropError, match=r"the key '(city|content)' occurs twice"):
        clean_record(Record(0, "line 1", "", value))


@pytest.mark.parametrize("arguments", [[], False, 0, 0.0, "[]", "false", [{"city": "Oslo"}], '"Oslo"'])
def test_arguments_that_are_no_object_are_refused(arguments: Any) -> None:
    assert refusal(openai_calling({"name": "free", "arguments": arguments})) is Drop.ARGUMENTS_NOT_OBJECT


@pytest.mark.parametrize("arguments", [{}, "", " ", "{}"])
def test_arguments_may_be_none(arguments: Any) -> None:
    calls = clean(openai_calling({"name": "free", "arguments": arguments}))[0].messages[-1].tool_calls
    assert [call.arguments for call in calls] == [{}]


def test_openais_older_call_as_text_beside_content() -> None:
    conversation, _ = clean(openai_calling(content="Let me look.", function_call=json.dumps(WEATHER)))
    assert said(conversation)[1] == ("assistant", "Let me look.", ("get_weather", ARGUMENTS))
    assert said(clean(openai_calling(WEATHER, function_call=""))[0])[1] == ("assistant", None, said(conversation)[1][2])
    assert refusal(openai_calling(WEATHER, function_call=TIME)) is Drop.WRONG_SHAPE
    assert refusal(openai_calling(function_call="get_weather")) is Drop.WRONG_SHAPE
    assert refusal(openai_calling(function_call=["get_weather"])) is Drop.CALL_NOT_JSON


CALLING = {"role": "assistant", "content": "Let me look.", "tool_calls": OPENAI["messages"][1]["tool_calls"]}


def test_calls_of_openais_form_among_conversations_are_read() -> None:
    turns = [OPENAI["messages"][0], CALLING, *OPENAI["messages"][2:]]
    conversation, _ = clean({"tools": [TOOL], "conversations": turns})
    assert said(conversation) == said(clean({"tools": [TOOL], "messages": turns})[0])
    assert (conversation.called(), conversation.labels["source"]) == (["get_weather"], "openai")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tool_calls", {"conversations": [SHAREGPT["conversations"][0], {"from": "gpt", "value": "So.", **CALLING}]}),
        ("function_calls", openai_calling(content="I will look.", function_calls="get_weather(city='Oslo')")),
    ],
)
def test_calls_that_are_not_read_are_not_lost_in_silence(key: str, value: dict[str, Any]) -> None:
    with pytest.raises(DropError, match=f"calls under '{key}', which are not read there"):
        clean({"tools": [TOOL], **value})


ASKED = [{"role": "user", "content": "Order a pizza."}, {"role": "assistant", "content": "I cannot order one."}]
KIMIS = f"<|im_system|>tool_declare<|im_middle|>{json.dumps([FUNCTION])}<|im_end|>"


@pytest.mark.parametrize(
    ("value", "system"),
    [
        ({"system_message": "Be brief.", "function_description": json.dumps(TOOL)}, "Be brief."),
        ({"system_prompt": "Be brief.", "function_description": f"{json.dumps(TOOL)}\n" * 2}, "Be brief."),
        ({"functions": [TOOL]}, None),
        ({"available_tools": json.dumps([FUNCTION])}, None),
        ({"metadata": json.dumps({"tools": [FUNCTION]})}, None),
        ({"metadata": {"tools": ["browser"]}, "tools": [TOOL]}, None),
        ({"chat_template_kwargs": {"xml_tools": [json.dumps(FUNCTION)], "python_tools": [],
                                   "custom_instructions": "Be brief."}}, "Be brief."),
    ],
)  # fmt: skip
def test_tools_and_system_texts_under_other_keys_are_read(value: dict[str, Any], system: str | None) -> None:
    turns = [{"from": turn["role"], "value": turn["content"]} for turn in ASKED]
    for talk in ({"messages": ASKED}, {"messages": json.dumps(ASKED)}, {"conversations": turns}):
        conversation, _ = clean({**talk, **value})
        assert [tool.name for tool in conversation.tools] == ["get_weather"]
        assert [m.content for m in conversation.messages if m.role == "system"] == ([system] if system else [])


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ({"content": "Be brief.", "functions": json.dumps([TOOL]), "function_calls": None}, "Be brief."),
        ({"content": KIMIS}, None),
        ({"content": f"{KIMIS}Be brief."}, "Be brief."),
    ],
)
def test_tools_in_a_system_message_of_other_kinds_are_read(message: dict[str, Any], kept: str | None) -> None:
    conversation, _ = clean({"messages": [{"role": "system", **message}, *ASKED]})
    assert [tool.name for tool in conversation.tools] == ["get_weather"]
    assert [m.content for m in conversation.messages if m.role == "system"] == ([kept] if kept else [])


def test_tools_under_a_key_that_is_not_read_drop_the_record() -> None:
    with pytest.raises(DropError, match="tools seem to stand under 'my_tools', which is not read; name it 'tools'"):
        clean({"messages": ASKED, "my_tools": json.dumps([FUNCTION])})
    assert clean({"messages": ASKED, "my_tools": "a hammer", "id": 7})


def test_calls_and_results_of_glaive_in_turns_of_their_own() -> None:
    call = '{"name": "get_weather", "arguments": \'{"city": "Oslo"}\'}'
    speakers = [("human", USER), ("function-call", call), ("function-response", '{"c": 7}'), ("gpt", "7 degrees.")]
    talk = [{"from": speaker, "value": text} for speaker, text in speakers]
    value = {"function_description": json.dumps(TOOL), "conversations": talk}
    assert said(clean(value)[0]) == said(clean(OPENAI)[0])


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_beside_the_text_are_left_out_and_counted(key: str) -> None:
    turns = SHAREGPT["conversations"]
    for value in (
        openai_calling(WEATHER, **{key: "It asks for Oslo."}),
        {**SHAREGPT, "conversations": [*turns[:3], {**turns[3], key: "It is 7."}]},
    ):
        conversation, repairs = clean(value)
        assert repairs == (Repair.REASONING,) and "asks" not in str(conversation)
    assert clean(openai_calling(WEATHER, **{key: " "}))[1] == ()


@pytest.mark.parametrize("keys", [("chosen", "rejected"), ("chosen_response", "rejected_response")])
def test_a_preference_record_names_where_its_answers_stand(keys: tuple[str, str]) -> None:
    choice = {key: {"role": "assistant", "content": "x"} for key in keys}
    for talk in (ASKED[:1], [*ASKED, ASKED[0]]):
        with pytest.raises(DropError, match=f"the answers stand under '{keys[0]}' and '{keys[1]}', which are not read"):
            clean({"messages": talk, **choice})
    assert clean({"messages": ASKED, **choice})


def test_turns_as_json_text_have_the_format_that_they_show() -> None:
    for value, key in ((HERMES, "conversations"), (SHAREGPT, "conversations"), (OPENAI, "messages")):
        assert clean({**value, key: json.dumps(value[key])}) == clean(value)


def test_a_message_that_is_not_to_be_trained_on_is_refused() -> None:
    turns = SHAREGPT["conversations"]
    question, agent = {"role": "user", "content": USER}, {"role": "agent", "content": "No.", "weight": 0}
    for value in (
        openai_calling(WEATHER, weight=0),
        *({**SHAREGPT, "conversations": [*turns[:i], {**turns[i], "weight": 0}, *turns[i + 1 :]]} for i in (1, 3)),
        {**HERMES, "conversations": [*HERMES["conversations"][:4], {**turns[3], "weight": 0}]},
        {**TOOLACE, "conversations": [*TOOLACE["conversations"][:3], {**turns[3], "weight": 0}]},
        {**XLAM, "query": [question, agent, question]},
    ):
        with pytest.raises(DropError, match="has weight 0, expected 1 or none"):
            clean(value)
    with pytest.raises(CallamaError, match="message 1: an assistant's message has weight 0"):
        Conversation.from_dict(openai_calling(WEATHER, weight=0))
    for key in ("loss", "train", "training"):
        for of_answer in (
            openai_calling(WEATHER, **{key: False}),
            {"conversations": [*turns[:3], {**turns[3], key: 0}]},
        ):
            with pytest.raises(
                DropError, match=f"'{key}' (false|0), expected true or none: it is not to be trained on"
            ):
                clean({"tools": [TOOL], **of_answer})
        with pytest.raises(CallamaError, match=f"message 1: an assistant's message has '{key}' false"):
            Conversation.from_dict(openai_calling(WEATHER, **{key: False}))
        for value in (True, None, 1):
            assert clean(openai_calling(WEATHER, **{key: value}))[0].called() == ["get_weather"]
    assert clean({**SHAREGPT, "conversations": [{**turns[0], "weight": 0, "loss": False}, *turns[1:]]})
    for weight in (1, 1.0, None):
        assert clean(openai_calling(WEATHER, weight=weight))[0].called() == ["get_weather"]


@pytest.mark.parametrize(
    ("roles", "repairs"),
    [
        (["system"], {Repair.SYSTEM_END}),
        (["user", "system"], {Repair.USER_END, Repair.SYSTEM_END}),
        (["system", "user", "system"], {Repair.USER_END, Repair.SYSTEM_END}),
        (["user", "tool"], {Repair.USER_END, Repair.RESULT_END}),
    ],
)
def test_a_conversation_ends_on_the_assistant(roles: list[str], repairs: set[Repair]) -> None:
    end = [{"role": role, "content": "x"} for role in roles]
    conversation, changed = clean({**OPENAI, "messages": [*OPENAI["messages"], *end]})
    assert (said(conversation), set(changed)) == (said(clean(OPENAI)[0]), repairs)
    assert len(changed) == len(repairs)
