"""Every JSON Schema has a faithful TypeScript rendering."""

from typing import Any

import pytest

from callama.common.errors import CallamaError
from callama.contract.messages import Tool
from callama.contract.signatures import render_signature
from callama.contract.tool_uses import system_text

WEATHER = {
    "name": "get_current_weather",
    "description": "Get the current weather in a given location",
    "parameters": {
        "type": "object",
        "properties": {
            "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        },
        "required": ["location"],
    },
}
WEATHER_TEXT = """\
// Get the current weather in a given location
type get_current_weather = (_: {
// The city and state, e.g. San Francisco, CA
location: string,
unit?: "celsius" | "fahrenheit",
}) => any;"""


def line(schema: Any, **root: Any) -> str:
    """The signature of a tool whose only parameter is ``x``, without what stands around it."""
    tool = Tool.from_dict({"name": "f", "parameters": {"type": "object", "properties": {"x": schema}, **root}})
    text = render_signature(tool)
    assert text.startswith("type f = (_: {\n") and text.endswith("\n}) => any;")
    return text.removeprefix("type f = (_: {\n").removesuffix("\n}) => any;")


def test_the_design_s_own_example() -> None:
    assert render_signature(Tool.from_dict(WEATHER)) == WEATHER_TEXT
    bare = {"name": "now"}
    assert system_text("Be brief.", [Tool.from_dict(WEATHER), Tool.from_dict(bare)]) == (
        "Be brief.\n\n# Tools\n\n## functions\n\nnamespace functions {\n\n"
        f"{WEATHER_TEXT}\n\ntype now = () => any;\n\n}} // namespace functions"
    )


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, "x?: any,"),
        (True, "x?: any,"),
        (False, "x?: never,"),
        ({"type": "null"}, "x?: null,"),
        ({"type": ["string", "null"]}, "x?: string | null,"),
        ({"type": "integer", "nullable": True}, "x?: integer | null,"),
        ({"type": "string", "enum": ["a", "b"], "nullable": True}, 'x?: "a" | "b" | null,'),
        ({"enum": ['q"\n', None, 1, 1.5, False]}, 'x?: "q\\"\\n" | null | 1 | 1.5 | false,'),
        ({"enum": ["a", "a"]}, 'x?: "a",'),
        ({"const": {"k": 1}}, 'x?: {"k": 1},'),
        ({"type": "array"}, "x?: any[],"),
        ({"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}, "x?: integer[][],"),
        ({"items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}, "x?: (string | integer)[],"),
        (
            {"items": {"anyOf": [{"type": "string"}, {"properties": {"k": {"type": "number"}}}]}},
            "x?: (string | {\nk?: number,\n})[],",
        ),
        ({"type": "array", "items": {"enum": ["a | b", "c"]}}, 'x?: ("a | b" | "c")[],'),
        ({"type": "array", "items": {"const": "a | b"}}, 'x?: "a | b"[],'),
        ({"type": "array", "items": [{"type": "string"}, {}]}, "x?: [string, any, ...any[]],"),
        ({"prefixItems": [{"type": "string"}], "items": False}, "x?: [string],"),
        ({"type": "object"}, "x?: object,"),
        ({"type": "object", "additionalProperties": False}, "x?: {},"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "x?: Record<string, number>,"),
        (
            {"properties": {"k": {}}, "additionalProperties": {"type": "string"}},
            "x?: {\nk?: any,\n[key: string]: string,\n},",
        ),
        ({"type": "object", "required": ["undescribed"]}, "x?: {\nundescribed: any,\n},"),
        (
            {"type": "object", "patternProperties": {"^n_": {"type": "number"}}},
            'x?: {\n// keys match "^n_"\n[key: string]: number,\n},',
        ),
        (
            {"allOf": [{"properties": {"a": {}}}, {"anyOf": [{"properties": {"b": {}}}, {"type": "null"}]}]},
            "x?: {\na?: any,\n} & ({\nb?: any,\n} | null),",
        ),
        ({"type": "integer", "oneOf": [{"const": 1}, {"const": 2}]}, "x?: 1 | 2,"),
        (
            {"type": "string", "anyOf": [{"format": "date"}, {"format": "time"}]},
            'x?: string, // format: "date", format: "time"',
        ),
        (
            {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}], "default": None},
            "x?: integer | null, // default: null, minimum: 1",
        ),
        ({"type": "array", "maxItems": 2, "items": {"minLength": 1}}, "x?: any[], // maxItems: 2, items.minLength: 1"),
        (
            {"description": "All of\r\nthem", "type": "array", "items": {"type": "string", "description": "an e-mail"}},
            "// All of\n// them\n// items: an e-mail\nx?: string[],",
        ),
        ({"examples": "a, b"}, 'x?: any, // examples: ["a, b"]'),
        ({"minimum": 0, "exclusiveMinimum": True}, "x?: any, // exclusiveMinimum: 0"),
    ],
)
def test_every_form_of_schema(schema: Any, expected: str) -> None:
    assert line(schema) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("dict", "object"),
        ("float", "number"),
        ("str", "string"),
        ("Integer", "integer"),
        ("any", "any"),
        ("tuple", "any[]"),
        ("List[int]", "integer[]"),
        ("list(str)", "string[]"),
        ("List<String>", "string[]"),
        ("Dict[str, float]", "Record<string, number>"),
        ("Map<String, List<int>>", "Record<string, integer[]>"),
        ("Optional[str]", "string | null"),
        ("typing.Optional[List[Union[int, str]]]", "(integer | string)[] | null"),
        ("str?", "string | null"),
        ("string|null", "string | null"),
        ("str, optional", "string"),
        ("Literal['a, b', 2]", '"a, b" | 2'),
        ("Tuple[int, ...]", "integer[]"),
        ("int[][]", "integer[][]"),
    ],
)
def test_type_words_of_the_wild(word: str, expected: str) -> None:
    assert line({"type": word}) == f"x?: {expected},"
    assert line({"type": "array", "items": word}).removesuffix("[],") in (f"x?: {expected}", f"x?: ({expected})")


