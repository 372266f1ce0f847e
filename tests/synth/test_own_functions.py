"""Conversations about functions that nobody wrote sentences for: every one as good as cleaned data."""

from __future__ import annotations

import itertools
import json
import re
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
from callama.synth.own import _rivals
from callama.synth.own_sets import write_own_sets
from callama.synth.own_task import _NOUNS_TOO, ACTING_VERBS, GETTING_VERBS, WORKING_VERBS, is_verb, task_of
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
    lost = dict(zip((t["name"] for t in UNUSABLE), report[0]["unused_functions"], strict=True))
    for number, (name, text) in enumerate(lost.items(), len(TOOLS)):
        assert text.startswith(f"mine.json: tool {number} ({name}): ")
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
    with pytest.raises(CallamaError, match=r"about none of the 5 functions\n  mine.json: tool 0 \(no_value\)"):
        made(tmp_path, UNUSABLE)
    with pytest.raises(CallamaError, match="no function can play choice"):
        made(tmp_path, [TOOLS[3]], scenarios=["choice"])
    with pytest.raises(CallamaError, match="can play languages: own functions are asked for in English only"):
        made(tmp_path, TOOLS, scenarios=["languages"])
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
        ("transfer", "Transfer money between two accounts.", "transfer money between two accounts"),
        ("transfer", "Transfer status", "use transfer"),
        ("refund", "Refund policy for a product", "use refund"),
        ("record", "Record of a patient", "use record"),
        ("order", "Order numbers of a customer", "use order"),
        ("sort", "Sort numbers by size", "sort numbers by size"),
        ("filter", "Filter results by date", "filter results by date"),
        ("import", "Import data from a file", "import data from a file"),
        ("sort", "Sort of a list", "use sort"),
        ("filter", "Filter settings", "use filter"),
        ("multiply", "Multiplies two numbers.", "multiply two numbers"),
        ("x", "Rolls dice", "roll dice"),
        ("x", "Explains terms in simple words", "explain terms in simple words"),
        ("x", "Diagnoses faults of a machine", "diagnose faults of a machine"),
        ("design_logo", "Designs logos for firms", "design logos for firms"),
        ("x", "Matches the invoices with orders", "match the invoices with orders"),
        ("x", "Frobnicate the thing", "frobnicate the thing"),
        ("send_mail", "Get " + "a very long " * 20 + "thing", "send mail"),
    ],
)
def test_a_task_is_read_off_the_description_or_the_name(name: str, description: str, task: str) -> None:
    assert task_of(Tool(name, description)) == task


def test_no_list_of_verbs_holds_a_word_that_is_none() -> None:
    lists = GETTING_VERBS | ACTING_VERBS | WORKING_VERBS | _NOUNS_TOO
    assert all(is_verb(word) for word in lists)


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


def texts_of(folder: Path) -> list[str]:
    kept = [c for name in ("train.jsonl", "held_out.jsonl") for c in read_conversations(folder / name)]
    return [m.content or "" for c in kept for m in c.messages if m.role in ("user", "assistant")]


def calls_of(folder: Path) -> list[dict[str, Any]]:
    return [
        call.arguments for c in read_conversations(folder / "train.jsonl") for m in c.messages for call in m.tool_calls
    ]


def test_no_request_stands_on_two_sides(report: tuple[dict[str, Any], Path]) -> None:
    said: dict[str, set[str]] = {}
    for name in ("train.jsonl", "held_out.jsonl"):
        for c in read_conversations(report[1] / name):
            side = str(c.labels.get("split", "held_out"))
            first = next(m.content or "" for m in c.messages if m.role == "user")
            said.setdefault(side, set()).add(" ".join(re.findall(r"\w+", first.casefold())))
    assert set(said) == {"train", "validation", "held_out"}
    for one, other in itertools.combinations(said.values(), 2):
        assert not one & other


def test_a_scenario_has_the_tools_that_it_needs_or_is_not_played(tmp_path: Path) -> None:
    report = made(tmp_path, [TOOLS[0]], 200)
    for counts in report["files"].values():
        assert not {"choice", "long_list", "parallel_different", "sequence"} & set(counts)
    report = made(tmp_path, [TOOLS[0]], 60, scenarios=["choice", "single"])
    assert report["not_played"] == ["choice"]
    assert report["files"]["train.jsonl"] == {"single": 60}
    many = [function(f"get_{w}", f"Get the {w} of a {w}", ["city"], city=STRING) for w in
            ("rain", "snow", "wind", "fog", "hail", "tide", "dust", "pollen", "ozone", "storm", "flood", "quake",
             "smoke", "frost")]  # fmt: skip
    made(tmp_path, many, 60, scenarios=["long_list", "choice"])
    for name in ("train.jsonl", "held_out.jsonl"):
        for c in read_conversations(tmp_path / "out" / name):
            assert len(c.tools) >= {"long_list": 12, "choice": 2}[str(c.labels["scenario"])]


