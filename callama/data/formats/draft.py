"""From what a format says to a checked conversation: the part that all formats but glaive's share.

A format's reader only translates its own words into a ``Draft`` in OpenAI's chat shape. Merging,
cutting, naming and checking happen here, by the same rules as for glaive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import groupby, pairwise
from typing import Any

from callama.common.errors import CallamaError
from callama.contract.jsontext import dumps, unique_keys
from callama.contract.messages import Conversation, Tool, ToolCall
from callama.contract.refused import check_trained, has_thoughts
from callama.data.checks import Declared, check_text, find_declared
from callama.data.formats.literals import json_or_literal
from callama.data.formats.thoughts import without_calls
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair

_INVALID_SIGNS = re.compile(r"[^A-Za-z0-9_.-]+")
_CACHED_CHARS = 16_384
_CALLS = ("tool_calls", "function_call", "function_calls", "tool_call")
_WRAPPER = {"name", "content", "results", "tool_call_id"}
DECODER = json.JSONDecoder(object_pairs_hook=unique_keys)


@dataclass
class Turn:
    """One turn of a draft; ``calls`` are (name, arguments), arguments an object or JSON text. A result may
    say whose it is: by the call's id, or by the function's name, ``inside`` its own text or beside it."""

    role: str
    text: str | None = None
    calls: list[tuple[Any, Any]] = field(default_factory=list)
    call_ids: list[Any] = field(default_factory=list)
    answers_id: Any = None
    answers_name: Any = None
    inside: bool = False


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


def either(value: Mapping[str, Any], *keys: str) -> Any:
    """What stands under the first of these keys that is not null; None if all are."""
    return next((value[key] for key in keys if value.get(key) is not None), None)


def check_answer(message: Mapping[str, Any], repairs: list[Repair], reads: Sequence[str] = ()) -> None:
    """Looks at what an assistant's message has beside its text; thoughts are left out, which is a repair.

    Raises:
        DropError: it is not to be trained on, which every one that is kept is, or has calls under a key
            that is not one of those that the format ``reads``.
    """
    try:
        check_trained(message)
    except CallamaError as error:
        raise shape(str(error), message) from None
    for key in _CALLS:
        if key in message and key not in reads and message[key]:
            raise shape(f"an assistant's message has calls under {key!r}, which are not read there", message)
    if has_thoughts(message):
        repairs.append(Repair.REASONING)


def json_or(value: Any) -> Any:
    """A value, read first if it is JSON text (data sets store lists of tools that way); blank text is none.

    Raises:
        DropError: text that is not JSON, or has a key twice.
    """
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return DECODER.decode(value)
    except (ValueError, RecursionError) as error:
        raise shape(f"not JSON: {error}", value[:500]) from None
    except CallamaError as error:
        raise shape(str(error), value[:500]) from None


def finish(draft: Draft) -> tuple[Conversation, list[Repair]]:
    """The conversation of a draft and all that was changed in it; ``labels`` are still empty.

    Raises:
        DropError: the turns make no conversation, or a call does not pass its checks.
    """
    repairs = list(draft.repairs)
    declared, respelled = _declare(draft.tools, repairs)
    turns = [_without_thoughts(turn, [*declared, *respelled], repairs) for turn in draft.turns]
    turns = _merge(turns, repairs)
    _cut_end(turns, repairs)
    if next((turn.role for turn in turns if turn.role != "system"), "") != "user":
        raise DropError(Drop.STARTS_WITHOUT_USER, "", turns[0].text or "")
    for turn in turns:
        if turn.role == "assistant":
            if turn.text:
                check_text(turn.text, [*declared, *respelled])
            turn.calls = [_named(name, arguments, declared, respelled, repairs) for name, arguments in turn.calls]
    turns = _with_results(turns, declared, respelled)
    try:
        conversation = Conversation.from_dict({"messages": [_message(turn) for turn in turns]})
    except CallamaError as error:
        raise shape(str(error)) from None

    def checked(call: ToolCall) -> ToolCall:
        return replace(call, arguments=declared[call.name].check(call.arguments, repairs))

    messages = [replace(m, tool_calls=tuple(map(checked, m.tool_calls))) for m in conversation.messages]
    return Conversation(tuple(messages), tuple(function.tool for function in declared.values())), repairs


def _without_thoughts(turn: Turn, declared: Sequence[str], repairs: list[Repair]) -> Turn:
    """The turn without a thought that plans its calls in words that are not to be learnt."""
    if turn.role != "assistant" or not isinstance(turn.text, str):
        return turn
    if (text := without_calls(turn.text, declared)) == turn.text:
        return turn
    repairs.append(Repair.REASONING)
    return replace(turn, text=text or None)


def _declare(tools: Any, repairs: list[Repair]) -> tuple[dict[str, Declared], dict[str, str]]:
    """The functions by name, and how names that are not valid were respelled."""
    tools = json_or(tools) or []
    if not isinstance(tools, list):
        raise DropError(
            Drop.FUNCTIONS_NOT_JSON, f"the tools are a {type(tools).__name__}, not a list", repr(tools)[:500]
        )
    declared: dict[str, Declared] = {}
    respelled: dict[str, str] = {}
    originals: dict[str, str] = {}
    for raw in tools:
        tool = json_or(raw)
        inner = tool.get("function", tool) if isinstance(tool, Mapping) else tool
        if isinstance(inner, Mapping) and isinstance(name := inner.get("name"), str):
            valid = _INVALID_SIGNS.sub("_", name.strip())[:64]
            if valid != name and not valid.strip("_.-"):
                detail = f"nothing is left of the name {name[:80]!r} in letters a to z, digits, '_', '.' and '-'"
                raise DropError(Drop.FUNCTION_INVALID, f"{detail}; give it such a name", name)
            if originals.setdefault(valid, name.strip()) != name.strip():
                detail = f"{originals[valid][:80]!r} and {name[:80]!r} would both be named {valid}"
                raise DropError(Drop.FUNCTION_INVALID, f"{detail}; give them names of letters and digits", name)
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


_CUT_ENDS = {"user": Repair.USER_END, "tool": Repair.RESULT_END, "system": Repair.SYSTEM_END}


def _cut_end(turns: list[Turn], repairs: list[Repair]) -> None:
    cut: dict[Repair, None] = {}
    while turns and turns[-1].role != "assistant":
        cut[_CUT_ENDS[turns.pop().role]] = None
    if not turns:
        raise DropError(Drop.NO_ANSWER)
    repairs += cut


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
    if isinstance(arguments, str):
        arguments = json_or(arguments) if arguments.strip() else {}
    if not isinstance(arguments, Mapping):
        raise DropError(Drop.ARGUMENTS_NOT_OBJECT, f"found a {type(arguments).__name__}", repr(arguments)[:500])
    return meant, arguments


def results_of(text: Any, n_calls: int, is_function: Callable[[str], object]) -> list[Turn]:
    """One result a call where a text is a list of as many items; else the text as it is.

    An item ``{name, results}`` is unwrapped, and ``{name, content}`` where the name is a function's (a
    file has both keys too).
    """
    value = _value(text, "[") if isinstance(text, str) else text
    if not isinstance(value, list) or len(value) != n_calls or not n_calls:
        return [Turn("tool", text)]
    return [_item(item, is_function) for item in value]


def _item(item: Any, is_function: Callable[[str], object]) -> Turn:
    name = item.get("name") if isinstance(item, dict) else None
    if isinstance(item, dict) and "results" in item and item.keys() <= {"name", "results"}:
        item = item["results"]
    elif isinstance(name, str) and item.keys() == {"name", "content"} and is_function(name):
        item = item["content"]
    else:
        name = None
    return Turn("tool", item if isinstance(item, str) else dumps(item), answers_name=name, inside=bool(name))


def _value(text: Any, opening: str) -> Any:
    """The value of JSON, or of a Python literal, that starts with this bracket; None for any other text."""
    try:
        return json_or_literal(text) if isinstance(text, str) and text.lstrip().startswith(opening) else None
    except CallamaError:
        return None


def _with_results(turns: list[Turn], declared: Mapping[str, Declared], respelled: Mapping[str, str]) -> list[Turn]:
    """The turns with as many results behind each turn as it has calls, in the order of the calls.

    Raises:
        DropError: there are more or fewer, or one is of a function that was not called.
    """
    out: list[Turn] = []
    for is_result, group in groupby(turns, key=lambda turn: turn.role == "tool"):
        same = list(group)
        before = out[-1] if out else None
        if not is_result:
            for turn, behind in pairwise([*same, None]):
                if turn and turn.calls and behind:
                    raise DropError(Drop.CALL_WITHOUT_RESULT, f"calls {_called(turn)}, then no result", _called(turn))
            out += same
        elif before is None or not before.calls:
            detail = f"a result behind a {before.role} turn" if before and before.role != "assistant" else ""
            raise DropError(Drop.ORPHAN_RESULT, detail, same[0].text or "")
        else:
            out += _in_order(before, same, declared, respelled)
    return out


def _called(turn: Turn) -> str:
    return ", ".join(str(name) for name, _ in turn.calls[:5])


def _in_order(
    call: Turn, results: list[Turn], declared: Mapping[str, Declared], respelled: Mapping[str, str]
) -> list[Turn]:
    names = [name for name, _ in call.calls]

    def function(name: str) -> str | None:
        """The function that a result names: of just this name, else one that was called, else one that is declared."""
        meant = [respelled.get(spelled, spelled) for spelled in (name, name.removeprefix("functions."))]
        if exact := next((valid for valid in meant if valid in declared), None):
            return exact  # it may be another than one called that differs in case only
        for known in (dict.fromkeys(names), declared):
            for spelled in meant:
                with suppress(DropError):
                    return find_declared(spelled, known)
        return None

    results = _split(results, len(names), function)
    if len(results) != len(names):
        detail = f"{len(names)} calls ({_called(call)}) but {len(results)} results"
        raise DropError(Drop.RESULTS_DO_NOT_MATCH, detail, _called(call))
    beside = any(result.answers_id for result in results)
    if len(names) > 1:
        results = [_named_inside(result, call, function) for result in results]
    if any(call.call_ids) and (beside or all(result.answers_id for result in results)):
        return results  # linked by the ids, when the conversation is read
    places: dict[int, Turn] = {}
    unnamed: list[Turn] = []
    for result in results:
        name = result.answers_name
        own = call.call_ids.index(result.answers_id) if result.answers_id in call.call_ids else None
        if result.answers_id and own is not None and own not in places:
            places[own] = result
            continue
        if not isinstance(name, str) or not name:
            unnamed.append(result)
            continue
        meant = function(name)
        if meant is None and len(names) == 1 and not result.inside:
            unnamed.append(result)  # one call, one result: another word for the function leaves no doubt
            continue
        place = next((i for i, called in enumerate(names) if called == meant and i not in places), None)
        if place is None:
            detail = f"a result is of {name[:100]!r}; called: {_called(call)}"
            raise DropError(Drop.RESULTS_DO_NOT_MATCH, detail, result.text or "")
        places[place] = result
    rest = iter(unnamed)
    # Ids that only the calls have, or only the results, link nothing.
    return [replace(places[i] if i in places else next(rest), answers_id=None) for i in range(len(names))]


def _split(results: list[Turn], n_calls: int, is_function: Callable[[str], object]) -> list[Turn]:
    """The results with lists of them taken apart, where that gives one for each call."""
    if len(results) == 1 < n_calls and not results[0].answers_id and not results[0].answers_name:
        return results_of(results[0].text, n_calls, is_function)
    apart: list[Turn] = []
    for result in results if len(results) > 1 else ():
        value = None if result.answers_id or result.answers_name else _value(result.text, "[")
        items = [_item(item, is_function) for item in value] if isinstance(value, list) else []
        apart += items if items and all(item.answers_name for item in items) else [result]
    return apart if len(apart) == n_calls else results


def _named_inside(result: Turn, call: Turn, function: Callable[[str], str | None]) -> Turn:
    """The result with the id or function that its own text gives, whatever else stands there; the text stays.

    The name of another function than the called ones counts in a wrapper alone: data have names too.
    """
    value = None if result.answers_id or result.answers_name else _value(result.text, "{")
    if not isinstance(value, dict):
        return result
    own_id, name = id_text(value.get("tool_call_id")), value.get("name")
    meant = function(name) if isinstance(name, str) else None
    counts = meant in (called for called, _ in call.calls) or (meant and value.keys() <= _WRAPPER)
    known = len(call.call_ids) == len(call.calls) and own_id and own_id in call.call_ids
    return replace(result, answers_id=own_id if known else None, answers_name=name if counts else None)


def id_text(value: Any) -> Any:
    """An id, which may be a number, as text; anything else as it is, to be refused where it is looked at."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


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
