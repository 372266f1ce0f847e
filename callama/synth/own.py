"""A user's own functions as a catalogue: a folder that the engine plays like the built-in one.

Each function becomes an entry with generic sentences and is checked by the catalogue's own rules; one
that fails them is reported and left out. The folder holds plain files, so that every worker process
reads the same.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema_rs

from callama.common.errors import CallamaError
from callama.contract.messages import JsonObject, Tool
from callama.contract.signatures import render_signature
from callama.synth import values
from callama.synth.catalogue import FOLDER, OWN, SLOT, read_entry
from callama.synth.names import words_of
from callama.synth.own_words import entry_of
from callama.synth.schema_makers import ANY_NUMBER, SCHEMA, UNKNOWN, maker_of, not_null, text_maker
from callama.synth.schema_values import value_for
from callama.tools.loaded import Loaded, Remark

_TRIES = 30
# A context of 8,192 tokens is some 30,000 characters.
_MAX_SIGNATURE_CHARS = 24_000
_BEGINS = frozenset(("start", "from", "begin", "begins", "depart", "departs", "departure", "outbound", "in", "checkin",
                     "pickup", "since", "after", "first", "opens"))  # fmt: skip
_ENDS = frozenset(("end", "to", "until", "ends", "return", "returns", "arrival", "inbound", "out", "checkout",
                   "dropoff", "before", "last", "till", "closes"))  # fmt: skip
_LEAST, _MOST = frozenset(("min", "minimum", "low", "lower")), frozenset(("max", "maximum", "high", "upper"))
_ORDERED = ("price", "number", "int", "clock")  # kinds of makers whose values can be compared
_OWNER = frozenset(("owner", "org", "organization", "organisation", "user", "username", "workspace", "namespace"))
_MOMENTS = ("date", "time", "clock", "instant", "moment_as", "unix_time")
_KEYED = frozenset(("get", "retrieve", "fetch", "read", "show", "view", "delete", "remove", "update", "patch", "put"))
_ALIKE = 0.6
_MOST_RIVALS = 200
_LEAST_TALK = 9  # a third of the small talk is held out
_GLUE = frozenset(
    re.findall(r"\w+", "a an the of in on at to for from by with and or is it its this that get my me your you i")
)


def write_own_catalogue(loaded: Loaded, folder: Path) -> list[Remark]:
    """Fills a folder with what ``load_catalogue`` reads; returns what could not be used.

    Raises:
        CallamaError: no function can be used.
    """
    entries: list[JsonObject] = []
    remarks: list[Remark] = []
    for tool in loaded.tools:
        try:
            if (size := len(render_signature(tool))) > _MAX_SIGNATURE_CHARS:
                raise CallamaError(
                    f"what a model would be shown of it is {size:,} characters long; more than "
                    f"{_MAX_SIGNATURE_CHARS:,} leave no room for a conversation: shorten it, e.g. its longest enum"
                )
            makers = _makers(tool, loaded.place_of(tool), remarks)
            varied = [n for n in makers if _varies(tool, n, makers[n])]
            entry = entry_of(tool, makers | _later(tool, makers), varied, loaded.gives.get(tool.name))
            read_entry(entry, "own", "own")
        except CallamaError as error:
            remarks.append(Remark(loaded.place_of(tool), str(error)))
            continue
        entries.append(entry)
    if not entries:
        why = "".join(f"\n  {remark}" for remark in remarks[:5])
        raise CallamaError(f"conversations can be made about none of the {len(loaded.tools)} functions{why}")
    for entry, rivals in zip(entries, _rivals(entries), strict=True):
        entry["like"] = rivals
    for index, entry in enumerate(entries):  # a domain each: what makes functions alike is not the file they came from
        text = json.dumps({"side": OWN, "tools": [entry]})
        (folder / f"own_{index:06}.json").write_text(text, encoding="utf-8")
    (folder / "_talk.json").write_text(json.dumps(_talk(entries)), encoding="utf-8")
    return remarks


def _makers(tool: Tool, where: str, remarks: list[Remark]) -> dict[str, str]:
    """Makers of the parameters that can be talked about: all required ones, and what can be made of the others.

    Raises:
        CallamaError: not so for a required parameter.
    """
    out: dict[str, str] = {}
    required = tool.parameters.get("required", ())
    if undeclared := [n for n in required if n not in tool.parameters["properties"]]:
        raise CallamaError(f"the required parameter {undeclared[0]!r} is not among its properties")
    for name, schema in tool.parameters["properties"].items():
        try:
            maker = maker_of(name, schema, tool.name) if isinstance(schema, dict) else SCHEMA
        except CallamaError:
            maker = SCHEMA  # what is wrong with it is found, and told with its name, when values are made
        if maker == "repo" and any(_OWNER & set(words_of(other)) for other in tool.parameters["properties"]):
            maker = "slug"  # the owner is said beside it
        maker = "record" if _is_key(tool, name, schema) else maker
        if fault := _fault(tool, name, schema, maker):
            if name in required:
                raise CallamaError(f"parameter {name!r}: {fault}")
            remarks.append(Remark(where, f"parameter {name!r} is never asked for: {fault}", lost=False))
            continue
        out[name] = maker
        if advice := _advice(tool, name, schema, maker):
            remarks.append(Remark(where, f"parameter {name!r} {advice}", lost=False))
    return out


def _is_key(tool: Tool, name: str, schema: Any) -> bool:
    """Whether a bare text is what somebody is found by: ``customer`` of ``GET /customers/{customer}``."""
    silent = isinstance(schema, Mapping) and {"type", "maxLength", "minLength", "title"} >= schema.keys()
    about, words = words_of(tool.name), words_of(name)
    is_person = silent and schema.get("type") == "string" and text_maker(words, schema) == "full_name"
    return is_person and about[0] in _KEYED and words[-1] in about[1:]


def _advice(tool: Tool, name: str, schema: Any, maker: str) -> str:
    """What to say of values that teach little; empty where they are fit to be learnt from."""
    if maker == UNKNOWN and not text_maker(words_of(name), schema, tool.name):
        return "gets two words drawn at random, as nothing says what it holds: describe it, or give `examples`"
    if maker == ANY_NUMBER and not_null(schema).get("type") == "number":
        return "gets whole numbers from 1 to 101, as nothing says how large it is: say so, or give `examples`"
    made = _some_values(tool, name, maker)
    is_one = not isinstance(schema, Mapping) or {"const", "enum"} & schema.keys() or "$ref" in schema
    if maker == SCHEMA and len(made) == 1 and not is_one:
        return f"always has the value {min(made)[:80]}: give more `examples`"
    return ""


def _later(tool: Tool, makers: Mapping[str, str]) -> dict[str, str]:
    """Makers of what ends, after what begins, and of what is the most, above the least."""
    out: dict[str, str] = {}
    for ends, begins in itertools.permutations(makers, 2):
        later = _after(begins, makers[ends])
        words = set(words_of(ends)) - set(words_of(begins)), set(words_of(begins)) - set(words_of(ends))
        pair = words[0] & _MOST and words[1] & _LEAST
        if makers[ends].split(" ")[0] in _MOMENTS:  # "from_base" and "to_base" are not in order
            pair = pair or (words[0] & _ENDS and words[1] & _BEGINS)
        if (
            later
            and pair
            and makers[begins] == makers[ends]
            and _is_known_before(begins, ends, tool)
            and ends not in out
            and _works_behind(tool, begins, makers[begins], later)
        ):
            out[ends] = later
    return out


def _works_behind(tool: Tool, begins: str, maker: str, later: str) -> bool:
    """Whether the ``later`` maker can follow every value of the parameter that begins, as far as tries tell."""
    rng = random.Random(f"{tool.name}.{begins}")
    try:
        for _ in range(_TRIES):
            values.make(later, rng, {begins: _value(tool, begins, maker, rng)})
    except (CallamaError, TypeError):
        return False
    return True


def _after(begins: str, maker: str) -> str:
    """The maker of what is after, or above, the parameter that begins; empty where values cannot be compared."""
    kind, _, form = maker.partition(" ")
    if kind == "moment_as":
        if re.search("%-?[dmBb]", form) and not re.search("%[Yy]", form):
            return ""  # without its year, the fifth of January is not after the 28th of December
        days = re.search("%-?d", form) and not re.search("%-?[HI]", form)
        return f"later_date {begins} 1 14 {form}" if days else f"later_moment {begins} {form}" if "%M" in form else ""
    near = {"date": f"later_date {begins} 1 14", "time": f"later_time {begins}", "instant": f"later_moment {begins}"}
    if kind == "unix_time":
        return f"more {begins} {900 * int(form)} {14400 * int(form)}"
    return near.get(kind) or (f"above {begins} {maker}" if kind in _ORDERED else "")


def _is_known_before(one: str, other: str, tool: Tool) -> bool:
    """Whether every call that holds the ``other`` parameter can have this one first."""
    names, required = list(tool.parameters["properties"]), tool.parameters.get("required", ())
    return names.index(one) < names.index(other) and (one in required or other not in required)


def _fault(tool: Tool, name: str, schema: Any, maker: str) -> str:
    if "." in name or not SLOT.fullmatch(f"{{{name}}}"):
        return "no sentence can be made with its name"
    if schema is False:
        return "its schema allows no value"
    shared = {key: tool.parameters[key] for key in ("$defs", "definitions") if key in tool.parameters}
    inner = {**schema, **shared} if isinstance(schema, dict) else {}
    rng = random.Random(f"{tool.name}.{name}")
    try:
        validator = jsonschema_rs.validator_for(inner)
        for _ in range(_TRIES):
            value = _value(tool, name, maker, rng)
            if problem := next(validator.iter_errors(value), None):
                return f"a value made for it does not fit its schema: {problem.message[:200]}"
            if value is None:
                return "it can only be null"
    except (CallamaError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        return str(error) or type(error).__name__
    return ""


def _value(tool: Tool, name: str, maker: str, rng: random.Random) -> Any:
    schema = tool.parameters["properties"][name]
    if maker == "enum":
        return rng.choice(schema["enum"])
    if maker == "boolean":
        return rng.random() < 0.5
    return value_for(name, schema, tool.parameters, rng) if maker == SCHEMA else values.make(maker, rng)


def _varies(tool: Tool, name: str, maker: str) -> bool:
    return len(_some_values(tool, name, maker)) > 3


def _some_values(tool: Tool, name: str, maker: str) -> set[str]:
    rng = random.Random(name)
    return {json.dumps(_value(tool, name, maker, rng)) for _ in range(_TRIES)}


def _content(text: str) -> frozenset[str]:
    """The words that say something, without a plural's ending."""
    return frozenset(w.removesuffix("s") for w in words_of(text.lower()) if w not in _GLUE and len(w) > 1)


