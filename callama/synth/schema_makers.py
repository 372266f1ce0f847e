"""Which maker of the catalogue makes the values of a parameter that nobody wrote one for: read off its schema and the
form that its description states, where those are silent off its name (``city``, ``order_id``, ``max_price``), then off
what its description calls it ("Departure city").
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from callama.common.errors import CallamaError
from callama.synth.names import words_of
from callama.synth.schema_bounds import with_bounds_said
from callama.synth.schema_forms import (
    COUNTRIES,
    LANGUAGES,
    cased,
    form_said,
    id_said,
    not_made,
    unix_said,
)

SCHEMA = "schema"
UNKNOWN = "two_words"
ANY_NUMBER = "int 1 101"
FORMATS = {"date": "date", "email": "email", "idn-email": "email", "uri": "url", "url": "url", "hostname": "domain",
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
# Makers of words that are right for a request, which the user may word as he likes, and wrong for a result.
_ANY_WORDS = ("two_words", "noun", "message", "topic")
_SAYS_THAT_IT_IS_TEXT = frozenset(("description", "text", "content", "string", "summary", "details"))
_SAYS_NOTHING = frozenset(("name", "value", "input", "parameter", "argument", "field"))
_NAMES = {"first": "first_name", "given": "first_name", "last": "last_name", "family": "last_name", "full": "full_name",
          "customer": "full_name", "user": "username", "guest": "full_name", "patient": "full_name", "city": "city",
          "company": "company", "country": "country", "product": "product", "file": "filename", "team": "team",
          "restaurant": "restaurant", "hotel": "hotel"}  # fmt: skip
# Where somebody or something goes: the function's own words tell who.
_WAYS, _WRITING = {"from", "to"}, {"mail", "email", "send", "message", "sms", "notify", "reply"}
_QUERIES = (
    "pick SELECT count(*) FROM orders|SELECT * FROM customers LIMIT 10|SELECT max(price) FROM products|"
    "SELECT name FROM employees ORDER BY name|SELECT avg(total) FROM invoices|SELECT id FROM tickets WHERE closed = 0|"
    "SELECT city, count(*) FROM customers GROUP BY city|SELECT sum(amount) FROM payments|SELECT email FROM users|"
    "SELECT DISTINCT country FROM suppliers|SELECT * FROM shipments WHERE weight > 20|SELECT min(age) FROM patients"
)
# What a description calls its value and a name can only mean otherwise: `customer`, "E-mail address of the customer".
_SURE = {"email": "email", "mail": "email", "email address": "email", "mail address": "email",
         "phone number": "phone", "mobile number": "phone", "telephone number": "phone", "url": "url",
         "web address": "url", "iban": _TEXTS["iban"],
         "username": "username", "user name": "username", "country code": COUNTRIES, "language code": LANGUAGES,
         "postal code": "postcode", "zip code": "postcode", "postcode": "postcode", "time zone": "timezone",
         "timezone": "timezone"}  # fmt: skip
# Names of two words that the last one alone would tell wrongly.
_CODES = {"country code": COUNTRIES, "currency code": "currency", "language code": LANGUAGES, "zip code": "postcode",
          "postal code": "postcode", "airport code": "airport"}  # fmt: skip
_ENDS_OF_A_MOVE = frozenset(("source", "destination", "target", "from", "to", "src", "dst", "dest"))
_MOVES = frozenset(("copy", "cp", "link", "move", "mv", "rename", "symlink"))
_FILES = frozenset(("file", "files", "folder", "folders", "directory", "directories"))
# What a description calls the value: "Departure city", "Name of the customer (as on the card)".
_CALLED = re.compile(
    r"^(?:the|an?|your|optional)?\s*([\w -]{2,60}?)(?=\s+(?:of|for|to|in|on|from|at|that|which|as|with|by|"
    r"where|when|after|before|whose|used|using|is|must|should)\b|[,.;:(]|$)",
    re.IGNORECASE,
)
_LISTED = re.compile(r"[a-z0-9_-]+(?:,\s*[a-z0-9_-]+)+|[A-Z]\w{2,}(?:,\s*[A-Z][a-z]\w+){2,}")
_WHOLES = {"year": "year", "days": "int 1 14", "nights": "int 1 14", "hours": "int 1 24", "minutes": "int 5 180",
           "id": "int 100 99999", "page": "int 1 12", "age": "int 18 90"}  # fmt: skip
_BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
_NUMBERS = {"temperature": "number 2 29 1", "price": "price", "amount": "price", "cost": "price",
            "latitude": "latitude", "lat": "latitude",
            "longitude": "longitude", "lon": "longitude", "lng": "longitude"}  # fmt: skip
# What is measured has decimals as often as not, unless its default or its description speaks of whole numbers.
_MEASURES = {"rate": "number 0.5 25 2", "threshold": "number 0.5 100 1", "height": "number 0.5 200 1",
             "weight": "number 0.5 100 1"}  # fmt: skip
_COUNTING_RATES = frozenset(("heart", "frame", "sample", "sampling", "bit", "refresh", "pulse", "respiratory"))
# Silent, or about a moment: not "Position in the video in seconds", "Number of created items".
_MAY_SAY_WHEN = re.compile(
    r"^(?!.*\b(?:in|into|of|within) (?:the|an?) (?:video|audio|track|song|clip|film|movie|stream|recording|file)\b)"
    r"(?!.*\b(?:offset|duration|elapsed|position|how (?:many|long)|number of)\b)"
    r"(?:\s*$|.*\b(?:time|timestamp|date|datetime|when|moment|UTC)\b)",
    re.IGNORECASE | re.DOTALL,
)
_NAMED_EXAMPLE = re.compile(r"(?:e\.g\.|for example|such as|example:)[,:]?\s+[\"'`]?([^\"'`().;]{1,40})", re.IGNORECASE)


def maker_of(name: str, schema: Mapping[str, Any], about: str = "", *, known_only: bool = False) -> str:
    """The catalogue's maker for a parameter: its own word for it, else ``schema``. ``about`` is the function's name;
    with ``known_only``, a text of whose content nothing is known is ``schema`` too."""
    schema = not_null(schema)
    plain = {"type", "description", "format", "minimum", "maximum", "title", "default"} >= schema.keys()
    kind, words = schema.get("type"), words_of(name)
    if kind == "boolean":
        return "boolean"
    if kind == "string" and len(set(schema.get("enum", ()))) > 1 and all(isinstance(v, str) for v in schema["enum"]):
        return "enum"
    if not plain or described_examples(schema):
        return SCHEMA
    if kind == "string":
        form = schema.get("format")
        if form is None and not_made(words, str(schema.get("description", ""))):
            return SCHEMA
        maker = text_maker(words, schema, about)
        if form is None and not maker and isinstance(schema.get("default"), str):
            return SCHEMA
        if form is None and known_only and maker.split(" ")[-1] in ("", *_ANY_WORDS):
            return SCHEMA
        return FORMATS.get(form, SCHEMA) if form is not None else maker or UNKNOWN
    return number_maker(kind, words, schema) if kind in ("integer", "number") else SCHEMA


def not_null(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a schema wants where it may also be null (``Optional[date]``), if that is one plain type."""
    kind = schema.get("type")
    if schema.get("nullable") is True:
        schema = {key: value for key, value in schema.items() if key != "nullable"}
    if isinstance(kind, list) and len(full := [k for k in kind if k != "null"]) == 1 and "enum" not in schema:
        return {**schema, "type": full[0]}
    ways = schema.get("anyOf")
    if isinstance(ways, list) and len(ways) == 2 and {"type": "null"} in ways:
        full_way = next((way for way in ways if way != {"type": "null"}), None)
        if isinstance(full_way, Mapping) and isinstance(full_way.get("type"), str) and "enum" not in full_way:
            return {**full_way, **{key: value for key, value in schema.items() if key != "anyOf"}}
    return schema


