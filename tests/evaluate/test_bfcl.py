"""BFCL: the data as the official run shows them, and its checker's verdicts on its own ground truth."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from callama.common.errors import CallamaError, UsageError
from callama.contract.messages import ToolCall
from callama.evaluate.bfcl.checker import check
from callama.evaluate.bfcl.suites import CATEGORIES, SINGLE_TURN, UNWINNABLE, load_bfcl
from callama.evaluate.bfcl.wheel import WHEEL, checked_wheel, pull_bfcl
from callama.evaluate.rates import rates
from callama.evaluate.reply import Reply
from callama.evaluate.score import score
from callama.evaluate.suites import Suite
from tests import fetch

COUNTS = {"simple_python": 400, "simple_java": 100, "simple_javascript": 50, "multiple": 200, "parallel": 200,
          "parallel_multiple": 200, "irrelevance": 240, "live_simple": 258, "live_multiple": 1053, "live_parallel": 16,
          "live_parallel_multiple": 24, "live_irrelevance": 884, "live_relevance": 16}  # fmt: skip


@pytest.fixture(scope="module")
def folder() -> Path:
    return fetch.bfcl_dir()


@pytest.fixture(scope="module")
def suites(folder: Path) -> dict[str, Suite]:
    return {suite.name.removeprefix("bfcl:"): suite for suite in load_bfcl("bfcl:single_turn", folder)}


def test_all_single_turn_categories(suites: dict[str, Suite]) -> None:
    assert tuple(suites) == SINGLE_TURN
    assert {name: len(suite.cases) for name, suite in suites.items()} == COUNTS


def test_groups_of_categories(folder: Path) -> None:
    assert tuple(s.name.removeprefix("bfcl:") for s in load_bfcl("bfcl", folder, 1)) == CATEGORIES
    multi_turn = load_bfcl("bfcl:multi_turn", folder, 2)
    assert [(s.name[16:], len(s.cases)) for s in multi_turn] == [
        ("base", 2), ("miss_func", 2), ("miss_param", 2), ("long_context", 2),
    ]  # fmt: skip


def oracle(suite: Suite) -> dict[str, Reply]:
    """For each case the answer that the ground truth itself would give."""
    out = {}
    for case in suite.cases:
        if case.wants_call:
            calls = (ToolCall("any", {}),) if case.any_call else case.expected.tool_calls
            out[case.id] = Reply("call", "calls", calls)
        else:
            out[case.id] = Reply.read("I have no function for that.")
    return out


@pytest.mark.parametrize("category", SINGLE_TURN)
def test_the_ground_truth_wins_wherever_it_can(suites: dict[str, Suite], category: str) -> None:
    suite = suites[category]
    answers = oracle(suite)
    outcomes = suite.settle([score(case, answers[case.id]) for case in suite.cases])
    lost = {o.case.id: o.error for o in outcomes if not o.right}
    assert set(lost) == {id_ for id_ in UNWINNABLE if id_.startswith(f"{category}_") and id_ in answers}
    if (report := rates(outcomes))["exact_sequence"]["count"]:  # the calls that are compared with are those
        shares = [report["exact_sequence"], report["arguments"]["f1"], *report["argument_types"].values()]
        assert {share["rate"] for share in shares} == {1.0}
        assert (set(report["argument_types"]) == {"string"}) is (category in ("simple_java", "simple_javascript"))


def test_an_object_within_is_one_of_its_alternatives(suites: dict[str, Suite]) -> None:
    of = {case.id: case.expected.tool_calls[0].arguments for name in SINGLE_TURN for case in suites[name].cases
          if case.expected.tool_calls}  # fmt: skip
    body = of["live_simple_40-17-0"]["body"]
    assert body["airConJobMode"] == "AIR_CLEAN" and "powerSaveEnabled" not in body
    assert of["simple_python_17"]["formatted"] is True, (
        "the checker demands it, though the answer says that it may lack"
    )
    assert of["simple_java_1"]["useShortName"] == "true"
    assert of["simple_java_1"]["params"].startswith("new HashMap<String, Object>() {{ put(")


def test_wrong_answers_lose(suites: dict[str, Suite]) -> None:
    suite = suites["simple_python"]
    case, answers = suite.cases[0], oracle(suite)
    right = answers[case.id].calls[0]
    wrong = {
        "simple_function_checker:wrong_count": (right, right),
        "simple_function_checker:wrong_func_name": (ToolCall("other", right.arguments),),
        "simple_function_checker:missing_required": (ToolCall(right.name, {}),),
        "simple_function_checker:unexpected_param": (ToolCall(right.name, right.arguments | {"x": 1}),),
        "type_error:simple": (ToolCall(right.name, right.arguments | {"base": "ten"}),),
    }
    for error, calls in wrong.items():
        (outcome,) = suite.settle([score(case, Reply("call", "", calls))])
        assert (outcome.right, outcome.error) == (False, error)


def test_trap_29_a_broken_call_is_no_abstention(suites: dict[str, Suite]) -> None:
    for category, kinds in (("irrelevance", (True, False, False)), ("live_relevance", (False, False, True))):
        suite = suites[category]
        replies = [Reply.read("No."), Reply.read('{"tool_uses": ['), Reply("call", "", (ToolCall("f", {}),))]
        assert tuple(o.right for o in suite.settle([score(suite.cases[0], r) for r in replies])) == kinds
    suite = suites["irrelevance"]
    report = rates(suite.settle([score(case, Reply.read('{"tool_uses": [')) for case in suite.cases[:5]]))
    assert report["right_abstention"]["hits"] == 0 and report["malformed"]["hits"] == 5


def test_trap_29_prompts_have_json_types_and_the_official_words(suites: dict[str, Suite]) -> None:
    python, java, javascript = (
        suites[f"simple_{x}"].cases[0].prompt.tools[0] for x in ("python", "java", "javascript")
    )
    assert python.description.endswith(" Note that the provided function is in Python 3 syntax.")
    assert java.description.endswith(" Note that the provided function is in Java 8 SDK syntax.")
    assert javascript.description.endswith(" Note that the provided function is in JavaScript syntax.")
    types = {
        v["type"] for c in suites["simple_java"].cases for v in c.prompt.tools[0].parameters["properties"].values()
    }
    assert types == {"string"}
    controller = java.parameters["properties"]["controller"]["description"]
    assert controller.endswith(" This parameter can be of any type of Java object in string representation.")


def test_trap_29_the_checker_stays_in_its_process(folder: Path) -> None:
    wheel = folder / WHEEL
    schema = {"type": "dict", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    job = {"kind": "calls", "functions": [{"name": "f", "parameters": schema}], "answer": [{"f": {"x": [1]}}]}
    job |= {"language": "python", "category": "simple_python"}
    assert check(wheel, [job | {"calls": [{"f": {"x": 1}}]}]) == [{"valid": True, "error": ""}]
    assert check(wheel, [job | {"calls": [{"f": {"x": 2}}]}])[0]["valid"] is False
    assert check(wheel, [job | {"calls": [{"f": {"x": [{}]}}], "answer": [{}]}])[0]["error"].startswith("checker:")
    assert not [name for name in sys.modules if name.startswith("bfcl_eval")]
    with pytest.raises(CallamaError, match=r"BFCL's checker ended with status 1, saying .*bfcl_eval"):
        check(folder / "none.whl", [job | {"calls": []}])


def test_a_list_without_end_is_one_wrong_case(folder: Path) -> None:
    """The checker's pattern for JavaScript's lists tries a power of two of ways to read it."""
    schema = {"type": "dict", "properties": {"x": {"type": "array", "items": {"type": "integer"}}}, "required": ["x"]}
    job = {"kind": "calls", "functions": [{"name": "f", "parameters": schema}], "language": "javascript"}
    job |= {"category": "simple_javascript", "answer": [{"f": {"x": [[1, 2]]}}]}
    said = [{"f": {"x": "[" + ", ".join(["[1, 2]"] * 40)}}], [{"f": {"x": "[1, 2]"}}]
    first, second = check(folder / WHEEL, [job | {"calls": calls} for calls in said])
    assert (first["valid"], first["error"]) == (False, "checker:limits")
    assert second == {"valid": True, "error": ""}


def test_pull_checks_the_hash(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="callama pull bfcl"):
        checked_wheel(tmp_path)
    assert pull_bfcl(folder) is False
    (tmp_path / WHEEL).write_bytes(b"not a wheel")
    with pytest.raises(CallamaError, match=hashlib.sha256(b"not a wheel").hexdigest()):
        checked_wheel(tmp_path)
    with pytest.raises(UsageError, match="unknown BFCL category 'simple'"):
        load_bfcl("bfcl:simple", folder)
