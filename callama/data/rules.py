"""Rules about how a conversation ends; each has a count in the report and a switch.

Low-quality tails: a last exchange of thanks, or one whose answer only apologises, teaches nothing
that a first one did not. Balance: a conversation that asks back before a call, or calls, can end on
the question, on the call or on its answer; they are dealt out evenly, by a hash of seed and text, so
that no order of rows and no number of workers changes the outcome.
"""

from __future__ import annotations

import re

from callama.contract.messages import Conversation, Message
from callama.data.reasons import Repair

_THANKS = re.compile(r"\A(you're|you are) (very |most )?welcome\b|\Agreat choice\b", re.IGNORECASE)
_APOLOGY = re.compile(r"\Ai'm (very |really )?sorry,", re.IGNORECASE)
_OFFER = re.compile(r"feel free to (ask|reach out|let me know)|don't hesitate to|let me know if", re.IGNORECASE)


def cut_tail(conversation: Conversation) -> tuple[Conversation, Repair | None]:
    """Cuts a last user turn and its answer if that is thanks or an apology and something stands before."""
    messages = conversation.messages
    if len(messages) < 4 or [m.role for m in messages[-3:]] != ["assistant", "user", "assistant"]:
        return conversation, None
    last = messages[-1]
    if last.tool_calls or last.content is None:
        return conversation, None
    text = last.content.replace("’", "'")
    if _THANKS.match(text) and _OFFER.search(text):
        repair = Repair.THANKS_CUT
    elif _APOLOGY.match(text):
        repair = Repair.APOLOGY_CUT
    else:
        return conversation, None
    return _with_messages(conversation, messages[:-2]), repair


def balance_ending(conversation: Conversation, draw: int) -> tuple[Conversation, Repair | None]:
    """Cuts a conversation to one of its possible endings, chosen by ``draw``, any whole number.

    The three kinds of ending that it offers (a question before a call, a call, its last message as
    it stands) have equal chances, and so have the places of one kind.
    """
    messages = conversation.messages
    calls = [i for i, m in enumerate(messages) if m.tool_calls]
    if not calls:
        return conversation, None
    questions = [i - 2 for i in calls if _asks_back(messages, i)]
    kinds: list[tuple[Repair | None, list[int]]] = [(None, [len(messages) - 1]), (Repair.ENDS_ON_CALL, calls)]
    if questions:
        kinds.append((Repair.ENDS_ON_QUESTION, questions))
    draw, kind = divmod(draw, len(kinds))
    repair, places = kinds[kind]
    end = places[draw % len(places)] + 1
    if end == len(messages):
        return conversation, None
    return _with_messages(conversation, messages[:end]), repair


def _asks_back(messages: tuple[Message, ...], call: int) -> bool:
    """Whether user, assistant's question, user stand before a call."""
    if call < 3 or [m.role for m in messages[call - 3 : call]] != ["user", "assistant", "user"]:
        return False
    question = messages[call - 2]
    return not question.tool_calls and "?" in (question.content or "")


def _with_messages(conversation: Conversation, messages: tuple[Message, ...]) -> Conversation:
    return Conversation(messages, conversation.tools, conversation.labels)
