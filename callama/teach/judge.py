"""From what a teacher wrote to a conversation, or to the reason why it is refused."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from typing import Any

from callama.common.errors import CallamaError
from callama.contract.jsontext import dumps
from callama.contract.messages import Conversation, Message, ToolCall
from callama.data.audit import check_made
from callama.data.quarantine import DropError
from callama.evaluate.reply import Reply
from callama.teach.plan import Plan
from callama.teach.reasons import MAX_REQUEST_CHARS, Refusal
from callama.teach.sense import bare_words, check_request, check_words

_QUOTES = "\"'“”`"
_PARROT_RATIO = 0.85
# Control characters but for line ends and tabs; what stands for a turn's end or a role in a model's own language.
_FOREIGN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd]|<\|[^|<>\n]{1,60}\|>|</?s>|\[/?INST\]")


def _alike(one: str, other: str) -> bool:
    words = bare_words(one).split(), bare_words(other).split()
    return words[0] == words[1] or SequenceMatcher(None, *words, autojunk=False).ratio() > _PARROT_RATIO


def _check_text(text: str) -> None:
    if found := _FOREIGN.search(text):
        raise DropError(Refusal.FOREIGN_TEXT, repr(found[0]), text)


def request_of(plan: Plan, reply: Reply) -> str:
    """The user's message.

    Raises:
        DropError: it is none.
    """
    text = reply.spoken.strip()
    if len(text) > 2 and text[0] in _QUOTES and text[-1] in _QUOTES:
        text = text[1:-1].strip()
    if reply.kind != "text" or not text or text[0] in "{[":
        raise DropError(Refusal.REQUEST_NOT_TEXT, reply.reason, reply.text)
    if len(text) > MAX_REQUEST_CHARS:
        raise DropError(Refusal.REQUEST_TOO_LONG, f"{len(text):,} characters", text)
    _check_text(text)
    check_request(plan, text)
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
    said = reply.spoken.strip()
    _check_text(said)
    if not reply.calls:
        if _alike(request, said):
            raise DropError(Refusal.PARROTED, "", reply.text)
        check_words(plan, request, said)
    calls = tuple(_in_order(call, plan, index) for index, call in enumerate(reply.calls))
    answer = Message("assistant", None if calls else said, calls)
    made = Conversation((Message("user", request), answer), plan.tools, {"scenario": plan.scenario})
    try:
        made = Conversation.from_dict(made.to_dict())
    except CallamaError as error:
        raise DropError(Refusal.ANSWER_MALFORMED, str(error), reply.text) from None
    check_made(made)
    _check_values(plan, calls, reply.text)
    return made


def _check_values(plan: Plan, calls: Sequence[ToolCall], text: str) -> None:
    """Lets calls pass that hold the values that the user was to say, and no others but defaults."""
    left = list(plan.wishes)
    for call in calls:
        schema = next(t.parameters["properties"] for t in plan.tools if t.name == call.name)
        given = {n: v for n, v in call.arguments.items() if not _is_default(v, schema.get(n))}
        fitting = [w for w in left if w.spec.name == call.name and given == _without_defaults(w.said, schema)]
        if not fitting:
            raise DropError(Refusal.OTHER_VALUES, dumps({call.name: call.arguments}), text)
        left.remove(fitting[0])


def _without_defaults(said: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if not _is_default(value, schema.get(name))}


def _is_default(value: Any, schema: Any) -> bool:
    return isinstance(schema, Mapping) and "default" in schema and value == schema["default"]


def _in_order(call: ToolCall, plan: Plan, index: int) -> ToolCall:
    """Arguments in the schema's order: a fixed rule, so that an exact call can be learned."""
    properties = next(t.parameters["properties"] for t in plan.tools if t.name == call.name)
    known = {name: call.arguments[name] for name in properties if name in call.arguments}
    return replace(call, arguments={**known, **call.arguments}, id=f"call_{index}")
