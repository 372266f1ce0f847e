"""Scoring one answer against the expected turn.

A malformed call is never an abstention: it is counted on its own. Calls are compared as sets with
repetition, arguments as JSON values (1 equals 1.0, true does not equal 1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from callama.contract.messages import Tool, ToolCall
from callama.data.checks import Declared
from callama.evaluate.arguments import Arguments, canonical, compare_arguments
from callama.evaluate.cases import Case, asks
from callama.evaluate.reply import Reply


@dataclass(frozen=True)
class Outcome:
    """What an answer was worth.

    ``right_function``, ``exact_call`` (in any order), ``exact_sequence`` and ``arguments`` concern cases that
    want certain calls; ``schema_valid`` and ``hallucinated`` (names that no tool has) any calls that were
    made. ``error`` is the word of an outside checker that said why the calls are wrong.
    """

    case: Case
    reply: Reply
    right_function: bool
    exact_call: bool
    exact_sequence: bool
    schema_valid: bool
    hallucinated: tuple[str, ...]
    arguments: Arguments
    error: str = ""

    @property
    def right(self) -> bool:
        """The exact calls where calls are wanted, text where none is."""
        if self.case.any_call:
            return self.reply.kind == "call"
        return self.exact_call if self.case.wants_call else self.reply.kind == "text"

    @property
    def asked_back(self) -> bool:
        """Whether the answer is a question."""
        return self.reply.kind == "text" and asks(self.reply.spoken)

    @property
    def chats(self) -> bool:
        """Whether the answer is text that says something and does not go round in circles."""
        return self.reply.kind == "text" and bool(self.reply.spoken.strip()) and not loops(self.reply.spoken)


def loops(text: str) -> bool:
    """Whether a text of 20 words or more repeats itself: fewer than half of its runs of three words differ."""
    words = text.split()
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return len(words) >= 20 and len(set(runs)) < len(runs) / 2


def _call_set(calls: Sequence[ToolCall]) -> Counter[Any]:
    return Counter((c.name, canonical(c.arguments)) for c in calls)


def _fits(call: ToolCall, tools: dict[str, Tool]) -> bool:
    return call.name in tools and Declared(tools[call.name]).fault(call.arguments) is None


def score(case: Case, reply: Reply) -> Outcome:
    """Compares one answer with the expected turn."""
    wanted, made = case.expected.tool_calls, reply.calls
    tools = {tool.name: tool for tool in case.prompt.tools}
    sequences = [[(c.name, canonical(c.arguments)) for c in calls] for calls in (wanted, made)]
    return Outcome(
        case,
        reply,
        right_function=bool(wanted) and Counter(c.name for c in wanted) == Counter(c.name for c in made),
        exact_call=bool(wanted) and _call_set(wanted) == _call_set(made),
        exact_sequence=bool(wanted) and sequences[0] == sequences[1],
        schema_valid=bool(made) and all(_fits(call, tools) for call in made),
        hallucinated=tuple(call.name for call in made if call.name not in tools),
        arguments=compare_arguments(wanted, made),
    )
