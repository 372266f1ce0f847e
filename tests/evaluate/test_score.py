"""What an answer is worth: calls as JSON values, in any order; a broken call is neither call nor abstention."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from callama.contract.messages import Conversation, Message, ToolCall
from callama.contract.tool_uses import answer_segments
from callama.evaluate.cases import Case, cases_of
from callama.evaluate.report import RATES, example, rates, table, wilson
from callama.evaluate.score import Outcome, score
from tests import tiny

Calls = list[tuple[str, dict[str, Any]]]
PROMPT = Conversation((Message("user", "Go on."),))


def message(calls: Calls) -> Message:
    return Message("assistant", None, tuple(ToolCall(name, arguments) for name, arguments in calls))


def says(calls: Calls) -> str:
    return "".join(segment.text for segment in answer_segments(message(calls)))


def scored(wanted: Calls, text: str, scenario: str = "s") -> Outcome:
    expected = message(wanted) if wanted else Message("assistant", "In words.")
    return score(Case(PROMPT, expected, scenario), text)


F = ("f", {"city": "Oslo", "days": 1})
G = ("g", {"on": True})


@pytest.mark.parametrize(
    ("wanted", "made", "function", "exact"),
    [
        ([F], [F], True, True),
        ([F], [("f", {"days": 1, "city": "Oslo"})], True, True),
        ([F], [("f", {"city": "Oslo", "days": 1.0})], True, True),
        ([("f", {"x": 1.5})], [("f", {"x": 1})], True, False),
        ([F], [("f", {"city": "Rome", "days": 1})], True, False),
        ([F], [("f", {"city": "oslo", "days": 1})], True, False),
        ([F], [("f", {"city": "Oslo"})], True, False),
        ([F], [("f", {"city": "Oslo", "days": 1, "unit": "c"})], True, False),
        ([F], [("f", {"city": "Oslo", "days": True})], True, False),
        ([F], [("f", {"city": "Oslo", "days": "1"})], True, False),
        ([G], [("g", {"on": 1})], True, False),
        ([G], [("g", {"on": None})], True, False),
        ([("f", {})], [("f", {})], True, True),
        ([("f", {})], [("f", {"x": None})], True, False),
        ([F], [("F", F[1])], False, False),
        ([F, G], [G, F], True, True),
        ([F, G], [F], False, False),
        ([F], [F, G], False, False),
        ([F], [F, F], False, False),
        ([F, F], [F, F], True, True),
        ([F, F], [F], False, False),
        ([F, F], [F, ("f", {"city": "Rome", "days": 1})], True, False),
        ([("f", {"a": [1, 2], "b": {"c": [None]}})], [("f", {"b": {"c": [None]}, "a": [1, 2]})], True, True),
        ([("f", {"list": [1, 2]})], [("f", {"list": [2, 1]})], True, False),
        ([("f", {"x": []})], [("f", {"x": {}})], True, False),
        ([("f", {"x": ""})], [("f", {"x": None})], True, False),
        ([("f", {"n": 9007199254740993})], [("f", {"n": 9007199254740992})], True, False),
    ],
)  # fmt: skip
def test_calls(wanted: Calls, made: Calls, function: bool, exact: bool) -> None:
    outcome = scored(wanted, says(made))
    assert outcome.answer.kind == "call"
    assert (outcome.right_function, outcome.exact_call, outcome.right) == (function, exact, exact)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("I do not know.", "text"),
        ("", "text"),
        ('{"tool_uses": [{"recipient_name": "functions.f", "parameters": {"city": "Os', "malformed"),
        ('{"tool_uses": []}', "malformed"),
        ("{'tool_uses': [{'recipient_name': 'functions.f', 'parameters': {}}]}", "malformed"),
        ('{"name": "f", "arguments": {"city": "Oslo", "days": 1}}', "malformed"),
        ('<functioncall> {"name": "f"}', "malformed"),
    ],
)
def test_trap_29_what_is_no_call(text: str, kind: str) -> None:
    called = scored([F], text)
    assert (called.answer.kind, called.right_function, called.exact_call, called.right) == (kind, False, False, False)
    abstained = scored([], text)
    assert abstained.right == (kind == "text")
    assert not abstained.exact_call and not abstained.right_function


def test_a_call_where_none_is_wanted_is_wrong() -> None:
    outcome = scored([], says([F]))
    assert (outcome.right, outcome.exact_call, outcome.right_function) == (False, False, False)


def test_every_assistant_turn_is_a_case_with_the_true_history() -> None:
    conversation = tiny.conversation(0)
    first, second = cases_of([conversation])
    assert first.prompt.messages == conversation.messages[:1] and first.wants_call
    assert second.prompt.messages == conversation.messages[:3] and not second.wants_call
    assert (first.expected, second.expected) == (conversation.messages[1], conversation.messages[3])
    assert first.prompt.tools == conversation.tools and first.scenario == "answer_from_result"


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3; then z²/(n+z²) by hand.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
     (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0)],
)  # fmt: skip
def test_wilson_intervals(hits: int, count: int, low: float, high: float) -> None:
    rate = wilson(hits, count)
    assert (rate["rate"], rate["hits"], rate["count"]) == (hits / count, hits, count)
    assert (rate["low"], rate["high"]) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_no_cases_no_rate() -> None:
    assert wilson(0, 0) == {"rate": None, "low": None, "high": None, "hits": 0, "count": 0}


def outcomes() -> list[Outcome]:
    return [
        scored([F], says([F]), "one"),
        scored([F], says([("f", {"city": "Rome"})]), "one"),
        scored([F, G], says([F]), "two"),
        scored([F], "No idea.", "two"),
        scored([F], '{"tool_uses": [', "two"),
        scored([], "Hello.", "chat"),
        scored([], says([F]), "chat"),
        scored([], '{"tool_uses": [', "chat"),
    ]


def test_rates_count_what_they_say() -> None:
    report = rates(outcomes())
    counted = {name: (report[name]["hits"], report[name]["count"]) for name in RATES}
    assert counted == {
        "parse_rate": (3, 5),
        "right_function": (2, 5),
        "exact_call": (1, 5),
        "right_abstention": (1, 3),
        "malformed": (2, 8),
    }
    scenarios = {name: (rate["hits"], rate["count"]) for name, rate in report["scenarios"].items()}
    assert scenarios == {"chat": (1, 3), "one": (1, 2), "two": (0, 3)}
    json.dumps(report, allow_nan=False)


def test_the_table_shows_every_rate_beside_its_interval() -> None:
    sink = io.StringIO()
    console = Console(width=140, file=sink)
    report = rates(outcomes())
    console.print(table("suite", {"base": rates(outcomes()[2:5]), "tuned": report}))
    lines = sink.getvalue().splitlines()
    for name in RATES:
        assert any(name in line for line in lines)
    exact = next(line for line in lines if "exact_call" in line)
    assert "20.0%  [3.6%, 62.4%]" in exact and "0.0%  [0.0%, 56.1%]" in exact
    assert any("right turn: two" in line for line in lines)


def test_an_example_shows_request_wish_and_answers() -> None:
    right, wrong = scored([F], says([F])), scored([F], "No\nidea.")
    text = example({"base": wrong, "tuned": right})
    assert "[s] Go on." in text and 'wanted  f({"city": "Oslo", "days": 1})' in text
    assert "base    ✗ No idea." in text and "tuned   ✓ {" in text
    assert "wanted  text, such as: In words." in example({"base": scored([], "x")})
