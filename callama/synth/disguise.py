"""Dresses the tools of a scene: other names, other order, fewer comments, other optional parameters.

A scene is written in the catalogue's own names; the disguise says how each tool is shown in this one
conversation and translates the calls. Arguments stand in the order of the schema that is shown:
a fixed rule, so that an exact call can be learned.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from callama.contract.messages import JsonObject, Tool
from callama.synth.catalogue import ToolSpec
from callama.synth.names import opaque_name, other_name, other_parameter, spelled, words_of

_RENAME, _OPAQUE, _RENAME_PARAMETERS = 0.2, 0.03, 0.2
_NO_DESCRIPTION, _NO_COMMENTS, _DROP_OPTIONAL = 0.1, 0.2, 0.2
_EXTRA_COUNTS, _TECHNICAL = (60, 25, 15), 0.25  # 0, 1 or 2 options that nobody asks for
_EXTRAS: dict[str, JsonObject] = {
    "limit": {"type": "integer", "description": "Maximum number of results"}, "verbose": {"type": "boolean"},
    "locale": {"type": "string", "description": "Locale of the answer, e.g. en-GB"}, "dry_run": {"type": "boolean"},
    "timeout_seconds": {"type": "number"}, "request_id": {"type": "string", "description": "Id for tracing"},
    "page": {"type": "integer", "default": 1}, "format": {"type": "string", "enum": ["json", "text"]},
    "comment": {"type": "string"}, "callback_url": {"type": "string", "description": "URL to notify when done"},
}  # fmt: skip


# Makers of values that could be taken for each other, and those whose values their own description tells apart.
_FAMILIES = {
    "number": ("int", "number", "price", "pick_number", "more", "year", "rows"),
    "date": ("date", "later_date", "moment", "weekday", "year_month"), "city": ("city", "country", "place", "language"),
    "name": ("full_name", "first_name", "person", "username", "company", "team", "email"),
    "text": ("title", "message", "post", "topic", "subject", "two_words", "slug"),
}  # fmt: skip
_OF_CHOICE = {"boolean", "enum", "list", "pick"}


@dataclass(frozen=True)
class Costume:
    """A tool as one conversation shows it; ``names`` leads from the catalogue's parameters to the shown ones."""

    tool: Tool
    names: Mapping[str, str]

    def arguments(self, own: JsonObject) -> JsonObject:
        """A call's arguments under the shown names, in the shown order."""
        return _ordered({self.names[k]: v for k, v in own.items()}, self.tool.parameters)


def _ordered(value: JsonObject, schema: JsonObject) -> JsonObject:
    return {
        name: _ordered(value[name], inner) if isinstance(value[name], dict) and "properties" in inner else value[name]
        for name, inner in schema["properties"].items()
        if name in value
    }


def as_written(spec: ToolSpec) -> Costume:
    """No disguise: the tool as the catalogue has it."""
    return Costume(spec.tool, {name: name for name in spec.tool.parameters["properties"]})


def dress(
    spec: ToolSpec, used: Collection[str], taken: Collection[str], rng: random.Random, donors: Sequence[ToolSpec] = ()
) -> Costume:
    """A costume for one tool. ``used`` are the parameters that some call of the conversation holds,
    ``taken`` the names (``spelled``) that it must not get, ``donors`` the tools whose options it may show besides: a
    tool in use has many options, and most requests name none of them."""
    name, opaque = _tool_name(spec, taken, rng)
    names = _parameter_names(spec, name, rng)
    schema = copy.deepcopy(spec.tool.parameters)
    properties = [(n, inner) for n, inner in schema["properties"].items() if _stays(n, spec, used, rng)]
    if rng.random() < 0.6:
        rng.shuffle(properties)
    shown = {names[n]: inner for n, inner in properties}
    for _ in range(rng.choices(range(3), _EXTRA_COUNTS)[0] if spec.leaves else 0):
        extra, inner = _extra(spec, donors, rng)
        if extra not in shown and extra not in spec.tool.parameters["properties"]:
            items = list(shown.items())
            items.insert(rng.randint(0, len(items)), (extra, copy.deepcopy(inner)))
            shown = dict(items)
    if rng.random() < _NO_COMMENTS and not opaque:
        for inner in shown.values():
            inner.pop("description", None)
    for inner in shown.values():
        if "enum" in inner:
            rng.shuffle(inner["enum"])
    schema["properties"] = shown
    if spec.required:
        schema["required"] = [names[n] for n, _ in properties if n in spec.required]
    plain = rng.random() < _NO_DESCRIPTION and len(words_of(name)) > 1
    plain = plain and set(words_of(spec.name)) <= set(words_of(name))
    return Costume(Tool(name, "" if plain else spec.tool.description, schema), names)


def _extra(spec: ToolSpec, donors: Sequence[ToolSpec], rng: random.Random) -> tuple[str, JsonObject]:
    """An option that no request for this tool speaks of: a technical one, or another tool's that has neither a word
    nor a kind of value in common with this tool's own parameters."""
    words = {word for name in spec.tool.parameters["properties"] for word in words_of(name)}
    kinds = {_kind(maker) for maker in spec.makers.values()} - _OF_CHOICE
    for donor in rng.choices(donors, k=4) if donors and rng.random() >= _TECHNICAL else ():
        properties = donor.tool.parameters["properties"]
        fitting = [
            n for n in properties
            if n not in donor.required and n in donor.makers and _kind(donor.makers[n]) not in kinds
            and words.isdisjoint(words_of(n))
        ]  # fmt: skip
        if fitting:
            name = rng.choice(fitting)
            return name, properties[name]
    technical = rng.choice(sorted(_EXTRAS))
    return technical, _EXTRAS[technical]


def _kind(maker: str) -> str:
    kind = maker.partition(" ")[0]
    return next((family for family, kinds in _FAMILIES.items() if kind in kinds), kind)


def _stays(name: str, spec: ToolSpec, used: Collection[str], rng: random.Random) -> bool:
    return name in spec.required or name in used or rng.random() > _DROP_OPTIONAL


def _tool_name(spec: ToolSpec, taken: Collection[str], rng: random.Random) -> tuple[str, bool]:
    draw = rng.random()
    # A tool whose description is missing must keep a name that says what it does.
    if draw < _OPAQUE and spec.tool.description:
        for _ in range(8):
            name = opaque_name(rng)
            if spelled(name) not in taken:
                return name, True
    if draw < _OPAQUE + _RENAME:
        # Where nothing else says what a tool does, its own words have to.
        name = other_name(spec.name, rng, reworded=bool(spec.tool.description))
        if spelled(name) not in taken:
            return name, False
    return spec.name, False


def _parameter_names(spec: ToolSpec, tool_name: str, rng: random.Random) -> dict[str, str]:
    own = list(spec.tool.parameters["properties"])
    if rng.random() >= _RENAME_PARAMETERS:
        return {n: n for n in own}
    form = "camel" if any(c.isupper() for c in tool_name) else rng.choice(("snake", "snake", "camel"))
    names: dict[str, str] = {}
    for name in own:
        candidate = other_parameter(name, spec.tool.parameters["properties"][name], form, rng)
        clash = candidate in names.values() or candidate in own or candidate in _EXTRAS
        names[name] = name if clash and candidate != name else candidate
    return names if len(set(names.values())) == len(own) else {n: n for n in own}
