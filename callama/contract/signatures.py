"""Tools as TypeScript signatures: how a model is shown what it may call.

The form is the one OpenAI's models are shown (the original project's choice). Every schema has a
rendering; nothing vanishes from the prompt. JSON Schema's ``integer`` stays a word of its own
because the difference matters to the caller; what TypeScript cannot say stands in a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from callama.common.errors import CallamaError
from callama.contract.jsontext import dumps
from callama.contract.messages import Tool
from callama.contract.schema import MAX_DEPTH, Schema

MAX_PARTS = 10_000
_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_CONSTRAINTS = (
    "format", "pattern", "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf",
    "minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "contains", "minProperties",
    "maxProperties", "propertyNames", "dependentRequired", "not", "if", "then", "else", "default", "examples",
)  # fmt: skip
_OBJECT_WORDS = ("properties", "patternProperties", "additionalProperties", "required")
_ARRAY_WORDS = ("items", "prefixItems")


class _Type(NamedTuple):
    """A type's text and how loosely it binds: 0 stands alone, 1 is joined by ``&``, 2 by ``|``."""

    text: str
    rank: int = 0

    def within(self, rank: int) -> str:
        return self.text if self.rank <= rank else f"({self.text})"


_ANY = _Type("any")


def render_signature(tool: Tool) -> str:
    """The signature of one tool, e.g. ``type get_time = (_: {…}) => any;`` with its comments.

    Raises:
        CallamaError: the schema's references unfold to more than 10,000 types or 64 levels.
    """
    renderer = _Renderer(tool)
    comments, note = renderer.remarks(tool.parameters, tool.description)
    body = renderer.reference("#").text
    nothing = body in ("object", "{}") and tool.parameters.get("additionalProperties") is not True
    return "\n".join([*comments, f"type {tool.name} = ({'' if nothing else f'_: {body}'}) => any;{note}"])


# By identity, because equal tools may differ in type (1, 1.0, True); the tool is held so that its id stays its own.
_rendered: dict[int, tuple[Tool, str]] = {}
_REMEMBERED = 4096


def signature_of(tool: Tool) -> str:
    """``render_signature``, remembered: the same few tools stand in thousands of conversations."""
    known = _rendered.get(id(tool))
    if known is None or known[0] is not tool:
        if len(_rendered) >= _REMEMBERED:
            _rendered.clear()
        known = _rendered[id(tool)] = tool, render_signature(tool)
    return known[1]


def _comment(text: str) -> list[str]:
    # splitlines() knows every line break there is (CR, U+0085, U+2028 …): none may escape its comment.
    return [f"// {line}".rstrip() for line in text.strip().splitlines()]


def _literal(value: Any) -> str:
    # JSON leaves these three inside strings as they are, but they end a line for some readers.
    return "".join(f"\\u{ord(c):04x}" if c in "\x85\u2028\u2029" else c for c in dumps(value))


def _join(types: list[_Type], operator: str) -> _Type:
    rank = {"&": 1, "|": 2}[operator]
    if len(types := list(dict.fromkeys(types))) == 1:
        return types[0]
    return _Type(f" {operator} ".join(t.within(rank) for t in types), rank) if types else _ANY


def _resolve(ref: str, root: Schema) -> Any:
    node: Any = root
    for part in unquote(ref.removeprefix("#")).split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list):
            node = node[int(part)] if part.isdecimal() and int(part) < len(node) else None
        else:
            node = node.get(part) if isinstance(node, Mapping) else None
    return node


