"""BFCL: the data as the official run shows them, and its checker's verdicts on its own ground truth."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest

from callama.common.errors import CallamaError, UsageError
from callama.contract.jsontext import dumps
from callama.contract.messages import ToolCall
from callama.evaluate.bfcl.checker import check
from callama.evaluate.bfcl.suites import CATEGORIES, SINGLE_TURN, UNWINNABLE, Settle, load_bfcl
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


def literal(value: Any, declared: dict[str, Any], language: str) -> Any:
    """A ground truth's value as a model would write it: Java and JavaScript values stand in strings."""
    if language == "python" or isinstance(value, str):
        return value
    kind, inner = declared["type"], declared.get("items", {}).get("type", "")
    if isinstance(value, list) and language == "java":
        quoted = kind == "ArrayList" and inner == "String"
        items = ", ".join(dumps(v) if quoted else literal(v, {"type": inner}, language) for v in value)
        return f"new ArrayList<>(Arrays.asList({items}))" if kind == "ArrayList" else f"new {inner}[]{{{items}}}"
    if isinstance(value, dict) and language == "java":
        puts = " ".join(f"put({dumps(k)}, {dumps(first(v))});" for k, v in value.items())
        return f"new HashMap<String, Object>() {{{{ {puts} }}}}"
    if isinstance(value, dict):
        return dumps({k: first(v) for k, v in value.items()})
    return dumps(value) + {"long": "L", "Bigint": "n", "float": "f" if language == "java" else ""}.get(kind, "")


def first(allowed: Any) -> Any:
    """The first value that may stand there; BFCL's inner objects have a list of values a key."""
    return next((a for a in allowed if a != ""), allowed[0]) if isinstance(allowed, list) and allowed else allowed


def plain(value: Any) -> Any:
    """A possible answer's value with its inner lists of alternatives resolved."""
    if isinstance(value, dict):
        return {k: first(v) for k, v in value.items() if v != [""]}
    return [plain(item) if isinstance(item, dict) else item for item in value] if isinstance(value, list) else value


def oracle(suite: Suite) -> dict[str, Reply]:
    """For each case the answer that the ground truth itself would give."""
    settle = suite.settle
    assert isinstance(settle, Settle)
    language = {"simple_java": "java", "simple_javascript": "javascript"}.get(settle.category, "python")
    out = {}
    for entry in settle.entries.values():
        calls = []
        for answer in entry.answer:
            for name, values in answer.items():
                schema = next(f for f in entry.functions if f["name"] == name)["parameters"]
                declared, required = schema["properties"], schema.get("required", [])
                kept = {k: a for k, a in values.items() if k in declared and ("" not in a or k in required)}
                arguments = {k: chosen(a, declared[k], language) for k, a in kept.items()}
                calls.append(ToolCall(name, arguments))
        if entry.answer:
            out[entry.id] = Reply("call", "calls", tuple(calls))
        elif entry.case.any_call:
            out[entry.id] = Reply("call", "call", (ToolCall("any", {}),))
        else:
            out[entry.id] = Reply.read("I have no function for that.")
    return out


def chosen(allowed: list[Any], declared: dict[str, Any], language: str) -> Any:
    """One of the allowed values, as it is written in that language; "any" is text outside Python."""
    texts = [a for a in allowed if isinstance(a, str) and a]
    if language != "python":
        return texts[0] if declared["type"] == "any" and texts else literal(first(allowed), declared, language)
    return plain(first(allowed))


@pytest.mark.parametrize("category", SINGLE_TURN)
def test_the_ground_truth_wins_wherever_it_can(suites: dict[str, Suite], category: str) -> None:
    suite = suites[category]
    answers = oracle(suite)
    outcomes = suite.settle([score(case, answers[case.id]) for case in suite.cases])
    lost = {o.case.id: o.error for o in outcomes if not o.right}
    assert set(lost) == {id_ for id_ in UNWINNABLE if id_.startswith(f"{category}_") and id_ in answers}


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
