"""Scoring one answer against the expected turn.

A malformed call is never an abstention: it is counted on its own. Calls are compared as sets with
repetition, arguments as JSON values (1 equals 1.0, true does not equal 1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from callama.contract.messages import ToolCall
from callama.contract.tool_uses import Answer, parse_answer
from callama.evaluate.cases import Case


@dataclass(frozen=True)
class Outcome:
    """What an answer was worth. ``right_function`` and ``exact_call`` concern cases that want a call."""

    case: Case
    text: str
    answer: Answer
    right_function: bool
    exact_call: bool

    @property
    def right(self) -> bool:
        """The exact calls where calls are wanted, text where none is."""
        return self.exact_call if self.case.wants_call else self.answer.kind == "text"


def canonical(value: Any) -> Any:
    """A hashable form in which two values are equal exactly when they are the same JSON value."""
    if isinstance(value, bool) or value is None:
        return ("word", value)
    if isinstance(value, int | float):
        return ("number", int(value) if isinstance(value, float) and value.is_integer() else value)
    if isinstance(value, dict):
        return ("object", frozenset((k, canonical(v)) for k, v in value.items()))
    if isinstance(value, list | tuple):
        return ("array", tuple(canonical(v) for v in value))
    return ("string", value)


def _call_set(calls: Sequence[ToolCall]) -> Counter[Any]:
    return Counter((c.name, canonical(c.arguments)) for c in calls)


def score(case: Case, text: str) -> Outcome:
    """Parses and scores one answer."""
    answer = parse_answer(text)
    wanted, made = case.expected.tool_calls, answer.calls
    return Outcome(
        case,
        text,
        answer,
        right_function=bool(wanted) and Counter(c.name for c in wanted) == Counter(c.name for c in made),
        exact_call=bool(wanted) and _call_set(wanted) == _call_set(made),
    )
