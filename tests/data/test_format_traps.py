"""What looks like something else: a format, a name, an explanation, a call; and weights, nulls, tags and escapes."""

from __future__ import annotations

import json
from time import perf_counter
from typing import Any

import pytest

from callama.contract.messages import Conversation, Tool
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair
from tests.data.format_records import HERMES, OPENAI, RECORDS, SHAREGPT, TOOL, clean, refusal, said
from tests.data.test_format_details import FUNCTION, NAMED_TAGS, hermes_talk, openai_calling, toolace_calling


def test_a_conversation_that_speaks_of_tools_tags_keeps_its_labels() -> None:
    messages = [
        *OPENAI["messages"][:3],
        {"role": "assistant", "content": "It lists them between <tools> and </tools>."},
    ]
    conversation, _ = clean({**OPENAI, "messages": messages, "labels": {"split": "held_out"}})
    assert (conversation.labels["source"], conversation.labels["split"]) == ("openai", "held_out")
    marked = hermes_talk([{"name": "get_weather", "arguments": {"city": "Oslo"}}], name="role", text="content")
    del marked["messages"][-1]
    conversation, _ = clean({**marked, "labels": {"split": "held_out"}})
    assert (conversation.labels["source"], conversation.labels["split"]) == ("hermes", "held_out")


@pytest.mark.parametrize("value", [HERMES, SHAREGPT])
def test_nulls_count_as_absent_in_columns_and_in_turns(value: dict[str, Any]) -> None:
    expected = said(clean(value)[0])
    assert said(clean({"messages": None, "system": None, **value})[0]) == expected
    turns = [{"from": None, "value": None, "role": t["from"], "content": t["value"]} for t in value["conversations"]]
    assert said(clean({**value, "messages": None, "conversations": turns})[0]) == expected


def declaring(*names: str) -> dict[str, Any]:
    value = openai_calling({"name": names[0], "arguments": {"city": "Oslo"}})
    return {**value, "tools": [{**TOOL, "name": name} for name in names]}


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (["Get C++", "Get C#"], "'Get C++' and 'Get C#' would both be named Get_C_"),
        (["Get C#", "Get_C_"], "'Get C#' and 'Get_C_' would both be named Get_C_"),
        (["f" * 64 + "a", "f" * 64 + "b"], "would both be named f"),
        (["天气查询", "时间查询"], "nothing is left of the name '天气查询'"),
        (["天气查询"], "nothing is left of the name '天气查询'"),
    ],
)
def test_two_names_never_become_one_and_a_name_never_nothing(names: list[str], fault: str) -> None:
    with pytest.raises(DropError) as caught:
        clean(declaring(*names))
    assert caught.value.reason is Drop.FUNCTION_INVALID and fault in str(caught.value)


def test_one_name_declared_twice_the_same_way_is_kept_once() -> None:
    conversation, repairs = clean(declaring("Get C++", "Get C++", "查询 weather"))
    assert [tool.name for tool in conversation.tools] == ["Get_C_", "_weather"]
    assert Repair.REPEATED_FUNCTION in repairs


@pytest.mark.parametrize(
    ("own", "kept"),
    [
        ("You are Bo of a shop with a set of tools for all. Refunds end after 30 days.", "Refunds end after 30 days."),
        ("You have access to a list of functions. Answer in German. Today is 2024-05-05.",
         "Answer in German. Today is 2024-05-05."),
    ],
)  # fmt: skip
def test_a_mention_of_tools_does_not_end_the_systems_own_text(own: str, kept: str) -> None:
    hermes = {"from": "system", "value": f"{own}\n\n# Tools\n\n" + NAMED_TAGS % json.dumps(FUNCTION)}
    toolace = toolace_calling("Hello.", TOOL)
    usual = "You are an expert in composing functions. You are given a question and a set of possible functions. \n"
    usual += "If none of the functions can be used, point it out.\n"
    for value in (
        {"conversations": [hermes, *HERMES["conversations"][1:]]},
        {**toolace, "system": f"{own}\n{usual}{toolace['system']}"},
    ):
        assert clean(value)[0].messages[0].content == kept


