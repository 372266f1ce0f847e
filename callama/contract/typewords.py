"""Type words of the wild as JSON Schema: ``float``, ``List[int]``, ``Map<String, Integer>``, ``str?``.

Data sets and people write the types of their own language where JSON Schema has six words.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from callama.common.errors import CallamaError

Schema = dict[str, Any]
MAX_DEPTH = 64
_MAX_WORD_CHARS = 500
_WORDS = {
    "object": "object", "dict": "object", "dictionary": "object", "map": "object", "mapping": "object",
    "hashmap": "object", "hashtable": "object", "record": "object", "json": "object",
    "string": "string", "str": "string", "text": "string", "char": "string", "bytes": "string",
    "number": "number", "float": "number", "double": "number", "decimal": "number", "numeric": "number",
    "integer": "integer", "int": "integer", "long": "integer", "short": "integer", "byte": "integer",
    "bigint": "integer", "boolean": "boolean", "bool": "boolean",
    "array": "array", "list": "array", "tuple": "array", "set": "array", "arraylist": "array",
    "sequence": "array", "iterable": "array", "queue": "array", "stack": "array",
    "null": "null", "none": "null", "nonetype": "null", "any": "any",
}  # fmt: skip
_GENERIC = re.compile(r"(?:typing\.)?(\w+)\s*(?:\[(.*)\]|<(.*)>|\((.*)\))", re.DOTALL)


def type_word(word: str, depth: int = 0) -> Schema:
    """The schema of one type word: ``"float"`` → number, ``"List[int]"`` → array of integers.

    What follows a comma (``"str, optional"``) is a remark and is left out: whether a parameter is
    required is said elsewhere.

    Raises:
        CallamaError: the word is not known, empty, or nested more than 64 deep.
    """
    if depth > MAX_DEPTH or len(word) > _MAX_WORD_CHARS:
        raise CallamaError(f"unknown type {word[:40]!r}…: too long or nested more than {MAX_DEPTH} deep")
    bare = next(iter(_split(word, ",")), "")
    if len(members := _split(bare, "|")) > 1:
        return _union(members, depth)
    if bare.endswith("?"):
        return _union([bare[:-1], "null"], depth)
    if bare.endswith("[]"):
        return {"type": "array", "items": type_word(bare[:-2], depth + 1)}
    if generic := _GENERIC.fullmatch(bare):
        schema = _generic(generic[1].lower(), next(g for g in generic.groups()[1:] if g is not None), depth)
    else:
        known = _WORDS.get(bare.lower().removeprefix("typing."))
        schema = None if known is None else {} if known == "any" else {"type": known}
    if schema is None:
        raise CallamaError(f"unknown type {word[:40]!r}")
    return schema


def _split(text: str, separator: str) -> list[str]:
    """Parts between separators that stand outside brackets and quotes; empty ones are left out."""
    parts, depth, start, quote = [], 0, 0, ""
    for i, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == separator and depth == 0:
            parts.append(text[start:i])
            start = i + 1
        else:
            depth += (char in "[(<") - (char in "])>")
    return [p.strip() for p in (*parts, text[start:]) if p.strip()]


def _union(words: list[str], depth: int) -> Schema:
    return either([type_word(word, depth + 1) for word in words])


def either(members: list[Schema]) -> Schema:
    """The schema that any of the members satisfies, as a list under ``type`` where that says it all."""
    if len(members) == 1:
        return members[0]
    if all(set(member) == {"type"} for member in members):
        words = [w for m in members for w in (m["type"] if isinstance(m["type"], list) else [m["type"]])]
        words = list(dict.fromkeys(words))
        return {"type": words if len(words) > 1 else words[0]}
    return {"anyOf": members}


def _generic(head: str, inner: str, depth: int) -> Schema | None:
    if head == "literal":
        return _literal(inner)
    arguments = _split(inner, ",")
    members = [a for a in arguments if a != "..."]
    if head in ("optional", "union") and members:
        return _union([*members, "null"] if head == "optional" else members, depth)
    if head == "tuple" and members and members == arguments:
        items = [type_word(m, depth + 1) for m in members]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if _WORDS.get(head) == "array":
        return {"type": "array", "items": _union(members, depth)} if members else {"type": "array"}
    if _WORDS.get(head) == "object":
        values = {"additionalProperties": type_word(members[1], depth + 1)} if len(members) == 2 else {}
        return {"type": "object", **values}
    return None


def _literal(inner: str) -> Schema | None:
    try:
        values = ast.literal_eval(f"[{inner}]")
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return {"enum": values} if values and all(isinstance(v, str | int | float | None) for v in values) else None
