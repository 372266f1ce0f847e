"""The grammar of a conversation's answers in the ``tool_uses`` dialect, in llguidance's form of Lark.

Whatever it accepts, ``parse_answer`` reads as text or as calls that validate against their tools'
schemas. A call is written as ``dumps`` writes it, its arguments in the schema's order, so that most
of its characters are forced. llguidance: https://github.com/guidance-ai/llguidance (docs/syntax.md,
docs/json_schema.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from callama.common.errors import CallamaError
from callama.contract.jsontext import dumps
from callama.contract.messages import Tool
from callama.contract.schema import Schema

CALL_OPENING = '{"tool_uses": ['
# Beyond these some readers lose digits or overflow; a run of digits has to end somewhere.
MAX_INTEGER, MAX_NUMBER = 10**18, 10**15
_SPACE = r"[\s\x1c-\x1f]"
# What parse_answer takes for a call or for a broken one, never the text of an answer.
_NOT_TEXT = (
    rf"/(?s:.*)\{{{_SPACE}*[\"']?tool_uses(?s:.*)/",
    r"/(?s:(.*\n)?[ \t]*<(functioncall>|tool_call>|function=|\|python_tag\|>).*)/",
    rf"/{_SPACE}*(```\S*{_SPACE}+)?[\{{\[](?s:.*)/",
)
# As in dumps; escapes of letters only, because \u can write half a character.
_SPELLING = {
    "whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "json_allowed_escapes": 'nrbtf\\"'
}  # fmt: skip
_ANY: Schema = {"$ref": "#/$defs/any"}
_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
_KEPT = {
    "type", "enum", "const", "$ref", "anyOf", "oneOf", "allOf", "$defs", "definitions", "items", "prefixItems",
    "minItems", "maxItems", "properties", "additionalProperties", "required", "minProperties", "maxProperties",
    "minLength", "maxLength", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
}  # fmt: skip
_NOT_EXPRESSED = {
    "not", "if", "contains", "propertyNames", "patternProperties", "dependentRequired", "dependentSchemas",
    "unevaluatedItems", "unevaluatedProperties",
}  # fmt: skip
_COMPOSED = ("$ref", "anyOf", "oneOf", "allOf")
_KINDS = {
    "object": {"properties", "additionalProperties", "required", "minProperties", "maxProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "pattern", "format"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
}


@dataclass(frozen=True)
class Choice:
    """What an answer may be: text or calls, calls only (``required``), calls of one ``tool`` only; with
    ``parallel`` off at most one call."""

    required: bool = False
    tool: str | None = None
    parallel: bool = True


def answer_grammar(tools: Sequence[Tool], choice: Choice) -> str:
    """The grammar of the answers to a conversation with these tools.

    Text may stand before calls, on lines of its own. Objects with declared properties take no others
    unless their schema says so; numbers lie within ±10^15, integers within
    ±10^18. ``uniqueItems`` and unknown formats are not enforced.

    Raises:
        CallamaError: a call is required and there is no such tool, or a schema says what the grammar
            cannot express.
    """
    offered = [t for t in tools if choice.tool in (None, t.name)]
    required = choice.required or choice.tool is not None
    if required and not offered:
        names = ", ".join(t.name for t in tools) or "none"
        wanted = f"of {choice.tool} " if choice.tool is not None else ""
        raise CallamaError(f"a call {wanted}is required, but the conversation's tools are: {names}")
    text = " & ".join(("/(?s:.+)/", *(f"~{pattern}" for pattern in _NOT_TEXT)))
    if not offered:
        return f"start: TEXT?\nTEXT: {text}\n"
    more = ' (", " call)*' if choice.parallel else ""
    calls = f'opening call{more} "]}}"'
    opening = dumps(CALL_OPENING)
    if required:
        head = f"start: {calls}\nopening: {opening}\n"
    else:
        # Lazy: where a line opens a call, the text has ended.
        head = (
            f"start: TEXT? | {calls}\nopening[lazy]: BEFORE? {opening}\n"
            f"BEFORE: TEXT & /(?s:.*)\\n/\nTEXT: {text}\n"
        )  # fmt: skip
    return f"{head}call: %json {dumps(_call_schema(offered))}\n"


def _call_schema(tools: Sequence[Tool]) -> Schema:
    """The JSON Schema of one element of ``tool_uses``."""
    calls, definitions = [], {"any": _any_value()}
    for index, tool in enumerate(tools):
        definitions[f"tool{index}"] = _Rewriter(tool, f"#/$defs/tool{index}").schema(tool.parameters, top=True)
        parts = {"recipient_name": {"const": f"functions.{tool.name}"}, "parameters": {"$ref": f"#/$defs/tool{index}"}}
        calls.append(
            {"type": "object", "properties": parts, "required": [*parts], "additionalProperties": False}
        )  # fmt: skip
    return {"x-guidance": _SPELLING, "anyOf": calls, "$defs": definitions}


def _any_value() -> Schema:
    plain = [{"type": word} for word in ("string", "boolean", "null")]
    number = {"type": "number", "minimum": -MAX_NUMBER, "maximum": MAX_NUMBER}
    nested = [{"type": "array", "items": _ANY}, {"type": "object", "additionalProperties": _ANY}]
    return {"anyOf": [*plain, number, *nested]}


class _Rewriter:
    """One tool's schema in the words that the grammar knows, its references below ``place``."""

    def __init__(self, tool: Tool, place: str) -> None:
        self._tool, self._place = tool, place

    def schema(self, raw: Any, top: bool = False) -> Any:
        if raw is False:
            return False
        if raw is True:
            return _ANY
        words = sorted(_NOT_EXPRESSED & raw.keys())
        if words or _is_mixed(raw):
            what = (
                repr(words[0]) if words else "schemas combined by allOf, or by properties beside anyOf, oneOf or $ref"
            )
            raise CallamaError(
                f"tool {self._tool.name}: constrained decoding cannot express {what}; simplify the tool's "
                "schema or generate without constraint"
            )
        out = {key: self._keyword(key, value) for key, value in raw.items() if key in _KEPT}
        if raw.get("format") in _FORMATS:
            out["format"] = raw["format"]
        said = {"type", "enum", "const", *_COMPOSED} & out.keys()
        if not said:
            kinds = [kind for kind, words_of in _KINDS.items() if words_of & out.keys()]
            if not kinds:
                return {**_ANY, **out}
            out["type"] = kinds
        if "enum" not in out and "const" not in out and "type" in out:
            self._bound(out, out["type"] if isinstance(out["type"], list) else [out["type"]], top)
        return out

    def _keyword(self, key: str, value: Any) -> Any:
        if key == "$ref":
            return self._place + value[1:]
        if key in ("anyOf", "oneOf", "allOf", "prefixItems"):
            return [self.schema(member) for member in value]
        if key in ("properties", "$defs", "definitions"):
            return {name: self.schema(member) for name, member in value.items()}
        return self.schema(value) if key in ("items", "additionalProperties") else value

    def _bound(self, out: Schema, kinds: list[str], top: bool) -> None:
        """Says outright what JSON Schema leaves open."""
        if "object" in kinds and not set(_COMPOSED) & out.keys():
            properties = out.setdefault("properties", {})
            undeclared = [name for name in out.get("required", ()) if name not in properties]
            if undeclared and out.get("additionalProperties") is False:
                raise CallamaError(
                    f"tool {self._tool.name}: no value fits a schema that requires {undeclared[0]!r} and forbids it; "
                    "simplify the tool's schema or generate without constraint"
                )
            properties.update({name: out.get("additionalProperties", _ANY) for name in undeclared})
            closed = bool(properties) or top
            out.setdefault("additionalProperties", False if closed else _ANY)
        if "array" in kinds and "items" not in out:
            out["items"] = _ANY
        if limit := MAX_NUMBER if "number" in kinds else MAX_INTEGER if "integer" in kinds else 0:
            given = [out[k] for k in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum") if k in out]
            limit = max([limit, *(abs(value) for value in given)])
            if "exclusiveMinimum" not in out:
                out.setdefault("minimum", -limit)
            if "exclusiveMaximum" not in out:
                out.setdefault("maximum", limit)


def _is_mixed(schema: Mapping[str, Any]) -> bool:
    """Whether a value has to fit several schemas at once, none of which knows what the others declare."""
    ways = [key for key in (*_COMPOSED, "properties") if key in schema]
    return "allOf" in ways or len(ways) > 1