def test_a_refused_toolace_call_is_quoted_as_it_stands_and_always_in_the_same_words() -> None:
    value = toolace_calling("[Get News(q=today)]", {"name": "Get News", "parameters": {"properties": {"q": {}}}})
    with pytest.raises(DropError) as caught:
        clean(value)
    assert caught.value.fragment == "[Get News(q=today)]"
    assert "0x" not in str(caught.value) and "name_0" not in str(caught.value)


def test_brackets_that_never_close_take_no_quadratic_time() -> None:
    start = perf_counter()
    assert refusal(toolace_calling("[a" + "(" * 200_000, TOOL)) is Drop.OTHER_CALL_SYNTAX
    assert refusal(toolace_calling("[a" + "(" * 200_000 + ")]", TOOL)) is Drop.CALL_NOT_JSON
    assert perf_counter() - start < 20  # it took minutes


@pytest.mark.parametrize(
    ("written", "read", "repairs"),
    [
        (r'"\ud83d\ude00"', "😀", 0),
        (r"['\ud83d\ude00', {'\u00e9': 'é😀'}]", ["😀", {"é": "é😀"}], 0),
        ('"a\nb\r\nc"', "a\nb\r\nc", 1),
        ("'a\n\\'b\\n'", "a\n'b\n", 1),
        ('"""a\nb"""', "a\nb", 0),
        ('"a",\nb="c"', "a", 0),
    ],
)
def test_toolace_strings_as_json_and_people_write_them(written: str, read: Any, repairs: int) -> None:
    tool = {"name": "free", "parameters": {"properties": {"a": {}, "b": {}}}}
    conversation, changed = clean(toolace_calling(f"[free(a={written})]", tool))
    assert conversation.messages[-1].tool_calls[0].arguments["a"] == read
    assert changed.count(Repair.RAW_CONTROL) == repairs


def test_half_a_pair_of_surrogates_is_still_refused() -> None:
    tool = {"name": "free", "parameters": {"properties": {"a": {}}}}
    assert refusal(toolace_calling(r'[free(a="\ud83d")]', tool)) is Drop.CALL_NOT_JSON


WEATHER = {"name": "get_weather", "arguments": {"city": "Oslo"}}


def test_a_hermes_result_may_quote_its_closing_tag() -> None:
    quoted = '<tool_response>{"name": "get_weather", "content": "see </tool_response> tag"}</tool_response>'
    for role in ("tool", "user"):
        conversation, _ = clean(hermes_talk([WEATHER], {role: quoted}))
        assert said(conversation)[2] == ("tool", "see </tool_response> tag")
    between = "<tool_response>7</tool_response> or <tool_response>8</tool_response>"
    assert refusal(hermes_talk([WEATHER], {"tool": between})) is Drop.WRONG_SHAPE


HERMES_USUAL = (
    "You are a function calling AI model. You are provided with function signatures "
    "within <tools> </tools> XML tags. "
    "You may call one or more functions to assist with the user query. Don't make "
    "assumptions about what values to plug "
    "into functions.\n<tools>\n%s\n</tools>\nFor each function call return a JSON object, "
    "with the following pydantic "
    "model json schema for each:\n{'title': 'FunctionCall', 'type': 'object', "
    "'properties': {'name': {'title': 'Name', "
    "'type': 'string'}, 'arguments': {'title': 'Arguments', 'type': 'object'}}, 'required': ['arguments', 'name']}\n"
    "Each function call should be enclosed within <tool_call> </tool_call> XML tags.\n<tool_call>\n"
    "{'arguments': <args-dict>, 'name': <function-name>}\n</tool_call>%s"
)
TOOLACE_USUAL = (
    "You are an expert in composing functions. You are given a question and a set of "
    "possible functions. Based on the "
    "question, you will need to make one or more function/tool calls to achieve the "
    "purpose.\nIf none of the function can "
    "be used, point it out. If the given question lacks the parameters required by the "
    "function,\nalso point it out. You "
    "should only return the function call in tools call sections.\n%sHere is a list of "
    "functions in JSON format that you "
    "can invoke:\n%s. \nShould you decide to return the function call(s). \nPut it in the format of "
    "[func1(params_name=params_value, params_name2=params_value2...), "
    "func2(params)]\n\nNO other text MUST be included. %s"
)
TWO_SENTENCES = {**TOOL, "description": "Weather of a city. Works at night.\nAlso by day."}


