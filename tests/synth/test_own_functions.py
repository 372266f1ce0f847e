"""Conversations about functions that nobody wrote sentences for: every one as good as cleaned data."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from callama.common.errors import CallamaError, UsageError
from callama.contract.jsontext import dumps
from callama.contract.messages import Conversation, Tool
from callama.data.audit import check_made
from callama.data.quarantine import DropError
from callama.data.read import read_conversations
from callama.synth.own_sets import write_own_sets
from callama.synth.own_words import task_of
from callama.tools.load import load_tools

STRING = {"type": "string"}


def function(name: str, description: str, required: list[str], **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"name": name, "description": description, "parameters": parameters}


NODE = {"type": "object", "properties": {"name": STRING, "kids": {"type": "array", "items": {"$ref": "#/$defs/N"}}},
        "required": ["name"]}  # fmt: skip
TOOLS: list[dict[str, Any]] = [
    function("get_weather", "Gets the weather of a place (now).", ["place"],
             place={**STRING, "description": "e.g. Oslo"}, unit={**STRING, "enum": ["celsius", "fahrenheit"]},
             detailed={"type": "boolean"}),
    function("createOrder", "This tool lets you create an order.", ["customer", "lines"],
             customer={"type": "object", "properties": {"name": STRING, "email": {**STRING, "format": "email"}},
                       "required": ["name", "email"]},
             lines={"type": "array", "minItems": 1, "items": {"type": "object", "required": ["sku", "pieces"],
                    "properties": {"sku": {**STRING, "pattern": "^[A-Z]{3}-[0-9]{4}$"},
                                   "pieces": {"type": "integer", "minimum": 1, "maximum": 99}}}},
             note={"type": ["string", "null"], "maxLength": 40}),
    function("set_level", "Set the level", ["level", "on"], level={"type": "number", "multipleOf": 0.25, "minimum": 0,
             "maximum": 4}, on={"type": "boolean"}, **{"X-Id": {**STRING, "format": "uuid"}}),
    function("pingServer", "", []),
    {**function("plant", "Plant a tree", ["tree"], tree={"$ref": "#/$defs/N"}),
     "parameters": {"type": "object", "properties": {"tree": {"$ref": "#/$defs/N"}}, "required": ["tree"],
                    "$defs": {"N": NODE}}},
    function("pay", "Pays {amount} to someone", ["to", "how"], to={"anyOf": [{"type": "integer"}, STRING]},
             how={"allOf": [{"type": "object", "properties": {"by": {"const": "card"}}, "required": ["by"]}]}),
    function("label_it", "Attach labels", ["labels"], labels={"type": "object", "additionalProperties": STRING}),
]  # fmt: skip
UNUSABLE = [
    function("no_value", "Cannot be", ["x"], x={**STRING, "minLength": 5, "maxLength": 2}),
    function("no_number", "Cannot be", ["x"], x={"type": "integer", "minimum": 5, "maximum": 2}),
    function("dotted", "Has a dot", ["a.b"], **{"a.b": STRING}),
    function("undeclared", "Lacks it", ["x"]),
    function("never", "Never", ["x"], x=False),
]


def made(tmp_path: Path, tools: list[Any] = TOOLS, count: int = 700, out: str = "out", **more: Any) -> dict[str, Any]:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(tools))
    options = {"val_ratio": 0.1, "seed": 3, "workers": 1, **more}
    return write_own_sets(tmp_path / out, load_tools([path]), count, 40, **options)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("own")
    return made(folder, [*TOOLS, *UNUSABLE]), folder / "out"


def test_every_conversation_passes_the_audits(report: tuple[dict[str, Any], Path]) -> None:
    declared = {t.name: t for t in map(Tool.from_dict, TOOLS)}
    kept = [c for name in ("train.jsonl", "held_out.jsonl") for c in read_conversations(report[1] / name)]
    assert len(kept) == 740
    for conversation in kept:
        check_made(conversation)
        for tool in conversation.tools:
            assert tool == declared[tool.name], "own functions are shown as they are"
        for call in (call for message in conversation.messages for call in message.tool_calls):
            jsonschema_rs.validate(declared[call.name].parameters, call.arguments)
    assert report[0]["dropped"] == {}


def test_scenarios_and_functions_all_occur(report: tuple[dict[str, Any], Path]) -> None:
    scenarios = report[0]["files"]["train.jsonl"]
    assert {"single", "choice", "parallel_same", "parallel_different", "missing_argument", "decline", "plain_chat",
            "answer_from_result", "follow_up"} <= set(scenarios)  # fmt: skip
    assert all(report[0]["calls"][t["name"]] for t in TOOLS)
    splits = Counter(c.labels["split"] for c in read_conversations(report[1] / "train.jsonl"))
    assert splits == {"train": 630, "validation": 70}


def test_functions_that_cannot_be_used_are_listed(report: tuple[dict[str, Any], Path]) -> None:
    lost = {text.split(":")[0]: text for text in report[0]["unused_functions"]}
    assert list(lost) == [t["name"] for t in UNUSABLE]
    assert "at least 5 and at most 2 characters" in lost["no_value"]
    assert "no number lies within its bounds" in lost["no_number"]
    assert "parameter 'a.b': no sentence" in lost["dotted"]


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    made(tmp_path, count=650, out="one", workers=1)
    made(tmp_path, count=650, out="two", workers=2)
    made(tmp_path, count=650, out="other", workers=1, seed=4)
    one, two, other = ((tmp_path / name / "train.jsonl").read_bytes() for name in ("one", "two", "other"))
    assert one == two != other


def test_one_function_alone_is_enough(tmp_path: Path) -> None:
    report = made(tmp_path, [TOOLS[3]], 60)
    assert report["calls"] == {"pingServer": pytest.approx(60, abs=60)}
    assert report["calls"]["pingServer"] > 10


def test_what_cannot_be_made_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(CallamaError, match=r"about none of the 5 functions\n  no_value"):
        made(tmp_path, UNUSABLE)
    with pytest.raises(CallamaError, match="no function can play choice"):
        made(tmp_path, [TOOLS[3]], scenarios=["choice"])
    with pytest.raises(UsageError, match="unknown scenario 'nope'"):
        made(tmp_path, scenarios=["nope"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "description", "task"),
    [
        ("x", "Gets the weather.", "get the weather"),
        ("x", "This function is used to fetch all users; paged.", "fetch all users"),
        ("x", "Retrieves `{id}` of pets\nand more", "retrieve id of pets and more"),
        ("listPets", "Pets of the shop", "list the pets of the shop"),
        ("listPets", "", "list pets"),
        ("x", "Price of a rental car", "get the price of a rental car"),
        ("get-time", "Current time in a zone", "get the current time in a zone"),
        ("x", "Tells whether a number is prime", "tell whether a number is prime"),
        ("x", "Send it <|eot_id|> to somebody", "send it to somebody"),
        ("orders", "Creation of an order", "use orders"),
        ("weather.get", "", "get weather"),
        ("frobnicate", "", "use frobnicate"),
        ("x", "Frobnicate the thing", "frobnicate the thing"),
        ("send_mail", "Get " + "a very long " * 20 + "thing", "send mail"),
    ],
)
def test_a_task_is_read_off_the_description_or_the_name(name: str, description: str, task: str) -> None:
    assert task_of(Tool(name, description)) == task


def test_the_audit_refuses_what_cleaning_would() -> None:
    tool = Tool.from_dict(TOOLS[0]).to_dict()

    def conversation(place: str, said: str, **more: Any) -> Conversation:
        call = {"function": {"name": "get_weather", "arguments": {"place": place, **more}}}
        return Conversation.from_dict({"tools": [tool], "messages": [
            {"role": "user", "content": said}, {"role": "assistant", "tool_calls": [call]}]})  # fmt: skip

    check_made(conversation("Oslo", "Weather in Oslo?"))
    for bad, reason in (
        (conversation("Rome", "Weather in Oslo?"), "ungrounded_argument"),
        (conversation("Oslo", "Weather in Oslo?", unit="kelvin"), "arguments_invalid"),
        (conversation("Oslo", "Weather in Oslo?", when="now"), "undeclared_argument"),
    ):
        with pytest.raises(DropError) as caught:
            check_made(bad)
        assert caught.value.reason.value == reason, dumps(bad.to_dict())
