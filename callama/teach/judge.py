"""From what a teacher wrote to a conversation, or to the reason why it is refused."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from difflib import SequenceMatcher

from callama.common.errors import CallamaError
from callama.contract.messages import Conversation, Message, ToolCall
from callama.data.audit import check_made
from callama.data.quarantine import DropError, Reason
from callama.evaluate.reply import Reply
from callama.teach.plan import Plan

MAX_REQUEST_CHARS = 4_000
_QUOTES = "\"'“”`"
_PARROT_RATIO = 0.85
_WORD = re.compile(r"\w+")
# Control characters but for line ends and tabs; what stands for a turn's end or a role in a model's own language.
_FOREIGN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd]|<\|[^|<>\n]{1,60}\|>|</?s>|\[/?INST\]")


class Refusal(Reason):
    """Why what a teacher wrote is not kept, beside the audits' reasons."""

    REQUEST_NOT_TEXT = "request_not_text", "The teacher wrote no message of a user: a call, JSON, or nothing."
    REQUEST_TOO_LONG = "request_too_long", f"The user's message is longer than {MAX_REQUEST_CHARS:,} characters."
    ANSWER_MALFORMED = "answer_malformed", "The teacher's answer holds a broken call."
    NOT_AS_PLANNED = "not_as_planned", "The answer calls other functions than the scenario wants, or calls at all."
    FOREIGN_TEXT = "foreign_text", "A text holds control characters or a model's special tokens."
    PARROTED = "parroted", "The answer repeats the user's message."
    REPEATED = "repeated", "The user's message was written before."
    NO_QUESTION = "no_question", "A value is missing and the answer does not ask."


def bare_words(text: str) -> str:
    """A text without case and punctuation: what makes two texts the same."""
    return " ".join(_WORD.findall(text.casefold()))


def _alike(one: str, other: str) -> bool:
    words = bare_words(one).split(), bare_words(other).split()
    return words[0] == words[1] or SequenceMatcher(None, *words, autojunk=False).ratio() > _PARROT_RATIO


def _check_text(text: str) -> None:
    if found := _FOREIGN.search(text):
        raise DropError(Refusal.FOREIGN_TEXT, repr(found[0]), text)


def request_of(reply: Reply) -> str:
    """The user's message.

    Raises:
        DropError: it is none.
    """
    text = reply.text.strip()
    if len(text) > 2 and text[0] in _QUOTES and text[-1] in _QUOTES:
        text = text[1:-1].strip()
    if reply.kind != "text" or not text or text[0] in "{[":
        raise DropError(Refusal.REQUEST_NOT_TEXT, reply.reason, reply.text)
    if len(text) > MAX_REQUEST_CHARS:
        raise DropError(Refusal.REQUEST_TOO_LONG, f"{len(text):,} characters", text)
    _check_text(text)
    return text


def conversation_of(plan: Plan, request: str, reply: Reply) -> Conversation:
    """The conversation, if the scenario is played and the audits pass.

    Raises:
        DropError: not so.
    """
    if reply.kind == "malformed":
        raise DropError(Refusal.ANSWER_MALFORMED, reply.reason, reply.text)
    called = Counter(call.name for call in reply.calls)
    if called != Counter(plan.wanted):
        named, wanted = (", ".join(sorted(names.elements())) or "nothing" for names in (called, Counter(plan.wanted)))
        raise DropError(Refusal.NOT_AS_PLANNED, f"calls {named}; wanted: {wanted}", reply.text)
    _check_text(reply.text)
    if not reply.calls and _alike(request, reply.text):
        raise DropError(Refusal.PARROTED, "", reply.text)
    if plan.scenario == "missing_argument" and "?" not in reply.text:
        raise DropError(Refusal.NO_QUESTION, "", reply.text)
    calls = tuple(_in_order(call, plan, index) for index, call in enumerate(reply.calls))
    answer = Message("assistant", None if calls else reply.text.strip(), calls)
    made = Conversation((Message("user", request), answer), plan.tools, {"scenario": plan.scenario})
    try:
        made = Conversation.from_dict(made.to_dict())
    except CallamaError as error:
        raise DropError(Refusal.ANSWER_MALFORMED, str(error), reply.text) from None
    check_made(made)
    return made


def _in_order(call: ToolCall, plan: Plan, index: int) -> ToolCall:
    """Arguments in the schema's order: a fixed rule, so that an exact call can be learned."""
    properties = next(t.parameters["properties"] for t in plan.tools if t.name == call.name)
    known = {name: call.arguments[name] for name in properties if name in call.arguments}
    return replace(call, arguments={**known, **call.arguments}, id=f"call_{index}")
