"""What every kept call must pass: declared, arguments valid, required present, nothing invented.

All formats meet here, so that no reader can be laxer than another. A respelled name counts only
where exactly one declared function differs from it in punctuation and case alone.
"""

from __future__ import annotations

import ast
import json
import re
import unicodedata
import warnings
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import jsonschema_rs

from callama.contract.messages import Tool
from callama.contract.schema import MAX_DEPTH
from callama.contract.tool_uses import parse_answer
from callama.data.quarantine import DropError
from callama.data.reasons import Drop, Repair

# As JSON writes numbers, and short enough that a float or int says exactly the same.
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,6})?")
# With one of these, what an object may hold is declared elsewhere too, at any depth.
_DECLARE_ELSEWHERE = {"$ref", "allOf", "anyOf", "oneOf"}
_BRANCHES_ON = {*_DECLARE_ELSEWHERE, "patternProperties", "additionalProperties", "then", "else", "dependentSchemas"}
_ANNOTATIONS = {"title", "description", "default", "examples", "deprecated"}

# Other dialects' marks that the dialect's own reader does not know, or knows at the start of a line only.
_MARKS = (
    ("to=", re.compile(r"to= ?[\w.-]{1,64} ?:? ?\{")),
    ("<", re.compile(r"<\W{0,2}(?:function|tool)[_-]?calls?\W{0,2}>|<function=|<\|python_tag\|>", re.IGNORECASE)),
)
# Marks that prose has too ("choose <Function Calls> in the menu"): with a call, or a declared name, behind them.
_WEAK_MARKS = (
    ("<", re.compile(r"<\W{0,2}(?:function|tool) calls?\W{0,2}>\s*+(?:(?:```\w*+\s*+)?[\[{]|([\w.-]++))", re.I)),
    ("Action Input:", re.compile(r"Action: *+([^\n]{1,100})\n\s*+Action Input:")),
)
_NAME_KEYS = ("name", "function", "recipient_name", "tool")
_OBJECT = re.compile(r"""\{\s*["'](?:name|function|recipient_name|tool|arguments|parameters|id|type)["']\s*:""")
# The beginning of one that is not JSON, as glaive and Python write them; a schema of parameters is none.
_CALL_HEAD = re.compile(
    r"""\{\s*["'](?:name|function|recipient_name|tool)["']\s*:\s*["']([^"'\n]{1,200})["']\s*,"""
    r"""\s*["'](?:arguments|parameters)["']\s*:\s*["']?\{(?!\s*["'](?:type["']\s*:\s*["']object|properties)["'])"""
)
_CALL_KEYS = {*_NAME_KEYS, "arguments", "parameters", "id", "type", "index"}
_DECODER = json.JSONDecoder(strict=False)
_MAX_BROKEN = 32  # objects that break off; beyond, only their beginnings are looked at, so that the work stays linear
# [Name(key=value), …] with balanced quotes and at most one pair of parentheses inside another; a name
# of several words is one only before a value that is no word itself.
_STRING = r""""(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'"""
_KEY = r"\s*+[\w-]++\s*+=(?!=)\s*+"
_NAMED_CALL = (
    rf"[^\W\d](?:[\w.&/-]{{0,99}}\s?\((?:\s*+(?=\))|{_KEY})"
    rf"|(?:[\w.&/-]|\ (?=\w)){{0,99}}\s?\({_KEY}(?=[\"'\d\[{{(-]|(?i:true|false|null|none)\b))"
    rf"(?:[^()\"']|{_STRING}|\((?:[^()\"']|{_STRING})*+\))*+\)"
)
_NO_LETTERS = re.compile(r"[\W_]+")
_MAY_CALL = re.compile(r"\(\s*+(?:\)|\{|[\w-]++\s*+=(?!=))")  # soon found, and in every such call
_ONE_OF_LIST = re.compile(_NAMED_CALL, re.DOTALL)
_CALL_LIST = rf"(?<![\w)\]])\[\s*+{_NAMED_CALL}(?:\s*+,\s*+{_NAMED_CALL})*+\s*+\](?!\()"
_ONLY_A_LIST = re.compile(rf"\s*+(?:```\w*+\s*+|`)?{_CALL_LIST}\s*+`*+\s*+", re.DOTALL)
# Such a list, or the beginning of a single call: Name(key= or Name({.
_CALL_BEGINS = rf"(?:(?<![\w)\]])\[\s*+|(?<![\w.&/-]))(?P<name>[\w.&/-]{{1,100}}+)\((?:{_KEY}|\s*+\{{)"
_LIST_OR_CALL = re.compile(rf"(?P<list>{_CALL_LIST})|{_CALL_BEGINS}", re.DOTALL)
# Behind these, such a call is a value in Python, not something that is said.
_IN_CODE = re.compile(r"(?:[=(\[{+/%<|&@]|>>>|\b(?:return|in|yield|print|assert|await|def|class))\s*\Z")
_MAX_CODE_CHARS = 10_000
_CODE_OPENS = re.compile(r"(?:```\w*\s*|`)\Z")