def _rivals(entries: Sequence[JsonObject]) -> Iterator[list[str]]:
    """For each function the names of those that could be meant by the same request, the likest ``_MOST_RIVALS``:
    thousands of generated functions would each name all others."""
    said = [_content(f"{' '.join(words_of(e['name']))} {e['task']}") for e in entries]
    places: dict[str, list[int]] = {}
    for index, words in enumerate(said):
        for word in words:
            places.setdefault(word, []).append(index)
    for index, words in enumerate(said):
        near = {i for word in words for i in places[word] if i != index}
        shares = {i: len(words & said[i]) / min(len(words), len(said[i])) for i in near}
        alike = [(-share, abs(i - index), i) for i, share in shares.items() if share >= _ALIKE]
        yield [entries[i]["name"] for i in sorted(i for *_, i in heapq.nsmallest(_MOST_RIVALS, alike))]


def _talk(entries: Sequence[JsonObject]) -> JsonObject:
    """The small talk without what one of the functions could do."""
    talk: JsonObject = json.loads((FOLDER / "_talk.json").read_text(encoding="utf-8"))
    words = frozenset().union(*(_content(f"{e['task']} {e['description']}") for e in entries))

    def fitting(key: str, text: Any) -> list[JsonObject]:
        said = [(len(_content(text(entry)) & words), i, entry) for i, entry in enumerate(talk[key])]
        clear = [entry for shared, _, entry in said if not shared]
        return clear if len(clear) >= _LEAST_TALK else [entry for *_, entry in sorted(said)[:_LEAST_TALK]]

    talk["requests"] = fitting("requests", lambda entry: entry["task"])
    talk["chat"] = fitting("chat", lambda entry: " ".join(entry["says"]))
    return talk
