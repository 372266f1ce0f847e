"""Hermes: calls as ``<tool_call>{…}</tool_call>`` in the assistant's text, in ShareGPT or OpenAI shape.

Tools stand in the system text between ``<tools>`` tags or in a field of their own. From where the
system text explains this way of calling, it is left out: it would teach a second one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from callama.common.errors import CallamaError
from callama.contract.jsontext import dumps
from callama.data.formats import openai_chat, sharegpt
from callama.data.formats.draft import Draft, Turn, either, id_text, json_or, shape
from callama.data.formats.literals import json_or_literal
from callama.data.formats.sharegpt import SPEAKER, TEXT
from callama.data.formats.system_text import own_text
from callama.data.formats.thoughts import apart
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair

# A tag that no object follows is only named, as in a thought.
_CALL = re.compile(r"<tool_call>(?=\s*\{)(.*?)</tool_call>", re.DOTALL)
_ANY_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_TOOLS = re.compile(r"<tools>((?:(?!<tools>).)*?)</tools>", re.DOTALL)
_RESULT, _RESULT_END = "<tool_response>", "</tool_response>"
_NEXT_RESULT = re.compile(rf"{_RESULT_END}\s*{_RESULT}")
_MARKS = ("<tool_call>", "<tools>")


def matches(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format: a call in the assistant's turn, or a mark in a system text.

    An assistant may well speak of ``<tools>``, and think of any tag.
    """
    for key in ("conversations", "messages"):
        turns = value.get(key)
        for turn in turns if isinstance(turns, list) else ():
            if isinstance(turn, Mapping) and (role := either(turn, *SPEAKER)) in ("system", "gpt", "assistant"):
                text = either(turn, *TEXT)
                if not isinstance(text, str) or not any(mark in text for mark in _MARKS):
                    continue
                if role == "system" or "<tool_call>" in apart(text)[1]:
                    return True
    system = value.get("system")
    return isinstance(system, str) and "<tools>" in system and ("conversations" in value or "messages" in value)


def read(value: Mapping[str, Any]) -> Draft:
    """Translates a record.

    Raises:
        DropError: it is not of this shape, or a call or the tools cannot be read.
    """
    draft = openai_chat.read(value) if "messages" in value else _sharegpt(value)
    tools = json_or(draft.tools)
    turns: list[Turn] = []
    for turn in draft.turns:
        text = turn.text if isinstance(turn.text, str) else ""
        if turn.role == "system" and any(mark in text for mark in _MARKS):
            # The usual wording names the tags, "within <tools></tools> XML tags", before it uses them.
            tools = tools or [tool for shown in _TOOLS.findall(text) if "{" in shown for tool in _tools(shown)]
            draft.repairs.append(Repair.FORMAT_TEXT)
            if own := own_text(text):
                turns.append(Turn("system", own))
        elif turn.role == "assistant" and "<tool_call>" in apart(text)[1]:
            turns.append(_agreed(_calling(text), turn, text) if turn.calls else _calling(text))
        elif _RESULT in text and (turn.role == "tool" or (turn.role == "user" and text.lstrip().startswith(_RESULT))):
            turns += _responses(turn, text)
        else:
            turns.append(turn)
    return Draft(turns, tools, draft.repairs)


def _sharegpt(value: Mapping[str, Any]) -> Draft:
    """ShareGPT with the calls that stand parsed beside a text that may hold them too."""
    draft = sharegpt.read(value, openai_chat.BESIDE)
    # A system text may be in front.
    for turn, raw in zip(reversed(draft.turns), reversed(value["conversations"]), strict=False):
        if turn.role == "assistant" and not turn.calls:
            turn.calls, turn.call_ids = openai_chat.calls_beside(raw)
    return draft


def _agreed(written: Turn, beside: Turn, text: str) -> Turn:
    """The calls that stand in the text and parsed beside it, if they are the same.

    Raises:
        DropError: they are not.
    """
    in_text, parsed = _spelled(written), _spelled(beside)
    if in_text != parsed:
        detail = f"the calls in <tool_call> and those beside the text differ: {in_text[:120]} and {parsed[:120]}"
        raise shape(f"{detail}; keep the ones that are meant", text)
    return written if any(written.call_ids) else replace(written, call_ids=beside.call_ids)


def _spelled(turn: Turn) -> str:
    calls = [{"name": name, "arguments": json_or(arguments) or {}} for name, arguments in turn.calls]
    return json.dumps(calls, sort_keys=True, ensure_ascii=False)


def _tools(text: str) -> list[Any]:
    """The tools between the tags: one value, or one a line, each a tool or a list of tools."""
    try:
        values = [_literal(text, Drop.FUNCTIONS_NOT_JSON)]
    except DropError as whole:
        first, *rest = [line for line in text.split("\n") if line.strip()]
        try:
            values = [_literal(first, Drop.FUNCTIONS_NOT_JSON)]
        except DropError:
            raise whole from None
        values += [_literal(line, Drop.FUNCTIONS_NOT_JSON) for line in rest]
    return [tool for value in values for tool in (value if isinstance(value, list) else [value])]


def _calling(whole: str) -> Turn:
    thought, text = apart(whole)
    call = _CALL if _CALL.search(text) else _ANY_CALL
    values = [_literal(inner, Drop.CALL_NOT_JSON) for inner in call.findall(text)]
    calls = [sharegpt.call_of(value) for value in values]
    before, *rest = call.split(text)
    behind = "".join(rest[1::2]).strip()
    if not calls or "<tool_call>" in behind:
        raise DropError(Drop.CALL_CUT_OFF, "<tool_call> without </tool_call>", text)
    if behind:
        raise DropError(Drop.TEXT_AFTER_CALL, f"behind the call: {behind[:100]!r}", text)
    return Turn("assistant", (thought + before).strip() or None, calls, [id_text(value.get("id")) for value in values])


def _literal(text: str, reason: Drop) -> Any:
    """JSON, or the Python literal that Hermes' data often has in its place."""
    text = text.strip()
    try:
        return json_or_literal(text)
    except CallamaError as error:
        raise DropError(reason, str(error), text) from None


def _responses(turn: Turn, text: str) -> list[Turn]:
    whole = text.strip()
    if not whole.startswith(_RESULT) or not whole.endswith(_RESULT_END):
        raise shape(f"text around <tool_response>…</tool_response>: {whole[:100]!r}", text)
    results = []
    for response in _NEXT_RESULT.split(whole[len(_RESULT) : -len(_RESULT_END)]):
        if _RESULT_END in response:  # the tag quoted inside JSON, else text between two results
            try:
                json_or_literal(response.strip())
            except CallamaError:
                raise shape(f"text around <tool_response>…</tool_response>: {response[:100]!r}", text) from None
        results.append(_response(response))
    if len(results) == 1:  # what stands beside the text counts where the text does not say it
        results[0].answers_id = results[0].answers_id or turn.answers_id
        results[0].answers_name = results[0].answers_name or turn.answers_name
    return results


def _response(text: str) -> Turn:
    text = text.strip()
    try:
        value = json_or_literal(text) if text.startswith("{") else None
    except CallamaError:
        return Turn("tool", text)
    if isinstance(value, dict) and "content" in value and value.keys() <= {"name", "content", "tool_call_id"}:
        content = value["content"]
        content = content if isinstance(content, str) else dumps(content)
        own_id, name = id_text(value.get("tool_call_id")), value.get("name")
        return Turn("tool", content, answers_id=own_id, answers_name=name, inside=bool(name))
    return Turn("tool", text)