class Declared:
    """One declared function with its validator, compiled when a call first needs it."""

    def __init__(self, tool: Tool) -> None:
        self.tool = tool

    @cached_property
    def _validator(self) -> Any:
        return jsonschema_rs.validator_for(self.tool.parameters, retriever=_no_retrieval)

    def check(self, arguments: dict[str, Any], repairs: list[Repair]) -> dict[str, Any]:
        """The arguments, if they fit the function; a number in the wrong one of JSON's two spellings
        (``"85"``, ``85``) gets the one that the schema wants.

        Raises:
            DropError: they break its schema, or pass what it does not declare.
        """
        if fault := self.fault(arguments):
            respelled = _respelled(arguments, self.tool.parameters, self.tool.parameters, 0)
            if fault.reason is not Drop.ARGUMENTS_INVALID or respelled == arguments or self.fault(respelled):
                raise fault
            repairs.append(Repair.ARGUMENT_TYPE)
            return dict(respelled)
        return arguments

    def fault(self, arguments: dict[str, Any]) -> DropError | None:
        """Why the arguments do not fit the function as they stand; None: they do."""
        name = self.tool.name
        try:
            self._validator.validate(arguments)
        except jsonschema_rs.ValidationError as error:
            path = "".join(f"[{key!r}]" for key in error.instance_path)
            detail = f"{name}: arguments{path}: {error.message[:300]}"
            return DropError(Drop.ARGUMENTS_INVALID, detail, repr(arguments)[:500])
        except ValueError as error:  # nested deeper than the validator goes
            return DropError(Drop.ARGUMENTS_INVALID, f"{name}: {error}", repr(arguments)[:500])
        if (invented := _invented(arguments, self.tool.parameters)) is not None:
            detail = f"{name} has no parameter {invented[:100]!r}"
            return DropError(Drop.UNDECLARED_ARGUMENT, detail, repr(arguments)[:500])
        return None


