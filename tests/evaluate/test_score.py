"""What an answer is worth: calls as JSON values, in any order; a broken call is neither call nor abstention."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from callama.contract.messages import Conversation, Message, Tool, ToolCall
from callama.contract.tool_uses import answer_segments
from callama.evaluate.cases import Case, cases_of, reports_error
from callama.evaluate.rates import RATES, paired, rates
from callama.evaluate.reply import KINDS, Reply
from callama.evaluate.report import example, table
from callama.evaluate.score import Outcome, loops, score
from callama.evaluate.statistics import mcnemar, ratio, wilson
from tests import tiny

Calls = list[tuple[str, dict[str, Any]]]
PROMPT = Conversation((Message("user", "Go on."),))


def message(calls: Calls) -> Message:
    return Message("assistant", None, tuple(ToolCall(name, arguments) for name, arguments in calls))


def says(calls: Calls) -> str:
    return "".join(segment.text for segment in answer_segments(message(calls)))


def scored(wanted: Calls, text: str, scenario: str = "s") -> Outcome:
    expected = message(wanted) if wanted else Message("assistant", "In words.")
    return score(Case(PROMPT, expected, scenario), Reply.read(text))


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
    assert outcome.reply.kind == "call"
    assert (outcome.right_function, outcome.exact_call, outcome.right) == (function, exact, exact)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("I do not know.", "text"),
        ("", "malformed"),
        (" \n", "malformed"),
        ('{"tool_uses": [{"recipient_name": "functions.f", "parameters": {"city": "Os', "malformed"),
        ('{"tool_uses": []}', "malformed"),
        ("{'tool_uses': [{'recipient_name': 'functions.f', 'parameters': {}}]}", "malformed"),
        ('{"name": "f", "arguments": {"city": "Oslo", "days": 1}}', "malformed"),
        ('<functioncall> {"name": "f"}', "malformed"),
    ],
)
def test_trap_29_what_is_no_call(text: str, kind: str) -> None:
    called = scored([F], text)
    assert (called.reply.kind, called.right_function, called.exact_call, called.right) == (kind, False, False, False)
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
def test_trap_29_every_rate_has_its_interval(hits: int, count: int, low: float, high: float) -> None:
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
        "right_turn": (2, 8),
        "parse_rate": (3, 5),
        "schema_valid": (0, 5),
        "right_function": (2, 5),
        "exact_call": (1, 5),
        "exact_sequence": (1, 5),
        "right_abstention": (1, 3),
        "asked_back": (0, 0),
        "recovered": (0, 0),
        "plain_chat": (1, 3),
        "malformed": (2, 8),
        "hallucinated": (4, 8),
        "failed": (0, 8),
        "cut": (0, 8),
    }
    assert report["confusion"] == {
        "call": {"call": 3, "text": 1, "malformed": 1, "failed": 0},
        "text": {"call": 1, "text": 1, "malformed": 1, "failed": 0},
    }
    functions = {name: (rate["hits"], rate["count"]) for name, rate in report["functions"].items()}
    assert functions == {"f": (1, 5), "g": (0, 1)}
    scenarios = {name: (rate["hits"], rate["count"]) for name, rate in report["scenarios"].items()}
    assert scenarios == {"chat": (1, 3), "one": (1, 2), "two": (0, 3)}
    json.dumps(report, allow_nan=False)


def test_the_table_shows_every_rate_beside_its_interval() -> None:
    sink = io.StringIO()
    console = Console(width=140, file=sink)
    report = rates(outcomes())
    console.print(table("suite", {"base": rates(outcomes()[2:5]), "tuned": report}))
    lines = sink.getvalue().splitlines()
    for name, rate in report.items():
        assert name not in RATES or any(name in line for line in lines) == bool(rate["count"])
    exact = next(line for line in lines if "exact_call" in line)
    assert "20.0%  [3.6%, 62.4%]" in exact and "0.0%  [0.0%, 56.1%]" in exact
    assert any("right turn: two" in line for line in lines)


def test_an_example_shows_request_wish_and_answers() -> None:
    right, wrong = scored([F], says([F])), scored([F], "No\nidea.")
    text = example({"base": wrong, "tuned": right})
    assert "[s] Go on." in text and 'wanted  f({"city": "Oslo", "days": 1})' in text
    assert "base    ✗ No idea." in text and "tuned   ✓ {" in text
    assert "wanted  text, such as: In words." in example({"base": scored([], "x")})


SCHEMA = {"properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}
OFFERED = Conversation((Message("user", "Go on."),), (Tool.from_dict({"name": "f", "parameters": SCHEMA}),))


@pytest.mark.parametrize(
    ("made", "valid", "hallucinated"),
    [([F], True, ()), ([("f", {"city": "Rome"})], True, ()), ([("f", {"days": 1})], False, ()),
     ([("f", {"city": 3})], False, ()), ([("f", {"city": "Oslo", "unit": "c"})], False, ()), ([F, G], False, ("g",))],
)  # fmt: skip
def test_schemas_and_hallucinated_functions(made: Calls, valid: bool, hallucinated: tuple[str, ...]) -> None:
    outcome = score(Case(OFFERED, message([F]), "s"), Reply.read(says(made)))
    assert (outcome.schema_valid, outcome.hallucinated) == (valid, hallucinated)


def test_a_required_argument_without_a_schema_is_valid() -> None:
    loose = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a", "b"]}
    offered = Conversation((Message("user", "Go on."),), (Tool("f", "", loose),))
    outcome = score(
        Case(offered, message([("f", {"a": "x", "b": {"c": 1}})]), "s"),
        Reply.read(says([("f", {"a": "x", "b": {"c": 1}})])),
    )
    assert outcome.schema_valid and outcome.right


@pytest.mark.parametrize(
    ("wanted", "made", "verdicts", "sizes"),
    [
        ([F], [F], {"city": "right", "days": "right"}, (2, 2)),
        ([F], [("f", {"city": "Rome", "days": "1", "x": None})],
         {"city": "wrong_value", "days": "wrong_type", "x": "invented"}, (2, 3)),
        ([F], [("f", {"days": 1.0})], {"city": "missing", "days": "right"}, (2, 1)),
        ([F], [G], {}, (2, 1)),
        ([F, G], [F], {"city": "right", "days": "right"}, (3, 2)),
    ],
)  # fmt: skip
def test_arguments_one_by_one(wanted: Calls, made: Calls, verdicts: dict[str, str], sizes: tuple[int, int]) -> None:
    found = scored(wanted, says(made)).arguments
    assert [argument.verdict for argument in found.judged] == list(verdicts.values())
    assert (found.wanted, found.made) == sizes


def test_calls_of_one_function_are_matched_by_their_arguments() -> None:
    first, second = ("f", {"city": "Oslo", "days": 1}), ("f", {"city": "Rome", "days": 2})
    outcome = scored([first, second], says([second, first]))
    assert outcome.arguments.count("right") == 4
    assert (outcome.exact_call, outcome.exact_sequence) == (True, False)


def test_argument_rates_and_f1() -> None:
    made = [says([F]), says([("f", {"city": 5, "x": 1})]), says([G]), "No idea."]
    report = rates([scored([F], text) for text in made])
    counted = {name: (rate["hits"], rate["count"]) for name, rate in report["arguments"].items()}
    # Two calls are matched: 4 wanted arguments, of which "days" is left out once and "city" once a number;
    # 4 given ones. Of all: 2 right, 8 wanted, 5 given.
    assert counted == {
        "missing": (1, 4),
        "wrong_type": (1, 4),
        "wrong_value": (0, 4),
        "invented": (1, 4),
        "f1": (4, 13),
    }
    types = {name: (rate["hits"], rate["count"]) for name, rate in report["argument_types"].items()}
    assert types == {"number": (1, 2), "string": (1, 2)}


def test_failed_answers_are_neither_calls_nor_abstentions() -> None:
    outcome = score(Case(PROMPT, Message("assistant", "In words."), "s"), Reply.failed("no answer in 3 attempts"))
    report = rates([outcome])
    assert not outcome.right and report["right_abstention"]["hits"] == 0 and report["failed"]["hits"] == 1
    assert report["confusion"]["text"] == {kind: int(kind == "failed") for kind in KINDS}
    assert "(no answer in 3 attempts)" in example({"tuned": outcome})


def test_what_was_cut_is_counted_and_named() -> None:
    case = Case(PROMPT, message([F]), "s")
    found = [score(case, Reply.read(text, cut=True)) for text in ("", '{"tool_uses": [', "word " * 200)]
    assert (rates([*found, scored([F], says([F]))])["cut"]["hits"], found[1].right) == (3, False)
    for outcome in found:
        assert example({"tuned": outcome}).endswith(" (cut at --max-new-tokens)")
    earlier = Reply.read("x").to_dict()
    del earlier["cut"]
    assert Reply.from_dict(earlier) == Reply.read("x")


THOUGHT = '<think>\nShould I call f?\n{"tool_uses": [\n</think>\n\n'


@pytest.mark.parametrize(
    ("behind", "kind", "asked"),
    [("I cannot do that.", "text", False), ("In which city?", "text", True), (says([F]), "call", False),
     ('{"tool_uses": [', "malformed", False), ("", "malformed", False)],
)  # fmt: skip
def test_a_thought_before_the_answer_is_not_judged(behind: str, kind: str, asked: bool) -> None:
    outcome = scored([], THOUGHT + behind)
    assert (outcome.reply.kind, outcome.asked_back) == (kind, asked)
    assert outcome.reply.text == THOUGHT + behind and outcome.reply.spoken == behind
    assert not outcome.reply.calls or outcome.reply.calls == Reply.read(behind).calls


@pytest.mark.parametrize("text", ["", "<think>\nShould I", THOUGHT])
def test_an_answer_that_was_cut_before_it_said_anything(text: str) -> None:
    reply = Reply.read(text, cut=True)
    assert (reply.kind, reply.cut, reply.text) == ("malformed", True, text)
    assert "cut before anything was said" in reply.reason


def test_any_call_is_right_where_relevance_is_asked() -> None:
    case = Case(OFFERED, Message("assistant"), "live_relevance", any_call=True)
    assert [score(case, Reply.read(text)).right for text in (says([F]), "No.", '{"tool_uses": [')] == [
        True,
        False,
        False,
    ]
    report = rates([score(case, Reply.read(says([F])))])
    assert report["exact_call"]["count"] == 0 and report["parse_rate"]["count"] == report["right_turn"]["hits"] == 1


def test_what_is_missing_is_asked_for() -> None:
    question, call = {"role": "assistant", "content": "In which city?"}, {"function": {"name": "f", "arguments": F[1]}}
    chat = [{"role": "user", "content": "How warm?"}, question, {"role": "user", "content": "Oslo"},
            {"role": "assistant", "tool_calls": [call]}]  # fmt: skip
    asking, calling = cases_of([Conversation.from_dict({"messages": chat, "tools": [{"name": "f"}]})])
    assert asking.asks_back and not calling.asks_back
    offer = Conversation.from_dict({"messages": [chat[0], question], "tools": [{"name": "f"}]})
    assert not cases_of([offer])[0].asks_back
    labelled = Conversation(offer.messages, offer.tools, {"scenario": "missing_argument"})
    assert cases_of([labelled])[0].asks_back
    texts = ["Where?", "哪里？", "أين؟", "In Oslo it is warm.", says([F])]
    assert [score(asking, Reply.read(text)).asked_back for text in texts] == [True, True, True, False, False]


def test_a_polite_question_behind_a_result_asks_for_nothing() -> None:
    def called(name: str, city: str) -> list[Message]:
        call = ToolCall("f", {"city": city}, name)
        return [Message("assistant", None, (call,)), Message("tool", "done", (), name)]

    chat = [Message("user", "Book Rome."), *called("a", "Rome"), Message("assistant", "Done. Anything else?"),
            Message("user", "Oslo too."), *called("b", "Oslo")]  # fmt: skip
    assert not any(case.asks_back for case in cases_of([Conversation(tuple(chat), OFFERED.tools)]))


def test_a_greeting_answers_nobody() -> None:
    greeting, question, answer = Message("assistant", "Hello?"), Message("user", "Hi"), Message("assistant", "Yes.")
    for before in ([greeting], [Message("system", "Be brief."), greeting], [greeting, greeting]):
        (case,) = cases_of([Conversation((*before, question, answer))])
        assert (case.id, case.expected) == (f"0.{len(before) + 1}", answer)


@pytest.mark.parametrize(
    ("result", "bad"),
    [('{"error": "no such city"}', True), ("Error: timeout", True),
     ('{"status": 404}', True), ('{"status": "failed"}', True),
     ('{"success": false}', True), ('{"error": null, "value": 3}', False), ('{"status": 200}', False), ("[]", False),
     ("The error rate fell.", False), ('{"ok": 0}', False)],
)  # fmt: skip
def test_recovery_is_asked_after_a_tool_error(result: str, bad: bool) -> None:
    assert reports_error(result) == bad
    chat = [Message("user", "How warm?"), Message("assistant", None, (ToolCall("f", F[1], "a"),)),
            Message("tool", result, (), "a"), Message("assistant", "I could not find out.")]  # fmt: skip
    first, second = cases_of([Conversation(tuple(chat), OFFERED.tools)])
    assert (first.after_error, second.after_error) == (False, bad)
    report = rates([score(second, Reply.read("Sorry."))])
    assert report["recovered"]["count"] == report["recovered"]["hits"] == int(bad)


def test_text_that_goes_round_in_circles_is_no_conversation() -> None:
    assert loops("I am here to help you. " * 5)
    assert not loops("one two three " * 2)
    assert not loops("The quick brown fox jumps over the lazy dog while seven large cats look on from an old red wall.")
    assert not scored([], "I am here to help you. " * 5).chats and scored([], "Good day.").chats
    assert not scored([], "").chats
    assert scored([], f"<think>{'I am here to help you. ' * 5}</think> Good day.").chats


@pytest.mark.parametrize(
    ("lost", "won", "p"),
    # Two-sided binomial tails by hand: 2·(1+10)/2^10, 2·(1+5)/2^5 over 1, 2/2^6.
    [(1, 9, 22 / 1024), (1, 4, 12 / 32), (0, 6, 2 / 64), (3, 3, 1.0), (0, 0, 1.0)],
)
def test_mcnemars_exact_test(lost: int, won: int, p: float) -> None:
    pairs = [(True, False)] * lost + [(False, True)] * won + [(True, True)] * 5 + [(False, False)] * 2
    test = mcnemar(*(list(side) for side in zip(*pairs, strict=True)))
    assert test == {"both": 5, "neither": 2, "only_first": lost, "only_second": won, "p": pytest.approx(p)}


def test_mcnemar_needs_the_same_cases_and_holds_for_thousands() -> None:
    with pytest.raises(ValueError):
        paired(outcomes(), outcomes()[1:])
    test = mcnemar([True] * 2000 + [False] * 2100, [False] * 2000 + [True] * 2100)
    assert test["p"] == pytest.approx(0.1222, abs=2e-3)


def test_a_bootstrap_over_cases() -> None:
    parts, wholes = [1, 0, 2, 1] * 25, [2, 2, 2, 2] * 25
    found = ratio(parts, wholes)
    assert (found["rate"], found["hits"], found["count"]) == (0.5, 100, 200)
    # Parts have a variance of 0.5, so the ratio's standard error is sqrt(0.5 / 100) / 2.
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * 0.0354, rel=0.1)
    assert ratio(parts, wholes) == found and ratio([], []) == ratio([0], [0]) == wilson(0, 0)
