"""Values for the parameters of functions that nobody wrote makers for: read off their schemas.

What a schema says comes first (enum, const, examples, default, format, bounds, pattern); where it is
silent, ``schema_makers`` has a maker of the catalogue, by the parameter's name or description.
"""

from __future__ import annotations

import json
import math
import random
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import rstr

from callama.common.errors import CallamaError
from callama.synth import values
from callama.synth.names import words_of
from callama.synth.schema_forms import not_made
from callama.synth.schema_makers import (
    FORMATS,
    SCHEMA,
    UNKNOWN,
    bounds_of,
    described_examples,
    number_maker,
    text_maker,
)

_MAX_DEPTH, _DEEP = 16, 3
_EXAMPLE, _OPTIONAL = 0.4, 0.3
_LIKE_TRIES = 40
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,11})(?:\.\d{1,6})?")
_CODE_LIKE = re.compile(r"(?=[^\d]*\d)[A-Za-z]{0,8}[-_#:/]?(?:[A-Za-z]?\d+[A-Za-z]?[-_:/]?){1,4}")


def value_for(name: str, schema: Any, root: Mapping[str, Any], rng: random.Random) -> Any:
    """A value that fits a schema; ``root`` is what its references lead into.

    Raises:
        CallamaError: none is found: the schema goes too deep, or a word in it is not understood.
    """
    return _value(name, schema, root, rng, 0)


