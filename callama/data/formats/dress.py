"""Records brought into the keys of the formats that are read, before their format is looked for.

Data sets keep tools and system texts under keys of their own, or turns as JSON text. What is known is
read here; what is not is counted by its name, and refused where it holds tools.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from callama.common.errors import CallamaError
from callama.data.formats.draft import DECODER, either, json_or, shape
from callama.data.formats.sharegpt import ROLES, SPEAKER, TEXT
from callama.data.glaive.turns import Turn, turn_of
from callama.data.quarantine import DropError
from callama.data.reasons import Drop

_TOOLS = ("tools", "functions", "available_tools", "function_description")
_SYSTEM = ("system", "system_message", "system_prompt")
# Objects, or their JSON text, that may hold tools among other things; metadata are notes of any kind.
_METADATA, _TEMPLATE = "metadata", "chat_template_kwargs"
_TOOLS_OF_TEMPLATE, _SYSTEM_OF_TEMPLATE = ("tools", "xml_tools", "python_tools"), "custom_instructions"
_PREFERENCE = ("chosen", "rejected", "chosen_response", "rejected_response")
_READ = {
    "glaive": frozenset(("system", "chat")),
    "xlam": frozenset((*_TOOLS, _METADATA, _TEMPLATE, "query", "answers")),
}
_READ_OF_TURNS = frozenset((*_TOOLS, *_SYSTEM, _METADATA, _TEMPLATE, "messages", "conversations", "labels"))
_MAY_HOLD_TOOLS = re.compile(r"tool|function|\bapis?\b", re.IGNORECASE)
_GLAIVES_WORDS, _GLAIVES_CALL = "with access to the following functions", "<functioncall>"
_OPENAIS_KEYS = ("tool_calls", "function_call", "tool_call_id")
_OPENAIS_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
# What a tool has and a note about one has not.
_PARAMETERS = {"parameters", "input_schema", "inputSchema"}
_OPENS_FUNCTION = re.compile(r'\{\s*"(?:name|function)"\s*:|\{\s*"type"\s*:\s*"function"')
_GAPS = re.compile(r"[\s,]*")


def unread(value: Mapping[str, Any], name: str) -> list[str]:
    """The keys of a record that its format does not read and that say something."""
    in_turns = "messages" in value or "conversations" in value
    read = _READ_OF_TURNS if in_turns else _READ.get(name, _READ_OF_TURNS)
    return [] if value.keys() <= read else [key for key in value if key not in read and value[key] is not None]


def undressed(given: Mapping[str, Any]) -> dict[str, Any]:
    """The record with its turns as a list, and its tools and system text where the formats look for them.

    Raises:
        DropError: turns or tools that are not JSON, an answer that stands elsewhere, tools under an unknown key.
    """
    value = dict(given)
    for key in ("messages", "conversations"):
        if isinstance(value.get(key), str):
            value[key] = json_or(value[key]) or []
    key = "messages" if "messages" in value else "conversations"
    turns = value.get(key)
    turns = [turn for turn in turns if isinstance(turn, Mapping)] if isinstance(turns, list) else []
    in_openais_words = any(turn.get(sign) for turn in turns for sign in _OPENAIS_KEYS)
    if key == "conversations" and in_openais_words and all(turn.get("role") in _OPENAIS_ROLES for turn in turns):
        value["messages"] = value.pop("conversations")
    said = [key for key in _PREFERENCE if value.get(key) and not isinstance(value[key], bool)]
    if turns and said and not _answers(turns[-1]):
        detail = f"the answers stand under {' and '.join(map(repr, said))}, which are not read: a preference record"
        raise DropError(Drop.NO_ANSWER, f"{detail}; put the answer that is to be learnt behind its messages")
    template = _object(value.get(_TEMPLATE))
    if tools := _find_tools(value, turns, template):
        value["tools"] = tools
    for system in (*map(value.get, _SYSTEM[1:]), template.get(_SYSTEM_OF_TEMPLATE)):
        first = turns[0] if turns else {}
        own = either(first, *TEXT) if either(first, *SPEAKER) in ("system", "developer") else ""
        text = system.strip() if isinstance(system, str) else ""
        if turns and text and not value.get("system") and not (isinstance(own, str) and text in own):
            value["system"] = system
    return value


def refuse_hidden_tools(value: Mapping[str, Any], name: str) -> None:
    """Refuses a record in which no tools were found, and a key that is not read seems to hold some.

    Raises:
        DropError: naming the key.
    """
    for key in unread(value, name):
        if _MAY_HOLD_TOOLS.search(str(key)) and _holds_tools(value[key]):
            raise shape(f"tools seem to stand under {str(key)[:80]!r}, which is not read; name it 'tools'", value[key])


def _answers(turn: Mapping[str, Any]) -> bool:
    return ROLES.get(str(either(turn, *SPEAKER)), "assistant") == "assistant"


def _find_tools(value: Mapping[str, Any], turns: list[Mapping[str, Any]], template: Mapping[str, Any]) -> Any:
    """The tools, from wherever they are known to stand; nothing where there are none."""
    for key in _TOOLS:
        text = value.get(key)
        if isinstance(text, str) and key not in _TOOLS[:2] and text.lstrip()[:1] not in ("{", "["):
            continue  # a description in words
        if (tools := _tools(text)) and (key == "tools" or not _are_names(tools)):
            return tools
    for turn in turns[:2]:
        if turn.get("functions") and (tools := _tools(turn["functions"])):
            return tools
    if tools := [tool for place in _TOOLS_OF_TEMPLATE for tool in _tools(template.get(place)) or ()]:
        return tools
    notes = _object(value.get(_METADATA)).get("tools")
    return _tools(notes) if _holds_tools(notes) else None


def _are_names(tools: Any) -> bool:
    """Whether a list only names tools that are shown elsewhere."""
    return isinstance(tools, list) and all(isinstance(t, str) and not t.lstrip().startswith("{") for t in tools)


def _tools(value: Any) -> Any:
    """A list of tools; also from an object, and from JSON text with objects one behind the other, as glaive's are."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        return list(_objects(value))
    value = json_or(value)
    return [value] if isinstance(value, Mapping) and value else value


