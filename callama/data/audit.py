"""The audits of cleaned data for conversations that are not read from a file but made here.

What synthesis, a teacher or augmentation produced is kept only if cleaning would keep it without a
change, every argument can be derived from the dialogue, and what is trained reads back as it was meant.
"""

from __future__ import annotations

from dataclasses import replace

from callama.common.errors import CallamaError
from callama.contract.messages import Conversation, Message
from callama.contract.turns import parse_turns, render_turns
from callama.data.formats.registry import OPENAI, clean_record
from callama.data.grounding import audit
from callama.data.quarantine import DropError, Reason
from callama.data.reasons import Drop
from callama.data.records import Record


class Fault(Reason):
    """Why a conversation that was made here is refused, beside cleaning's own reasons."""

    NOT_CANONICAL = "not_canonical", "Cleaning would have to change the conversation."
    ROUND_TRIP = "round_trip", "What is trained does not read back as what was meant."


def check_made(conversation: Conversation) -> None:
    """Lets a conversation pass that is as good as cleaned data.

    Raises:
        DropError: it is not; ``reason`` is one of ``Drop`` or ``Fault``.
    """
    cleaned, repairs = clean_record(Record(0, "", "", conversation.to_dict()), OPENAI)
    if repairs or _said(cleaned) != _said(conversation) or cleaned.tools != conversation.tools:
        raise DropError(Fault.NOT_CANONICAL, ", ".join(repair.value for repair in repairs))
    for argument in audit(conversation):
        if argument.ground == "ungrounded":
            detail = f"{argument.function}: {argument.path} was not said before the call"
            raise DropError(Drop.UNGROUNDED_ARGUMENT, detail, repr(argument.value)[:500])
    try:
        back = parse_turns(render_turns(conversation), conversation.tools)
    except CallamaError as error:
        raise DropError(Fault.ROUND_TRIP, str(error)) from None
    if _said(back) != _said(conversation):
        raise DropError(Fault.ROUND_TRIP)


def _said(conversation: Conversation) -> list[Message]:
    """The messages without the ids of their calls, which are not trained."""
    bare = [replace(m, tool_calls=tuple(replace(c, id="") for c in m.tool_calls)) for m in conversation.messages]
    return [replace(m, tool_call_id="") for m in bare]