def text_maker(words: Sequence[str], schema: Mapping[str, Any], about: str = "") -> str:
    """The maker of a text; empty where neither the name nor the description says anything."""
    said = str(schema.get("description", "")).strip()
    called = _CALLED.match(said)
    maker = form_said(words, said, called[1] if called else "")
    if not maker:
        maker = _usual(words, schema, about)
        maker = id_said(maker, said) or maker
    return cased(maker, words, said) if maker else ""


def _usual(words: Sequence[str], schema: Mapping[str, Any], about: str) -> str:
    """The maker of a text of no stated form: by what the description calls it, if that leaves no doubt, by its name,
    else by any word of what it is called."""
    if kind := _coded(words, schema, about):
        return kind
    called = _CALLED.match(str(schema.get("description", "")).strip())
    described = words_of(called[1].lower()) if called else []
    if sure := _SURE.get(" ".join(described[-2:])) or _SURE.get(" ".join(described[-1:])):
        return sure
    if words[-1:] == ["name"] and (whose := _NAMES.get(" ".join(words[-2:-1]))):
        return whose
    if described and described[-1] in _SAYS_THAT_IT_IS_TEXT:  # "conditions description" are no conditions
        described = []
    for said in (words, [word for word in described if word not in _SAYS_NOTHING]):
        for word in reversed(said):
            if known := _TEXTS.get(word) or _TEXTS.get(word.removesuffix("s")):
                return known
    if words and words[-1] in _WAYS:
        return "email" if _WRITING & set(words_of(about)) else "city"
    return ""


