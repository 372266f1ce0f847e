"""Test cases from conversations: every assistant turn that answers somebody is one case.

The model is given the true history up to that turn and must produce the turn, so that one mistake
does not spoil the cases behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from callama.common.errors import CallamaError
from callama.contract.jsontext import loads_strict
from callama.contract.messages import Conversation, Message

_QUESTION = re.compile("[?？؟]")


def asks(text: str) -> bool:
    """Whether a text holds a question."""
    return _QUESTION.search(text) is not None


@dataclass(frozen=True)
class Case:
    """``prompt`` ends before the ``expected`` assistant turn. ``any_call`` marks a case in which every
    call is right (BFCL's relevance); ``asks_back`` one whose right answer is a question; ``by_effect`` one
    whose calls are judged by what they did, by an outside checker, and not one by one (BFCL's multi-turn)."""

    prompt: Conversation
    expected: Message
    scenario: str
    id: str = ""
    any_call: bool = False
    asks_back: bool = False
    by_effect: bool = False

    @property
    def wants_call(self) -> bool:
        """Whether the right answer calls functions."""
        return self.any_call or bool(self.expected.tool_calls)

    @property
    def after_error(self) -> bool:
        """Whether the model answers a tool result that reports an error."""
        messages = self.prompt.messages
        last = next((i for i in range(len(messages), 0, -1) if messages[i - 1].role != "tool"), 0)
        return any(reports_error(m.content or "") for m in messages[last:])

    @property
    def plain(self) -> bool:
        """Whether this is conversation without functions: text is wanted and no tool has spoken."""
        chat = not self.prompt.tools or self.scenario == "plain_chat"
        return chat and not self.wants_call and all(m.role != "tool" for m in self.prompt.messages)


def cases_of(conversations: Iterable[Conversation]) -> list[Case]:
    """All cases, in order."""
    return [
        Case(
            replace(c, messages=c.messages[:i]),
            message,
            scenario,
            f"{number}.{i}",
            asks_back=_asks_back(c.messages, i, scenario, bool(c.tools)),
        )
        for number, c in enumerate(conversations)
        for scenario in [str(c.labels.get("scenario", "unlabelled"))]
        for i, message in enumerate(c.messages)
        if message.role == "assistant" and any(m.role in ("user", "tool") for m in c.messages[:i])
    ]


def _asks_back(messages: Sequence[Message], i: int, scenario: str, has_tools: bool) -> bool:
    """A question in place of a call: by its scenario, or because a call follows the user's reply. Behind a result the
    call was made, and the question is mostly "Is there anything else?"."""
    asked = not messages[i].tool_calls and asks(messages[i].content or "")
    around = [m.role for m in (*messages[i - 1 : i], *messages[i + 1 : i + 3])]
    called = around == ["user", "user", "assistant"] and bool(messages[i + 2].tool_calls)
    return has_tools and asked and (scenario == "missing_argument" or called)


def reports_error(result: str) -> bool:
    """Whether a tool's result says that the call went wrong: an ``error`` key, ``success`` or ``ok`` that is
    false, a ``status`` of error or of 400 and above, or text that starts with "error"."""
    try:
        value: Any = loads_strict(result)
    except CallamaError:
        value = result
    if isinstance(value, str):
        return value.lstrip().lower().startswith("error")
    if not isinstance(value, dict):
        return False
    status = value.get("status")
    bad_status = status in ("error", "failed", "failure") or (type(status) is int and 400 <= status < 600)
    refused = any(value.get(key) is False for key in ("success", "ok"))
    return bad_status or refused or any(bool(value.get(key)) for key in ("error", "errors"))