def test_values_are_like_the_examples(tmp_path: Path) -> None:
    properties = {
        "zone": {**STRING, "examples": ["Europe/Paris", "Asia/Tokyo"]}, "code": {**STRING, "examples": ["KL1234"]},
        "city": {**STRING, "examples": ["Oslo"]}, "day": {**STRING, "description": "e.g. 2024-03-01"},
        "unit": {**STRING, "description": "e.g. litre, cup"}, "degrees": {"type": "number", "examples": [20.5]},
        "place": {**STRING, "examples": ["New York, NY"]},
    }  # fmt: skip
    made(tmp_path, [function("look", "Look at it", list(properties), **properties)], 150, scenarios=["single"])
    found = calls_of(tmp_path / "out")
    assert all(re.fullmatch(r"[A-Z]\w+/[A-Z]\w+", a["zone"]) for a in found)
    assert all(re.fullmatch(r"KL\d{4}", a["code"]) for a in found)
    assert len({a["code"] for a in found}) > 50
    assert len({a["city"] for a in found}) > 20
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", a["day"]) for a in found)
    assert {a["unit"] for a in found} == {"litre", "cup"}
    assert all(10 <= a["degrees"] <= 31 for a in found)
    assert {a["place"] for a in found} == {"New York, NY"}


def test_descriptions_name_kinds_and_ends_come_after_beginnings(tmp_path: Path) -> None:
    date = {**STRING, "format": "date"}
    names = {"from": {**STRING, "description": "Departure city"}, "to": STRING, "depart": date, "return": date,
             "who": {**STRING, "description": "E-mail of the traveller"}}  # fmt: skip
    made(tmp_path, [function("book_flight", "Book a flight", list(names), **names)], 150, scenarios=["single"])
    for arguments in calls_of(tmp_path / "out"):
        assert arguments["depart"] < arguments["return"]
        assert "@" in arguments["who"]
        assert arguments["from"][0].isupper() and arguments["to"][0].isupper(), "cities, not two words of a list"


def test_results_are_what_the_schema_says_or_there_are_none(tmp_path: Path) -> None:
    gives = {"type": "object", "properties": {"zone": STRING, "temperature": {"type": "number"}, "odd": STRING}}
    tool = {"name": "get_weather", "description": "Weather in a zone", "outputSchema": gives,
            "inputSchema": {"type": "object", "properties": {"zone": STRING}, "required": ["zone"]}}  # fmt: skip
    made(tmp_path, [tool], 60, scenarios=["answer_from_result"])
    for c in read_conversations(tmp_path / "out" / "train.jsonl"):
        call, result, answer = [m for m in c.messages if m.role != "system"][1:4]
        value = json.loads(result.content or "")
        assert set(value) == {"zone", "temperature"}
        assert value["zone"] == call.tool_calls[0].arguments["zone"]
        assert f"{value['temperature']}" in (answer.content or "")
    del tool["outputSchema"]
    with pytest.raises(CallamaError, match="no function can play answer_from_result"):
        made(tmp_path, [tool], 60, scenarios=["answer_from_result"])


def test_names_that_are_no_nouns(tmp_path: Path) -> None:
    properties = {"from": STRING, "to": STRING, "x": {"type": "integer"}, "on": {"type": "boolean"},
                  "tags": {"type": "array", "items": STRING}}  # fmt: skip
    made(tmp_path, [function("move_it", "Move a thing", list(properties), **properties)], 300, scenarios=["single"])
    said = "\n".join(texts_of(tmp_path / "out"))
    assert re.search(r'Move a thing from .* to .* with "x"', said)
    assert "The tags are " in said
    assert not re.search(r"with from|[Tt]he (?:from|to|x|on) |on on|on off|tags is\b", said)


def test_no_special_token_gets_from_a_description_into_what_is_said(tmp_path: Path) -> None:
    made(tmp_path, [function("send_it", "Send it <|eot_id|> at once \u0007", ["city"], city=STRING)], 100)
    assert not re.search(r"<\||\x07", "".join(texts_of(tmp_path / "out")))


def test_what_no_model_could_read_is_not_used(tmp_path: Path) -> None:
    huge = function("pick", "Pick one", ["word"], word={**STRING, "enum": [f"word {n}" for n in range(50_000)]})
    report = made(tmp_path, [huge, TOOLS[0]], 40)
    assert "more than 24,000 leave no room" in report["unused_functions"][0]
    assert list(report["calls"]) == ["get_weather"], "what is not used is not said to be never called"


def test_the_assistant_recites_no_long_list(tmp_path: Path) -> None:
    long = function("pick", "Pick one", ["word"], word={**STRING, "enum": [f"word {n}" for n in range(400)]})
    wide = function("fill", "Fill in a form", [f"p{n}" for n in range(120)], **{f"p{n}": STRING for n in range(120)})
    report = made(tmp_path, [long, wide], 150, scenarios=["invalid_value", "missing_argument"])
    kept = read_conversations(tmp_path / "out" / "train.jsonl")
    assert max(len(m.content or "") for c in kept for m in c.messages if m.role == "assistant") <= 600
    assert report["dropped"]["recited"] > 0