@pytest.mark.parametrize(
    "fact",
    ["", "Today is 2024-05-04. The user's home city is Graz.", "Here is some user data:\nlocation: Graz\nusername: bo"],
)
@pytest.mark.parametrize("before", ["", "Speak like a pirate!"])
def test_what_a_system_text_says_behind_its_explanation_is_kept(fact: str, before: str) -> None:
    def kept(value: dict[str, Any]) -> str:
        return "".join(m.content or "" for m in clean(value)[0].messages if m.role == "system")

    expected = "\n".join(filter(None, [before, fact]))
    shown = repr([{"type": "function", "function": TWO_SENTENCES}])
    hermes = before + "\n" * bool(before) + HERMES_USUAL % (shown, "\n\n" * bool(fact) + fact)
    talk = HERMES["conversations"][1:]
    assert kept({"conversations": [{"from": "system", "value": hermes}, *talk]}) == expected
    toolace = toolace_calling("Hello.", TOOL)
    for early, late in ((fact and f"{fact}\n", ""), ("", f"\n{fact}")):
        system = before + "\n" * bool(before) + TOOLACE_USUAL % (early, json.dumps([TWO_SENTENCES], indent=1), late)
        assert kept({**toolace, "system": system}) == expected


def test_nothing_is_kept_of_tools_whose_end_is_not_shown() -> None:
    system = f"Be brief.\n<tools>{json.dumps(TWO_SENTENCES, indent=1)}\nToday is 2024-05-04."
    conversation, _ = clean(
        {"tools": [TOOL], "conversations": [{"from": "system", "value": system}, *HERMES["conversations"][1:]]}
    )
    assert conversation.messages[0].content == "Be brief."


@pytest.mark.parametrize(
    ("thought", "stays"),
    [
        ("<think>\nI'd emit <tool_call> tags.\n</think>\n\n", False),
        ("I'd emit <tool_call> tags.\n</think>\n\n", False),
        (f"<think>Like <tool_call>{json.dumps(WEATHER)}</tool_call>?</think>", False),
        ('<scratch_pad>I call get_weather(city="Oslo").</scratch_pad>\n', False),
        ("<think>\nOslo it is.\n</think>\n\n", True),
    ],
)
def test_a_thought_is_no_call_whatever_it_names(thought: str, stays: bool) -> None:
    hermes = hermes_talk([WEATHER])["conversations"][:2]
    written = f"{thought}<tool_call>\n{json.dumps(WEATHER)}\n</tool_call>"
    openai = openai_calling(WEATHER)
    openai["messages"][1]["content"] = thought
    answering = {**OPENAI, "messages": [*OPENAI["messages"][:3], {"role": "assistant", "content": f"{thought}7."}]}
    for value, source in (
        ({"conversations": [*hermes, {"from": "gpt", "value": written}]}, "hermes"),
        (openai, "openai"),
        (answering, "openai"),
    ):
        conversation, repairs = clean(value)
        assert (conversation.labels["source"], conversation.called()) == (source, ["get_weather"])
        answer = conversation.messages[-1 if value is answering else 1].content
        assert (answer or "").removesuffix("7.").strip() == (thought.strip() if stays else "")
        assert (Repair.REASONING in repairs) is not stays


