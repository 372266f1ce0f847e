"""Turns of a glaive chat as messages in the canonical form.

An assistant's turns in a row become one message with text, calls or both; each call meets its
result. The order of what was said never changes: where only another order would be valid, the row
is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from callama.common.errors import CallamaError
from callama.contract.jsontext import dumps
from callama.contract.messages import Message, ToolCall
from callama.data.checks import check_text
from callama.data.glaive.ai_colon import CALL_MARK
from callama.data.glaive.calls import ParsedCall, parse_call
from callama.data.glaive.lenient import loads_lenient
from callama.data.glaive.turns import END_OF_TEXT, SPACE, Role, Turn
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair


def build_messages(
    turns: list[Turn],
    declared: Collection[str],
    checked: Callable[[ParsedCall, str], ToolCall],
    repairs: list[Repair],
) -> list[Message]:
    """The messages of a chat; what was mended goes to ``repairs``.

    ``declared`` are the functions' names; ``checked`` gives a call, with its id, as its function is
    declared, or refuses it.

    Raises:
        DropError: the turns make no valid conversation.
    """
    if turns[0].role != "user":
        raise DropError(Drop.STARTS_WITHOUT_USER, f"the first turn is of role {turns[0].role}", turns[0].raw)
    groups = _groups(turns, repairs)
    _cut_end(groups, repairs)
    messages: list[Message] = []
    ids: list[str] = []
    n_calls = 0
    for index, (role, group) in enumerate(groups):
        if role == "user":
            if len(group) > 1:
                repairs.append(Repair.USER_TURNS)
            messages.append(Message("user", "\n\n".join(t.text for t in group)))
        elif role == "assistant":
            n_results = len(groups[index + 1][1]) if index + 1 < len(groups) and groups[index + 1][0] == "tool" else 0
            text, parsed = _assistant(group, declared, n_results, index + 1 == len(groups), repairs)
            ids = [f"call_{n_calls + i}" for i in range(len(parsed))]
            n_calls += len(parsed)
            messages.append(Message("assistant", text, tuple(map(checked, parsed, ids))))
        elif index and groups[index - 1][0] == "assistant":
            messages += [Message("tool", _result(t, repairs), (), i) for t, i in zip(group, ids, strict=True)]
        else:
            raise DropError(Drop.ORPHAN_RESULT, "a result behind a user turn", group[0].text)
    return messages


def _groups(turns: list[Turn], repairs: list[Repair]) -> list[tuple[Role, list[Turn]]]:
    """The turns of one role behind one another, with it; each is looked at on the way."""
    groups: list[tuple[Role, list[Turn]]] = []
    for turn in turns:
        if not turn.text or turn.text.isspace():
            raise DropError(Drop.EMPTY_TURN, f"a turn of role {turn.role}", turn.raw)
        if END_OF_TEXT in turn.raw:
            raise DropError(Drop.TEXT_AFTER_ENDOFTEXT, f"a turn of role {turn.role}", turn.raw)
        if turn.ends > (turn.role == "assistant"):
            repairs.append(Repair.ENDOFTEXT)
        if groups and groups[-1][0] == turn.role:
            groups[-1][1].append(turn)
        else:
            groups.append((turn.role, [turn]))
    return groups


def _cut_end(groups: list[tuple[Role, list[Turn]]], repairs: list[Repair]) -> None:
    for role, repair in (("user", Repair.USER_END), ("tool", Repair.RESULT_END)):
        if groups[-1][0] == role:
            fragment = groups.pop()[1][-1].text
            if not any(r == "assistant" for r, _ in groups):
                raise DropError(Drop.NO_ANSWER, "", fragment)
            repairs.append(repair)


def _assistant(
    group: list[Turn], declared: Collection[str], n_results: int, is_last: bool, repairs: list[Repair]
) -> tuple[str | None, list[ParsedCall]]:
    texts: list[str] = []
    calls: list[ParsedCall] = []
    for turn in group:
        before, *marked = turn.text.split(CALL_MARK)
        text = before.strip(SPACE)
        if text.strip():
            if calls:
                reason = Drop.TEXT_AFTER_CALL if n_results else Drop.CALL_WITHOUT_RESULT
                raise DropError(reason, "the assistant talks on behind its call", text)
            check_text(text, declared)
            texts.append(text)
            if marked:
                repairs.append(Repair.CALL_BEHIND_TEXT)
        calls += [parse_call(piece) for piece in marked]
    if len(group) > 1:
        repairs.append(Repair.ASSISTANT_TURNS)
    if calls:
        calls = _match_results(calls, n_results, is_last, repairs)
        for call in calls:
            repairs += call.repairs
    elif n_results:
        raise DropError(Drop.ORPHAN_RESULT, "", texts[-1])
    return "\n\n".join(texts) or None, calls


def _match_results(calls: list[ParsedCall], n_results: int, is_last: bool, repairs: list[Repair]) -> list[ParsedCall]:
    if len(calls) > max(n_results, 1):
        once = _without_repetition(calls)
        repairs += [Repair.REPEATED_CALL] * (len(calls) - len(once))
        calls = once
    if n_results == len(calls) or (is_last and not n_results):
        return calls
    names = ", ".join(call.name for call in calls[:5])
    if not n_results:
        raise DropError(Drop.CALL_WITHOUT_RESULT, f"calls {names}, then the user speaks", names)
    raise DropError(Drop.RESULTS_DO_NOT_MATCH, f"{len(calls)} calls ({names}) but {n_results} results", names)


def _without_repetition(calls: Iterable[ParsedCall]) -> list[ParsedCall]:
    seen: dict[str, ParsedCall] = {}
    for call in calls:
        # repr, not ==: 1, 1.0 and True are equal to Python but not the same arguments.
        seen.setdefault(f"{call.name} {call.arguments!r}", call)
    return list(seen.values())


def _result(turn: Turn, repairs: list[Repair]) -> str:
    """The result in canonical spelling: JSON as ``dumps`` writes it, other text as it is."""
    text = turn.text
    if text[0] not in "{[":
        return text
    try:
        value, mended = loads_lenient(text)
    except CallamaError as error:
        raise DropError(Drop.BROKEN_RESULT, str(error), text) from None
    repairs += mended
    return dumps(value)
