"""ToolACE: tools as a JSON list inside the system text, calls as ``[Name(key="value"), …]``.

Names may hold spaces and signs. The call text is read as Python's grammar reads it, and nothing of
it is ever run. The rest of the system text explains that way of calling and is left out.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from callama.common.errors import CallamaError
from callama.contract.jsontext import dumps, loads_strict
from callama.data.formats.draft import Draft, Turn
from callama.data.formats.sharegpt import ROLES, said
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair

_MARK = "functions in JSON format"
_CALL_LIKE = re.compile(r"\A\s*\[[^\[\]{}\"'=]+\(.*\)\s*\]\s*\Z", re.DOTALL)
_DECODER = json.JSONDecoder()
_MAX_CALL_CHARS = 100_000
_WORDS = {"true": True, "false": False, "null": None}


def matches(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format."""
    system = value.get("system")
    return "conversations" in value and isinstance(system, str) and _MARK in system


def read(value: Mapping[str, Any]) -> Draft:
    """Translates a record.

    Raises:
        DropError: it is not of this shape, or a call or the tools cannot be read.
    """
    (_, system), *rest = said(value)
    tools = _tools(system)
    names = [tool["name"] for tool in tools if isinstance(tool, dict) and isinstance(tool.get("name"), str)]
    turns: list[Turn] = []
    for speaker, text in rest:
        role = ROLES.get(speaker, "assistant")
        if role == "assistant" and _CALL_LIKE.match(text):
            turns.append(Turn(role, None, _calls(text.strip(), names)))
        elif role == "tool":
            turns += _results(text, len(turns[-1].calls) if turns else 0)
        else:
            turns.append(Turn(role, text))
    return Draft(turns, tools, [Repair.FORMAT_TEXT])


def _tools(system: str) -> list[Any]:
    start = system.find("[", max(system.find(_MARK), 0))
    try:
        value, _ = _DECODER.raw_decode(system, start if start >= 0 else len(system))
    except (ValueError, RecursionError) as error:
        raise DropError(Drop.FUNCTIONS_NOT_JSON, str(error), system[max(start, 0) :][:500]) from None
    if not isinstance(value, list):
        raise DropError(Drop.FUNCTIONS_NOT_JSON, "the functions are no list", system[start:][:500])
    return value


def _calls(text: str, names: Sequence[str]) -> list[tuple[Any, Any]]:
    """Reads the calls; declared names stand for themselves wherever one opens a call.

    Raises:
        DropError: not calls in this syntax, with literal arguments by name.
    """
    if len(text) > _MAX_CALL_CHARS:
        raise DropError(Drop.CALL_NOT_JSON, f"a call of {len(text):,} characters", text)
    plain: dict[str, str] = {}
    if names:
        declared = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        opening = re.compile(rf"(?<=[\[,\s])({declared})(?=\()")

        def placeholder(match: re.Match[str]) -> str:
            plain[word := f"function_{len(plain)}_"] = match[1]
            return word

        text = opening.sub(placeholder, text)
    try:
        tree = ast.parse(text, mode="eval").body
        if not isinstance(tree, ast.List):
            raise ValueError("not a list of calls")
        return [_call(node, plain) for node in tree.elts]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise DropError(Drop.CALL_NOT_JSON, f"not calls like [Name(key=value)]: {error}", text) from None


def _call(node: ast.expr, plain: Mapping[str, str]) -> tuple[str, Any]:
    if not isinstance(node, ast.Call) or node.args or any(keyword.arg is None for keyword in node.keywords):
        raise ValueError("a call must be Name(key=value, …)")
    name = ast.unparse(node.func)
    arguments = {str(keyword.arg): _value(keyword.value) for keyword in node.keywords}
    if len(arguments) < len(node.keywords):
        raise ValueError("an argument is given twice")
    return plain.get(name, name), arguments


def _value(node: ast.expr) -> Any:
    """A literal; JSON's true, false and null count as such."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.List | ast.Tuple):
            inner.elts = [_word(element) for element in inner.elts]
        elif isinstance(inner, ast.Dict):
            inner.values = [_word(element) for element in inner.values]
    value = ast.literal_eval(_word(node))
    try:
        return loads_strict(dumps(value))
    except CallamaError as error:
        raise ValueError(str(error)) from None


def _word(node: ast.expr) -> ast.expr:
    return ast.Constant(_WORDS[node.id]) if isinstance(node, ast.Name) and node.id in _WORDS else node


def _results(text: str, n_calls: int) -> list[Turn]:
    """One result a call where the list of results has as many items; else the text as it is."""
    try:
        value = loads_strict(text)
    except CallamaError:
        return [Turn("tool", text)]
    if not isinstance(value, list) or len(value) != n_calls:
        return [Turn("tool", text)]
    results = [item["results"] if isinstance(item, dict) and "results" in item else item for item in value]
    return [Turn("tool", result if isinstance(result, str) else dumps(result)) for result in results]