def test_tags_that_a_call_or_an_answer_names_are_no_thought() -> None:
    talk = hermes_talk([WEATHER])["conversations"][:2]
    for said_so in ("Use <tool_call> tags.", "<think>Hm.</think> Use <tool_call> tags."):
        value = {**OPENAI, "messages": [*OPENAI["messages"][:3], {"role": "assistant", "content": said_so}]}
        assert refusal(value, "openai") is Drop.OTHER_CALL_SYNTAX
    of_thoughts = {"name": "get_weather", "arguments": {"city": "<think>a</think>"}}
    assert clean(hermes_talk([of_thoughts], {"tool": "7"}))[0].messages[1].tool_calls[0].arguments["city"] == (
        "<think>a</think>"
    )
    quoting = {"name": "get_weather", "arguments": {"city": "<tool_call>"}}
    assert said(clean(hermes_talk([quoting], {"tool": "7"}))[0])[1] == (
        "assistant",
        None,
        ("get_weather", {"city": "<tool_call>"}),
    )
    assert (
        refusal({"conversations": [*talk, {"from": "gpt", "value": "<tool_call>f()</tool_call>"}]})
        is Drop.CALL_NOT_JSON
    )


@pytest.mark.parametrize("name", ["hermes", "openai", "sharegpt", "toolace"])
@pytest.mark.parametrize(
    "notes",
    [
        {"metadata": {"tools": [{"name": "get_weather", "category": "weather"}]}},
        {"metadata": "{'tools': ['get_weather'], 'source': 'x'}"},
        {"metadata": {"tools": "search, calculator"}},
        {"metadata": {"tools": [{"name": "get_weather", "arguments": {"city": "Rome"}}]}},
        {"available_tools": ["get_weather"]},
        {"system_prompt": 3},
        {"system_message": True},
        {"chosen": True},
        {"tool_stats": [{"name": "bash", "count": 0}], "api": {"name": "openai", "version": "v1"}},
    ],
    ids=lambda notes: " ".join(notes),
)
def test_notes_beside_the_turns_change_nothing(name: str, notes: dict[str, Any]) -> None:
    assert clean({**RECORDS[name], **notes}) == clean(RECORDS[name])


