"""``parse_answer`` tells calls, text and malformed calls apart, whatever the text and in linear time."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callama.common.errors import CallamaError
from callama.contract.jsontext import MAX_NESTING, loads_strict
from callama.contract.messages import Message, ToolCall
from callama.contract.tool_uses import answer_segments, parse_answer, parse_results, results_text
from tests.contract.strategies import json_objects

CALL = '{"tool_uses": [{"recipient_name": "functions.f", "parameters": {"a": 1}}]}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CALL, ""),
        (f"\n\n {CALL}\n", ""),
        (f"Sure.\n{CALL}", "Sure."),
        (f"Sure.\n\n{CALL}", "Sure.\n"),
        (json.dumps(json.loads(CALL), indent=2), ""),
    ],
)
def test_calls(text: str, said: str) -> None:
    answer = parse_answer(text)
    assert (answer.kind, answer.text, answer.calls) == ("call", said, (ToolCall("f", {"a": 1}, "call_0"),))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "It is 21 °C.",
        '{"temperature": 21}',
        "[1, 2, 3]",
        '{"name": "Ada", "age": 36}',
        '[{"name": "ResNet", "parameters": 25600000}]',
        '```json\n{"a": 1}\n```',
        "[Ada](https://example.com) wrote it",
        "I would use the tool_uses key here.",
        "{",
        "\ud800",
    ],
)
def test_texts(text: str) -> None:
    answer = parse_answer(text)
    assert (answer.kind, answer.text, answer.calls) == ("text", text, ())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (CALL[:-1], "not JSON"),
        (CALL + " Done.", "not JSON: Extra data"),
        (f"```json\n{CALL}\n```", "not JSON: Extra data"),
        (f"Sure: {CALL}", "must start the output or a line"),
        ("{'tool_uses': []}", "not JSON"),
        ('{"tool_uses": []}', "at least one call"),
        ('{"tool_uses": [], "tool_uses": []}', "occurs twice"),
        (CALL.replace("1", "NaN"), "NaN is not JSON"),
        (CALL.replace("1", "1e999"), "cannot be written as JSON"),
        (CALL.replace("1", '"\\ud800"'), "lone surrogate"),
        (CALL.replace("1", "[" * 500 + "]" * 500), "nested more than"),
        (CALL.replace("1", "9" * 5000), "thousands of digits"),
        (CALL.replace("functions.f", "f"), "functions.NAME"),
        (CALL.replace("functions.f", "functions.a b"), "names no valid function"),
        (CALL.replace('{"a": 1}', '"{}"'), "parameters must be an object"),
        (CALL.replace("}]}", '}], "text": ""}'), "unexpected key 'text'"),
        ('{"name": "f", "parameters": {}}', "another form"),
        ('[{"name": "f", "arguments": "{}"}]', "another form"),
        ('```json\n{"name": "f", "arguments": {\n```', "another form"),
        ('{"recipient_name": "functions.f", "parameters": {}}', "another form"),
        ('{"function": {"name": "f"}}', "another form"),
        ('<functioncall> {"name": "f"}', "another form"),
        ("Sure.\n<tool_call>", "another form"),
        ('<|python_tag|>f.call(a="b")', "another form"),
        ('[f(a="b")]', "another form"),
    ],
)
def test_broken_and_foreign_calls_are_not_abstentions(text: str, reason: str) -> None:
    answer = parse_answer(text)
    assert (answer.kind, answer.text, answer.calls) == ("malformed", text, ())
    assert reason in answer.reason


def mutated(call: str, position: int, cut: int, inserted: str) -> str:
    position %= len(call) + 1
    return call[:position] + inserted + call[position + cut :]


surrogates = st.text(st.characters(), max_size=30)
calls = st.builds(
    lambda arguments: "".join(s.text for s in answer_segments(Message("assistant", None, (ToolCall("f", arguments),)))),
    json_objects,
)


@given(st.one_of(surrogates, st.builds(mutated, calls, st.integers(0), st.integers(0, 3), surrogates)))
def test_never_raises_and_always_decides(text: str) -> None:
    answer = parse_answer(text)
    assert bool(answer.calls) == (answer.kind == "call")
    assert bool(answer.reason) == (answer.kind == "malformed")
    if answer.kind != "call":
        assert answer.text == text


@pytest.mark.parametrize(
    "unit",
    (
        '\n{"tool_uses"', '\n{"tool_uses": [\n', '{"tool_uses', "\n{", "\n", " ", "```\n", '{"name": ', '{"name":"',
        "[[", "\n[a(", '"name" ', ")] ", '{"a": ["arguments":', "{" + " " * 50, "\n   <", "\u2028", "\\",
    ),
)  # fmt: skip
def test_a_megabyte_of_anything_takes_a_moment(unit: str) -> None:
    for head in ("", "{", "[f(", '{"tool_uses": [{"recipient_name": "functions.f", "parameters": {"a": "', "```"):
        text = (head + unit * 1_000_000)[:1_000_000]
        start = time.process_time()
        assert parse_answer(text).kind in ("text", "malformed")
        assert time.process_time() - start < 1.0


@pytest.mark.parametrize("before", ["<tool_call>", "Well.\n  <functioncall> {}", '{"name": "f", "arguments": {}}'])
def test_a_call_behind_one_in_another_form_is_broken(before: str) -> None:
    answer = parse_answer(f"{before}\n{CALL}")
    assert (answer.kind, answer.reason) == ("malformed", "a call in another form stands before the call")


def test_a_megabyte_of_distinct_keys_takes_a_moment() -> None:
    pairs = ", ".join(f'"{i}": 1' for i in range(70_000))
    start = time.process_time()
    with pytest.raises(CallamaError, match="'69999' occurs twice"):
        loads_strict(f'{{{pairs}, "69999": 1}}')
    assert time.process_time() - start < 1.0


def test_the_deepest_value_fits_into_a_call_and_into_results() -> None:
    deep: object = 1
    for _ in range(MAX_NESTING - 1):
        deep = [deep]
    call = ToolCall("f", {"a": deep})
    text = "".join(s.text for s in answer_segments(Message("assistant", None, (call,))))
    assert parse_answer(text).calls[0].arguments == call.arguments
    assert parse_results(results_text([json.dumps([deep]), json.dumps([[deep]])])) == [
        json.dumps([deep]),
        json.dumps([[deep]]),  # one too deep: it stays a string, and reads the same
    ]


@pytest.mark.parametrize("said", [CALL, f"Look:\n{CALL}", CALL[:-1], '{"name": "f", "arguments": {}}'])
def test_text_that_would_be_read_as_a_call_is_not_rendered(said: str) -> None:
    with pytest.raises(CallamaError, match="would be read as a call"):
        answer_segments(Message("assistant", said))


def test_too_long_to_be_read_is_not_rendered() -> None:
    with pytest.raises(CallamaError, match="1,000,000"):
        answer_segments(Message("assistant", None, (ToolCall("f", {"a": "x" * 1_000_000}),)))
    with pytest.raises(CallamaError, match="1,000,000"):
        results_text(["x" * 600_000, "y" * 600_000])
