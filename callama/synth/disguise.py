"""Dresses the tools of a scene: other names, other order, fewer comments, other optional parameters.

A scene is written in the catalogue's own names; the disguise says how each tool is shown in this one
conversation and translates the calls. Arguments stand in the order of the schema that is shown:
a fixed rule, so that an exact call can be learned.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from callama.contract.messages import JsonObject, Tool
from callama.synth.catalogue import ToolSpec
from callama.synth.names import opaque_name, other_name, other_parameter, spelled, words_of

_RENAME, _OPAQUE, _RENAME_PARAMETERS = 0.2, 0.03, 0.2
_NO_DESCRIPTION, _NO_COMMENTS, _DROP_OPTIONAL, _EXTRA_OPTIONAL = 0.1, 0.2, 0.3, 0.05
_EXTRAS: dict[str, JsonObject] = {
    "limit": {"type": "integer", "description": "Maximum number of results"}, "verbose": {"type": "boolean"},
    "locale": {"type": "string", "description": "Locale of the answer, e.g. en-GB"}, "dry_run": {"type": "boolean"},
    "timeout_seconds": {"type": "number"}, "request_id": {"type": "string", "description": "Id for tracing"},
    "page": {"type": "integer", "default": 1}, "format": {"type": "string", "enum": ["json", "text"]},
    "comment": {"type": "string"}, "callback_url": {"type": "string", "description": "URL to notify when done"},
}  # fmt: skip


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


def dress(spec: ToolSpec, used: Collection[str], taken: Collection[str], rng: random.Random) -> Costume:
    """A costume for one tool. ``used`` are the parameters that some call of the conversation holds,
    ``taken`` the names (``spelled``) that it must not get."""
    name, opaque = _tool_name(spec, taken, rng)
    names = _parameter_names(spec, name, rng)
    schema = copy.deepcopy(spec.tool.parameters)
    properties = [(n, inner) for n, inner in schema["properties"].items() if _stays(n, spec, used, rng)]
    if rng.random() < 0.6:
        rng.shuffle(properties)
    shown = {names[n]: inner for n, inner in properties}
    if spec.leaves and rng.random() < _EXTRA_OPTIONAL:
        extra = rng.choice(sorted(_EXTRAS))
        if extra not in shown:
            items = list(shown.items())
            items.insert(rng.randint(0, len(items)), (extra, copy.deepcopy(_EXTRAS[extra])))
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
