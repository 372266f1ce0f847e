"""Other names for tools and parameters: synonyms, affixes and the conventions of other houses.

A model that has seen ``get_weather(city)`` only under that name learns the name; one that has seen
it as ``weather.fetch(location)`` and ``tool_17(cityName)`` too learns to read what it is shown.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Sequence

from callama.contract.messages import JsonObject

# Each of these holds for every tool of the catalogue that is named with the verb: "get_tickets" would not buy them.
_VERBS = {
    "get": "fetch lookup retrieve read show", "find": "search lookup locate seek", "search": "find query lookup",
    "create": "add make new", "add": "insert append", "book": "reserve", "reserve": "book hold",
    "send": "dispatch transmit", "list": "show enumerate get", "delete": "remove erase drop",
    "update": "change modify edit", "set": "", "cancel": "revoke drop", "convert": "transform",
    "calculate": "compute work_out", "check": "verify inspect", "start": "begin launch run", "stop": "halt end",
    "schedule": "plan", "order": "request", "track": "follow trace", "log": "record note", "open": "raise",
    "rename": "retitle", "move": "shift", "estimate": "predict", "translate": "", "compare": "contrast",
    "register": "enrol sign_up", "report": "declare", "pay": "settle", "run": "execute perform", "apply": "",
    "suggest": "propose recommend", "recommend": "suggest propose", "rate": "review score", "rent": "hire",
    "mute": "silence", "post": "publish", "complete": "finish", "assign": "allocate", "read": "show load",
    "copy": "duplicate", "make": "create build", "define": "explain", "detect": "identify recognise",
    "summarise": "sum_up digest", "restart": "reboot", "deploy": "release roll_out", "request": "ask_for",
    "scale": "resize", "ship": "send", "return": "send_back", "renew": "extend prolong", "buy": "purchase",
    "reply": "answer respond", "pause": "suspend", "transfer": "send move", "plan": "arrange",
}  # fmt: skip
# Of single values alone: a list of days is no number of them.
_PARAMETERS = {
    "city": "location city_name town place", "date": "day calendar_date", "time": "at_time clock_time",
    "email": "email_address mail e_mail", "phone": "phone_number telephone", "title": "name", "text": "content",
    "query": "search_term q keywords", "amount": "value", "quantity": "amount", "count": "quantity how_many",
    "limit": "max_results max_count", "address": "street_address", "country": "nation country_name",
    "language": "lang", "currency": "currency_code money_unit", "from_city": "origin departure_city",
    "to_city": "destination arrival_city", "origin": "from_place start_place", "destination": "dest",
    "url": "link web_address", "path": "file_path file", "order_id": "order_number order_ref",
    "units": "unit_system", "unit": "unit_of_measure uom", "category": "group category_name",
    "priority": "urgency", "status": "state", "duration_minutes": "minutes length_minutes",
    "start_date": "from_date first_day begins_on", "end_date": "until_date last_day ends_on", "color": "colour",
    "max_price": "price_limit upper_price", "guests": "people persons", "symbol": "ticker ticker_symbol",
    "days": "day_count number_of_days", "weight_kg": "kilograms mass_kg",
}  # fmt: skip
_NAME_FORMS = ("snake", "camel", "pascal", "dotted", "kebab")
_NAME_SHARES = (42, 28, 8, 18, 4)
_EXTRA = ("api", "v2", "service", "tool", "action", "app", "my")
_SMALL = ("to", "and")  # nothing that could stand before a dot starts so
_OPAQUE = ("tool", "fn", "f", "op", "action", "func", "api", "cmd", "method", "task")


def words_of(name: str) -> list[str]:
    """``calendar.createEvent`` → ``["calendar", "create", "event"]``."""
    return [w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def _joined(words: list[str], form: str) -> str:
    if form == "camel":
        return words[0] + "".join(w.capitalize() for w in words[1:])
    if form == "pascal":
        return "".join(w.capitalize() for w in words)
    return ("-" if form == "kebab" else "_").join(words)


@functools.cache
def spelled(name: str) -> str:
    """A name without its convention: ``getWeather`` and ``get_weather`` are the same."""
    return "".join(words_of(name))


def other_name(name: str, rng: random.Random, *, reworded: bool) -> str:
    """A tool's name in another convention, and where ``reworded`` with another verb for its own; the same name if
    none was found."""
    verb, thing = _verb_and_thing(name)
    if not verb and thing[0] in _VERBS:
        return name  # in any other convention "post.analytics" would be an order to post them
    for _ in range(12):
        act, form = verb, rng.choices(_NAME_FORMS, _NAME_SHARES)[0]
        if reworded and verb and rng.random() < 0.6:
            # "book.reserve" is not to become "book_book".
            others = [other for other in _VERBS[verb[0]].split() if other not in thing]
            act = rng.choice(others).split("_") if others else verb
        extra = rng.choice(_EXTRA) if rng.random() < 0.12 else ""
        if form == "dotted":
            candidate = _dotted(act, thing)
        else:
            words = [*act, *thing]
            if extra:
                words.insert(rng.choice((0, len(words))), extra)
            candidate = _joined(words, form)
        if candidate and candidate != name:
            return candidate
    return name


def _verb_and_thing(name: str) -> tuple[list[str], list[str]]:
    """``calendar.create`` → ``["create"], ["calendar"]``; ``traffic_report`` → ``[], ["traffic", "report"]``: a verb
    stands first, or behind the dot, and what else is spelled like one is none."""
    before, _, last = name.rpartition(".")
    first, *rest = words_of(last)
    return ([first], [*words_of(before), *rest]) if first in _VERBS else ([], words_of(name))


def _dotted(verb: Sequence[str], thing: Sequence[str]) -> str:
    """``get_free_slot`` → ``free_slot.get``; empty where a noun would be read as a verb (``traffic.report``)."""
    if verb:
        return f"{'_'.join(thing)}.{'_'.join(verb)}" if thing and thing[0] not in _SMALL else ""
    return f"{thing[0]}.{'_'.join(thing[1:])}" if len(thing) > 1 and thing[1] not in _VERBS else ""


def opaque_name(rng: random.Random) -> str:
    """A name that says nothing, e.g. ``tool_17`` or ``fn_a3``."""
    tail = str(rng.randint(1, 99)) if rng.random() < 0.6 else f"{rng.choice('abcdefgh')}{rng.randint(1, 99)}"
    return f"{rng.choice(_OPAQUE)}_{tail}"


def other_parameter(name: str, schema: JsonObject, form: str, rng: random.Random) -> str:
    """A parameter's name under a convention (``snake``, ``camel``), sometimes another word for it."""
    if name in _PARAMETERS and schema.get("type") not in ("array", "object") and rng.random() < 0.5:
        name = rng.choice(_PARAMETERS[name].split())
    words = words_of(name)
    draw = rng.random()
    if draw < 0.06:
        words = [*words, rng.choice(("param", "input"))]
    elif draw < 0.12:
        words = [rng.choice(("input", "the")), *words]
    return _joined(words, form)
