"""One raw row of glaive-function-calling-v2 as a canonical conversation.

This is where a row's parts meet: calls are held against the functions declared. A repair is kept
only if the call that it gives fits its function's schema.
"""

from __future__ import annotations

from callama.contract.messages import Conversation, Message
from callama.data.checks import find_declared
from callama.data.glaive.ai_colon import restore_ai_colon
from callama.data.glaive.calls import ParsedCall
from callama.data.glaive.messages import build_messages
from callama.data.glaive.system import SystemPrompt, parse_system
from callama.data.glaive.turns import SPACE, split_turns
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair
from callama.data.records import Record

SOURCE = "glaive"


def clean_row(record: Record, *, remove_no_fc: bool = False) -> tuple[Conversation, tuple[Repair, ...]]:
    """The conversation of a row and everything that was mended in it.

    Raises:
        DropError: the row cannot be kept; nothing else, whatever the record holds.
    """
    system, chat = _fields(record)
    prompt = parse_system(system)
    repairs = list(prompt.repairs)
    turns, n_colons = restore_ai_colon(split_turns(chat))
    repairs += [Repair.AI_COLON] * n_colons
    messages = build_messages(turns, lambda call: _declared_name(call, prompt, repairs), repairs)
    if remove_no_fc and not any(message.tool_calls for message in messages):
        raise DropError(Drop.NO_FUNCTION_CALL)
    if prompt.prose:
        messages.insert(0, Message("system", prompt.prose))
    labels = {"source": SOURCE, "row": record.number, "repairs": [r.value for r in repairs]}
    return Conversation(tuple(messages), prompt.tools, labels), tuple(repairs)


def _fields(record: Record) -> tuple[str | None, str]:
    if record.fault:
        raise DropError(Drop.UNREADABLE_RECORD, record.fault, record.raw)
    row = record.value
    if not isinstance(row, dict):
        raise DropError(Drop.NOT_AN_OBJECT, f"found a {type(row).__name__}", record.raw)
    system, chat = row.get("system"), row.get("chat")
    if not isinstance(chat, str) or not chat.strip(SPACE):
        found = "nothing" if not chat else f"a {type(chat).__name__}"
        raise DropError(Drop.NO_CHAT, f"found {found if not isinstance(chat, str) else 'empty text'}", record.raw)
    if system is not None and not isinstance(system, str):
        raise DropError(Drop.SYSTEM_NOT_TEXT, f"found a {type(system).__name__}", record.raw)
    for text in (chat, system or ""):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            place = text[max(0, error.start - 50) : error.end + 50]
            raise DropError(Drop.LONE_SURROGATE, f"at character {error.start}", place) from None
    return system, chat


def _declared_name(call: ParsedCall, prompt: SystemPrompt, repairs: list[Repair]) -> str:
    name = find_declared(call.name, prompt.declared)
    if name != call.name:
        repairs.append(Repair.FUNCTION_RENAMED)
    prompt.declared[name].check(call.arguments)
    return name
