"""Test cases from conversations: every assistant turn is one case.

The model is given the true history up to that turn and must produce the turn, so that one mistake
does not spoil the cases behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from callama.contract.messages import Conversation, Message


@dataclass(frozen=True)
class Case:
    """``prompt`` ends before the ``expected`` assistant turn."""

    prompt: Conversation
    expected: Message
    scenario: str

    @property
    def wants_call(self) -> bool:
        """Whether the right answer calls functions."""
        return bool(self.expected.tool_calls)


def cases_of(conversations: Iterable[Conversation]) -> list[Case]:
    """All cases, in order."""
    return [
        Case(replace(c, messages=c.messages[:i]), message, str(c.labels.get("scenario", "unlabelled")))
        for c in conversations
        for i, message in enumerate(c.messages)
        if message.role == "assistant" and i > 0
    ]
