"""The catalogue of tools: reads ``catalogue/DOMAIN.json`` and refuses what the engine could not use.

A tool is its OpenAI definition plus everything that is needed to talk about it: makers of values,
sentences with slots, questions, results. All of it is checked on loading, so that a person who
adds a tool learns at once what is missing, and no scenario has to check anything. ``_talk.json``
holds what is said beside tools (small talk, requests that nothing fits).
"""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import jsonschema_rs

from callama.common.errors import CallamaError
from callama.common.files import read_json
from callama.contract.messages import JsonObject, Tool
from callama.synth import values
from callama.synth.formulas import names_in, work_out
from callama.synth.names import spelled
from callama.synth.schema_makers import SCHEMA
from callama.synth.schema_values import value_for

Side = Literal["train", "validation", "held_out"]
SIDES: tuple[Side, ...] = get_args(Side)
FOLDER = Path(__file__).parent / "catalogue"
SLOT = re.compile(r"\{((?:[^\W\d]|[_$@])[\w.$@\[\]:-]*)\}")
# In place of a side: a user's own functions, which stand on all sides, under their own names.
OWN = "own"
_KEYS = {
    "name", "task", "description", "parameters", "makers", "requests", "optional", "says", "missing", "again",
    "vary", "like", "result", "answers", "languages", "labels", "no_result_with",
}  # fmt: skip


def slots(template: str) -> list[str]:
    """The slots of a sentence: ``"in {city}"`` → ``["city"]``."""
    return SLOT.findall(template)


@dataclass(frozen=True)
class Missing:
    """What is said when a required parameter is not given: how the user asks without it, how the
    assistant asks back, how the user then answers."""

    question: str
    requests: tuple[str, ...]
    replies: tuple[str, ...]


@dataclass(frozen=True)
class ToolSpec:
    """One tool of the catalogue. Keys of ``makers`` and slots are parameter names or dotted paths
    into nested objects (``address.city``); ``like`` names tools that could do the same errand, which
    never stand beside it; ``languages`` has requests in other languages by their code, ``labels`` what people
    call a parameter whose name they would not say (``to``: "recipient"); ``no_result_with`` has the options that
    ask for what the invented result does not hold."""

    domain: str
    side: Side | Literal["own"]
    tool: Tool
    task: str
    makers: Mapping[str, str]
    requests: tuple[str, ...]
    optional: Mapping[str, tuple[str, ...]]
    says: Mapping[str, Mapping[str, tuple[str, ...]]]
    missing: Mapping[str, Missing]
    again: Mapping[str, tuple[str, ...]]
    vary: tuple[str, ...]
    like: tuple[str, ...]
    result: JsonObject
    answers: tuple[str, ...]
    languages: Mapping[str, tuple[str, ...]]
    labels: Mapping[str, str]
    no_result_with: tuple[str, ...]

    @functools.cached_property
    def name(self) -> str:
        return self.tool.name

    @functools.cached_property
    def leaves(self) -> dict[str, JsonObject]:
        """Schemas of all values that a call may hold, by path, in order. A parameter of a user's own function is one
        value, however it is nested, and without a maker is never given."""
        if self.side == OWN:
            return {n: inner for n, inner in self.tool.parameters["properties"].items() if n in self.makers}
        return dict(_leaves(self.tool.parameters, ""))

    @functools.cached_property
    def required(self) -> frozenset[str]:
        """Names of the required parameters (of the first level)."""
        return frozenset(self.tool.parameters.get("required", ()))

    def leaves_of(self, names: Any) -> set[str]:
        """Paths of the values inside the named parameters."""
        return {path for path in self.leaves if path.split(".")[0] in names}

    @functools.cached_property
    def required_leaves(self) -> frozenset[str]:
        """Paths of the values that every call holds."""
        return frozenset(self.leaves_of(self.required))


