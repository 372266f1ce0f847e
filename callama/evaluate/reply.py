"""What a model under test gave back for one case: a call, text, a broken call, or nothing.

``failed`` is what is left when an endpoint never answered or a prompt did not fit: it is neither a
call nor an abstention, so that a broken server cannot score by silence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from callama.common.errors import CallamaError
from callama.contract.messages import ToolCall
from callama.contract.tool_uses import parse_answer

# What a reasoning model says to itself, from a server that does not keep it apart.
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>\s*", re.DOTALL)
Kind = Literal["call", "text", "malformed", "failed"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Reply:
    """``text`` is the whole answer as it came; ``reason`` says why it is malformed or failed. ``cut``: it reached
    the longest length that was allowed."""

    kind: Kind
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    reason: str = ""
    cut: bool = False

    @property
    def spoken(self) -> str:
        """The text without the thought before it: what is judged, and what a dialogue goes on with."""
        return _THOUGHT.sub("", self.text)

    @classmethod
    def read(cls, text: str, cut: bool = False) -> Reply:
        """A model's output behind its thought, parsed; an empty one is malformed, no abstention. Never raises."""
        spoken = _THOUGHT.sub("", text)
        thinking = spoken.lstrip().startswith("<think>") and "</think>" not in spoken
        if cut and (thinking or not spoken.strip()):
            told = "cut before anything was said; a model that reasons first needs a larger --max-new-tokens"
            return cls("malformed", text, (), told, cut)
        if not spoken.strip():
            return cls("malformed", text, (), "an empty answer", cut)
        answer = parse_answer(spoken)
        return cls(answer.kind, text, answer.calls, answer.reason, cut)

    @classmethod
    def failed(cls, reason: str) -> Reply:
        """No answer, for a reason."""
        return cls("failed", "", (), reason)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the file of answers."""
        calls = [{"name": call.name, "arguments": call.arguments} for call in self.calls]
        return {"kind": self.kind, "text": self.text, "calls": calls, "reason": self.reason, "cut": self.cut}

    @classmethod
    def from_dict(cls, raw: Any) -> Reply:
        """Reads what ``to_dict`` wrote; earlier versions did not know of ``cut``.

        Raises:
            CallamaError: it is something else.
        """
        try:
            kind, calls = raw["kind"], tuple(ToolCall(c["name"], dict(c["arguments"])) for c in raw["calls"])
            reply = cls(kind, raw["text"], calls, raw["reason"], raw.get("cut") is True)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CallamaError(f"not an answer: {error!r}") from None
        whole = isinstance(raw, Mapping) and isinstance(reply.text, str) and isinstance(reply.reason, str)
        if not whole or kind not in KINDS or (kind == "call") != bool(calls):
            raise CallamaError(f"not an answer: kind {kind!r} with {len(calls)} calls")
        return reply