def _coded(words: Sequence[str], schema: Mapping[str, Any], about: str) -> str:
    """The maker of a text that has a form of its own: a code, a query, a file's place."""
    said, default = str(schema.get("description", "")), str(schema.get("default", ""))
    doing, last = set(words_of(about)), words[-1] if words else ""
    if last in ("query", "sql", "statement") and "sql" in {*words, *doing, *words_of(said)}:
        return _QUERIES
    if last in _ENDS_OF_A_MOVE and doing & _FILES and doing & _MOVES:
        return "path"
    if last in ("country", "nation") and (schema.get("maxLength") == 2 or re.fullmatch("[A-Z]{2}", default)):
        return COUNTRIES
    return _CODES.get(" ".join(words[-2:]), "")


def number_maker(kind: str, words: Sequence[str], schema: Mapping[str, Any]) -> str:
    """The maker of a number, whole unless something speaks of fractions; ``schema`` where bounds leave none."""
    if moment := unix_said(schema):
        return moment
    if (
        kind == "integer"
        and not _BOUNDS & schema.keys()
        and (words[-1:] in (["timestamp"], ["created"]) or words[1:] == ["at"])
        and _MAY_SAY_WHEN.search(str(schema.get("description", "")))
    ):
        return "unix_time 1"  # no other whole number says when
    schema = _with_fitting_bounds(kind, words, schema)
    default = schema.get("default")
    bounded = bool(_BOUNDS & schema.keys())
    if kind == "number" and isinstance(default, float) and 0 < default < 1 and not bounded:
        return "number 0.01 0.99 2"  # a share
    known = next((_WHOLES[w] for w in reversed(words) if w in _WHOLES), "") if kind == "integer" else ""
    known = known or (_fraction(words, schema) if kind == "number" else "")
    if known and not bounded:
        return known
    low, high = bounds_of(schema, 1)
    if known.startswith("int "):
        ends = [int(end) for end in known.split(" ")[1:3]]
        if schema.get("minimum", ends[0]) <= ends[0] and ends[1] <= schema.get("maximum", ends[1]):
            return known
    decimals = 0 if kind == "integer" else _decimals(known, low, high, schema)
    if not decimals:
        return f"int {low:.0f} {high:.0f}" if low <= high and abs(low) < 1e15 > abs(high) else SCHEMA
    return f"number {low} {high} {decimals}" if high - low > 0.1 else SCHEMA


def _fraction(words: Sequence[str], schema: Mapping[str, Any]) -> str:
    """The maker of a number that its name knows to have decimals; empty where it does not."""
    if known := next((_NUMBERS[word] for word in reversed(words) if word in _NUMBERS), ""):
        return known
    whole = isinstance(schema.get("default"), int) or re.search(
        r"\b(?:whole|integer)\b", str(schema.get("description", "")), re.IGNORECASE
    )
    counts = whole or not _COUNTING_RATES.isdisjoint(words)
    return "" if counts else next((_MEASURES[word] for word in reversed(words) if word in _MEASURES), "")


def _with_fitting_bounds(kind: str, words: Sequence[str], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A number's schema with the bounds that its description says, unless these leave no number."""
    said = with_bounds_said(words, schema)
    try:
        bounds_of({**said, "type": kind}, 1)
    except CallamaError:
        return schema
    return said


def _decimals(known: str, low: float, high: float, schema: Mapping[str, Any]) -> int:
    """How many decimals a number has whose kind is ``known`` or that lies within these bounds: none, if neither its
    bounds nor its default have any and there are whole numbers enough."""
    if known:
        return 1 if known.endswith(" 1") else 2
    ends = [value for key in (*_BOUNDS, "default") if isinstance(value := schema.get(key), int | float)]
    return 0 if all(end == int(end) for end in ends) and high - low > 2 else 2


def bounds_of(schema: Mapping[str, Any], step: float) -> tuple[float, float]:
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


def described_examples(schema: Mapping[str, Any]) -> list[str]:
    """The examples that a description names behind "e.g."."""
    said = _NAMED_EXAMPLE.findall(str(schema.get("description", "")))
    texts = [text for one in said if (text := re.split(r",? (?:or|and|etc)\b", one)[0].strip(" ,"))]
    # "litre, cup" are two; "Austin, TX" and "New York, USA" are one.
    listed = (re.split(r",\s*", text) if _LISTED.fullmatch(text) else [text] for text in texts)
    return [text for several in listed for text in several]