def _leaves(schema: JsonObject, prefix: str) -> Iterator[tuple[str, JsonObject]]:
    for name, inner in schema.get("properties", {}).items():
        if inner.get("type") == "object":
            yield from _leaves(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, inner


@dataclass(frozen=True)
class Catalogue:
    """All tools, and the talk that needs none."""

    specs: tuple[ToolSpec, ...]
    talk: JsonObject

    def side(self, side: Side) -> tuple[ToolSpec, ...]:
        """The tools of one side of the wall between training and held-out."""
        return self._sides[side]

    def foreign(self, side: Side) -> frozenset[str]:
        """Names, as ``spelled``, of the tools of all other sides."""
        return self._foreign[side]

    @functools.cached_property
    def _sides(self) -> dict[Side, tuple[ToolSpec, ...]]:
        return {side: tuple(s for s in self.specs if s.side in (side, OWN)) for side in SIDES}

    @functools.cached_property
    def _foreign(self) -> dict[Side, frozenset[str]]:
        return {side: frozenset(spelled(s.name) for s in self.specs if s.side not in (side, OWN)) for side in SIDES}


@functools.cache
def load_catalogue(folder: Path = FOLDER) -> Catalogue:
    """Reads and checks every file of the folder.

    Raises:
        CallamaError: naming file, tool and key.
    """
    files = sorted(p for p in folder.glob("*.json") if not p.name.startswith("_"))
    if not files:
        raise CallamaError(f"{folder} holds no DOMAIN.json; expected the catalogue of tools")
    specs = [spec for path in files for spec in read_domain(path)]
    seen: dict[str, str] = {}
    for spec in specs:
        if spec.name in seen:
            raise CallamaError(f"{spec.domain}.json: tool {spec.name}: already declared in {seen[spec.name]}.json")
        seen[spec.name] = spec.domain
    for spec in specs:
        if unknown := [n for n in spec.like if n not in seen]:
            raise CallamaError(f"{spec.domain}.json: tool {spec.name}: like: there is no tool {unknown[0]!r}")
    likers: dict[str, set[str]] = {}
    for spec in specs:
        for name in spec.like:
            likers.setdefault(name, set()).add(spec.name)
            likers.setdefault(spec.name, set()).add(name)
    specs = [replace(spec, like=tuple(sorted(likers.get(spec.name, ())))) for spec in specs]
    talk = folder / "_talk.json"
    return Catalogue(tuple(specs), read_json(talk, "small talk") if talk.is_file() else {})


def read_domain(path: Path) -> list[ToolSpec]:
    """Reads and checks one file: ``{"side": "train", "tools": […]}``.

    Raises:
        CallamaError: naming file, tool and key.
    """
    raw = read_json(path, "a domain of the tool catalogue")
    if not isinstance(raw, dict) or not isinstance(raw.get("tools"), list):
        raise CallamaError(f"{path.name}: expected an object with a list under 'tools'")
    if raw.get("side") not in (*SIDES, OWN):
        raise CallamaError(f"{path.name}: 'side' must be one of {', '.join(SIDES)}, found {raw.get('side')!r}")
    out = []
    for index, entry in enumerate(raw["tools"]):
        name = entry.get("name", f"number {index}") if isinstance(entry, dict) else f"number {index}"
        try:
            out.append(read_entry(entry, path.stem, raw["side"]))
        except CallamaError as error:
            raise CallamaError(f"{path.name}: tool {name}: {error}") from None
    return out


def read_entry(entry: JsonObject, domain: str, side: Side | Literal["own"]) -> ToolSpec:
    """Reads and checks one tool.

    Raises:
        CallamaError: naming the key.
    """
    try:
        spec = _read_tool(entry, domain, side)
        _check(spec)
    except (CallamaError, KeyError, TypeError, AttributeError, ValueError) as error:
        text = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise CallamaError(text) from None
    return spec


def _read_tool(raw: JsonObject, domain: str, side: Side | Literal["own"]) -> ToolSpec:
    if unknown := set(raw) - _KEYS:
        raise CallamaError(f"unknown key {sorted(unknown)[0]!r}; known: {', '.join(sorted(_KEYS))}")
    tool = Tool.from_dict({k: raw[k] for k in ("name", "description", "parameters") if k in raw})
    missing = {}
    for name, entry in raw.get("missing", {}).items():
        replies = entry.get("replies") or (f"{{{name}}}", f"{{{name}}}, please.", f"{{{name}}}.", f"It's {{{name}}}.")
        missing[name] = Missing(entry["question"], tuple(entry["requests"]), tuple(replies))
    spec = ToolSpec(
        domain, side, tool, raw["task"], raw.get("makers", {}), tuple(raw["requests"]),
        {k: tuple(v) for k, v in raw.get("optional", {}).items()},
        {k: {value: tuple(v) for value, v in said.items()} for k, said in raw.get("says", {}).items()},
        missing, {k: tuple(v) for k, v in raw.get("again", {}).items()}, tuple(raw.get("vary", ())),
        tuple(raw.get("like", ())), raw.get("result", {}), tuple(raw.get("answers", ())),
        {code: tuple(v) for code, v in raw.get("languages", {}).items()}, raw.get("labels", {}),
        tuple(raw.get("no_result_with", ())),
    )  # fmt: skip
    makers = {path: spec.makers.get(path) or _implied_maker(path, leaf) for path, leaf in spec.leaves.items()}
    if unknown := set(spec.makers) - set(makers):
        raise CallamaError(f"makers: {sorted(unknown)[0]!r} is not a parameter")
    object.__setattr__(spec, "makers", makers)
    return spec


def _implied_maker(path: str, leaf: JsonObject) -> str:
    if "enum" in leaf:
        return "enum"
    if leaf.get("type") == "boolean":
        return "boolean"
    raise CallamaError(f"makers: parameter {path!r} has no value maker")


def make_value(spec: ToolSpec, path: str, rng: random.Random, known: Mapping[str, Any]) -> Any:
    """A value for one parameter."""
    maker = spec.makers[path]
    if maker == SCHEMA:
        return value_for(path, spec.leaves[path], spec.tool.parameters, rng)
    if maker == "enum":
        return rng.choice(spec.leaves[path]["enum"])
    if maker == "boolean":
        # Only what can be said can be asked for: a flag may have words for one of its values only.
        return json.loads(rng.choice(sorted(spec.says[path])))
    return values.make(maker, rng, known)


def invent(
    spec: ToolSpec, flat: Mapping[str, Any], rng: random.Random, known: Mapping[str, Any] | None = None
) -> JsonObject:
    """A result of a call with these arguments: ``"@maker"`` makes a value, or takes the one that is ``known`` of this
    kind, ``"= formula"`` works one out, and ``"{slot}"`` repeats an argument. What comes later can use what comes
    before it."""
    out: JsonObject = {}
    for key, raw in spec.result.items():
        if not isinstance(raw, str):
            out[key] = raw
        elif raw.startswith("@"):
            out[key] = known[raw[1:]] if known and raw[1:] in known else values.make(raw[1:], rng, flat)
        elif raw.startswith("= "):
            out[key] = work_out(raw[2:], {**flat, **out}, rng)
        elif whole := SLOT.fullmatch(raw):
            out[key] = flat[whole[1]]
        else:
            out[key] = SLOT.sub(lambda slot: str(flat[slot[1]]), raw)
    return out


def nested(flat: Mapping[str, Any]) -> JsonObject:
    """``{"a.b": 1}`` → ``{"a": {"b": 1}}``."""
    out: JsonObject = {}
    for path, value in flat.items():
        *parents, last = path.split(".")
        place = out
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return out


def _check(spec: ToolSpec) -> None:
    _check_talk(spec)
    for path, leaf in spec.leaves.items():
        if _is_list_of_objects(spec, path) and path not in spec.says:
            raise CallamaError(f"says: the objects of {path!r} need words for 'each'")
        if leaf.get("type") == "boolean" and not set(spec.says.get(path, {})) & {"true", "false"}:
            raise CallamaError(f"says: boolean {path!r} needs words for 'true' or 'false'")
    rng = random.Random(spec.name)
    validator = jsonschema_rs.validator_for(spec.tool.parameters)
    for _ in range(20):
        made: dict[str, Any] = {}
        for path in spec.leaves:
            try:
                made[path] = make_value(spec, path, rng, made)
            except CallamaError as error:
                raise CallamaError(f"makers.{path}: {error}") from None
        if problem := next(validator.iter_errors(nested(made)), None):
            where = ".".join(map(str, problem.instance_path)) or "the top"
            raise CallamaError(f"makers: {problem.message} (at {where})")
        for given in (made, {p: v for p, v in made.items() if p in spec.required_leaves}):
            try:
                invent(spec, given, rng)
            except CallamaError as error:
                raise CallamaError(f"result: {error}") from None


def _is_list_of_objects(spec: ToolSpec, path: str) -> bool:
    """Whether a parameter's value is said object by object; what is made from a schema is said as it is."""
    return spec.makers[path] != SCHEMA and spec.leaves[path].get("items", {}).get("type") == "object"


def _check_talk(spec: ToolSpec) -> None:
    if not spec.requests:
        raise CallamaError("requests: at least one is needed")
    for template in spec.requests:
        _check_slots("requests", template, spec.required_leaves, set(spec.leaves))
    for code, phrases in spec.languages.items():
        for template in phrases:
            _check_slots(f"languages.{code}", template, spec.required_leaves, set(spec.leaves))
    for name in sorted(set(spec.tool.parameters["properties"]) - spec.required):
        in_requests = all(any(s in slots(t) for t in spec.requests) for s in spec.leaves_of({name}))
        if name not in spec.optional and not in_requests:
            raise CallamaError(f"optional: nothing says how {name!r} is asked for")
    for name, phrases in spec.optional.items():
        for template in phrases:
            _check_slots(f"optional.{name}", template, spec.leaves_of({name}), spec.leaves_of({name}))
    for name in sorted(spec.required):
        if name not in spec.missing:
            raise CallamaError(f"missing: required parameter {name!r} has no question")
    for name, gap in spec.missing.items():
        own = spec.leaves_of({name})
        _check_slots(f"missing.{name}.question", gap.question, (), ())
        for template in gap.requests:
            _check_slots(f"missing.{name}", template, spec.required_leaves - own, set(spec.leaves) - own)
        for template in gap.replies:
            _check_slots(f"missing.{name}.replies", template, own, own)
    for name, phrases in spec.again.items():
        for template in phrases:
            _check_slots(f"again.{name}", template, spec.leaves_of({name}), spec.leaves_of({name}))
    for name in spec.vary:
        if name not in spec.required_leaves:
            raise CallamaError(f"vary: {name!r} is not a required parameter")
    known = spec.required_leaves | set(spec.result)
    before: set[str] = set()
    for key, value in spec.result.items():
        if isinstance(value, str) and value.startswith("= "):
            if unknown := sorted(names_in(value[2:]) - set(spec.leaves) - before):
                raise CallamaError(f"result.{key}: there is no parameter or earlier result {unknown[0]!r}")
        elif isinstance(value, str) and not value.startswith("@"):
            _check_slots("result", value, (), spec.required_leaves)
        before.add(key)
    for template in spec.answers:
        _check_slots("answers", template, (), known)
    if bool(spec.result) != bool(spec.answers):
        raise CallamaError("result and answers: one is given without the other")
    for name in spec.no_result_with:
        if name not in spec.optional or not spec.result:
            raise CallamaError(f"no_result_with: {name!r} is no optional parameter of a tool with a result")
    if unknown := sorted(set(spec.labels) - set(spec.leaves)):
        raise CallamaError(f"labels: {unknown[0]!r} is not a parameter")
    for path, said in spec.says.items():
        if path not in spec.leaves:
            raise CallamaError(f"says: {path!r} is not a parameter")
        if _is_list_of_objects(spec, path):
            fields = set(spec.leaves[path]["items"]["properties"])
            if set(said) != {"each"} or any(set(slots(t)) != fields for t in said["each"]):
                raise CallamaError(f"says.{path}: expected sentences under 'each' with the slots {sorted(fields)}")
            continue
        allowed = spec.leaves[path].get("enum")
        if allowed and set(said) != set(allowed):
            raise CallamaError(f"says.{path}: words for {sorted(said)}, expected for {sorted(allowed)}")


def _check_slots(key: str, template: str, needed: Any, allowed: Any) -> None:
    found = slots(template)
    if lacking := sorted(set(needed) - set(found)):
        raise CallamaError(f"{key}: {template!r} lacks the slot {{{lacking[0]}}}")
    if foreign := sorted(set(found) - set(allowed)):
        raise CallamaError(f"{key}: {template!r} has the slot {{{foreign[0]}}}, which cannot stand there")
    if len(found) != len(set(found)):
        raise CallamaError(f"{key}: {template!r} has a slot twice")