def _respelled(value: Any, schema: Any, root: dict[str, Any], depth: int) -> Any:
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return value
    schema = _meant(schema, root)
    if isinstance(value, dict):
        declared = schema.get("properties", {})
        return {key: _respelled(inner, declared.get(key), root, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_respelled(item, schema.get("items"), root, depth + 1) for item in value]
    wanted = _types(schema, root)
    is_number, is_text = bool(wanted & {"number", "integer"}), "string" in wanted
    if isinstance(value, str) and is_number and not is_text and _NUMBER.fullmatch(value):
        return float(value) if "." in value else int(value)
    if isinstance(value, int) and not isinstance(value, bool) and is_text and not is_number:
        return str(value)
    return value


def _types(schema: dict[str, Any], root: dict[str, Any]) -> set[str]:
    """The types that a value may have, those of the members of a union together."""
    said = schema.get("type", [])
    types = {said} if isinstance(said, str) else set(said)
    for member in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        inner = _meant(member, root).get("type", []) if isinstance(member, dict) else []
        types |= {inner} if isinstance(inner, str) else set(inner)
    return types


def _no_retrieval(uri: str) -> Any:
    raise ValueError(f"{uri} is not fetched: a schema must stand for itself")


def _invented(arguments: dict[str, Any], parameters: dict[str, Any]) -> str | None:
    """The path of an argument that the schema does not declare; None: there is none.

    An inner object without ``properties`` is free, a function without parameters takes none. An object
    that allows more keys than it declares is open for these, not for what stands in the declared ones.
    """
    pending: list[tuple[str, Any, Any]] = [("", arguments, parameters)]
    while pending:
        path, value, schema = pending.pop()
        if not isinstance(schema, dict):
            continue
        schema = _meant(schema, parameters)
        if isinstance(value, list):
            first, rest = schema.get("prefixItems", []), schema.get("items")
            pending += [(f"{path}[]", v, first[i] if i < len(first) else rest) for i, v in enumerate(value)]
        elif isinstance(value, dict) and (declared := _declared_keys(schema)) is not None:
            more = schema.get("additionalProperties", False)
            patterns = "patternProperties" in schema  # a key that fits one is not an additional one
            is_open = patterns or more is not False or (not declared and path)
            for key, inner in value.items():
                place = f"{path}.{key}"
                # What is required is shown with the others, whatever it may be.
                if key not in declared and not is_open and key not in schema.get("required", ()):
                    return place[1:]
                if isinstance(inner, dict | list):
                    pending.append((place, inner, declared.get(key, None if patterns else more)))
    return None


def _declared_keys(schema: dict[str, Any]) -> dict[str, Any] | None:
    """Schemas of an object's declared keys, those of its conditions' branches with them; None where some may be
    declared elsewhere."""
    declared: dict[str, Any] = schema.get("properties", {})
    if _DECLARE_ELSEWHERE & schema.keys():
        return None
    dependent = schema.get("dependentSchemas") or {}
    for branch in (schema.get("then"), schema.get("else"), *dependent.values()):
        if isinstance(branch, dict):
            if _BRANCHES_ON & branch.keys():
                return None
            declared = {**branch.get("properties", {}), **declared}
    return declared


def _meant(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """What a reference or "this or null" stands for where it stands alone, as pydantic writes them."""
    for _ in range(MAX_DEPTH):
        said = schema.keys() - _ANNOTATIONS
        inner: Any = None
        if said == {"$ref"}:
            places, _, name = schema["$ref"].removeprefix("#/").partition("/")
            inner = root.get(places, {}).get(name) if places in ("$defs", "definitions") else None
        elif said == {"anyOf"}:
            members = [member for member in schema["anyOf"] if member != {"type": "null"}]
            inner = members[0] if len(members) == 1 else None
        if not isinstance(inner, dict):
            return schema
        schema = inner
    return schema


def find_declared(name: str, names: Iterable[str]) -> str:
    """The declared name that is meant by ``name``.

    Raises:
        DropError: none is, or more than one may be.
    """
    names = list(names)
    if name in names:
        return name
    bare = _bare(name)
    alike = [n for n in names if bare and _bare(n) == bare]
    if len(alike) == 1:
        return alike[0]
    if alike:
        detail = f"{name[:100]!r} is called, which may be any of {', '.join(alike[:8])}; write the one that is meant"
        raise DropError(Drop.UNDECLARED_FUNCTION, detail, name)
    declared = ", ".join(names[:8]) or "none"
    raise DropError(Drop.UNDECLARED_FUNCTION, f"{name[:100]!r} is called; declared: {declared}", name)


def _bare(name: str) -> str:
    """The name without spaces, signs and punctuation; letters, digits and accents of any script stay."""
    return "".join(sign for sign in name if unicodedata.category(sign)[0] in "LNM").lower()


def check_text(text: str, declared: Iterable[str]) -> None:
    """Refuses text that is a call in other clothes: it would train the model to write such.

    What ordinary text has too (``[Person(age=3)]``, JSON with a name and arguments) is a call where it
    names a function that is ``declared``, or where it is all of the text.

    Raises:
        DropError: the text holds a call in any of these syntaxes, wherever it stands.
    """
    brackets = "(" in text and ("=" in text or "[" in text)
    if "{" not in text and "<" not in text and not brackets and "Action Input:" not in text:
        return  # most texts; without these signs nothing is a call in any syntax
    for sign, pattern in _MARKS:
        if sign in text and (found := pattern.search(text)):
            detail = f"its text has the mark {found[0][:40]!r}"
            raise DropError(Drop.OTHER_CALL_SYNTAX, detail, text[found.start() :])
    if (answer := parse_answer(text)).kind != "text":
        raise DropError(Drop.OTHER_CALL_SYNTAX, answer.reason, text)
    marks = [(pattern, found) for sign, pattern in _WEAK_MARKS if sign in text and (found := pattern.search(text))]
    may_be_json = "{" in text and ("arguments" in text or "parameters" in text)
    may_be_named = _MAY_CALL.search(text) is not None
    if not (marks or may_be_json or may_be_named):
        return
    names = frozenset(map(_bare, declared)) - {""}
    for pattern, first in marks:
        for found in pattern.finditer(text, first.start()):
            if found[1] is None or _means(found[1], names):
                raise DropError(Drop.OTHER_CALL_SYNTAX, "", text[found.start() :])
    if may_be_json and (start := _json_call(text, names)) is not None:
        raise DropError(Drop.OTHER_CALL_SYNTAX, "a name with arguments in braces", text[start:])
    if may_be_named and (start := _named_call(text, names)) is not None:
        raise DropError(Drop.OTHER_CALL_SYNTAX, "a call like Name(key=value)", text[start:])


def _means(said: str, names: frozenset[str]) -> bool:
    """Whether a declared function is meant, by the letters and digits of its name."""
    return _bare(said.strip().removeprefix("functions.")) in names


def _json_call(text: str, names: frozenset[str]) -> int | None:
    """Where an object stands that names a declared function and gives its arguments."""
    at = n_broken = 0
    while found := _OBJECT.search(text, at):
        at = found.end()
        if n_broken < _MAX_BROKEN:
            try:
                value, at = _DECODER.raw_decode(text, found.start())
            except (ValueError, RecursionError):
                n_broken += 1
            else:
                if _holds_call(value, names):
                    return found.start()
                continue
        if (head := _CALL_HEAD.match(text, found.start())) and _means(head[1], names):
            return found.start()
    return None


def _holds_call(value: Any, names: frozenset[str]) -> bool:
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if _is_call(value, names):
                return True
            pending += value.values()
        elif isinstance(value, list):
            pending += value
    return False


def _is_call(value: dict[str, Any], names: frozenset[str]) -> bool:
    """Whether an object is a call and nothing else; one that describes a function has other keys as well."""
    if not value.keys() <= _CALL_KEYS:
        return False
    given = value.get("arguments", value.get("parameters"))
    if isinstance(given, dict) and (given.get("type") == "object" or isinstance(given.get("properties"), dict)):
        return False
    said = [value[key] for key in _NAME_KEYS if isinstance(value.get(key), str)]
    return isinstance(given, dict | str) and any(_means(name, names) for name in said)


def _named_call(text: str, names: frozenset[str]) -> int | None:
    """Where a declared function is called as in Python; in code it counts only where it is all of the code."""
    if _ONLY_A_LIST.fullmatch(text):
        return 0
    letters = _NO_LETTERS.sub("", text).lower()
    if not any(_NO_LETTERS.sub("", name) in letters for name in names):
        return None  # most code; what follows looks at every word
    fences = ticks = last = 0
    for found in _LIST_OR_CALL.finditer(text):
        start = found.start()
        _, line_break, line = (before := text[last:start]).rpartition("\n")
        fences += before.count("```")
        ticks = line.count("`") + (0 if line_break else ticks)
        last = start
        if not _is_declared(text, found, names):
            continue
        near = text[max(0, start - 40) : start]
        if fences % 2 or ticks % 2:
            close = text.find("`", found.end()) if _CODE_OPENS.search(near) else -1
            behind = text[found.end() : max(close, 0)].strip()
            if close > 0 and (_only_calls(text[start:close], names) if found["name"] else not behind):
                return start
        elif not _IN_CODE.search(near):
            return start
    return None


def _only_calls(code: str, names: frozenset[str]) -> bool:
    """Whether code is calls of declared functions and nothing else."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of odd escapes in strings
            body = ast.parse(code[:_MAX_CODE_CHARS].strip()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    calls = [line.value for line in body if isinstance(line, ast.Expr) and isinstance(line.value, ast.Call)]
    return len(calls) == len(body) and all(_means(ast.unparse(call.func), names) for call in calls)


def _is_declared(text: str, found: re.Match[str], names: frozenset[str]) -> bool:
    if found["list"]:
        return any(_means(call[0].partition("(")[0], names) for call in _ONE_OF_LIST.finditer(found["list"]))
    if _means(found["name"], names):
        return True
    # A name of several words, as the sources of ToolACE write them.
    start = found.start("name")
    words = text[max(0, start - 100) : start].split() if text[start - 1 : start] == " " else []
    return any(_means("".join([*words[-n:], found["name"]]), names) for n in range(1, min(len(words), 5) + 1))
