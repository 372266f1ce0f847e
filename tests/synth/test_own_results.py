"""What is played as a result of an own function, and the values of its calls, where little is known."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from callama.common.errors import CallamaError
from callama.contract.messages import Tool
from callama.synth.catalogue import OWN, read_entry
from callama.synth.moments import are_in_order
from callama.synth.own import write_own_catalogue
from callama.synth.own_results import outcome_of
from callama.synth.own_task import task_of
from callama.synth.own_words import entry_of
from callama.synth.scenarios.parallel_same import _paired
from callama.synth.schema_makers import maker_of
from callama.synth.schema_values import value_for
from callama.synth.speech import NoFitError, changed, make_values
from callama.synth.values import make
from callama.tools.load import load_tools

STRING, NUMBER, DATE = {"type": "string"}, {"type": "number"}, {"type": "string", "format": "date"}
STATUS = {**STRING, "enum": ["cancelled", "booked"]}


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def played(task: str, gives: dict[str, Any] | None = None, **parameters: Any) -> dict[str, Any]:
    result, answers = outcome_of(task, gives or {}, of(**parameters), list(parameters))
    assert bool(result) == bool(answers)
    return result


@pytest.mark.parametrize(
    ("description", "is_done"),
    [
        ("Book a hotel room", True), ("Cancel an order", True), ("Set the fan of a room to a level", True),
        ("Whether a shop is open now", False), ("Extract the total from an invoice PDF", False),
        ("Run a read-only SQL query", False), ("Summarize a text", False), ("Translate a text", False),
        ("Suggest a film", False), ("Frobnicate it", False), ("Create a summary of a page", False),
        ("Add two numbers", False), ("Create a user and return the profile", False),
    ],
)  # fmt: skip
def test_only_what_acts_is_done(description: str, is_done: bool) -> None:
    result = played(task_of(Tool("f", description)), x=STRING)
    assert ("reference_number" in result) == is_done == bool(result)


def test_a_result_does_not_contradict_its_call() -> None:
    assert "status" not in played("book a room", {"properties": {"status": STATUS, "id": STRING}}, room=STRING)
    assert played("book a room", of(status=STATUS), room=STRING) == {}
    usual = {**STATUS, "default": "booked"}
    assert played("book a room", of(status=usual), room=STRING) == {"status": "@pick booked"}
    assert played("get a room", of(status=STATUS), room=STRING) == {"status": "@pick cancelled|booked"}
    assert played("book a room", of(ok={"type": "boolean"}), room=STRING) == {"ok": "= True"}
    assert played("book a room", of(paid={"type": "boolean"}), room=STRING) == {}
    assert played("convert an amount", NUMBER, amount=NUMBER) == {}
    assert played("get the price", of(total=NUMBER), pieces=NUMBER) == {}
    assert played("get a pet", of(id=STRING, born=DATE), petId=STRING) == {"id": "{petId}", "born": "@date"}
    assert played("get a pet", of(id=STRING), petId=STRING) == {}, "what was said is no answer"
    assert played("add a toy to a pet", of(id=STRING), petId=STRING) == {"id": "@record"}
    assert played("get a user", of(login=STRING, born=DATE), username=STRING)["login"] == "{username}"
    assert played("get a customer", of(id=STRING, born=DATE), customer=STRING)["id"] == "{customer}"
    assert played("get a customer", of(id={"type": "integer"}), customer=STRING) == {}
    assert played("find a pet", of(name=STRING, born=DATE), pet_name=STRING)["name"] == "{pet_name}"
    assert played("get the owner of a pet", of(login=STRING), pet_name=STRING) == {"login": "@username"}
    gives = of(weight=NUMBER)
    result, _ = outcome_of("update a pet", gives, {"properties": {"weight": NUMBER}, "required": []}, ["weight"])
    assert result["weight"].startswith("= weight or make("), "a wish that was told comes back"


@pytest.mark.parametrize("description", ["Weather conditions description", "The text", "Name", ""])
def test_no_content_is_invented_for_a_text_of_which_nothing_is_known(description: str) -> None:
    text = {**STRING, "description": description}
    assert played("get the weather", of(conditions=text), city=STRING) == {}
    for name in ("message", "text", "name", "description"):
        assert played("get the weather", of(**{name: text}), city=STRING) == {}


@pytest.mark.parametrize(
    ("name", "schema", "about", "form"),
    [
        ("origin", {**STRING, "description": "IATA code of the airport"}, "f", "[A-Z]{3}"),
        ("vet", {**STRING, "description": "Surname of the veterinarian"}, "f", "[A-Z][^ ]+"),
        ("channel", {**STRING, "description": "Channel, starting with #"}, "f", r"#[a-z]+"),
        ("country_code", STRING, "f", "[A-Z]{2}"),
        ("country", {**STRING, "default": "DE"}, "f", "[A-Z]{2}"),
        ("query", STRING, "run_sql", "SELECT .*"),
        ("destination", STRING, "move_file", "/.*"),
        ("who", {**STRING, "description": "Customer name"}, "f", r"[^ ]+ [^ ].*"),
        ("rate", {"type": "number", "default": 0.19}, "f", r"0\.\d+"),
        ("due", {"type": ["string", "null"], "format": "date"}, "f", r"\d{4}-\d\d-\d\d"),
        ("due", {"anyOf": [DATE, {"type": "null"}], "default": None}, "f", r"\d{4}-\d\d-\d\d"),
    ],
)
def test_names_and_descriptions_say_what_a_value_is(name: str, schema: Any, about: str, form: str) -> None:
    rng = random.Random(1)
    made = {str(make(maker_of(name, schema, about), rng)) for _ in range(40)}
    assert all(re.fullmatch(form, text) for text in made), made
    assert len(made) > 5


@pytest.mark.parametrize(
    ("name", "description", "about", "maker"),
    [
        ("source", "Town to start in.", "shortest_path", "city"),
        ("from", "Sender", "get_directory_route", "person"),
        ("full_name", "First and last name of the user.", "f", "full_name"),
        ("color", "Colour, starting with '#'", "f", "colour"),
        ("hashtag", "Hashtag; must start with #", "f", "two_words"),
        ("amount", "Amount, without the currency code", "f", "two_words"),
        ("city", "City whose airport code is wanted", "f", "city"),
    ],
)
def test_a_form_that_is_only_mentioned_says_nothing(name: str, description: str, about: str, maker: str) -> None:
    assert maker_of(name, {**STRING, "description": description}, about) == maker


def test_a_result_repeats_no_argument_of_another_type() -> None:
    address = {"type": "object", "properties": {"street": STRING, "city": STRING}}
    gives = {"type": "object", "properties": {"address": STRING, "id": STRING, "total": {"type": "integer"}}}
    parameters = {"type": "object", "properties": {"address": address, "Id": {"type": "integer"}}, "required": ["Id"]}
    result, _ = outcome_of("find an order", gives, parameters, {"address", "Id"})
    assert "address" not in result and result["id"] == "@record"


@pytest.mark.parametrize("ends", [{"type": ["string", "null"], "format": "date"}, {"anyOf": [DATE, {"type": "null"}]}])
def test_an_end_that_may_be_null_is_later_too(tmp_path: Path, ends: dict[str, Any]) -> None:
    properties: dict[str, Any] = {"departure_date": DATE, "return_date": ends}
    entry = catalogue(tmp_path, [function("Search for flights", ["departure_date"], **properties)])[0][0]
    assert entry["makers"]["return_date"] == "later_date departure_date 1 14"


def function(description: str, required: list[str], name: str = "f", **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"name": name, "description": description, "parameters": parameters}


def catalogue(tmp_path: Path, tools: list[Any]) -> tuple[list[Any], list[str]]:
    path, folder = tmp_path / "mine.json", tmp_path / "made"
    path.write_text(json.dumps(tools))
    folder.mkdir()
    remarks = write_own_catalogue(load_tools([path]), folder)
    made = [json.loads(file.read_text())["tools"][0] for file in sorted(folder.glob("own_*"))]
    return made, [str(remark) for remark in remarks]


def test_what_teaches_little_and_what_cannot_be_made_is_said_with_its_place(tmp_path: Path) -> None:
    ahead = {**STRING, "pattern": "^(?=.*[A-Z])(?=.*zq)[A-Za-z]{9}$"}
    tools = [
        function("Find it", ["one", "odd"], "find", one={**STRING, "examples": ["at noon"]}, odd=STRING),
        function("Look it up", ["id"], "look", id=ahead),
    ]
    texts = catalogue(tmp_path, tools)[1]
    assert texts[0].startswith("mine.json: tool 0 (find): parameter 'one' always has the value \"at noon\"")
    assert texts[1].startswith("mine.json: tool 0 (find): parameter 'odd' gets two words drawn at random")
    assert texts[2].startswith("mine.json: tool 1 (look): parameter 'id': no value can be made for the pattern")
    assert "(?=" in texts[2] and "`examples`" in texts[2]


def test_letters_and_moments_are_named_so_that_they_can_be_read() -> None:
    tool = Tool.from_dict(function("Use legacy", ["a", "starts_at"], a=STRING, starts_at=STRING))
    entry = entry_of(tool, {"a": "two_words", "starts_at": "instant"}, ["a", "starts_at"])
    assert entry["labels"] == {"a": '"a"', "starts_at": "start"}
    for text in [*entry["requests"], *entry["again"]["a"]]:
        assert not re.search(r"\ba \{a\}|starts at", text), text
    assert entry["missing"]["starts_at"]["question"] == "What should the start be?"


def test_each_of_several_values_in_quotes_has_its_own() -> None:
    tool = Tool.from_dict(function("Book a hotel", ["hotel", "guest"], hotel=STRING, guest=STRING))
    makers = {"hotel": "hotel", "guest": "full_name"}
    entry = entry_of(tool, makers, list(makers))
    entry["requests"] = [text for text in entry["requests"] if '"' in text]
    spec, stage = read_entry(entry, "own", "own"), SimpleNamespace(rng=random.Random(3))
    for _ in range(30):
        asks, said = _paired(stage, spec, 3)  # type: ignore[arg-type]
        assert len(asks) == 3
        for value in (value for asked in asks for value in asked.arguments.values()):
            assert f'"{value}"' in said


@pytest.mark.parametrize(
    ("name", "description", "form"),
    [
        ("date", "Date in DD.MM.YYYY format", r"\d\d\.\d\d\.\d{4}"),
        ("date", "Date, format MM/DD/YYYY", r"[01]\d/\d\d/\d{4}"),
        ("date", "Date as %d/%m/%Y", r"[0-3]\d/\d\d/\d{4}"),
        ("time", "Time, 12-hour clock with am/pm", r"\d\d:\d\d [AP]M"),
        ("month", "Month, YYYY-MM", r"\d{4}-\d\d"),
        ("since", "A timestamp in ISO 8601 format: `YYYY-MM-DDTHH:MM:SSZ`.", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"),
        ("currency", "Three-letter ISO currency code, in lowercase.", "[a-z]{3}"),
        ("customer", "ID of the Customer this PaymentIntent belongs to", r"[\w-]*\d[\w-]*"),
        ("customer", "E-mail address of the customer", r"[^ ]+@[^ ]+"),
        ("user", "The numeric ID of the user", r"\d+"),
        ("employee_id", "ID, six digits", r"\d{6}"),
        ("code", "Two letters followed by four digits", r"[A-Z]{2}\d{4}"),
        ("country", "ISO 3166-1 alpha-3 code", "[A-Z]{3}"),
        ("region", "AWS region", r"[a-z]+-[a-z]+-\d"),
        ("zone", "DNS zone", r"\w+\.\w+"),
        ("color", "Hex colour code", "#[0-9a-f]{6}"),
        ("ref", "The git reference. The reference can be a branch or tag name.", r"[a-z/-]+\d*"),
        ("element", "Human-readable element description used to obtain permission", r"\w+ \w+"),
        ("key", "A UUID", r"[0-9a-f]{8}-[0-9a-f-]{27}"),
    ],
)
def test_a_form_that_a_description_states_decides_over_the_name(name: str, description: str, form: str) -> None:
    rng = random.Random(1)
    made = {str(make(maker_of(name, {**STRING, "description": description}), rng)) for _ in range(40)}
    assert all(re.fullmatch(form, text) for text in made), made
    assert len(made) > 5


@pytest.mark.parametrize(
    ("name", "description", "maker"),
    [
        ("text", "Text to convert to uppercase", "message"), ("tz", "IANA timezone identifier", "timezone"),
        ("user", "Name or ID of the user", "username"), ("password", "With at least 8 digits", "two_words"),
        ("path", "Path below /logs/YYYY/MM/DD", "path"), ("text", "Text (no regular expression)", "message"),
    ],
)  # fmt: skip
def test_a_form_of_something_else_decides_nothing(name: str, description: str, maker: str) -> None:
    assert maker_of(name, {**STRING, "description": description}) == maker


@pytest.mark.parametrize(
    ("name", "schema", "low", "high"),
    [
        ("tail", {"description": "Returns only the last N lines"}, 1, 101),
        ("temperature", {"description": "Target temperature in °C, 5 to 30"}, 5, 30),
        ("limit", {"description": "Max results (1-100, default 20)"}, 1, 100),
        ("size", {"description": "At least 3"}, 3, 103), ("size", {"description": "less than 50"}, 1, 49),
        ("size", {"description": "Up to 1,000"}, 1, 1000), ("level", {"description": "between 40 and 60"}, 40, 60),
        ("timestamp", {"description": "Unix timestamp in seconds"}, 1_700_000_000, 1_900_000_000),
        ("created", {"format": "unix-time"}, 1_700_000_000, 1_900_000_000),
        ("at", {"description": "Milliseconds since the Unix epoch"}, 1_700_000_000_000, 1_900_000_000_000),
        ("epoch", {"description": "Epoch to stop at"}, 1, 101),
    ],
)  # fmt: skip
def test_numbers_are_whole_and_within_what_is_said(name: str, schema: Any, low: int, high: int) -> None:
    rng = random.Random(1)
    made = {make(maker_of(name, {"type": "number", **schema}), rng) for _ in range(60)}
    assert all(low <= value <= high for value in made) and len(made) > 5
    assert name == "temperature" or all(isinstance(value, int) for value in made)
    share = {"type": "number", "minimum": 0, "maximum": 1}
    assert any(isinstance(make(maker_of("x", share), rng), float) for _ in range(9))


def test_a_form_that_no_maker_can_do_is_noted_and_contradicted_by_no_value(tmp_path: Path) -> None:
    coded = {**STRING, "description": "The payload, base64-encoded"}
    tools = [
        function("Send it", ["city"], "send", city=STRING, payload=coded),
        function("Show it", ["payload"], "show", payload=coded),
        function("Resize it", ["width"], "resize", width=NUMBER),
    ]
    entries, texts = catalogue(tmp_path, tools)
    assert [list(entry["makers"]) for entry in entries] == [["city"], ["width"]]
    wanted = "its description asks for base64, and no value can be made of that: give `examples`"
    assert any(text.endswith(f"(send): parameter 'payload' is never asked for: {wanted}") for text in texts)
    assert any(text.endswith(f"(show): parameter 'payload': {wanted}") for text in texts)
    assert any("(resize): parameter 'width' gets whole numbers from 1 to 101" in text for text in texts)


def test_who_is_found_by_a_path_has_a_key_and_nobody_says_an_empty_text(tmp_path: Path) -> None:
    tools = [
        function("Find one", ["customer"], "GetCustomersCustomer", customer={**STRING, "maxLength": 50}),
        function("Add one", ["guest"], "add_guest", guest=STRING),
    ]
    assert [list(entry["makers"].values()) for entry in catalogue(tmp_path, tools)[0]] == [["record"], ["full_name"]]
    either = {"anyOf": [{**STRING, "enum": [""]}, {**STRING, "format": "email"}]}
    assert {bool(value_for("x", either, either, random.Random(seed))) for seed in range(20)} == {True}
    assert maker_of("created", {"type": "integer"}) == maker_of("sent_at", {"type": "integer"}) == "unix_time 1"


def test_a_value_that_cannot_be_made_this_once_is_drawn_again() -> None:
    tool = Tool.from_dict(function("Book it", ["start", "end"], start=STRING, end=STRING))
    entry = entry_of(tool, {"start": "date", "end": "date"}, ["start", "end"])
    makers = {"start": "pick 29.02.", "end": "later_date start 1 14 %d.%m."}  # 1900 was no leap year
    spec = replace(read_entry(entry, "own", OWN), makers=makers)
    with pytest.raises(NoFitError):
        make_values(spec, random.Random(1))
    with pytest.raises(NoFitError):
        changed(spec, {"start": "29.02.", "end": "01.03."}, ["end"], random.Random(1))
    with pytest.raises(CallamaError, match="later_date"):
        make_values(replace(spec, side="train"), random.Random(1))


def test_a_repository_beside_its_owner_has_one_owner(tmp_path: Path) -> None:
    entries, _ = catalogue(tmp_path, [function("Get it", ["owner", "repo"], owner=STRING, repo=STRING)])
    assert entries[0]["makers"]["repo"] == "slug"


@pytest.mark.parametrize(
    ("schema", "later"),
    [
        ({**STRING, "format": "date-time"}, "later_moment start_time"),
        ({**STRING, "description": "DD.MM.YYYY"}, "later_date start_time 1 14 %d.%m.%Y"),
        ({"type": "integer", "format": "unix-time"}, "more start_time 900 14400"),
    ],
)
def test_an_end_is_near_its_start(tmp_path: Path, schema: dict[str, Any], later: str) -> None:
    tool = function("Create an event", ["start_time", "end_time"], start_time=schema, end_time=schema)
    made = catalogue(tmp_path, [tool])[0][0]["makers"]
    assert made["end_time"] == later
    rng = random.Random(1)
    for _ in range(20):
        start = make(made["start_time"], rng)
        end = make(later, rng, {"start_time": start})
        kind, *rest = later.split(" ")
        assert start < end if kind == "more" else are_in_order(kind, rest, start, end)
