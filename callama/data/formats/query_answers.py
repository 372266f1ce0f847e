"""xLAM and APIGen: ``{query, tools, answers}``, each as JSON or its text; one question and its calls.

In API-Bank's cut of it the query is a chat, whose calls stand in code fences and whose assistant is
called ``agent``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from callama.data.formats.draft import Draft, Turn, check_answer, json_or, shape
from callama.data.formats.sharegpt import call_of, calls_of
from callama.data.reasons import Repair

_FENCED_CALLS = re.compile(r"```(?:json)?\s*(\[.*\])\s*```", re.DOTALL)
_MARKER = "Generate API Request:"
_ROLES = {"system": "system", "user": "user", "agent": "assistant", "assistant": "assistant", "tool": "tool"}


def matches(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format."""
    return "query" in value and "answers" in value


def read(value: Mapping[str, Any]) -> Draft:
    """Translates a record.

    Raises:
        DropError: it is not of this shape.
    """
    repairs: list[Repair] = []
    query = value.get("query")
    if isinstance(query, str):
        turns = [Turn("user", query)]
    elif isinstance(query, list):
        turns = [_turn(message, repairs) for message in query]
    else:
        raise shape("'query' is neither text nor a list of messages", query)
    answers = json_or(value.get("answers"))
    if not isinstance(answers, list) or not answers:
        raise shape("'answers' is not a list with calls", answers)
    turns.append(Turn("assistant", None, [call_of(answer) for answer in answers]))
    return Draft(turns, value.get("tools"), repairs)


def _turn(message: Any, repairs: list[Repair]) -> Turn:
    role = _ROLES.get(str(message.get("role"))) if isinstance(message, Mapping) else None
    text = message.get("content") if isinstance(message, Mapping) else None
    if role is None or not isinstance(text, str):
        raise shape("a message of the query needs role and content", message)
    if role == "assistant":
        check_answer(message, repairs)
    if text.endswith(_MARKER):
        text = text.removesuffix(_MARKER).rstrip("\n ")
        repairs.append(Repair.PROMPT_MARKER)
    if role == "assistant" and (fenced := _FENCED_CALLS.fullmatch(text.strip())):
        return Turn("assistant", None, calls_of(fenced[1], repairs))
    return Turn(role, text)
