"""Functions of a user's own, in every form that they come in, good and bad."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from transformers.utils import get_json_schema

from callama.common.errors import CallamaError, UsageError
from callama.contract.messages import Tool
from callama.tools.load import load_tools

WEATHER = {
    "name": "get_weather",
    "description": "Get the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def load(tmp_path: Path, value: Any, name: str = "mine.json") -> Any:
    path = tmp_path / name
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return load_tools([path])


@pytest.mark.parametrize(
    "document",
    [
        [{"type": "function", "function": WEATHER}],
        [{"type": "function", **WEATHER}],
        {"model": "m", "tools": [{"type": "function", "function": WEATHER}]},
        [{**{k: v for k, v in WEATHER.items() if k != "parameters"}, "input_schema": WEATHER["parameters"]}],
        {"jsonrpc": "2.0", "id": 1, "result": {"tools": [
            {"name": "get_weather", "title": "T", "description": "Get the weather.",
             "inputSchema": WEATHER["parameters"], "annotations": {"readOnlyHint": True}}]}},
        WEATHER,
    ],
    ids=["openai", "responses", "request", "anthropic", "mcp", "one"],
)  # fmt: skip
def test_lists_of_tools_in_their_forms(tmp_path: Path, document: Any) -> None:
    assert load(tmp_path, document).tools == (Tool.from_dict(WEATHER),)


def test_what_can_be_used_is_used_and_the_rest_is_listed(tmp_path: Path) -> None:
    bad = {**WEATHER, "name": "bad", "parameters": {"type": "object", "properties": {"x": {"type": "strnig"}}}}
    loaded = load(tmp_path, [bad, {"type": "web_search"}, WEATHER, WEATHER, {**WEATHER, "name": "no spaces"}, 3])
    assert [t.name for t in loaded.tools] == ["get_weather"]
    texts = [str(remark) for remark in loaded.lost]
    assert len(texts) == 5
    assert "mine.json: tool 0 (bad)" in texts[0]
    assert "strnig" in texts[0]
    assert texts[2].startswith("mine.json: tool 3 (get_weather): a function of this name stands already at mine.json")


def test_more_pages_of_an_mcp_reply_are_named(tmp_path: Path) -> None:
    loaded = load(tmp_path, {"tools": [WEATHER], "nextCursor": "abc"})
    assert loaded.tools
    assert "all pages" in str(loaded.remarks[0])


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("{", "mine.json", "cannot be read"),
        ("[]", "mine.json", "no function that can be used"),
        ('{"a": 1}', "mine.json", "an object with the keys a"),
        ("3", "mine.json", "found a int"),
        ("a: [", "mine.yaml", "is not YAML"),
        ("", "mine.yaml", "found nothing"),
        ("swagger: '2.0'", "mine.yaml", "Swagger 2.0; expected OpenAPI 3"),
        ("openapi: 3.0.0", "mine.yaml", "'paths' is no object"),
        ("!!python/object/apply:os.system ['false']", "mine.yaml", "is not YAML"),
        ("[" * 100_000, "mine.json", "cannot be read"),
        ("import nowhere_to_be_found", "mine.py", "mine.py:1: importing it fails: ModuleNotFoundError"),
        (
            "import os\nos._exit(7)",
            "mine.py",
            "mine.py:2: importing it fails: the module ends the process by os._exit(7)",
        ),
        ("from os import abort\n\nabort()", "mine.py", "mine.py:3: importing it fails: the module ends the process by"),
        (
            '{"id": 1, "error": {"code": -32601, "message": "no such method"}}',
            "mine.json",
            "no such method (code -32601)",
        ),
        ("x = 1\nraise SystemExit(3)", "mine.py", "mine.py:2: importing it fails: SystemExit: 3"),
        ("def f(:", "mine.py", "mine.py:1: importing it fails: SyntaxError"),
        ("x = 1", "mine.py", "no function that can be used"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str, name: str, says: str) -> None:
    with pytest.raises(CallamaError, match=r"mine") as caught:
        load(tmp_path, text, name)
    assert says in str(caught.value)


def test_one_bad_file_costs_no_other(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.py"
    good.write_text('[{"name": "ping", "description": "Ping a host.", "parameters": {"type": "object"}}]')
    bad.write_text("def f(:")
    loaded = load_tools([bad, good])
    assert [tool.name for tool in loaded.tools] == ["ping"]
    assert "SyntaxError" in str(loaded.lost[0])
    with pytest.raises(CallamaError, match=r"(?s)no function that can be used.*SyntaxError"):
        load_tools([bad, bad])


def test_a_missing_file_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load_tools([tmp_path / "mine.json"])


PETS = """
openapi: 3.0.3
info: {title: Pets, version: 1.0.0}
paths:
  /pets/{petId}:
    parameters:
      - {name: petId, in: path, required: true, schema: {type: integer}, description: The pet's `id`}
    get:
      operationId: showPet
      summary: Show a pet
      parameters:
        - {name: since, in: query, schema: {type: string, format: date, example: 2024-01-02}}
        - {name: flag, in: query, schema: {type: string, enum: [yes, no]}}
        - {name: Authorization, in: header, schema: {type: string}}
        - $ref: '#/components/parameters/limit'
    post:
      summary: Feed a pet
      requestBody:
        required: true
        content:
          application/json:
            schema: {$ref: '#/components/schemas/Meal'}
  /nodes:
    put:
      operationId: put node
      requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/Node'}}}}
  /broken:
    get: {operationId: broken, parameters: [{$ref: '#/components/parameters/nope'}]}
  /outside:
    get: {operationId: outside, parameters: [{name: a, in: query, schema: {$ref: 'other.yaml#/A'}}]}
  /circle:
    get: {operationId: circle, parameters: [{$ref: '#/components/parameters/a'}]}
components:
  parameters:
    limit: {name: limit, in: query, schema: {type: integer, nullable: true}}
    a: {$ref: '#/components/parameters/b'}
    b: {$ref: '#/components/parameters/a'}
  schemas:
    Meal:
      allOf:
        - {$ref: '#/components/schemas/Thing'}
        - type: object
          required: [grams]
          properties: {grams: {type: number, minimum: 0, exclusiveMinimum: true}}
    Thing:
      type: object
      required: [id, title]
      properties: {id: {type: string, readOnly: true}, title: {type: string}}
    Node:
      type: object
      required: [name]
      properties:
        name: {type: string}
        children: {type: array, items: {$ref: '#/components/schemas/Node'}}
"""


def test_an_openapi_document(tmp_path: Path) -> None:
    loaded = load(tmp_path, PETS, "pets.yaml")
    tools = {t.name: t for t in loaded.tools}
    assert list(tools) == ["showPet", "post_pets_petId", "put_node"]
    assert tools["showPet"].parameters == {
        "type": "object",
        "properties": {
            "petId": {"type": "integer", "description": "The pet's id"},
            "since": {"type": "string", "format": "date", "examples": ["2024-01-02"]},
            "flag": {"type": "string", "enum": ["yes", "no"]},
            "limit": {"type": ["integer", "null"]},
        },
        "required": ["petId"],
    }
    feed = tools["post_pets_petId"]
    assert feed.description == "Feed a pet"
    assert feed.parameters["properties"]["grams"] == {"type": "number", "exclusiveMinimum": 0}
    assert feed.parameters["required"] == ["petId", "title", "grams"]
    assert "id" not in feed.parameters["properties"]
    node = tools["put_node"].parameters
    assert node["properties"]["children"]["items"]["$ref"] == "#/$defs/Node"
    assert node["required"] == ["name"], "a body that may be left out still needs what it requires"
    notes = [str(remark) for remark in loaded.remarks if not remark.lost]
    assert any("PUT /nodes: the body may be left out" in n and n.endswith("here: name") for n in notes)
    lost = {str(remark).split(": ")[1]: str(remark) for remark in loaded.lost}
    assert list(lost) == ["GET /broken", "GET /outside", "GET /circle"]
    assert "leads nowhere" in lost["GET /broken"]
    assert "out of the document" in lost["GET /outside"]
    assert "in a circle" in lost["GET /circle"]


def test_schemas_of_an_openapi_document_still_mean_the_same(tmp_path: Path) -> None:
    import jsonschema_rs

    tools = {t.name: t for t in load(tmp_path, PETS, "pets.yaml").tools}
    validator = jsonschema_rs.validator_for(tools["put_node"].parameters)
    assert validator.is_valid({"name": "a", "children": [{"name": "b", "children": [{"name": "c"}]}]})
    assert not validator.is_valid({"name": "a", "children": [{"name": "b", "children": [{"nom": "c"}]}]})


@pytest.mark.parametrize("kind", [{"type": ["object", "null"]}, {"type": "object", "nullable": True}])
def test_a_body_that_may_be_null_is_taken_apart(tmp_path: Path, kind: dict[str, Any]) -> None:
    schema = {**kind, "properties": {"lock_reason": {"type": "string"}}}
    operation = {"operationId": "lock", "requestBody": {"content": {"application/json": {"schema": schema}}}}
    document = {"openapi": "3.1.0", "paths": {"/lock": {"put": operation}}}
    assert list(load(tmp_path, document).tools[0].parameters["properties"]) == ["lock_reason"]


def test_two_thousand_operations_take_seconds(tmp_path: Path) -> None:
    item = {"parameters": [{"name": "id", "in": "path", "schema": {"type": "string"}}]}
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/T0"}}}}
    paths = {f"/t{i}/{{id}}": {**item, "post": {"operationId": f"op{i}", "requestBody": body}} for i in range(2000)}
    chain: dict[str, Any] = {"T20": {"type": "string"}}
    for i in range(20):
        inner = {"a": {"type": "string"}, "n": {"$ref": f"#/components/schemas/T{i + 1}"}}
        chain[f"T{i}"] = {"type": "object", "properties": inner}
    document = {"openapi": "3.1.0", "paths": paths, "components": {"schemas": chain}}
    start = time.monotonic()
    assert len(load(tmp_path, document).tools) == 2000
    assert time.monotonic() - start < 20


def test_a_document_that_unfolds_without_end_costs_one_operation(tmp_path: Path) -> None:
    bombs = {
        f"B{i}": {"type": "object", "properties": {k: {"$ref": f"#/components/schemas/B{i + 1}"} for k in "abcdefgh"}}
        for i in range(12)
    } | {"B12": {"type": "string"}}  # fmt: skip
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/B0"}}}
    paths = {"/bomb": {"post": {"requestBody": {"content": content}}}, "/fine": {"get": {"operationId": "fine"}}}
    loaded = load(tmp_path, {"openapi": "3.0.0", "paths": paths, "components": {"schemas": bombs}})
    assert [t.name for t in loaded.tools] == ["fine"]
    assert "POST /bomb" in str(loaded.lost[0])


MODULE = '''
from __future__ import annotations
import datetime, enum
from typing import Literal, Optional
import json
from os.path import join
from pydantic import BaseModel

class Unit(enum.Enum):
    C = "celsius"
    F = "fahrenheit"

class Node(BaseModel):
    title: str
    children: list[Node] = []

def get_weather(city: str, unit: Unit = Unit.C, days: Optional[int] = None) -> dict:
    """Get the weather of a city.

    Args:
        city: The city, e.g. Oslo.
        unit: The unit.
    """
    return {}

async def plant(node: Node, on: datetime.date, how: Literal["a", "b"], *extra, **more):
    """Plant a tree."""

def guess(x, y, z: int):
    """Guess.

    Args:
        x (float): A number.
    """

def by_position(a: int, /): ...
def lost(a: Nowhere): ...
def opaque(f: type(json)): ...
def _hidden(a: int): ...
'''


def test_a_python_module(tmp_path: Path) -> None:
    loaded = load(tmp_path, MODULE, "mine.py")
    tools = {t.name: t for t in loaded.tools}
    assert list(tools) == ["get_weather", "plant", "guess"]
    weather = tools["get_weather"]
    assert weather.description == "Get the weather of a city."
    assert weather.parameters["properties"]["city"] == {"type": "string", "description": "The city, e.g. Oslo."}
    assert weather.parameters["required"] == ["city"]
    assert tools["plant"].parameters["$defs"]["Node"]["properties"]["title"] == {"type": "string"}
    assert tools["plant"].parameters["properties"]["on"]["format"] == "date"
    assert tools["guess"].parameters["properties"]["x"] == {"type": "number", "description": "A number."}
    texts = [str(remark) for remark in loaded.remarks]
    assert any("plant: *extra cannot be described" in text for text in texts)
    assert any("guess: parameter 'y' has no type hint; any value is allowed" in text for text in texts)
    lost = [str(remark) for remark in loaded.lost]
    assert [text.split(": ")[1] for text in lost] == ["by_position", "lost", "opaque"]
    line = next(i for i, text in enumerate(MODULE.splitlines(), 1) if text.startswith("def lost"))
    assert lost[1].startswith(f"mine.py:{line}: lost: a type hint names what is not there")


def test_python_functions_read_as_transformers_reads_them(tmp_path: Path) -> None:
    source = '''
from typing import Literal, Optional

def book(city: str, nights: int, price: float, quiet: bool, tags: list[str], kind: Literal["a", "b"],
         more: dict[str, int], note: Optional[str] = None):
    """Book a room.

    Args:
        city: The city.
        nights: How many nights.
        price: The price.
        quiet: Whether it is quiet.
        tags: Some tags.
        kind: The kind.
        more: More of it.
        note: A note.
    """
'''
    (tool,) = load(tmp_path, source, "mine.py").tools
    space: dict[str, Any] = {}
    exec(compile(source, "mine", "exec"), space)
    theirs = Tool.from_dict(get_json_schema(space["book"]))
    assert (tool.name, tool.description, tool.parameters["required"]) == (
        theirs.name, theirs.description, theirs.parameters["required"],
    )  # fmt: skip
    for name, schema in theirs.parameters["properties"].items():
        ours = {k: v for k, v in tool.parameters["properties"][name].items() if k != "default"}
        if name == "kind":
            schema = {**schema, "type": "string"}
        assert ours == schema, name


def test_an_openapi_document_says_what_it_renamed_and_what_it_left(tmp_path: Path) -> None:
    operation = {"operationId": "updateOrder", "summary": "Update an order", "parameters": [
        {"name": "clash", "in": place, "required": True, "schema": {"type": "string"}}
        for place in ("query", "header")]}  # fmt: skip
    paths = {"/a": {"put": operation}, "/b": {"put": operation, "gett": {}, "x-note": 1}, "/c": 3}
    loaded = load(tmp_path, {"openapi": "3.1.0", "paths": paths})
    assert [t.name for t in loaded.tools] == ["updateOrder", "updateOrder_2"]
    assert list(loaded.tools[0].parameters["properties"]) == ["clash", "clash_in_header"]
    kept = [str(r) for r in loaded.remarks if not r.lost]
    assert "mine.json: PUT /b: another operation is called 'updateOrder': this one is called updateOrder_2 here" in kept
    assert (
        "mine.json: PUT /a: two parameters are called 'clash': the one in header is called clash_in_header here" in kept
    )
    assert [str(r) for r in loaded.lost] == [
        "mine.json: GETT /b: 'gett' is no method; known: get, put, post, delete, options, head, patch, trace",
        "mine.json: /c: the path item is no object but a int",
    ]


@pytest.mark.parametrize("place", ["header", "cookie"])
def test_optional_headers_and_cookies_are_the_clients(tmp_path: Path, place: str) -> None:
    parameters = [{"name": name, "in": place, "required": name == "tenant", "schema": {"type": "string"}}
                  for name in ("X-Request-ID", "tenant")]  # fmt: skip
    paths = {"/a": {"get": {"operationId": "getA", "parameters": parameters}}}
    loaded = load(tmp_path, {"openapi": "3.1.0", "paths": paths})
    assert list(loaded.tools[0].parameters["properties"]) == ["tenant"]
    assert [str(r) for r in loaded.remarks] == [
        f"mine.json: GET /a: the optional {place} 'X-Request-ID' is left out: the client sends it, not the model"
    ]


def test_what_a_module_prints_is_no_output_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load(tmp_path, "print('noise')\ndef f(x: int):\n    'Do it.'", "mine.py")
    assert capsys.readouterr() == ("", "noise\n")


def test_a_process_that_a_module_forks_may_end(tmp_path: Path) -> None:
    forks = "import os\npid = os.fork()\nif not pid:\n    os._exit(3)\nstatus = os.waitpid(pid, 0)[1] >> 8\n"
    assert load(tmp_path, f"{forks}assert status == 3\ndef f(x: int):\n    'Do it.'", "mine.py").tools


def test_functions_of_which_too_little_or_enough_is_known(tmp_path: Path) -> None:
    source = """
import typing
from typing import TypedDict

class Line(TypedDict):
    product: str
    pieces: int

assert typing.is_typeddict(Line)
def bill(lines: list[Line]) -> Line: 'Bill it.'
def old(rate=0.5, note="none"): 'Do it.'
def odd(x: int) -> type(bill): 'Do it.'
def anything(*args, **kwargs): 'Takes anything.'
"""
    loaded = load(tmp_path, source, "mine.py")
    tools = {tool.name: tool for tool in loaded.tools}
    assert list(tools) == ["bill", "old", "odd"]
    assert tools["bill"].parameters["$defs"]["Line"]["required"] == ["product", "pieces"]
    assert list(loaded.gives["bill"]["properties"]) == ["product", "pieces"]
    assert {n: p["type"] for n, p in tools["old"].parameters["properties"].items()} == {
        "rate": "number", "note": "string"}  # fmt: skip
    assert "anything: nothing is left of it to call with: *args and **kwargs" in str(loaded.lost[0])
    assert any("odd: no result is played" in str(remark) for remark in loaded.remarks)