def _value(name: str, schema: Any, root: Mapping[str, Any], rng: random.Random, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise CallamaError(f"no value can be made: nested more than {_MAX_DEPTH} deep")
    schema = _settled(schema, root, rng, depth, name)
    if "const" in schema:
        return schema["const"]
    if choices := [v for v in schema.get("enum", ()) if v is not None]:
        return rng.choice(choices)
    kind = _kind(schema)
    if examples := _examples(schema, kind):
        return _like(rng.choice(examples), name, schema, rng)
    if kind == "object":
        return _object(schema, root, rng, depth)
    if kind == "array":
        return _array(name, schema, root, rng, depth)
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "null":
        return None
    return _text(name, schema, rng) if kind == "string" else _number(name, schema, kind, rng)


def _settled(schema: Any, root: Mapping[str, Any], rng: random.Random, depth: int, name: str) -> dict[str, Any]:
    """A schema without references and alternatives: one of them is drawn, any text only where nothing else can be."""
    for _ in range(_MAX_DEPTH):
        if not isinstance(schema, Mapping):
            return {}
        if isinstance(ref := schema.get("$ref"), str):
            schema = {**_target(ref, root), **{k: v for k, v in schema.items() if k != "$ref"}}
            continue
        ways = schema.get("anyOf") or schema.get("oneOf")
        if ways:
            rest = {k: v for k, v in schema.items() if k not in ("anyOf", "oneOf", "default")}
            full = [w for w in ways if not (isinstance(w, Mapping) and w.get("type") == "null")] or ways
            full = [w for w in full if not _is_any_text(w, name)] or full
            full = [w for w in full if not (isinstance(w, Mapping) and w.get("enum") == [""])] or full
            way = full[0] if depth > _DEEP else rng.choice(full)
            schema = _both(way if isinstance(way, Mapping) else {}, rest)
            continue
        if parts := schema.get("allOf"):
            whole = {k: v for k, v in schema.items() if k != "allOf"}
            for part in parts:
                whole = _both(whole, _settled(part, root, rng, depth, name))
            schema = whole
            continue
        return dict(schema)
    raise CallamaError("no value can be made: references without end")


def _is_any_text(schema: Any, name: str) -> bool:
    """Whether a schema is a text of which nothing is known: that of an amount which may be a number or a text."""
    return schema == {"type": "string"} and not text_maker(words_of(name), schema)


def _both(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    out = {**one, **other}
    if "properties" in one and "properties" in other:
        out["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        out["required"] = list(dict.fromkeys([*one["required"], *other["required"]]))
    return out


def _target(ref: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    place: Any = root
    for part in filter(None, unquote(ref[1:]).split("/")):
        key = part.replace("~1", "/").replace("~0", "~")
        place = place[int(key)] if isinstance(place, list) else place[key]
    return place if isinstance(place, Mapping) else {}


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "null")
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
    return str(kind)


def _examples(schema: Mapping[str, Any], kind: str) -> list[Any]:
    given = list(schema.get("examples") or ())
    if kind == "string":
        return [v for v in [*given, *described_examples(schema)] if isinstance(v, str) and v.strip()]
    kinds: dict[str, Any] = {"integer": int, "number": (int, float), "object": dict, "array": list}
    if kind in ("integer", "number"):
        given += [json.loads(text) for text in described_examples(schema) if _NUMBER.fullmatch(text)]
    return [v for v in given if kind in kinds and isinstance(v, kinds[kind]) and not isinstance(v, bool)]


def _like(example: Any, name: str, schema: Mapping[str, Any], rng: random.Random) -> Any:
    """An example, or a value that is surely of its kind: a date for a date, other digits in a code, another city for
    a city that is written alike. An example of anything else is one of few values that are known to be right."""
    if rng.random() < _EXAMPLE or {"pattern", "format"} & schema.keys():
        return example
    if isinstance(example, str):
        return _like_text(example, words_of(name), schema, rng)
    if isinstance(example, bool) or not isinstance(example, int | float) or "multipleOf" in schema:
        return example
    near = {"minimum": min(example / 2, example * 1.5), "maximum": max(example / 2, example * 1.5), **schema}
    low, high = bounds_of(near, 1)
    if isinstance(example, int):
        return rng.randint(math.ceil(low), max(math.ceil(low), math.floor(high)))
    return round(rng.uniform(low, high), len(str(example).partition(".")[2]))


def _like_text(example: str, words: Sequence[str], schema: Mapping[str, Any], rng: random.Random) -> str:
    for form, maker in ((r"\d{4}-\d\d-\d\d", "date"), (r"\d\d:\d\d", "time")):
        if re.fullmatch(form, example):
            return str(values.make(maker, rng))
    low, high = schema.get("minLength", 0), schema.get("maxLength", math.inf)
    if _CODE_LIKE.fullmatch(example):
        return re.sub(r"\d", lambda digit: str(rng.randint(digit[0] != "0", 9)), example)
    maker = text_maker(words, schema)
    for _ in range(_LIKE_TRIES if maker else 0):
        text = str(values.make(maker, rng))
        if _shape(text) == _shape(example) and low <= len(text) <= high:
            return text
    return example


def _shape(text: str) -> str:
    """How a text is written: ``New York`` and ``Oslo`` alike, ``oslo`` and ``Oslo, NO`` otherwise."""

    def one(word: re.Match[str]) -> str:
        return "A" if word[0].isupper() and len(word[0]) > 1 else "a" if word[0].islower() else "Aa"

    return re.sub(r"\b(A|Aa|a)(?: \1)+\b", r"\1", re.sub(r"[^\W\d_]+", one, re.sub(r"\d+", "9", text)))


def _text(name: str, schema: Mapping[str, Any], rng: random.Random) -> str:
    form, low, high = schema.get("format"), schema.get("minLength", 0), schema.get("maxLength", math.inf)
    if low > high:
        raise CallamaError(f"no text is at least {low} and at most {high} characters long")
    if isinstance(pattern := schema.get("pattern"), str):
        return _patterned(pattern, low, high, rng)
    if form == "uuid":
        return str(uuid.UUID(int=rng.getrandbits(128), version=4))
    if form == "ipv4":
        return ".".join(str(rng.randint(1, 254)) for _ in range(4))
    if form == "ipv6":
        return ":".join(f"{rng.randint(1, 65535):x}" for _ in range(8))
    if form == "duration":
        return f"PT{rng.randint(1, 59)}M"
    wanted = "" if form else not_made(words_of(name), str(schema.get("description", "")))
    maker = FORMATS.get(str(form)) or ("" if wanted else text_maker(words_of(name), schema))
    if not maker and isinstance(default := schema.get("default"), str) and low <= len(default) <= high:
        return default  # the only value of its kind that is known
    if wanted:
        raise CallamaError(f"its description asks for {wanted}, and no value can be made of that: give `examples`")
    maker = maker or UNKNOWN
    for _ in range(20):
        text = str(values.make(maker, rng))
        if low <= len(text) <= high:
            return text
    length = rng.randint(int(max(low, 1)), int(min(high, max(low, 1) + 5)))
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(length))


def _patterned(pattern: str, low: float, high: float, rng: random.Random) -> str:
    try:
        source = rstr.Rstr(rng)
        texts = [source.xeger(pattern) for _ in range(20)]
    except (re.error, ValueError, KeyError, RecursionError, OverflowError):
        raise CallamaError(f"no value can be made for the pattern {pattern[:80]!r}") from None
    if "(?" in pattern:  # looking ahead or back is not made on purpose, only met by chance
        texts = [text for text in texts if re.search(pattern, text)]
        if not texts:
            raise CallamaError(
                f"no value can be made for the pattern {pattern[:80]!r}: groups that look ahead or back, such as (?=, "
                "are not supported; give `examples` in its schema"
            )
    fitting = [t for t in texts if low <= len(t) <= high and t == t.strip() and t.isprintable()]
    return fitting[0] if fitting else texts[0]


def _number(name: str, schema: Mapping[str, Any], kind: str, rng: random.Random) -> float | int:
    step = schema.get("multipleOf")
    if isinstance(step, int | float) and step > 0:
        low, high = bounds_of(schema, step)
        first, last = math.ceil(low / step), math.floor(high / step)
        value = rng.randint(first, max(first, last)) * step
        return int(value) if value == int(value) else round(value, 10)
    maker = number_maker(kind, words_of(name), schema)
    if maker != SCHEMA:
        made = values.make(maker, rng)
        return made if isinstance(made, int | float) else 1
    low, high = bounds_of(schema, 1 if kind == "integer" else 1e-6)
    return int(low) if kind == "integer" else low + (high - low) / 2


def _array(name: str, schema: Mapping[str, Any], root: Mapping[str, Any], rng: random.Random, depth: int) -> list[Any]:
    single = name[:-1] if name.endswith("s") else name
    out = [_value(single, item, root, rng, depth + 1) for item in schema.get("prefixItems", ())]
    low, high = schema.get("minItems", 1), schema.get("maxItems", math.inf)
    wanted = 0 if depth > _DEEP and not low else rng.randint(int(low), int(min(high, max(low, 3))))
    seen = {json.dumps(item, sort_keys=True) for item in out}
    for turn in range(20 * wanted):
        if len(out) >= wanted or schema.get("items") is False:
            break
        item = _value(single, schema.get("items", {"type": "string"}), root, rng, depth + 1)
        # Values repeat only where the schema wants more than there are.
        again = turn >= 10 * wanted and len(out) < low and not schema.get("uniqueItems")
        if (text := json.dumps(item, sort_keys=True)) not in seen or again:
            seen.add(text)
            out.append(item)
    return out


def _object(schema: Mapping[str, Any], root: Mapping[str, Any], rng: random.Random, depth: int) -> dict[str, Any]:
    declared, required = schema.get("properties") or {}, schema.get("required", ())
    out = {}
    for key, inner in declared.items():
        if key in required or (depth <= _DEEP and rng.random() < _OPTIONAL):
            out[key] = _value(key, inner, root, rng, depth + 1)
    for key in required:
        if key not in out:
            out[key] = _value(key, {}, root, rng, depth + 1)
    more = schema.get("additionalProperties", True)
    if not declared and more is not False:
        for _ in range(max(1, int(schema.get("minProperties", 1)))):
            out[str(values.make("noun", rng))] = _value("value", more, root, rng, depth + 1)
    elif not out and declared:
        key = rng.choice(sorted(declared))
        out[key] = _value(key, declared[key], root, rng, depth + 1)
    return out


def spoken(value: Any) -> str:
    """A value as a person would write it: ``{"city": "Oslo", "days": [1, 2]}`` → ``city Oslo, days 1 and 2``."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_inside(inner)}" for key, inner in value.items()) or "nothing in it"
    if isinstance(value, list):
        nested = any(isinstance(item, Mapping | list) for item in value)
        parts = [spoken(item) for item in value]
        if not parts:
            return "none"
        return (
            "; ".join(parts) if nested else parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
        )
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _inside(value: Any) -> str:
    """Brackets tell where a part with parts of its own ends."""
    deep = isinstance(value, Mapping) or (isinstance(value, list) and any(isinstance(v, Mapping | list) for v in value))
    return f"({spoken(value)})" if deep else spoken(value)
