"""Whose result is whose: by id, by the function's name inside or beside the text, else in order; in doubt refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callama.data.quarantine import DropError
from callama.data.reasons import Drop
from tests.data.format_records import OPENAI, TOOL, USER, clean, refusal
from tests.data.test_format_details import TIME, WEATHER, hermes_talk, openai_calling, response, toolace_calling

BOTH = [WEATHER, TIME]
OTHER = {"name": "get_time", "parameters": TOOL["parameters"]}
NOON, SUN = {"name": "get_time", "content": {"t": "noon"}}, {"name": "get_weather", "content": {"w": "sun"}}


def results(value: Any) -> list[str | None]:
    return [m.content for m in clean(value)[0].messages if m.role == "tool"]


def sharegpt_talk(calls: list[Any], *observations: Any) -> dict[str, Any]:
    turns = [("human", USER), ("function_call", json.dumps(calls))]
    turns += [("observation", text if isinstance(text, str) else json.dumps(text)) for text in observations]
    talk = [{"from": speaker, "value": text} for speaker, text in [*turns, ("gpt", "Done.")]]
    return {"conversations": talk, "tools": [TOOL, OTHER]}


def toolace_talk(*observations: Any, call: str = "[get_weather(city='Oslo'), get_time(city='Oslo')]") -> dict[str, Any]:
    value = toolace_calling(call, TOOL, OTHER)
    value["conversations"] += [{"from": "tool", "value": json.dumps(observation)} for observation in observations]
    value["conversations"].append({"from": "assistant", "value": "Done."})
    return value


def in_python(*values: Any) -> str:
    return "".join(f"<tool_response>{value!r}</tool_response>" for value in values)


@pytest.mark.parametrize(
    "value",
    [
        hermes_talk(BOTH, {"tool": in_python(NOON, SUN)}),
        hermes_talk(BOTH, {"tool": f"<tool_response>{json.dumps([NOON, SUN])}</tool_response>"}),
        hermes_talk(BOTH, {"tool": f"<tool_response>{[NOON, SUN]}</tool_response>"}),
        hermes_talk(BOTH, {"tool": in_python({**NOON, "name": "functions.get_time"}, SUN)}),
        sharegpt_talk(BOTH, [NOON, SUN]),
        sharegpt_talk(BOTH, str([NOON, SUN])),
        toolace_talk([NOON, SUN]),
        toolace_talk(*([{"name": r["name"], "results": r["content"]}] for r in (NOON, SUN))),
    ],
)
def test_a_result_that_names_its_function_stands_behind_its_call_without_its_wrapping(value: Any) -> None:
    assert results(value) == ['{"w": "sun"}', '{"t": "noon"}']


def test_a_name_or_id_counts_whatever_else_stands_beside_it_and_nothing_is_lost() -> None:
    noon, sun = {**NOON, "status": "ok"}, {**SUN, "status": "ok"}
    for value in (
        hermes_talk(BOTH, {"tool": response(**noon) + response(**sun)}),
        sharegpt_talk(BOTH, noon, sun),
        sharegpt_talk(BOTH, [noon, sun]),
    ):
        assert results(value) == [json.dumps(sun), json.dumps(noon)]
    calls = [{**WEATHER, "id": "a"}, {**WEATHER, "id": "b"}]
    second, first = ({"tool_call_id": own, "content": own, "ok": True} for own in "ba")
    assert results(hermes_talk(calls, {"tool": response(**second) + response(**first)})) == [
        json.dumps(first),
        json.dumps(second),
    ]


def test_names_of_things_are_no_names_of_functions() -> None:
    oslo, readme = {"name": "Oslo", "c": 7}, {"name": "README", "content": "x"}
    assert results(sharegpt_talk(BOTH, oslo, readme)) == [json.dumps(oslo), json.dumps(readme)]
    assert results(sharegpt_talk(BOTH, [oslo, readme])) == [json.dumps(oslo), json.dumps(readme)]


@pytest.mark.parametrize(
    "value",
    [
        hermes_talk(BOTH, {"tool": response(**NOON, ok=True) * 2}),
        hermes_talk([WEATHER], {"tool": in_python(NOON)}),
        hermes_talk([WEATHER], {"tool": response(name="README", content="x")}),
        sharegpt_talk([WEATHER, WEATHER], [NOON, SUN]),
        sharegpt_talk(BOTH, NOON, NOON),
        toolace_talk([NOON, NOON]),
        toolace_talk([{"name": "news", "results": 1}], call="[get_weather(city='Oslo')]"),
    ],
)
def test_names_that_contradict_the_calls_are_refused(value: Any) -> None:
    assert refusal(value) is Drop.RESULTS_DO_NOT_MATCH


def test_a_python_literal_that_is_null() -> None:
    assert results(hermes_talk([WEATHER], {"tool": in_python({**SUN, "content": None})})) == ["null"]


@pytest.mark.parametrize("text", ["[]", "[1]"])
def test_a_toolace_result_behind_no_call_is_not_lost(text: str) -> None:
    assert refusal(toolace_talk(json.loads(text), call="Hello.")) is Drop.ORPHAN_RESULT


@pytest.mark.parametrize("name", ["functions.get_weather", "weather"])
def test_one_result_of_one_call_may_name_the_function_otherwise(name: str) -> None:
    def answered(*calls: dict[str, Any], **result: Any) -> dict[str, Any]:
        value = openai_calling(*calls)
        value["messages"] += [{"role": "tool", "content": "1", **result}, {"role": "assistant", "content": "Done."}]
        return value

    assert results(answered(WEATHER, name=name)) == ["1"]
    two = answered(WEATHER, TIME, name="get_time")
    two["messages"].insert(2, {"role": "tool", "content": "2", "name": name})
    if name == "weather":
        assert refusal(two) is Drop.RESULTS_DO_NOT_MATCH
    else:
        assert results(two) == ["2", "1"]


def test_ids_may_be_numbers() -> None:
    messages = json.loads(json.dumps(OPENAI["messages"]).replace('"a"', "1"))
    conversation, _ = clean({**OPENAI, "messages": messages})
    assert conversation.messages[2].tool_call_id == conversation.messages[1].tool_calls[0].id == "1"
    assert refusal({**OPENAI, "messages": json.loads(json.dumps(messages).replace(": 1", ": true"))}) is (
        Drop.WRONG_SHAPE
    )


@pytest.mark.parametrize(
    ("texts", "in_order"),
    [
        # A name among data, of a function that was not called.
        (['{"id": 7}', '{"name": "Free", "price": 9}'], ['{"id": 7}', '{"name": "Free", "price": 9}']),
        # One result says its call's id, the other nothing.
        (['{"tool_call_id": "a", "v": 1}', "timeout"], ['{"tool_call_id": "a", "v": 1}', "timeout"]),
        (["timeout", '{"tool_call_id": "a", "v": 1}'], ['{"tool_call_id": "a", "v": 1}', "timeout"]),
    ],
)
def test_what_a_result_says_among_its_data(texts: list[str], in_order: list[str]) -> None:
    value = openai_calling(
        {"id": "a", "name": "get_weather", "arguments": {"city": "Oslo"}},
        {"id": "b", "name": "get_time", "arguments": {"city": "Oslo"}},
    )
    said = [*({"role": "tool", "content": text} for text in texts), {"role": "assistant", "content": "Done."}]
    assert results({**value, "messages": [*value["messages"], *said]}) == in_order


def of_alike_functions(calls: list[str], *result_names: str | None) -> dict[str, Any]:
    """Two functions whose names differ in case only; each result tells whose it is."""
    made = openai_calling(*({"name": name, "arguments": {"city": "Oslo"}} for name in calls))
    told = [{"role": "tool", "name": name, "content": f"of {name}"} for name in result_names]
    messages = [*made["messages"][:2], *told, {"role": "assistant", "content": "Done."}]
    return {"messages": messages, "tools": [{**TOOL, "name": name} for name in ("GetWeather", "getWeather")]}


def test_names_that_differ_in_case_only_are_two_functions() -> None:
    both = of_alike_functions(["getWeather", "GetWeather"], "GetWeather", "getWeather")
    assert clean(both)[0].called() == ["getWeather", "GetWeather"]
    assert results(both) == ["of getWeather", "of GetWeather"]
    for name in ("GetWeather", "functions.GetWeather"):
        assert refusal(of_alike_functions(["getWeather"], name)) is Drop.RESULTS_DO_NOT_MATCH
    assert results(of_alike_functions(["getWeather"], "get_weather")) == ["of get_weather"]
    with pytest.raises(DropError, match="may be any of GetWeather, getWeather; write the one that is meant"):
        clean(of_alike_functions(["get_weather"], None))
