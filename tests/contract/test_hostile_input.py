"""Whatever JSON comes in through the door, the only error is a CallamaError, and what is accepted renders."""

import contextlib
from typing import Any

import jsonschema_rs
from hypothesis import given
from hypothesis import strategies as st

from callama.common.errors import CallamaError
from callama.contract.messages import Conversation, Tool, dump_line
from callama.contract.schema import normalise_schema
from callama.contract.signatures import render_signature
from callama.contract.turns import parse_turns, render_turns

SCHEMA_WORDS = (
    "type", "properties", "required", "items", "prefixItems", "enum", "const", "default", "anyOf", "allOf", "oneOf",
    "$ref", "$defs", "$id", "$schema", "additionalProperties", "patternProperties", "nullable", "description", "not",
    "pattern", "exclusiveMinimum", "minimum", "x",
)  # fmt: skip
MESSAGE_WORDS = (
    "role", "content", "tool_calls", "function", "name", "arguments", "id", "tool_call_id", "type", "text",
    "function_call",
)  # fmt: skip
VALUES = (
    "object", "array", "List[int]", "Union[", "#", "#/properties/x", "#/$defs/x", "file:///etc/passwd", "(", "f", "{}",
    "text", "user", "assistant", "tool", "system", "\ud800", "", None, True, False, 0, -1, 1.5, float("nan"), 10**400,
)  # fmt: skip


def hostile(words: tuple[str, ...]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.sampled_from(VALUES),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(words), inner, max_size=4),
        max_leaves=12,
    )


@given(hostile(SCHEMA_WORDS))
def test_any_schema_is_refused_in_a_sentence_or_compiles_and_renders(parameters: Any) -> None:
    try:
        tool = Tool.from_dict({"name": "f", "parameters": parameters})
        assert "type f = (" in render_signature(tool)
    except CallamaError:
        return
    assert normalise_schema(tool.parameters) == tool.parameters
    jsonschema_rs.validator_for(tool.parameters)


@given(st.lists(hostile(MESSAGE_WORDS), max_size=3), hostile(("name", "function", "parameters", *SCHEMA_WORDS)))
def test_any_conversation_is_refused_in_a_sentence_or_survives(messages: Any, tools: Any) -> None:
    for offered in ([], tools):
        with contextlib.suppress(CallamaError):
            conversation = Conversation.from_dict({"messages": messages, "tools": offered})
            assert dump_line(conversation)
            again = parse_turns(render_turns(conversation), conversation.tools)
            assert [m.content for m in again.messages] == [m.content for m in conversation.messages]