def test_required_inside_a_property_and_a_bare_map_of_parameters() -> None:
    assert line({"type": "str", "required": True}) == "x: string,"
    bare = {"city": {"type": "str", "required": True}, "type": {"type": "str", "required": "false"}}
    assert render_signature(Tool.from_dict({"name": "f", "parameters": bare})) == (
        "type f = (_: {\ncity: string,\ntype?: string,\n}) => any;"
    )


def test_references_unfold_in_place_and_recursive_ones_are_named() -> None:
    node = {"description": "A node", "properties": {"next": {"$ref": "#/$defs/Node"}, "id": {"$ref": "#/$defs/a~1b"}}}
    definitions = {"Node": node, "a/b": {"type": "integer", "minimum": 1}}
    assert line({"$ref": "#/$defs/Node"}, **{"$defs": definitions}) == (
        "// A node\nx?: /* Node */ {\nnext?: Node,\nid?: integer, // minimum: 1\n},"
    )
    whole = Tool.from_dict({"name": "f", "parameters": {"properties": {"x": {"$ref": "#"}}}})
    assert render_signature(whole) == "type f = (_: /* Parameters */ {\nx?: Parameters,\n}) => any;"


def test_a_root_may_be_a_union_or_a_reference() -> None:
    root = {"anyOf": [{"properties": {"a": {}}}, {"$ref": "#/$defs/B"}], "$defs": {"B": {"required": ["b"]}}}
    tool = Tool.from_dict({"name": "f", "parameters": root})
    assert render_signature(tool) == "type f = (_: {\na?: any,\n} | {\nb: any,\n}) => any;"


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "strnig"}, "unknown type 'strnig'"),
        ({"type": []}, "'type' must be a word"),
        ({"type": 5}, "'type' must be a word"),
        ({"type": "Union[]"}, "unknown type"),
        ({"type": "str" + "?" * 300}, "nested more than 64 deep"),
        ({"type": "List[" * 5000}, "unknown type"),
        ({"required": 5}, "at properties/x/required: 5 is not of type"),
        ({"enum": "x"}, "at properties/x/enum"),
        ({"anyOf": {}}, "at properties/x/anyOf"),
        ({"properties": []}, "at properties/x/properties"),
        ({"properties": {"y": 5}}, "at properties/x/properties/y"),
        ({"items": 5}, "at properties/x/items"),
        ({"minimum": "5"}, "at properties/x/minimum"),
        ({"pattern": "("}, "at properties/x/pattern"),
        ({"description": ["a"]}, "at properties/x/description"),
        ({"default": float("nan")}, "tool f: "),
        ({"enum": ["\ud800"]}, "tool f: "),
        ({"$ref": "#/$defs/Gone"}, "'/$defs/Gone' does not exist"),
        ({"$ref": "http://127.0.0.1:1/schema"}, "leads outside the schema"),
        ("strnig", "unknown type 'strnig'"),
        (7, "at properties/x"),
    ],
)
def test_what_is_no_schema_is_refused_in_a_sentence(schema: Any, says: str) -> None:
    with pytest.raises(CallamaError) as caught:
        line(schema)
    assert says in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize("wrap", [lambda s: {"properties": {"a": s}}, lambda s: {"items": s}, lambda s: {"anyOf": [s]}])
def test_depth_is_bounded_and_what_is_accepted_renders(wrap: Any) -> None:
    schema: Any = {}
    for depth in range(400):
        schema = wrap(schema)
        if depth == 62:
            assert line(schema)
    with pytest.raises(CallamaError):
        line(schema)


def test_references_cannot_unfold_without_bound() -> None:
    twice = {f"D{i}": {"properties": {k: {"$ref": f"#/$defs/D{i + 1}"} for k in "ab"}} for i in range(40)}
    definitions = {**twice, "D40": {"type": "string"}}
    with pytest.raises(CallamaError, match="unfolds to more than 10,000 types"):
        line({"$ref": "#/$defs/D0"}, **{"$defs": definitions})
    unions = {f"D{i}": {"anyOf": [{"$ref": f"#/$defs/D{i + 1}"}, {"$ref": f"#/$defs/D{i + 1}"}]} for i in range(40)}
    with pytest.raises(CallamaError, match="unfolds to more than 10,000 types"):
        line({"$ref": "#/$defs/D0"}, **{"$defs": {**unions, "D40": {"type": "string"}}})
    chain = {f"D{i}": {"anyOf": [{"anyOf": [{"$ref": f"#/$defs/D{i + 1}"}]}]} for i in range(400)}
    with pytest.raises(CallamaError, match="64 levels"):
        line({"$ref": "#/$defs/D0"}, **{"$defs": {**chain, "D400": {}}})
