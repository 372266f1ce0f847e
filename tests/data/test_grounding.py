"""The grounding audit: which arguments follow from the dialogue, and which nobody said."""

from __future__ import annotations

from typing import Any

import pytest

from callama.contract.messages import Conversation, Message, Tool, ToolCall
from callama.data.grounding import Ground, audit


def ground(said: str, value: Any, schema: dict[str, Any] | None = None) -> Ground:
    tool = Tool("f", "", {"type": "object", "properties": {"a": schema or {}}})
    messages = (Message("user", said), Message("assistant", None, (ToolCall("f", {"a": value}, "call_0"),)))
    (argument,) = audit(Conversation(messages, (tool,)))
    assert (argument.function, argument.path, argument.value) == ("f", "a", value)
    return argument.ground


@pytest.mark.parametrize(
    ("said", "value", "expected"),
    [
        ("Weather in Oslo?", "Oslo", "verbatim"),
        ("weather in oslo?", "Oslo", "verbatim"),
        ("I lent 50 of them", 50, "verbatim"),
        ("It costs 1,234.50 now", 1234.5, "reformatted"),
        ("I have 5,000 dollars", 5000, "reformatted"),
        ("a tip of 15%", 0.15, "reformatted"),
        ("about 10k", 10000, "reformatted"),
        ("two hundred guests", 200, "reformatted"),
        ("twenty five of us", 25, "reformatted"),
        ("five people", 5, "reformatted"),
        ("on May 3rd, 2024", "2024-05-03", "reformatted"),
        ("on 3 May", "2024-05-03", "reformatted"),
        ("the 5th of next month, so 12/5", "2024-12-05", "reformatted"),
        ("tomorrow", "2024-05-03", "reformatted"),
        ("at 2 PM", "14:00", "reformatted"),
        ("at 2pm on May 3", "2024-05-03 14:00:00", "reformatted"),
        ("500 dollars to euros", "USD", "reformatted"),
        ("call 555-123-4567", "5551234567", "reformatted"),
        ("a trip to New York", "new_york", "reformatted"),
        ("find cheap Italian places that open late", "cheap italian places open late", "words"),
        ("Is Apple up?", "AAPL", "code"),
        ("Translate to French", "fr", "code"),
        ("anything", True, "choice"),
        ("anything", None, "choice"),
        ("anything", "", "choice"),
        ("Weather?", "Oslo", "ungrounded"),
        ("150 of them", 15, "ungrounded"),
        ("Book it", "2024-05-03", "ungrounded"),
        ("on May 4", "2024-05-13", "ungrounded"),
        ("at 2 PM", "19:30", "ungrounded"),
        ("Send it to Ann", "bob@example.com", "ungrounded"),
    ],
)
def test_where_a_value_comes_from(said: str, value: Any, expected: Ground) -> None:
    assert ground(said, value) == expected


def test_enums_and_defaults_are_a_choice_not_an_invention() -> None:
    assert ground("Weather?", "celsius", {"enum": ["celsius", "fahrenheit"]}) == "choice"
    assert ground("List them", 37, {"type": "integer", "default": 37}) == "choice"


def test_earlier_results_and_the_system_text_count_later_ones_do_not() -> None:
    tools = (Tool("f"),)
    first, second = ToolCall("f", {"x": "k9z"}, "call_0"), ToolCall("f", {"x": "k9z", "who": "Ada"}, "call_1")
    messages = (
        Message("system", "The user is Ada."),
        Message("user", "Go"),
        Message("assistant", None, (first,)),
        Message("tool", '{"token": "k9z"}', (), "call_0"),
        Message("assistant", None, (second,)),
    )
    assert [a.ground for a in audit(Conversation(messages, tools))] == ["ungrounded", "verbatim", "verbatim"]


def test_every_scalar_inside_lists_and_objects_is_looked_at() -> None:
    arguments = {"to": ["Ann", "Bob"], "box": {"size": 3, "sign": {"text": "Hi"}}}
    call = ToolCall("f", arguments, "call_0")
    conversation = Conversation((Message("user", "Ann, 3"), Message("assistant", None, (call,))), (Tool("f"),))
    assert [(a.path, a.ground) for a in audit(conversation)] == [
        ("to[]", "verbatim"),
        ("to[]", "ungrounded"),
        ("box.size", "verbatim"),
        ("box.sign.text", "ungrounded"),
    ]