def _objects(text: str) -> Iterator[Any]:
    at = 0
    while (at := _GAPS.match(text, at).end()) < len(text):  # type: ignore[union-attr]
        try:
            found, at = DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise DropError(Drop.FUNCTIONS_NOT_JSON, str(error), text[at:][:500]) from None
        yield found


def _object(value: Any) -> Mapping[str, Any]:
    """An object, or the one that a JSON text holds; an empty one for all else: it may be a note of any kind."""
    if isinstance(value, str) and value.lstrip().startswith("{") and "tools" in value:
        with suppress(DropError):
            value = json_or(value)
    return value if isinstance(value, Mapping) else {}


def _holds_tools(value: Any) -> bool:
    try:
        value = json_or(value)
        tools = [json_or(item) for item in (value if isinstance(value, list) else [value])]
    except DropError:
        return False
    inner = [tool.get("function", tool) for tool in tools if isinstance(tool, Mapping)]
    return any(isinstance(tool, Mapping) and "name" in tool and not _PARAMETERS.isdisjoint(tool) for tool in inner)


def glaives(value: Mapping[str, Any]) -> tuple[str, list[Turn]] | None:
    """System text and turns of a glaive row in another dress: its words and its calls, in ``conversations`` or
    ``messages``. None for any other record."""
    if value.get("tools"):
        return None
    turns = value.get("messages", value.get("conversations"))
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, Mapping) for turn in turns):
        return None
    said = [(either(turn, *SPEAKER), either(turn, *TEXT)) for turn in turns]
    if isinstance(system := value.get("system"), str) and system.strip():
        said.insert(0, ("system", system))
    if said[0][0] != "system" or not isinstance(said[0][1], str) or _GLAIVES_WORDS not in said[0][1]:
        return None
    if any(turn.get(key) for turn in turns for key in _OPENAIS_KEYS):
        return None
    (_, system), *rest = said
    if not _shows_functions(system) and not any(_GLAIVES_CALL in str(text) for _, text in rest):
        return None  # the words alone, with braces of its own at most
    roles = {**ROLES, "function": "tool"}
    if not rest or not all(
        isinstance(text, str) and roles.get(str(role)) not in (None, "system") for role, text in rest
    ):
        return None
    return _functions_last(system), [turn_of(roles[role], text) for role, text in rest]  # type: ignore[arg-type]


def _shows_functions(system: str) -> bool:
    """Whether the first braces hold a function, or the beginning of a damaged one."""
    text = system[system.find("{") :] if "{" in system else ""
    try:
        value, _ = DECODER.raw_decode(text)
    except (ValueError, RecursionError, CallamaError):
        return _OPENS_FUNCTION.match(text) is not None
    inner = value.get("function", value)
    return isinstance(inner, Mapping) and "name" in inner and not {*_PARAMETERS, "description"}.isdisjoint(inner)


def _functions_last(system: str) -> str:
    """The text with what it says behind its functions in front of them, where glaive's own rows say all."""
    at = start = system.find("{")
    while system[at : at + 1] == "{":
        try:
            _, end = DECODER.raw_decode(system, at)
        except (ValueError, RecursionError, CallamaError):
            return system
        at = _GAPS.match(system, end).end()  # type: ignore[union-attr]
    behind = system[at:].strip()
    if start < 0 or not behind or "{" in behind:
        return system
    return f"{system[:start].rstrip()}\n{behind}\n{system[start:at]}"