@pytest.mark.parametrize(
    "notes", [{"metadata": {"tools": [{"name": "claude-code", "version": "1.2"}]}}, {"available_tools": ["x"]}]
)
def test_notes_give_a_plain_chat_no_tools(notes: dict[str, Any]) -> None:
    chat = {"messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]}
    assert clean({**chat, **notes})[0].tools == ()


def test_sharegpts_speakers_under_role_stay_sharegpt() -> None:
    turns = [{"role": t["from"], "content": t["value"]} for t in SHAREGPT["conversations"]]
    named = [{**t, "tool_call_id": "a"} if t["role"] in ("observation", "tool") else t for t in turns]
    assert any("tool_call_id" in t for t in named)
    assert said(clean({**SHAREGPT, "conversations": named})[0]) == said(clean(SHAREGPT)[0])


@pytest.mark.parametrize("key", ["system", "system_prompt", "system_message"])
def test_a_system_text_that_stands_twice_is_told_once(key: str) -> None:
    own = {"role": "system", "content": "You are X."}
    plain = {"messages": [own, {"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]}
    assert [m.role for m in clean({**plain, key: "You are X.\n"})[0].messages] == ["system", "user", "assistant"]


def test_a_function_may_tell_of_its_result() -> None:
    tool = {"name": "now", "parameters": {}, "output_parameters": {"time": {"type": "string"}}}
    assert Tool.from_dict(tool).parameters["properties"] == {}


def with_calls_beside(*beside: dict[str, Any], openai: bool = False, **call: Any) -> dict[str, Any]:
    value = hermes_talk([WEATHER], {"tool": "7"}, **({"name": "role", "text": "content"} if openai else {}))
    for turn in value["messages" if openai else "conversations"]:
        if ("<tool_call>" in str(turn) and "assistant" in turn.values()) or "gpt" in turn.values():
            turn["tool_calls"] = [{"type": "function", "function": function, **call} for function in beside]
            break
    return value


@pytest.mark.parametrize("openai", [False, True])
@pytest.mark.parametrize("arguments", [{"city": "Oslo"}, '{"city": "Oslo"}'])
def test_hermes_calls_may_stand_parsed_beside_the_text_if_they_agree(openai: bool, arguments: Any) -> None:
    expected = clean(hermes_talk([WEATHER], {"tool": "7"}))[0].messages
    value = with_calls_beside({**WEATHER, "arguments": arguments}, openai=openai)
    assert clean(value)[0].messages == expected
    linked = clean(with_calls_beside({**WEATHER, "arguments": arguments}, openai=openai, id="a"))[0]
    assert linked.messages[1].tool_calls[0].id == "a"
    for others in ([{**WEATHER, "arguments": {"city": "Rome"}}], [WEATHER, WEATHER], [{**WEATHER, "name": "get_time"}]):
        with pytest.raises(DropError, match=r"the calls in <tool_call> and those beside the text differ: .*Oslo"):
            clean(with_calls_beside(*others, openai=openai))


@pytest.mark.parametrize("again", ["You are X.", "You are X.\n"])
def test_sharegpts_system_text_that_stands_twice_is_told_once(again: str) -> None:
    turns = [{"from": "system", "value": "You are X."}, *SHAREGPT["conversations"]]
    conversation, _ = clean({**SHAREGPT, "system": again, "conversations": turns})
    assert [m.content for m in conversation.messages if m.role == "system"] == ["You are X."]
    conversation, _ = clean({**SHAREGPT, "system": "You are Y.", "conversations": turns})
    assert [m.content for m in conversation.messages if m.role == "system"] == ["You are Y.", "You are X."]


def test_openais_messages_are_not_called_sharegpt() -> None:
    value = {"conversations": OPENAI["messages"], "tools": OPENAI["tools"]}
    for name in ("sharegpt", "toolace"):
        with pytest.raises(DropError, match=r"its turns are OpenAI's messages .*; give --format openai"):
            clean(value, name)
    assert said(clean(value, "openai")[0]) == said(clean(OPENAI)[0])


@pytest.mark.parametrize("loss", [0, 0.0, False, "false"])
def test_a_loss_of_nought_is_a_flag_in_whatever_type_a_table_gave_it(loss: Any) -> None:
    with pytest.raises(DropError, match=r"'loss' (0|0\.0|false), .* take the record out, or the message's 'loss'"):
        clean(openai_calling(WEATHER, loss=loss))


@pytest.mark.parametrize("loss", [0.37, 2.5, 1, 1.0, True])
def test_a_measured_loss_is_no_flag(loss: Any) -> None:
    assert clean(openai_calling(WEATHER, loss=loss)) == clean(openai_calling(WEATHER))
    assert Conversation.from_dict(openai_calling(WEATHER, loss=loss)).called() == ["get_weather"]


QWEN_CODERS = (
    "# Tools\n\nYou have access to the following functions:\n\n<tools>\n%s\n</tools>\n\n"
    "If you choose to call a function ONLY reply in the following format with NO suffix:\n\n<tool_call>\n"
    "<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n</parameter>\n</function>\n"
    "</tool_call>\n\n<IMPORTANT>\nReminder:\n- Function calls MUST follow the specified format\n"
    "- Required parameters MUST be specified\n</IMPORTANT>"
)


@pytest.mark.parametrize("before", ["", "You are Bo."])
@pytest.mark.parametrize(
    "behind", ["", "Today is 2024-05-04.", "<b>\nReminder:\nBe kind.\n</b>", "Leave <x></x> empty."]
)
def test_nothing_is_left_of_qwen3_coders_reminder(before: str, behind: str) -> None:
    system = "\n\n".join(filter(None, [before, QWEN_CODERS % json.dumps(FUNCTION), behind]))
    value = {"conversations": [{"from": "system", "value": system}, *HERMES["conversations"][1:]]}
    kept = "".join(m.content or "" for m in clean(value)[0].messages if m.role == "system")
    assert kept == "\n".join(filter(None, [before, behind]))
