"""One raw row of glaive-function-calling-v2 as a canonical conversation.

This is where a row's parts meet: calls are held against the functions declared. A repair is kept
only if the call that it gives fits its function's schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from callama.contract.messages import Conversation, Message, ToolCall
from callama.data.checks import find_declared
from callama.data.glaive.ai_colon import restore_ai_colon
from callama.data.glaive.calls import ParsedCall
from callama.data.glaive.messages import build_messages
from callama.data.glaive.system import SystemPrompt, parse_system
from callama.data.glaive.turns import SPACE, Turn, split_turns
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair


def read_row(row: Mapping[str, Any]) -> tuple[Conversation, list[Repair]]:
    """The conversation of a row and everything that was mended in it; ``labels`` are still empty.

    Raises:
        DropError: the row cannot be kept; nothing else, whatever it holds.
    """
    system, chat = _fields(row)
    _check_unicode(chat, system or "")
    return _conversation(system, split_turns(chat))


def read_turns(system: str, turns: list[Turn]) -> tuple[Conversation, list[Repair]]:
    """The same of a row whose turns stand apart already.

    Raises:
        DropError: as ``read_row``.
    """
    _check_unicode(system, *(turn.raw for turn in turns))
    return _conversation(system, turns)


def _conversation(system: str | None, cut: list[Turn]) -> tuple[Conversation, list[Repair]]:
    prompt = parse_system(system)
    repairs = list(prompt.repairs)
    turns, n_colons = restore_ai_colon(cut)
    repairs += [Repair.AI_COLON] * n_colons

    def checked(call: ParsedCall, call_id: str) -> ToolCall:
        return _checked(call, call_id, prompt, repairs)

    messages = build_messages(turns, prompt.declared, checked, repairs)
    if prompt.prose:
        messages.insert(0, Message("system", prompt.prose))
    return Conversation(tuple(messages), prompt.tools), repairs


def _fields(row: Mapping[str, Any]) -> tuple[str | None, str]:
    system, chat = row.get("system"), row.get("chat")
    if not isinstance(chat, str) or not chat.strip(SPACE):
        found = "nothing" if not chat else f"a {type(chat).__name__}"
        raise DropError(Drop.NO_CHAT, f"found {found if not isinstance(chat, str) else 'empty text'}")
    if system is not None and not isinstance(system, str):
        raise DropError(Drop.SYSTEM_NOT_TEXT, f"found a {type(system).__name__}")
    return system, chat


def _check_unicode(*texts: str) -> None:
    for text in texts:
        try:
            text.isascii() or text.encode("utf-8")
        except UnicodeEncodeError as error:
            place = text[max(0, error.start - 50) : error.end + 50]
            raise DropError(Drop.LONE_SURROGATE, f"at character {error.start}", place) from None


def _checked(call: ParsedCall, call_id: str, prompt: SystemPrompt, repairs: list[Repair]) -> ToolCall:
    name = find_declared(call.name, prompt.declared)
    if name != call.name:
        repairs.append(Repair.FUNCTION_RENAMED)
    return ToolCall(name, prompt.declared[name].check(call.arguments, repairs), call_id)
