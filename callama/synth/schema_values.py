"""Values for the parameters of functions that nobody wrote makers for: read off their schemas.

What a schema says comes first (enum, const, examples, default, format, bounds, pattern); where it is
silent, the parameter's name decides (``city``, ``order_id``, ``max_price``), then what its description
calls it ("Departure city"). ``maker_of`` names a maker of the catalogue where one says it all, so that
scenarios which look for dates or counts find them.
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

SCHEMA = "schema"
_UNKNOWN = "two_words"
_MAX_DEPTH, _DEEP = 16, 3
_EXAMPLE, _OPTIONAL = 0.4, 0.3
_LIKE_TRIES = 40
_FORMATS = {"date": "date", "email": "email", "idn-email": "email", "uri": "url", "url": "url", "hostname": "domain",
            "time": "clock", "date-time": "instant"}  # fmt: skip
# By the last word of a name that says something: "shipping_city", "customerEmail".
_TEXTS = {
    "city": "city", "town": "city", "location": "city", "place": "place", "origin": "city", "destination": "city",
    "country": "country", "nation": "country", "email": "email", "mail": "email", "phone": "phone",
    "telephone": "phone",
    "name": "two_words", "title": "title", "person": "person", "author": "full_name", "user": "username",
    "username": "username", "login": "username", "owner": "username", "customer": "full_name", "recipient": "person",
    "url": "url", "link": "url", "website": "url", "domain": "domain", "path": "path", "folder": "folder",
    "directory": "folder", "file": "filename", "filename": "filename", "address": "street", "street": "street",
    "postcode": "postcode", "zip": "postcode", "company": "company", "organization": "company", "vendor": "company",
    "product": "product", "item": "product", "query": "two_words", "q": "two_words", "search": "two_words",
    "keyword": "noun", "message": "message", "text": "message", "body": "message", "content": "message",
    "comment": "message", "note": "message", "notes": "message", "description": "message", "reason": "topic",
    "subject": "topic", "topic": "topic", "id": "record", "uid": "record", "code": "record", "number": "record",
    "reference": "record", "ref": "record", "key": "record", "token": "hex", "hash": "hex", "sha": "hex",
    "language": "language", "lang": "language", "currency": "currency", "color": "colour", "colour": "colour",
    "category": "noun", "tag": "noun", "label": "noun", "genre": "genre", "team": "team", "room": "room",
    "branch": "branch", "repo": "repo", "repository": "repo", "version": "version", "date": "date", "day": "date",
    "time": "time", "month": "month", "weekday": "weekday", "timezone": "timezone", "ticker": "ticker",
    "symbol": "ticker", "airport": "airport", "flight": "flight", "restaurant": "restaurant", "hotel": "hotel",
    "dish": "dish", "ingredient": "ingredient", "cuisine": "cuisine", "table": "table", "column": "column",
    "job": "job", "course": "course", "zone": "timezone", "tz": "timezone", "warehouse": "city", "station": "city",
    "sender": "person", "guest": "full_name", "patient": "full_name", "student": "full_name", "employee": "full_name",
    "sku": "record", "region": "country", "iban": "code DE####################",
}  # fmt: skip
_NAMES = {"first": "first_name", "given": "first_name", "last": "last_name", "family": "last_name", "full": "full_name",
          "customer": "full_name", "user": "username", "guest": "full_name", "patient": "full_name", "city": "city",
          "company": "company", "country": "country", "product": "product", "file": "filename", "team": "team",
          "restaurant": "restaurant", "hotel": "hotel"}  # fmt: skip
# Where somebody or something goes: the function's own words tell who.
_WAYS, _WRITING = {"from", "to"}, {"mail", "email", "send", "message", "sms", "notify", "reply"}
# What a description calls the value: "Departure city", "Name of the customer (as on the card)".
_CALLED = re.compile(
    r"^(?:the|an?|your|optional)?\s*([\w -]{2,60}?)(?=\s+(?:of|for|to|in|on|from|at|that|which|as|with|by|"
    r"where|when|after|before|whose)\b|[,.;:(]|$)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,11})(?:\.\d{1,6})?")
_LISTED = re.compile(r"[a-z0-9_-]+(?:,\s*[a-z0-9_-]+)+|[A-Z]\w{2,}(?:,\s*[A-Z][a-z]\w+){2,}")
_CODE_LIKE = re.compile(r"(?=[^\d]*\d)[A-Za-z]{0,8}[-_#:/]?(?:[A-Za-z]?\d+[A-Za-z]?[-_:/]?){1,4}")
_WHOLES = {"year": "year", "days": "int 1 14", "nights": "int 1 14", "hours": "int 1 24", "minutes": "int 5 180",
           "id": "int 100 99999", "page": "int 1 12", "age": "int 18 90"}  # fmt: skip
_NUMBERS = {"price": "price", "amount": "price", "cost": "price", "latitude": "latitude", "lat": "latitude",
            "longitude": "longitude", "lon": "longitude", "lng": "longitude"}  # fmt: skip
_NAMED_EXAMPLE = re.compile(r"(?:e\.g\.|for example|such as|example:)[,:]?\s+[\"'`]?([^\"'`().;]{1,40})", re.IGNORECASE)


def maker_of(name: str, schema: Mapping[str, Any], about: str = "", *, known_only: bool = False) -> str:
    """The catalogue's maker for a parameter: its own word for it, else ``schema``. ``about`` is the function's name;
    with ``known_only``, a text of which nothing is known is ``schema`` too."""
    plain = {"type", "description", "format", "minimum", "maximum", "title", "default"} >= schema.keys()
    kind, words = schema.get("type"), words_of(name)
    if kind == "boolean":
        return "boolean"
    if kind == "string" and len(set(schema.get("enum", ()))) > 1 and all(isinstance(v, str) for v in schema["enum"]):
        return "enum"
    if not plain or _described_examples(schema):
        return SCHEMA
    if kind == "string":
        form = schema.get("format")
        maker = _text_maker(words, schema, about)
        return _FORMATS.get(form, SCHEMA) if form is not None else maker or (SCHEMA if known_only else _UNKNOWN)
    return _number_maker(kind, words, schema) if kind in ("integer", "number") else SCHEMA


def _text_maker(words: Sequence[str], schema: Mapping[str, Any], about: str = "") -> str:
    """Empty where neither the name nor the description says anything."""
    if words[-1:] == ["name"] and (whose := _NAMES.get(" ".join(words[-2:-1]))):
        return whose
    called = _CALLED.match(str(schema.get("description", "")).strip())
    for said in (words, words_of(called[1].lower()) if called else ()):
        for word in reversed(said):
            if known := _TEXTS.get(word) or _TEXTS.get(word.removesuffix("s")):
                return known
    if words and words[-1] in _WAYS:
        return "email" if _WRITING & set(words_of(about)) else "city"
    return ""


def _number_maker(kind: str, words: list[str], schema: Mapping[str, Any]) -> str:
    bounded = "minimum" in schema or "maximum" in schema
    known = next((_WHOLES[w] for w in reversed(words) if w in _WHOLES), "") if kind == "integer" else ""
    known = known or (next((_NUMBERS[w] for w in reversed(words) if w in _NUMBERS), "") if kind == "number" else "")
    if known and not bounded:
        return known
    low, high = _range(schema, 1)
    if known.startswith("int "):
        ends = [int(end) for end in known.split(" ")[1:3]]
        if schema.get("minimum", ends[0]) <= ends[0] and ends[1] <= schema.get("maximum", ends[1]):
            return known
    if kind == "integer":
        return f"int {low:.0f} {high:.0f}" if low <= high and abs(low) < 1e15 > abs(high) else SCHEMA
    return f"number {low} {high} 2" if high - low > 0.1 else SCHEMA


def _range(schema: Mapping[str, Any], step: float) -> tuple[float, float]:
    """Bounds that hold, 100 apart where the schema leaves one open."""
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        low = max(low if low is not None else -math.inf, schema["exclusiveMinimum"] + step)
    if "exclusiveMaximum" in schema:
        high = min(high if high is not None else math.inf, schema["exclusiveMaximum"] - step)
    if low is None:
        low = 1 if high is None or high >= 1 else high - 100
    if high is None:
        high = low + 100
    if schema.get("type") == "integer":
        low, high = math.ceil(low), math.floor(high)
    if low > high:
        raise CallamaError(f"no number lies within its bounds ({low} to {high})")
    return low, high


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
    return schema == {"type": "string"} and not _text_maker(words_of(name), schema)


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


def _described_examples(schema: Mapping[str, Any]) -> list[str]:
    said = _NAMED_EXAMPLE.findall(str(schema.get("description", "")))
    texts = [text for one in said if (text := re.split(r",? (?:or|and|etc)\b", one)[0].strip(" ,"))]
    # "litre, cup" are two; "Austin, TX" and "New York, USA" are one.
    listed = (re.split(r",\s*", text) if _LISTED.fullmatch(text) else [text] for text in texts)
    return [text for several in listed for text in several]


def _examples(schema: Mapping[str, Any], kind: str) -> list[Any]:
    given = list(schema.get("examples") or ())
    if kind == "string":
        return [v for v in [*given, *_described_examples(schema)] if isinstance(v, str) and v.strip()]
    kinds: dict[str, Any] = {"integer": int, "number": (int, float), "object": dict, "array": list}
    if kind in ("integer", "number"):
        given += [json.loads(text) for text in _described_examples(schema) if _NUMBER.fullmatch(text)]
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
    low, high = _range(near, 1)
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
    maker = _text_maker(words, schema)
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
    maker = _FORMATS.get(str(form)) or _text_maker(words_of(name), schema) or _UNKNOWN
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
    fitting = [t for t in texts if low <= len(t) <= high and t == t.strip() and t.isprintable()]
    return fitting[0] if fitting else texts[0]


def _number(name: str, schema: Mapping[str, Any], kind: str, rng: random.Random) -> float | int:
    step = schema.get("multipleOf")
    if isinstance(step, int | float) and step > 0:
        low, high = _range(schema, step)
        first, last = math.ceil(low / step), math.floor(high / step)
        value = rng.randint(first, max(first, last)) * step
        return int(value) if value == int(value) else round(value, 10)
    maker = _number_maker(kind, words_of(name), schema)
    if maker != SCHEMA:
        made = values.make(maker, rng)
        return made if isinstance(made, int | float) else 1
    low, high = _range(schema, 1 if kind == "integer" else 1e-6)
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
