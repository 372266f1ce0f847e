"""From what a format says to a checked conversation: the part that all formats but glaive's share.

A format's reader only translates its own words into a ``Draft`` in OpenAI's chat shape. Merging,
cutting, naming and checking happen here, by the same rules as for glaive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import groupby
from typing import Any

from callama.common.errors import CallamaError
from callama.contract.messages import Conversation, Tool, ToolCall
from callama.data.checks import Declared, check_text, find_declared
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair

_INVALID_SIGNS = re.compile(r"[^A-Za-z0-9_.-]+")
_CACHED_CHARS = 16_384


@dataclass
class Turn:
    """One turn of a draft; ``calls`` are (name, arguments), arguments an object or JSON text."""

    role: str
    text: str | None = None
    calls: list[tuple[Any, Any]] = field(default_factory=list)
    call_ids: list[Any] = field(default_factory=list)
    answers_id: Any = None


@dataclass
class Draft:
    """A record in the words of the canonical form, unchecked. ``repairs`` are those of the reader."""

    turns: list[Turn]
    tools: Any
    repairs: list[Repair] = field(default_factory=list)


def shape(fault: str, fragment: Any = "") -> DropError:
    """The refusal of a record that is not what its format says."""
    text = fragment if isinstance(fragment, str) else repr(fragment)[:500]
    return DropError(Drop.WRONG_SHAPE, fault, text)


def json_or(value: Any) -> Any:
    """A value, read first if it is JSON text (data sets store lists of tools that way); blank text is none.

    Raises:
        DropError: text that is not JSON.
    """
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise shape(f"not JSON: {error}", value[:500]) from None


def finish(draft: Draft) -> tuple[Conversation, list[Repair]]:
    """The conversation of a draft and all that was changed in it; ``labels`` are still empty.

    Raises:
        DropError: the turns make no conversation, or a call does not pass its checks.
    """
    repairs = list(draft.repairs)
    declared, respelled = _declare(draft.tools, repairs)
    turns = _merge(draft.turns, repairs)
    _cut_end(turns, repairs)
    if next((turn.role for turn in turns if turn.role != "system"), "") != "user":
        raise DropError(Drop.STARTS_WITHOUT_USER, "", turns[0].text or "")
    for turn in turns:
        if turn.role == "assistant":
            if turn.text:
                check_text(turn.text)
            turn.calls = [_named(name, arguments, declared, respelled, repairs) for name, arguments in turn.calls]
    _count_results(turns)
    try:
        conversation = Conversation.from_dict({"messages": [_message(turn) for turn in turns]})
    except CallamaError as error:
        raise shape(str(error)) from None

    def checked(call: ToolCall) -> ToolCall:
        return replace(call, arguments=declared[call.name].check(call.arguments, repairs))

    messages = [replace(m, tool_calls=tuple(map(checked, m.tool_calls))) for m in conversation.messages]
    return Conversation(tuple(messages), tuple(function.tool for function in declared.values())), repairs


def _declare(tools: Any, repairs: list[Repair]) -> tuple[dict[str, Declared], dict[str, str]]:
    """The functions by name, and how names that are not valid were respelled."""
    tools = json_or(tools) or []
    if not isinstance(tools, list):
        raise DropError(
            Drop.FUNCTIONS_NOT_JSON, f"the tools are a {type(tools).__name__}, not a list", repr(tools)[:500]
        )
    declared: dict[str, Declared] = {}
    respelled: dict[str, str] = {}
    for raw in tools:
        tool = json_or(raw)
        inner = tool.get("function", tool) if isinstance(tool, Mapping) else tool
        if isinstance(inner, Mapping) and isinstance(name := inner.get("name"), str):
            valid = _INVALID_SIGNS.sub("_", name.strip())[:64]
            if valid != name:
                respelled[name] = valid
                inner = {**inner, "name": valid}
        try:
            text = json.dumps(inner)
            function = (_read_cached if len(text) <= _CACHED_CHARS else _read)(text)
        except (CallamaError, ValueError, TypeError, RecursionError) as error:
            raise DropError(Drop.FUNCTION_INVALID, str(error), repr(inner)[:500]) from None
        name = function.tool.name
        if name in declared and declared[name].tool != function.tool:
            raise DropError(Drop.FUNCTION_DECLARED_TWICE, f"{name} is declared in two ways", name)
        if name in declared:
            repairs.append(Repair.REPEATED_FUNCTION)
        declared[name] = function
    if respelled:
        repairs.append(Repair.NAME_MADE_VALID)
    return declared, respelled


def _read(text: str) -> Declared:
    return Declared(Tool.from_dict(json.loads(text)))


_read_cached = lru_cache(maxsize=4096)(_read)


def _merge(turns: list[Turn], repairs: list[Repair]) -> list[Turn]:
    """Turns in a row of one speaker become one; an announcement and its call one message with both."""
    out: list[Turn] = []
    for role, group in groupby(turns, key=lambda turn: turn.role):
        same = list(group)
        if role in ("tool", "system") or len(same) == 1:
            out += same
            continue
        repairs.append(Repair.ASSISTANT_TURNS if role == "assistant" else Repair.USER_TURNS)
        texts = [turn.text for turn in same if turn.text and turn.text.strip()]
        talks_on = [turn.text for i, turn in enumerate(same) if turn.text and any(t.calls for t in same[:i])]
        if talks_on:
            raise DropError(Drop.CALL_WITHOUT_RESULT, "the assistant talks on behind its call", talks_on[0])
        calls = [call for turn in same for call in turn.calls]
        out.append(Turn(role, "\n\n".join(texts) or None, calls, [i for turn in same for i in turn.call_ids]))
    return out


def _cut_end(turns: list[Turn], repairs: list[Repair]) -> None:
    for role, repair in (("user", Repair.USER_END), ("tool", Repair.RESULT_END)):
        if turns and turns[-1].role == role:
            repairs.append(repair)
            while turns and turns[-1].role == role:
                turns.pop()
    if not any(turn.role == "assistant" for turn in turns):
        raise DropError(Drop.NO_ANSWER)


def _named(
    name: Any, arguments: Any, declared: Mapping[str, Declared], respelled: Mapping[str, str], repairs: list[Repair]
) -> tuple[str, Any]:
    if not isinstance(name, str):
        raise DropError(Drop.CALL_NOT_JSON, f"a call's name is a {type(name).__name__}", repr(arguments)[:500])
    meant = find_declared(respelled.get(name, name), declared)
    if meant != respelled.get(name, name):
        repairs.append(Repair.FUNCTION_RENAMED)
    if arguments is None:
        raise DropError(Drop.ARGUMENTS_NULL, "", name)
    arguments = json_or(arguments) if isinstance(arguments, str) and arguments.strip() else arguments or {}
    if not isinstance(arguments, Mapping):
        raise DropError(Drop.ARGUMENTS_NOT_OBJECT, f"found a {type(arguments).__name__}", repr(arguments)[:500])
    return meant, arguments


def _count_results(turns: list[Turn]) -> None:
    for index, turn in enumerate(turns):
        if turn.role == "tool" and turns[index - 1].role not in ("assistant", "tool"):
            raise DropError(Drop.ORPHAN_RESULT, f"a result behind a {turns[index - 1].role} turn", turn.text or "")
        if turn.role != "assistant":
            continue
        rest = turns[index + 1 :]
        n_results = next((i for i, t in enumerate(rest) if t.role != "tool"), len(rest))
        if n_results == len(turn.calls) or (turn.calls and not rest):
            continue
        names = ", ".join(str(name) for name, _ in turn.calls[:5])
        if not turn.calls:
            raise DropError(Drop.ORPHAN_RESULT, "", rest[0].text or "")
        if not n_results:
            raise DropError(Drop.CALL_WITHOUT_RESULT, f"calls {names}, then no result", names)
        raise DropError(Drop.RESULTS_DO_NOT_MATCH, f"{len(turn.calls)} calls ({names}) but {n_results} results", names)


def _message(turn: Turn) -> dict[str, Any]:
    message: dict[str, Any] = {"role": turn.role, "content": turn.text}
    if turn.calls:
        ids = turn.call_ids if len(turn.call_ids) == len(turn.calls) else [None] * len(turn.calls)
        message["tool_calls"] = [
            {"id": i, "function": {"name": name, "arguments": arguments}}
            for (name, arguments), i in zip(turn.calls, ids, strict=True)
        ]
    if turn.role == "tool":
        message["tool_call_id"] = turn.answers_id
    return message
