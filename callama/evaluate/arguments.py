"""Arguments one by one: of the calls that named the right function, what became of each argument.

Calls are matched by name, the ones with the most equal arguments first, so that two calls of one
function in the wrong order are not held against their values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from callama.contract.messages import ToolCall

Verdict = Literal["right", "missing", "wrong_type", "wrong_value", "invented"]


@dataclass(frozen=True)
class Argument:
    """An argument's JSON type, as wanted (an invented one's as given), and what became of it."""

    type: str
    verdict: Verdict


@dataclass(frozen=True)
class Arguments:
    """``judged``: arguments of matched calls. ``wanted`` and ``made`` count those of all calls, matched or
    not: the F1 score must not rise when calls are left out."""

    judged: tuple[Argument, ...] = ()
    wanted: int = 0
    made: int = 0

    def count(self, *verdicts: Verdict) -> int:
        """How many arguments have one of the verdicts."""
        return sum(argument.verdict in verdicts for argument in self.judged)


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


def json_type(value: Any) -> str:
    """JSON Schema's word for a value; whole numbers are numbers, as in JSON."""
    if isinstance(value, bool):
        return "boolean"
    return "null" if value is None else str(canonical(value)[0])


def compare_arguments(wanted: Sequence[ToolCall], made: Sequence[ToolCall]) -> Arguments:
    """The arguments of the calls that were made against those that were wanted."""
    pairs = sorted((-_equal(w, m), i, j) for i, w in enumerate(wanted) for j, m in enumerate(made) if w.name == m.name)
    judged: list[Argument] = []
    taken_wanted: set[int] = set()
    taken_made: set[int] = set()
    for _, i, j in pairs:
        if i not in taken_wanted and j not in taken_made:
            taken_wanted.add(i)
            taken_made.add(j)
            judged += _judge(wanted[i].arguments, made[j].arguments)
    sizes = (sum(len(call.arguments) for call in calls) for calls in (wanted, made))
    return Arguments(tuple(judged), *sizes)


def _equal(wanted: ToolCall, made: ToolCall) -> int:
    return sum(
        key in made.arguments and canonical(made.arguments[key]) == canonical(value)
        for key, value in wanted.arguments.items()
    )


def _judge(wanted: dict[str, Any], made: dict[str, Any]) -> list[Argument]:
    out = []
    for key, value in wanted.items():
        verdict: Verdict = "right"
        if key not in made:
            verdict = "missing"
        elif canonical(made[key]) != canonical(value):
            verdict = "wrong_value" if json_type(made[key]) == json_type(value) else "wrong_type"
        out.append(Argument(json_type(value), verdict))
    return out + [Argument(json_type(v), "invented") for k, v in made.items() if k not in wanted]
