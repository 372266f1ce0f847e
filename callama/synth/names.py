"""Other names for tools and parameters: synonyms, affixes and the conventions of other houses.

A model that has seen ``get_weather(city)`` only under that name learns the name; one that has seen
it as ``weather.fetch(location)`` and ``tool_17(cityName)`` too learns to read what it is shown.
"""

from __future__ import annotations

import random
import re

_VERBS = {
    "get": "fetch lookup retrieve read show", "find": "search lookup locate seek", "search": "find query lookup",
    "create": "add make new", "add": "create insert append put", "book": "reserve arrange", "reserve": "book hold",
    "send": "dispatch post transmit", "list": "show enumerate get", "delete": "remove erase drop",
    "remove": "delete drop discard", "update": "change modify edit", "set": "configure",
    "cancel": "revoke drop", "convert": "transform change", "calculate": "compute work_out", "compute": "calculate",
    "check": "get verify inspect", "start": "begin launch run", "stop": "halt end", "play": "start run",
    "schedule": "plan arrange", "order": "buy purchase", "track": "follow trace", "log": "record note",
    "open": "unlock", "rename": "retitle", "move": "transfer relocate", "estimate": "predict compute",
    "translate": "convert", "compare": "contrast", "register": "enrol sign_up", "report": "file submit",
    "turn": "switch", "pay": "settle", "run": "execute perform",
    "apply": "use redeem", "suggest": "propose recommend", "recommend": "suggest propose", "rate": "review score",
    "rent": "hire", "mute": "silence", "post": "publish write", "complete": "finish", "assign": "give delegate",
    "read": "show load", "copy": "duplicate", "make": "create build", "define": "explain",
    "detect": "identify recognise", "summarise": "sum_up digest", "restart": "reboot", "deploy": "release roll_out",
    "request": "ask_for apply_for", "scale": "resize", "ship": "send", "return": "send_back",
    "renew": "extend prolong", "buy": "purchase get", "reply": "answer respond", "pause": "halt",
    "transfer": "send move", "compress": "pack", "plan": "arrange",
}  # fmt: skip
_PARAMETERS = {
    "city": "location city_name town place", "date": "day on_date target_date", "time": "at_time clock_time hour",
    "email": "email_address mail e_mail", "phone": "phone_number telephone", "name": "label display_name",
    "title": "name heading label", "text": "content body message", "message": "text body content",
    "query": "search_term q keywords", "amount": "value sum total", "quantity": "count amount how_many",
    "count": "number quantity total", "limit": "max_results top", "address": "street_address location",
    "country": "nation country_name", "language": "lang target_language", "currency": "currency_code money_unit",
    "from_city": "origin departure_city source", "to_city": "destination arrival_city target",
    "origin": "from_place start source", "destination": "to_place target goal", "url": "link address web_address",
    "path": "file_path location", "order_id": "order_number order_ref id", "units": "unit_system measure",
    "unit": "measure uom", "category": "kind group type", "priority": "importance urgency",
    "status": "state condition", "room": "room_name area space",
    "duration_minutes": "minutes length_minutes duration", "start_date": "from_date first_day begins_on",
    "end_date": "until_date last_day ends_on", "user_id": "uid account_id", "username": "user login handle",
    "color": "colour hue shade", "recipient": "to addressee receiver", "price": "cost amount",
    "max_price": "price_limit budget upper_price", "guests": "people party_size persons", "tags": "labels keywords",
    "subject": "topic title", "symbol": "ticker stock", "days": "day_count number_of_days",
    "weight_kg": "weight kilograms mass_kg",
}  # fmt: skip
_NAME_FORMS = ("snake", "camel", "pascal", "dotted", "kebab")
_NAME_SHARES = (42, 28, 8, 18, 4)
_EXTRA = ("api", "v2", "service", "tool", "now", "action", "app", "my")
_OPAQUE = ("tool", "fn", "f", "op", "action", "func", "api", "cmd", "method", "task")


def words_of(name: str) -> list[str]:
    """``calendar.createEvent`` → ``["calendar", "create", "event"]``."""
    return [w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def _joined(words: list[str], form: str) -> str:
    if form == "camel":
        return words[0] + "".join(w.capitalize() for w in words[1:])
    if form == "pascal":
        return "".join(w.capitalize() for w in words)
    if form == "dotted" and len(words) > 1:
        return f"{words[0]}.{'_'.join(words[1:])}"
    return ("-" if form == "kebab" else "_").join(words)


def spelled(name: str) -> str:
    """A name without its convention: ``getWeather`` and ``get_weather`` are the same."""
    return "".join(words_of(name))


def other_name(name: str, rng: random.Random) -> str:
    """A tool's name in other words or another convention; the same name if none was found."""
    for _ in range(12):
        words, form = words_of(name), rng.choices(_NAME_FORMS, _NAME_SHARES)[0]
        if "." in name and form != "dotted" and words[-1] in _VERBS:
            words = [words[-1], *words[:-1]]  # calendar.create reads create_calendar
        elif "." not in name and form == "dotted" and words[0] in _VERBS:
            words = [*words[1:], words[0]]  # and get_weather reads weather.get
        verb = 0 if form != "dotted" else len(words) - 1
        if words[verb] in _VERBS and rng.random() < 0.6:
            words[verb : verb + 1] = rng.choice(_VERBS[words[verb]].split()).split("_")
        if rng.random() < 0.12 and form != "dotted":
            words.insert(rng.choice((0, len(words))), rng.choice(_EXTRA))
        candidate = _joined(words, form)
        if candidate != name:
            return candidate
    return name


def opaque_name(rng: random.Random) -> str:
    """A name that says nothing, e.g. ``tool_17`` or ``fn_a3``."""
    tail = str(rng.randint(1, 99)) if rng.random() < 0.6 else f"{rng.choice('abcdefgh')}{rng.randint(1, 99)}"
    return f"{rng.choice(_OPAQUE)}_{tail}"


def other_parameter(name: str, form: str, rng: random.Random) -> str:
    """A parameter's name under a convention (``snake``, ``camel``), sometimes another word for it."""
    if name in _PARAMETERS and rng.random() < 0.5:
        name = rng.choice(_PARAMETERS[name].split())
    words = words_of(name)
    draw = rng.random()
    if draw < 0.06:
        words = [*words, rng.choice(("value", "param", "input", "field"))]
    elif draw < 0.12:
        words = [rng.choice(("input", "the", "given")), *words]
    return _joined(words, form)
