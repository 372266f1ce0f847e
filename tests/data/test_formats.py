"""Every format that cleaning reads: one small record of each as its data sets write it, and what is refused."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callama.contract.messages import Conversation, dump_line
from callama.data.formats.registry import FORMATS, clean_record
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair
from callama.data.records import Record, read_records

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "data" / "formats"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"{SAMPLES} is absent")

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


def toolace_calling(text: str, *tools: dict[str, Any]) -> dict[str, Any]:
    talk = [{"from": "user", "value": USER}, {"from": "assistant", "value": text}]
    return {"system": f"Here is a list of functions in JSON format\n{json.dumps(tools)}", "conversations": talk}


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


def test_hermes_calls_and_calls_of_openais_form_in_one_message_are_refused() -> None:
    talk = hermes_talk([WEATHER], {"tool": "7"}, name="role", text="content")
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


def test_a_message_that_is_not_to_be_trained_on_is_refused() -> None:
    with pytest.raises(DropError, match="has weight 0, expected 1 or none"):
        clean(openai_calling(WEATHER, weight=0))
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
