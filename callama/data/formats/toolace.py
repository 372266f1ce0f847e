"""ToolACE: tools as a JSON list inside the system text, calls as ``[Name(key="value"), …]``.

Names may hold spaces and signs. The call text is read as Python's grammar reads it, and nothing of
it is ever run. From where the system text explains that way of calling, it is left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from keyword import iskeyword
from typing import Any

from callama.common.errors import CallamaError
from callama.data.formats.draft import DECODER, Draft, Turn, either, results_of
from callama.data.formats.literals import MAX_CHARS, value_of
from callama.data.formats.sharegpt import ROLES, SPEAKER, TEXT, said
from callama.data.formats.system_text import LEFT_OUT, own_text
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair

_MARK = "functions in JSON format"
_OPENS_CALL = re.compile(r"\[[^\[\]{}\"'=][^\[\]{}\"'=(]*\(")
_STRING = r'"""(?:\\.|[^\\])*?"""|\'\'\'(?:\\.|[^\\])*?\'\'\'|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\''
_ARGUMENT = r"""(?<=[(,])\s*(?P<argument>[^\s,()=\[\]{}"'][^,()=\[\]{}"']{0,99}?)(?=\s*=(?!=))"""
_RAW_BREAK = re.compile(r"\\.|\n|\r", re.DOTALL)
_BREAKS = {"\n": "\\n", "\r": "\\r"}
_WORDS = {"true": True, "false": False, "null": None}


def matches(value: Mapping[str, Any]) -> bool:
    """Whether a record is of this format; the system text may also be the first turn."""
    system, turns = value.get("system"), value.get("conversations")
    first = turns[0] if isinstance(turns, list) and turns else None
    if not system and isinstance(first, Mapping) and either(first, *SPEAKER) == "system":
        system = either(first, *TEXT)
    return turns is not None and isinstance(system, str) and _MARK in system


def read(value: Mapping[str, Any]) -> Draft:
    """Translates a record.

    Raises:
        DropError: it is not of this shape, or a call or the tools cannot be read.
    """
    repairs = [Repair.FORMAT_TEXT]
    (_, system), *rest = said(value, repairs)
    tools, rest_of_system = _tools(system)
    names = [tool["name"] for tool in tools if isinstance(tool, dict) and isinstance(tool.get("name"), str)]
    turns = [Turn("system", own)] if (own := own_text(rest_of_system)) else []
    for speaker, text in rest:
        role = ROLES.get(speaker, "assistant")
        if role == "assistant" and _is_call(text.strip()):
            turns.append(Turn(role, None, _calls(text.strip(), names, repairs)))
        elif role == "tool":
            turns += results_of(text, len(turns[-1].calls) if turns else 0, names.__contains__)
        else:
            turns.append(Turn(role, text))
    return Draft(turns, tools, repairs)


def _is_call(text: str) -> bool:
    # Head and end apart: one expression for both would take quadratic time on brackets.
    return _OPENS_CALL.match(text) is not None and text.endswith("]") and text[:-1].rstrip().endswith(")")


def _tools(system: str) -> tuple[list[Any], str]:
    """The functions, and the text without them."""
    start = system.find("[", max(system.find(_MARK), 0))
    try:
        value, end = DECODER.raw_decode(system, start if start >= 0 else len(system))
    except (ValueError, RecursionError, CallamaError) as error:
        raise DropError(Drop.FUNCTIONS_NOT_JSON, str(error), system[max(start, 0) :][:500]) from None
    if not isinstance(value, list):
        raise DropError(Drop.FUNCTIONS_NOT_JSON, "the functions are no list", system[start:][:500])
    return value, f"{system[:start]}{LEFT_OUT}{system[end:]}"


def _calls(text: str, names: Sequence[str], repairs: list[Repair]) -> list[tuple[Any, Any]]:
    """Reads the calls. Declared names that open one, and names of arguments that Python does not take
    (``from``, ``x-key``), are read by a placeholder; a raw line break in a string is read as one.

    Raises:
        DropError: not calls in this syntax, with literal arguments by name.
    """
    if len(text) > MAX_CHARS:
        raise DropError(Drop.CALL_NOT_JSON, f"a call of {len(text):,} characters", text)
    declared = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    opening = rf"(?<=[\[,\s])(?P<function>{declared})(?=\()" if declared else "(?P<function>(?!))"
    meant: dict[str, str] = {}
    stem = "name_"
    while stem in text:
        stem += "_"

    def placeholder(match: re.Match[str]) -> str:
        word = match["function"] or match["argument"]
        if word is None and match[0][:3] not in ('"""', "'''"):
            mended = _RAW_BREAK.sub(lambda sign: _BREAKS.get(sign[0], sign[0]), match[0])
            repairs.extend([Repair.RAW_CONTROL] * (mended != match[0]))
            return mended
        if word is None or (match["argument"] and word.isascii() and word.isidentifier() and not iskeyword(word)):
            return match[0]
        meant[short := f"{stem}{len(meant)}"] = word
        return match[0].removesuffix(word) + short

    # Strings stand first: what looks like a name inside one is not touched.
    code = re.sub(f"{_STRING}|{opening}|{_ARGUMENT}", placeholder, text, flags=re.DOTALL)
    try:
        tree = ast.parse(code, mode="eval").body
        if not isinstance(tree, ast.List):
            raise CallamaError("not a list of calls")
        return [_call(node, meant) for node in tree.elts]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError, CallamaError) as error:
        # Python's own words hold addresses in memory, which differ from run to run, and placeholders.
        detail = str(error) if isinstance(error, CallamaError) else "expected JSON's or Python's literals as values"
        raise DropError(Drop.CALL_NOT_JSON, f"not calls like [Name(key=value)]: {detail}", text) from None


def _call(node: ast.expr, meant: Mapping[str, str]) -> tuple[str, Any]:
    if not isinstance(node, ast.Call) or node.args or any(keyword.arg is None for keyword in node.keywords):
        raise CallamaError("a call must be Name(key=value, …)")
    name = ast.unparse(node.func)
    arguments = {meant.get(str(word.arg), str(word.arg)): _value(word.value) for word in node.keywords}
    if len(arguments) < len(node.keywords):
        raise CallamaError("an argument is given twice")
    return meant.get(name, name), arguments


def _value(node: ast.expr) -> Any:
    """A literal; JSON's true, false and null count as such."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.List | ast.Tuple):
            inner.elts = [_word(element) for element in inner.elts]
        elif isinstance(inner, ast.Dict):
            inner.values = [_word(element) for element in inner.values]
    return value_of(_word(node))


def _word(node: ast.expr) -> ast.expr:
    return ast.Constant(_WORDS[node.id]) if isinstance(node, ast.Name) and node.id in _WORDS else node
