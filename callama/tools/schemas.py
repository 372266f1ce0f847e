"""Schemas of a large document made to stand for themselves: references resolved, foreign words left out.

A schema that is used inside itself stays a reference, to a definition that travels along; any other
is put in place. Look-up is the ``referencing`` library's, so that pointers are read as its standard
says (https://datatracker.ietf.org/doc/html/rfc6901).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from callama.common.errors import CallamaError

MAX_NODES = 20_000
_MAX_DEPTH = 60
# Words of OpenAPI that say nothing about a value.
_FOREIGN = {"xml", "externalDocs", "discriminator", "deprecated", "readOnly", "writeOnly", "title", "example"}
_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
# Keywords whose value is a map from names to schemas: there, "title" is a property and no keyword.
_MAPS = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
_VALUES = {"enum", "const", "default", "examples", "required"}


class Document:
    """A document whose parts refer to one another by ``#/…``."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._resolver: Any = Registry().with_resource("", DRAFT202012.create_resource(root)).resolver()

    def follow(self, value: Any) -> Any:
        """The value itself, or what its ``$ref`` leads to, however many stand between.

        Raises:
            CallamaError: a reference leads nowhere, in a circle or out of the document.
        """
        seen: list[str] = []
        while isinstance(value, Mapping) and isinstance(value.get("$ref"), str):
            if (ref := value["$ref"]) in seen:
                raise CallamaError(f"$ref {ref!r} leads in a circle: {' → '.join([*seen, ref])}")
            seen.append(ref)
            value = self.target(ref)
        return value

    def target(self, ref: str) -> Any:
        """What one reference leads to.

        Raises:
            CallamaError: nowhere, or out of the document.
        """
        if not ref.startswith("#"):
            raise CallamaError(f"$ref {ref[:120]!r} leads out of the document; bundle it into one file first")
        try:
            return self._resolver.lookup(ref).contents
        except (Unresolvable, ValueError):
            raise CallamaError(f"$ref {ref[:120]!r} leads nowhere") from None

    def whole(self, schema: Any) -> dict[str, Any]:
        """A schema with everything in it that it refers to.

        Raises:
            CallamaError: a reference cannot be followed, or the result is too large.
        """
        unfolding = _Unfolding(self, ())
        out = unfolding.schema(schema, (), 0)
        if unfolding.names:  # now that the circular ones are known, none is unfolded even once
            unfolding = _Unfolding(self, unfolding.names)
            out = unfolding.schema(schema, (), 0)
        if not isinstance(out, dict):
            out = {} if out is True else {"not": {}}
        return {**out, "$defs": unfolding.definitions} if unfolding.definitions else out


class _Unfolding:
    def __init__(self, document: Document, circular: Collection[str]) -> None:
        self._document, self._circular, self._nodes = document, frozenset(circular), 0
        self.names: dict[str, str] = {}
        self.definitions: dict[str, Any] = {}

    def schema(self, raw: Any, open_refs: tuple[str, ...], depth: int) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > _MAX_DEPTH:
            raise CallamaError(f"the schema unfolds to more than {MAX_NODES:,} parts or {_MAX_DEPTH} levels")
        if not isinstance(raw, Mapping):
            return raw
        if isinstance(ref := raw.get("$ref"), str):
            beside = {key: value for key, value in raw.items() if key != "$ref"}
            if ref in open_refs or ref in self._circular:
                return {**self._keywords(beside, open_refs, depth), "$ref": self._define(ref, depth)}
            inner = self.schema(self._document.target(ref), (*open_refs, ref), depth + 1)
            more = self._keywords(beside, open_refs, depth)
            return {**inner, **more} if isinstance(inner, dict) else inner
        return self._keywords(raw, open_refs, depth)

    def _define(self, ref: str, depth: int) -> str:
        if ref not in self.names:
            name, number = _NAME.sub("_", ref.rsplit("/", 1)[-1]) or "root", 2
            stem = name
            while name in self.names.values():
                name, number = f"{stem}_{number}", number + 1
            self.names[ref] = name
            self.definitions[name] = self.schema(self._document.target(ref), (*self.names,), depth + 1)
        return f"#/$defs/{self.names[ref]}"

    def _keywords(self, raw: Mapping[str, Any], open_refs: tuple[str, ...], depth: int) -> dict[str, Any]:
        out: dict[str, Any] = {}
        if "example" in raw and "examples" not in raw:
            out["examples"] = [raw["example"]]
        for key, value in raw.items():
            if not isinstance(key, str) or key in _FOREIGN or key.startswith("x-"):
                continue
            if key in _VALUES:
                out[key] = value
            elif key in _MAPS and isinstance(value, Mapping):
                out[key] = {str(name): self.schema(inner, open_refs, depth + 1) for name, inner in value.items()}
            elif isinstance(value, list):
                out[key] = [self.schema(item, open_refs, depth + 1) for item in value]
            else:
                out[key] = self.schema(value, open_refs, depth + 1) if isinstance(value, Mapping) else value
        return out