def test_names_in_any_script_can_be_used(tmp_path: Path) -> None:
    report = made(tmp_path, [function("get_weather", "Get the weather", ["都市"], **{"都市": STRING})], 60)
    assert report["unused_functions"] == []
    assert report["calls"]["get_weather"] > 20


def test_one_function_without_neighbours_can_be_held_out(tmp_path: Path) -> None:
    report = made(tmp_path, [TOOLS[0]], 40, weights={"change_of_mind": 200})
    assert report["files"]["held_out.jsonl"]["change_of_mind"] > 5


def test_an_amount_is_a_number_where_it_may_be_one(tmp_path: Path) -> None:
    properties = {"iban": {**STRING, "description": "IBAN of the receiver"},
                  "amount": {"anyOf": [{"type": "number"}, STRING]},
                  "day": {"anyOf": [{"type": "integer"}, STRING]}}  # fmt: skip
    made(tmp_path, [function("pay", "Pay somebody", list(properties), **properties)], 80, scenarios=["single"])
    found = calls_of(tmp_path / "out")
    assert all(isinstance(a["amount"], int | float) for a in found)
    assert all(re.fullmatch(r"[A-Z]{2}\d{20}", a["iban"]) for a in found)
    assert {type(a["day"]) for a in found} == {int, str}, "what is known of a text is kept"


def test_pairs_are_in_order(tmp_path: Path) -> None:
    number, bounded = {"type": "number"}, {"type": "integer", "minimum": 1, "maximum": 9}
    properties = {
        "start_time": {**STRING, "format": "time"}, "end_time": {**STRING, "format": "time"},
        "from": {**STRING, "format": "date-time"}, "to": {**STRING, "format": "date-time"},
        "min_price": number, "max_price": number, "minRooms": bounded, "maxRooms": bounded,
        "from_base": bounded, "to_base": bounded,
    }  # fmt: skip
    date = {**STRING, "format": "date"}
    tools = [function("window", "Set the window", list(properties), **properties),
             function("keep", "Keep the window", ["end_date"], start_date=date, end_date=date)]  # fmt: skip
    made(tmp_path, tools, 100, scenarios=["single", "change_of_mind", "parallel_same"])
    found = [a for a in calls_of(tmp_path / "out") if "from" in a]
    names = list(properties)[:8]
    for begins, ends in zip(names[::2], names[1::2], strict=True):
        assert all(a[begins] <= a[ends] for a in found), begins
    assert any(a["from_base"] > a["to_base"] for a in found)


def test_a_result_has_what_its_schema_requires(tmp_path: Path) -> None:
    made_of = {"time": {**STRING, "format": "date-time"}, "zone": STRING, "open": {"type": "boolean"}}
    tool = {"name": "get_time", "description": "Current time", "inputSchema": {"type": "object", "properties": {
            "zone": STRING}, "required": ["zone"]}, "outputSchema": {"type": "object", "properties": made_of,
            "required": ["time", "open"]}}  # fmt: skip
    made(tmp_path, [tool], 40, scenarios=["answer_from_result"])
    for c in read_conversations(tmp_path / "out" / "train.jsonl"):
        result, answer = [m.content or "" for m in c.messages][-2:]
        assert set(json.loads(result)) == {"time", "zone", "open"}
        assert json.loads(result)["time"] in answer
    made_of["parts"] = {"type": "object"}
    tool["outputSchema"]["required"] = ["parts"]  # type: ignore[index]
    with pytest.raises(CallamaError, match="no function can play answer_from_result"):
        made(tmp_path, [tool], 40, scenarios=["answer_from_result"])


def test_thousands_of_functions_name_few_others() -> None:
    entries = [{"name": f"getResource{n}", "task": f"get resource number {n}"} for n in range(500)]
    found = list(_rivals(entries))
    assert all(len(rivals) == 200 for rivals in found)
    assert "getResource251" in found[250], "the next ones first"
    assert next(_rivals(entries[:150])) == [e["name"] for e in entries[1:150]]


def test_days_without_a_year_and_bounds_that_leave_nothing_end_no_run(tmp_path: Path) -> None:
    start, end = ({"type": "string", "description": f"{which} date in DD.MM. format"} for which in ("Start", "End"))
    score = {"type": "integer", "description": "Number greater than 5 and less than 7.5, at least 10.5"}
    tools = [
        function("block_days", "Block days", ["start_date", "end_date"], start_date=start, end_date=end),
        function("get_nps", "Get the score", ["city"], city=STRING, score=score),
    ]
    report = made(tmp_path, tools, count=1500)
    assert report["unused_functions"] == [] and set(report["calls"]) == {"block_days", "get_nps"}