class _Renderer:
    """Renders the types of one tool; knows its root for ``$ref`` and which references are open."""

    def __init__(self, tool: Tool) -> None:
        self.tool = tool
        self.open: list[str] = []
        self.recursive: set[str] = set()
        self.depth = self.parts = 0

    def type_of(self, schema: Any) -> _Type:
        if not isinstance(schema, Mapping):
            return _Type("never") if schema is False else _ANY
        self.depth, self.parts = self.depth + 1, self.parts + 1
        if self.depth > MAX_DEPTH + 1 or self.parts > MAX_PARTS:
            raise CallamaError(
                f"tool {self.tool.name}: its schema unfolds to more than {MAX_PARTS:,} types or {MAX_DEPTH} levels"
            )
        parts = [part for part in self._given(schema) if part != _ANY]
        own = self._own(schema)
        if own is not None and (not parts or self._says_more(schema)):
            parts.insert(0, own)
        self.depth -= 1
        return _join(parts, "&")

    def _given(self, schema: Mapping[str, Any]) -> Iterator[_Type]:
        """What a schema says other than by its own ``type``."""
        if "$ref" in schema:
            yield self.reference(schema["$ref"])
        if "const" in schema:
            yield _Type(_literal(schema["const"]))
        elif "enum" in schema:
            yield _join([_Type(_literal(value)) for value in schema["enum"]], "|")
        for key in ("anyOf", "oneOf"):
            if key in schema:
                yield _join([self.type_of(member) for member in schema[key]], "|")
        for member in schema.get("allOf", ()):
            yield self.type_of(member)

    def reference(self, ref: str) -> _Type:
        """What a reference points at, in place; a type that contains itself is named there in a
        comment and referred to by that name inside."""
        name = re.sub(r"\W", "_", ref.rsplit("/", 1)[-1].removeprefix("#"), flags=re.ASCII) or "Parameters"
        if ref in self.open:
            self.recursive.add(ref)
            return _Type(name)
        self.open.append(ref)
        target = self.type_of(_resolve(ref, self.tool.parameters))
        self.open.pop()
        return target._replace(text=f"/* {name} */ {target.text}") if ref in self.recursive else target

    @staticmethod
    def _says_more(schema: Mapping[str, Any]) -> bool:
        if "const" in schema or "enum" in schema:
            return False
        return any(schema.get(word) not in (None, {}, [], True, False) for word in (*_OBJECT_WORDS, *_ARRAY_WORDS))

    def _own(self, schema: Mapping[str, Any]) -> _Type | None:
        kind = schema.get("type")
        if kind is None:
            kind = [k for k, words in (("object", _OBJECT_WORDS), ("array", _ARRAY_WORDS)) if set(words) & set(schema)]
        kinds = kind if isinstance(kind, list) else [kind]
        return _join([self._of_kind(k, schema) for k in kinds], "|") if kinds else None

    def _of_kind(self, kind: str, schema: Mapping[str, Any]) -> _Type:
        if kind == "object":
            return self._object(schema)
        return self._array(schema) if kind == "array" else _Type(kind)

    def _array(self, schema: Mapping[str, Any]) -> _Type:
        items = schema.get("items", True)
        rest = f"{self.type_of(items).within(0)}[]"
        if "prefixItems" not in schema:
            return _Type("[]" if items is False else rest)
        parts = [self.type_of(item).text for item in schema["prefixItems"]]
        closed = items is False or schema.get("maxItems") == len(parts)
        return _Type(f"[{', '.join(parts if closed else [*parts, f'...{rest}'])}]")

    def _object(self, schema: Mapping[str, Any]) -> _Type:
        properties = {**schema.get("properties", {})}
        required = schema.get("required", ())
        properties.update({name: True for name in required if name not in properties})
        lines = []
        for name, value in properties.items():
            key = name if _IDENTIFIER.fullmatch(name) else _literal(name)
            lines += self._line(key if name in required else f"{key}?", value)
        for pattern, value in schema.get("patternProperties", {}).items():
            lines += [f"// keys match {_literal(pattern)}", *self._line("[key: string]", value)]
        extra = schema.get("additionalProperties")
        if lines and (extra is True or isinstance(extra, Mapping)):
            lines += self._line("[key: string]", extra)
        if lines:
            return _Type("\n".join(["{", *lines, "}"]))
        if isinstance(extra, Mapping) and extra:
            return _Type(f"Record<string, {self.type_of(extra).text}>")
        return _Type("{}" if extra is False else "object")

    def _line(self, key: str, schema: Any) -> list[str]:
        comments, note = self.remarks(schema)
        return [*comments, f"{key}: {self.type_of(schema).text},{note}"]

    def remarks(self, schema: Any, description: str = "") -> tuple[list[str], str]:
        """The comment lines before a declaration and the comment behind it."""
        descriptions, constraints = [description.strip()], []
        for place, part in self._inline(schema, "", 0):
            if said := part.get("description", "").strip():
                descriptions.append(f"{place}: {said}" if place else said)
            for word in _CONSTRAINTS:
                if word in part:
                    constraints.append(f"{place}{'.' if place else ''}{word}: {_literal(part[word])}")
        comments = [line for text in dict.fromkeys(descriptions) for line in _comment(text)]
        note = ", ".join(dict.fromkeys(constraints))
        return comments, f" // {note}" if note else ""

    def _inline(self, schema: Any, place: str, level: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """A schema and those inside it that have no line of their own, with the place they stand at."""
        if not isinstance(schema, Mapping):
            return
        self.parts += 1
        if self.parts > MAX_PARTS or level > MAX_DEPTH:
            return  # type_of() walks the same tree and says so.
        yield place, schema
        dot, level = "." if place else "", level + 1
        if (ref := schema.get("$ref")) is not None and ref not in self.open:
            self.open.append(ref)
            yield from self._inline(_resolve(ref, self.tool.parameters), place, level)
            self.open.pop()
        for key in ("anyOf", "oneOf", "allOf"):
            for member in schema.get(key, ()):
                yield from self._inline(member, place, level)
        yield from self._inline(schema.get("items"), f"{place}{dot}items", level)
        for index, item in enumerate(schema.get("prefixItems", ())):
            yield from self._inline(item, f"{place}{dot}items[{index}]", level)
        if not any(schema.get(word) for word in ("properties", "patternProperties", "required")):
            yield from self._inline(schema.get("additionalProperties"), f"{place}{dot}values", level)
