"""BFCL's categories as suites, each by itself; the multi-turn ones are led in ``dialogues``.

Prompts follow the official run: its hint about the language behind each description, and Java's and
JavaScript's parameters as strings that say which type they hold. Scoring follows it too, with one
difference: a broken call is not an abstention.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from callama.common.errors import CallamaError, UsageError
from callama.contract.messages import Conversation, Message, Tool, ToolCall
from callama.evaluate.bfcl.checker import check
from callama.evaluate.bfcl.dialogues import CATEGORIES as MULTI_TURN
from callama.evaluate.bfcl.dialogues import load_dialogues
from callama.evaluate.bfcl.wanted import wanted_calls
from callama.evaluate.bfcl.wheel import REQUIREMENT, SHA256, checked_wheel, read_lines
from callama.evaluate.cases import Case
from callama.evaluate.score import Outcome
from callama.evaluate.suites import Suite

SINGLE_TURN = (
    "simple_python", "simple_java", "simple_javascript", "multiple", "parallel", "parallel_multiple", "irrelevance",
    "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple", "live_irrelevance", "live_relevance",
)  # fmt: skip
CATEGORIES = SINGLE_TURN + MULTI_TURN
GROUPS = {"": CATEGORIES, "single_turn": SINGLE_TURN, "multi_turn": MULTI_TURN}
# The checker refuses their own ground truth (bfcl-eval 2026.3.23): it breaks the case's schema, or Java's
# values come out of the checker's reader with types that the ground truth does not have.
UNWINNABLE = (
    "live_simple_106-63-0", "live_simple_112-68-0", "live_multiple_862-181-3", "live_multiple_964-207-0",
    "simple_java_36", "simple_java_64", "simple_java_65",
)  # fmt: skip
_LANGUAGES = {"simple_java": "java", "simple_javascript": "javascript"}
_HINTS = {"python": "Python 3", "java": "Java 8 SDK", "javascript": "JavaScript"}


@dataclass(frozen=True)
class Entry:
    """One record: the functions as the data have them, and the accepted answers (none: no call, or any)."""

    id: str
    functions: list[dict[str, Any]]
    answer: list[dict[str, dict[str, list[Any]]]]
    case: Case


@dataclass(frozen=True)
class Settle:
    """Gives outcomes the official checker's verdict."""

    wheel: Path
    category: str
    entries: dict[str, Entry]

    def __call__(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """The outcomes, with ``exact_call`` and ``error`` as the checker says."""
        judged = [i for i, o in enumerate(outcomes) if o.reply.kind == "call" and self.entries[o.case.id].answer]
        verdicts = check(self.wheel, [self.job(outcomes[i].case.id, outcomes[i].reply.calls) for i in judged])
        out = list(outcomes)
        for i, verdict in zip(judged, verdicts, strict=True):
            out[i] = replace(out[i], exact_call=verdict["valid"], error=verdict["error"])
        return out

    def job(self, case_id: str, calls: Sequence[ToolCall]) -> dict[str, Any]:
        """One question to the checker."""
        entry = self.entries[case_id]
        return {"kind": "calls", "functions": entry.functions, "calls": [{call.name: call.arguments} for call in calls],
                "answer": entry.answer, "language": _LANGUAGES.get(self.category, "python"),
                "category": self.category}  # fmt: skip


def load_bfcl(name: str, folder: Path, limit: int | None = None) -> list[Suite]:
    """The suites of ``bfcl`` (all categories), ``bfcl:single_turn``, ``bfcl:multi_turn`` or ``bfcl:CATEGORY``, of
    at most ``limit`` cases each.

    Raises:
        UsageError: no such category, or the data were not pulled. CallamaError: they are damaged.
    """
    _, _, asked = name.partition(":")
    if asked not in GROUPS and asked not in CATEGORIES:
        known = ", ".join((*CATEGORIES, *filter(None, GROUPS)))
        raise UsageError(f"unknown BFCL category {asked!r}; known are {known}")
    wheel = checked_wheel(folder)
    return [
        load_dialogues(wheel, category, limit) if category in MULTI_TURN else _load(wheel, category, limit)
        for category in GROUPS.get(asked, (asked,))
    ]


def _load(wheel: Path, category: str, limit: int | None) -> Suite:
    file = f"BFCL_v4_{category}.json"
    answers: dict[str, Any] = {}
    if "relevance" not in category:
        lines = read_lines(wheel, f"bfcl_eval/data/possible_answer/{file}")
        answers = {line["id"]: line["ground_truth"] for line in lines}
    records = read_lines(wheel, f"bfcl_eval/data/{file}")[:limit]
    entries = [_entry(record, category, answers.get(record["id"], [])) for record in records]
    facts = {"file": file, "source": REQUIREMENT, "sha256": SHA256, "cases": len(entries), "broken_records": {},
             "unwinnable": sum(entry.id in UNWINNABLE for entry in entries)}  # fmt: skip
    settle = Settle(wheel, category, {entry.id: entry for entry in entries})
    return Suite(f"bfcl:{category}", [entry.case for entry in entries], facts, settle=settle)


def _entry(record: dict[str, Any], category: str, answer: list[Any]) -> Entry:
    language = _LANGUAGES.get(category, "python")
    try:
        tools = tuple(Tool.from_dict(_shown(function, language)) for function in record["function"])
        prompt = Conversation.from_dict({"messages": record["question"][0]})
    except CallamaError as error:
        raise CallamaError(f"BFCL record {record['id']}: {error}") from None
    expected = Message("assistant", None, wanted_calls(answer, record["function"], language))
    conversation = Conversation(prompt.messages, tools)
    case = Case(conversation, expected, category, record["id"], any_call=category == "live_relevance")
    return Entry(record["id"], record["function"], answer, case)


def _shown(function: dict[str, Any], language: str) -> dict[str, Any]:
    """A function as the official run shows it to models."""
    shown = copy.deepcopy(function)
    shown["description"] += f" Note that the provided function is in {_HINTS[language]} syntax."
    if language != "python":
        for value in shown["parameters"]["properties"].values():
            value["description"] = value.get("description", "") + _in_text(value, language)
            value["type"] = "string"
    return shown


def _in_text(value: dict[str, Any], language: str) -> str:
    """What a parameter's description says about its type; takes from ``value`` what it now says in words."""
    spoken = {"java": "Java", "javascript": "JavaScript"}[language]
    if value["type"] == "any":
        return f" This parameter can be of any type of {spoken} object in string representation."
    text = f" This is {spoken} {value['type']} type parameter in string representation."
    if value["type"] in ("ArrayList", "Array", "array") and "items" in value:
        item = value.pop("items")["type"]
        text += f" The list elements are of type {item}; they are not in string representation."
    if value["type"] == "dict" and language == "javascript" and "properties" in value:
        inner = json.dumps(value.pop("properties"))
        text += f" The dictionary entries have the following schema; they are not in string representation. {inner}"
    return text
