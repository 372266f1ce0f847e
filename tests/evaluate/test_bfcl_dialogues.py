"""BFCL's multi-turn dialogues: led as the official run leads them, run without eval, judged by its checker."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from callama.contract.messages import ToolCall
from callama.evaluate.bfcl.checker import check
from callama.evaluate.bfcl.dialogues import BROKEN, CATEGORIES, MORE_FUNCTIONS, Dialogue, Talk, load_dialogues
from callama.evaluate.bfcl.dialogues import _read_call as read_call
from callama.evaluate.bfcl.wheel import WHEEL
from callama.evaluate.cases import Case
from callama.evaluate.journal import case_key
from callama.evaluate.rates import rates
from callama.evaluate.reply import Reply
from callama.evaluate.score import Outcome, score
from callama.evaluate.suites import Suite
from tests import fetch

Speaker = Callable[[Case, int, bool], Reply]


class Scripted:
    """Answers by a function of the case, its turn and whether the user has just spoken; keeps what it was asked."""

    def __init__(self, speak: Speaker) -> None:
        self.speak, self.asked = speak, list[Case]()
        self.identity: dict[str, Any] = {}
        self.slots = 64

    def close(self) -> None:
        """Nothing to free."""

    def answer(self, cases: Sequence[Case], keep: Callable[[int, Reply], None]) -> None:
        self.asked += cases
        for index, case in enumerate(cases):
            turn = sum(m.role == "user" for m in case.prompt.messages) - 1
            keep(index, self.speak(case, turn, case.prompt.messages[-1].role == "user"))


def load(category: str, limit: int | None = None) -> tuple[Suite, dict[str, Dialogue]]:
    suite = load_dialogues(fetch.bfcl_dir() / WHEEL, category, limit)
    talk = getattr(suite.ask, "__self__", None)
    assert isinstance(talk, Talk)
    return suite, talk.dialogues


def lead(suite: Suite, speak: Speaker) -> tuple[list[Outcome], Scripted]:
    model, replies = Scripted(speak), dict[int, Reply]()
    suite.ask(model, suite.cases, replies.__setitem__)
    return suite.settle([score(case, replies[i]) for i, case in enumerate(suite.cases)]), model


def calls(*made: ToolCall) -> Reply:
    return Reply("call", "calls", made) if made else Reply("text", "Done.")


def truth(dialogues: dict[str, Dialogue]) -> Speaker:
    """Says the true calls of each turn at once, then that it is done."""

    def speak(case: Case, turn: int, asked: bool) -> Reply:
        dialogue = dialogues[case.id]
        tools = {t.name: {"parameters": t.parameters} for of in dialogue.tools.values() for t in of}
        return calls(*(read_call(call, tools) for call in dialogue.answer[turn] if asked))

    return speak


@pytest.mark.slow
@pytest.mark.parametrize("category", CATEGORIES)
def test_the_ground_truth_wins_every_dialogue(category: str) -> None:
    suite, dialogues = load(category)
    assert len(suite.cases) == 200
    outcomes, _ = lead(suite, truth(dialogues))
    assert [(o.case.id, o.error) for o in outcomes if not o.right] == []
    assert not any(o.hallucinated for o in outcomes)  # also of functions that come later


def test_trap_29_no_dialogue_takes_the_answers_of_another() -> None:
    """Hundreds of them begin with the same words."""
    cases = [case for category in CATEGORIES for case in load(category)[0].cases]
    assert len({case_key({}, case) for case in cases}) == len(cases) == 800


def test_the_flow_is_the_official_one() -> None:
    suite, dialogues = load("multi_turn_miss_func", 1)
    _, model = lead(suite, truth(dialogues))
    dialogue = dialogues["multi_turn_miss_func_0"]
    first, last = model.asked[0].prompt, model.asked[-1].prompt
    assert [m.role for m in first.messages] == ["user"]
    users = [m.content for m in last.messages if m.role == "user"]
    assert len(users) == 5 and users[3] == MORE_FUNCTIONS
    assert {t.name for t in last.tools} - {t.name for t in first.tools} == {"sort"}
    made, results = (sum(len(m.tool_calls) for m in last.messages), sum(m.role == "tool" for m in last.messages))
    assert made == results == sum(map(len, dialogue.answer))
    assert json.loads(next(m.content or "" for m in last.messages if m.role == "tool")) == {
        "current_working_directory": "document"
    }
    assert first.tools[0].description.endswith(" Note that the provided function is in Python 3 syntax.")


def test_what_loses_a_dialogue() -> None:
    suite, dialogues = load("multi_turn_base", 2)
    right = truth(dialogues)

    def said(speak: Speaker) -> tuple[bool, str, str]:
        outcome = lead(suite, speak)[0][0]
        return outcome.right, outcome.error, outcome.reply.kind

    assert said(right) == (True, "", "call")
    assert said(lambda case, turn, asked: Reply("text", "I cannot.")) == (
        False, "multi_turn:empty_turn_model_response", "text",
    )  # fmt: skip
    other = ToolCall("mkdir", {"dir_name": "wrong"})
    made = said(lambda c, t, a: calls(other, *right(c, t, a).calls) if a else right(c, t, a))
    assert made == (False, "multi_turn:instance_state_mismatch", "call")
    assert said(lambda *_: calls(ToolCall("ls", {}))) == (False, "multi_turn:force_terminated", "call")
    assert said(lambda *_: Reply.failed("gone")) == (False, "", "failed")


def test_a_broken_call_ends_its_turn_and_is_counted() -> None:
    suite, dialogues = load("multi_turn_base", 1)
    right = truth(dialogues)
    outcomes, model = lead(suite, lambda c, t, a: right(c, t, a) if a else Reply.read('{"tool_uses": ['))
    assert [m.content for m in model.asked[-1].prompt.messages].count(BROKEN) == 3
    report = rates(outcomes)
    assert outcomes[0].right and report["malformed"]["hits"] == 1 and report["parse_rate"]["hits"] == 0
    assert report["right_function"]["count"] == report["arguments"]["f1"]["count"] == 0


def test_a_thought_is_no_part_of_the_history() -> None:
    suite, dialogues = load("multi_turn_base", 1)
    right = truth(dialogues)
    thought = "<think>Is it done?</think>\n"
    outcomes, model = lead(suite, lambda c, t, a: right(c, t, a) if a else Reply.read(f"{thought}Done."))
    assert outcomes[0].right and thought in json.loads(outcomes[0].reply.text.splitlines()[-1])["text"]
    said = [m.content for m in model.asked[-1].prompt.messages if m.role == "assistant" and m.content]
    assert set(said) == {"Done."}


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (ToolCall("pwd", {}), '{"current_working_directory": "/workspace"}'),
        (ToolCall("print", {"x": 1}), "Error during execution: name 'print' is not defined"),
        (ToolCall("__import__", {"name": "os"}), "Error during execution: name '__import__' is not defined"),
        (ToolCall("pwd.__class__", {}), "Error during execution: not a method of a service"),
        (ToolCall("pwd", {"a=open('/etc/passwd')": 1}), "Error during execution: "),
        (ToolCall("cd", {"folder": "__import__('os').system('true')"}), "No such file or directory"),
        (ToolCall("_load_scenario", {"scenario": {}}), "Error during execution: "),
        (ToolCall("importlib.import_module", {"name": "this"}), "Error during execution: name 'importlib' is not"),
        (ToolCall("json.loads", {"s": "1"}), "Error during execution: name 'json' is not defined"),
    ],
)
def test_trap_29_what_a_model_calls_is_never_evaluated(call: ToolCall, result: str) -> None:
    suite, dialogues = load("multi_turn_base", 1)
    entry = dialogues[suite.cases[0].id].entry
    job = {"kind": "run", "entry": entry, "steps": [[{"name": call.name, "arguments": call.arguments}]]}
    (answer,) = check(fetch.bfcl_dir() / WHEEL, [job])
    assert result in answer["results"][0] and "root:" not in answer["results"][0]


@pytest.mark.slow
def test_a_call_without_end_ends_its_dialogue_only() -> None:
    entry = {"id": "multi_turn_base_x", "initial_config": {}, "involved_classes": ["MathAPI"]}
    heavy = {"name": "logarithm", "arguments": {"value": 3, "base": 7, "precision": 10**8}}
    light = {"name": "add", "arguments": {"a": 1, "b": 2}}
    jobs = [{"kind": "run", "entry": entry, "steps": [[call]]} for call in (heavy, light)]
    first, second = check(fetch.bfcl_dir() / WHEEL, jobs)
    assert (first["results"], first["error"]) == (None, "checker:limits")
    assert second == {"results": ['{"result": 3}']}
