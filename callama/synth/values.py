"""Makers of values: each turns a seeded random generator into one value of a kind ("city", "int 1 20").

The space of values is wide on purpose, with made-up words and ids among them: values that a model
cannot have seen teach it to copy from the request. A maker's name may carry arguments behind it.
"""

from __future__ import annotations

import random
import re
import string
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from callama.common.errors import CallamaError
from callama.synth import moments, words
from callama.synth.facts import fact

Maker = Callable[[random.Random], Any]
Known = Mapping[str, Any]


def make(spec: str, rng: random.Random, known: Known | None = None) -> Any:
    """A value of the kind that ``spec`` names.

    ``known`` holds the values already made for the same call, by parameter: ``later_date start 1 9``
    is one to nine days after the value of ``start``.

    Raises:
        CallamaError: there is no such maker, or its arguments do not fit.
    """
    name, *arguments = spec.split(" ")
    try:
        if name in _PLAIN:
            return _PLAIN[name](rng)
        if name in _WITH_ARGUMENTS:
            return _WITH_ARGUMENTS[name](rng, arguments, known or {})
    except (ValueError, IndexError, KeyError) as error:
        raise CallamaError(f"value maker {spec!r}: bad arguments ({error})") from None
    raise CallamaError(f"no value maker {name!r}; known: {', '.join(sorted({**_PLAIN, **_WITH_ARGUMENTS}))}")


def _from(items: Sequence[str]) -> Maker:
    return lambda rng: rng.choice(items)


def coined(rng: random.Random) -> str:
    """A made-up word such as ``Velmara`` that no data set has seen."""
    middle = rng.choice(words.SYLLABLES_MIDDLE) if rng.random() < 0.7 else ""
    return rng.choice(words.SYLLABLES_START) + middle + rng.choice(words.SYLLABLES_END)


def _first(rng: random.Random) -> str:
    return coined(rng) if rng.random() < 0.05 else rng.choice(words.FIRST_NAMES)


def _last(rng: random.Random) -> str:
    return coined(rng) if rng.random() < 0.1 else rng.choice(words.LAST_NAMES)


def _full_name(rng: random.Random) -> str:
    return f"{_first(rng)} {_last(rng)}"


def _person(rng: random.Random) -> str:
    return _first(rng) if rng.random() < 0.4 else _full_name(rng)


def _city(rng: random.Random) -> str:
    if rng.random() < 0.88:
        return rng.choice(words.CITIES)
    return rng.choice(("{}", "Port {}", "Saint {}", "New {}", "{} Falls", "{} Springs")).format(coined(rng))


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice(string.digits) for _ in range(count))


def _capitals(rng: random.Random, count: int) -> str:
    return "".join(rng.choice(string.ascii_uppercase) for _ in range(count))


def _username(rng: random.Random) -> str:
    form = rng.choice(("{a}_{n}", "{n}.{l}", "{f}{d}", "{f}.{l}", "{a}{n}{d}", "{f}_{l}"))
    parts = {"a": rng.choice(words.ADJECTIVES), "n": rng.choice(words.NOUNS), "d": str(rng.randint(1, 99))}
    return form.format(f=_first(rng).lower(), l=_last(rng).lower(), **parts)


def _domain(rng: random.Random) -> str:
    name = coined(rng).lower() if rng.random() < 0.5 else rng.choice(words.ADJECTIVES) + rng.choice(words.NOUNS)
    return f"{name}.{rng.choice(('com', 'org', 'net', 'io', 'example', 'dev', 'eu'))}"


def _email(rng: random.Random) -> str:
    return f"{_username(rng)}@{_domain(rng)}"


def _phone(rng: random.Random) -> str:
    form = rng.choice(("+{c} {x} {y}", "+{c}{x}{y}", "{x}-{z}-{y}", "0{x} {y}"))
    return form.format(c=rng.randint(20, 99), x=rng.randint(100, 999), z=rng.randint(100, 999), y=_digits(rng, 4))


def _street(rng: random.Random) -> str:
    return f"{rng.randint(1, 240)} {rng.choice(words.STREETS)} {rng.choice(words.STREET_KINDS)}"


def _postcode(rng: random.Random) -> str:
    lettered = f"{_capitals(rng, 2)}{rng.randint(1, 99)} {rng.randint(1, 9)}"
    return rng.choice((_digits(rng, 5), _digits(rng, 4), lettered))


def plural(noun: str) -> str:
    """``fox`` → ``foxes``, ``story`` → ``stories``."""
    if re.search(r"(s|x|z|ch|sh)$", noun):
        return f"{noun}es"
    return re.sub(r"(?<![aeiou])y$", "ie", re.sub(r"(?<=[ae])f$|(?<=l)f$", "ve", noun)) + "s"


def _two_words(rng: random.Random) -> str:
    return f"{rng.choice(words.ADJECTIVES)} {rng.choice(words.NOUNS)}"


def _title(rng: random.Random) -> str:
    adjective, noun = rng.choice(words.ADJECTIVES).capitalize(), rng.choice(words.NOUNS).capitalize()
    other = rng.choice(words.NOUNS).capitalize()
    forms = ("The {a} {n}", "{a} {n}", "{n} of the {o}", "A {n} for {f}", "{a} {m}", "Under the {a} {n}", "{n} & {o}")
    return rng.choice(forms).format(a=adjective, n=noun, m=plural(noun), o=other, f=_first(rng))


def _company(rng: random.Random) -> str:
    stem = rng.choice((coined(rng), rng.choice(words.NOUNS).capitalize(), _last(rng)))
    return f"{stem} {rng.choice(words.COMPANY_ENDINGS)}" if rng.random() < 0.85 else coined(rng)


def _restaurant(rng: random.Random) -> str:
    adjective, noun = rng.choice(words.ADJECTIVES).capitalize(), rng.choice(words.NOUNS).capitalize()
    forms = ("The {a} {n}", "Casa {c}", "{f}'s Kitchen", "{a} {n}", "Chez {f}", "{c}", "{n} House", "Trattoria {c}")
    return rng.choice(forms).format(a=adjective, n=noun, c=coined(rng), f=_first(rng))


def _hotel(rng: random.Random) -> str:
    noun = rng.choice(words.NOUNS).capitalize()
    return rng.choice(("Hotel {c}", "{n} Inn", "The {c} Lodge", "{n} Hotel", "Grand {c}")).format(c=coined(rng), n=noun)


def _place(rng: random.Random) -> str:
    forms = ("{n} Museum", "{c} Park", "{s} Station", "{c} Airport", "{n} Market", "{l} Library", "{c} Stadium")
    values = {"n": rng.choice(words.NOUNS).capitalize(), "c": coined(rng), "l": _last(rng)}
    return rng.choice(forms).format(s=rng.choice(words.STREETS), **values)


def _product(rng: random.Random) -> str:
    name = rng.choice(words.PRODUCTS)
    forms = ("{p}", "{c} {p}", "{b} {p}", "{a} {p}")
    return rng.choice(forms).format(p=name, c=rng.choice(words.COLOURS), b=coined(rng), a=rng.choice(words.ADJECTIVES))


def _team_name(rng: random.Random) -> str:
    return f"{_city(rng)} {plural(rng.choice(words.NOUNS)).capitalize()}"


def _fill(template: str, rng: random.Random) -> str:
    def one(slot: re.Match[str]) -> str:
        return str(_FRAGMENTS[slot[1]](rng))

    return re.sub(r"\{(\w+)\}", one, template)


def _path(rng: random.Random) -> str:
    folders = "/".join(rng.choice(words.FOLDERS) for _ in range(rng.randint(1, 2)))
    return f"/{folders}/{_filename(rng)}"


def _folder(rng: random.Random) -> str:
    return "/" + "/".join((rng.choice(words.FOLDERS), rng.choice((*words.FOLDERS, *words.NOUNS))))


def _filename(rng: random.Random) -> str:
    stem = rng.choice(("{a}_{n}", "{n}-{d}", "{n}", "{t}_{y}", "{c}")).format(
        a=rng.choice(words.ADJECTIVES), n=rng.choice(words.NOUNS), d=rng.randint(1, 99), t=rng.choice(words.TEAMS),
        y=rng.randint(2015, 2026), c=coined(rng).lower(),
    )  # fmt: skip
    return f"{stem}.{rng.choice(words.FILE_ENDINGS)}"


def _url(rng: random.Random) -> str:
    tail = rng.choice(("", f"/{rng.choice(words.NOUNS)}", f"/{rng.choice(words.FOLDERS)}/{rng.randint(10, 999)}"))
    return f"https://{rng.choice(('', 'www.', 'api.'))}{_domain(rng)}{tail}"


def _slug(rng: random.Random) -> str:
    return f"{rng.choice(words.ADJECTIVES)}-{rng.choice(words.NOUNS)}"


def _branch(rng: random.Random) -> str:
    return rng.choice(("feature/{s}", "fix/{s}", "{s}", "release-{d}")).format(s=_slug(rng), d=rng.randint(1, 40))


def _price(rng: random.Random) -> float | int:
    whole = rng.choice((rng.randint(1, 60), rng.randint(10, 400), rng.randint(100, 2500)))
    cents = rng.choice((0, 0, 99, 95, 25, 75, 49, 5, 50, rng.randrange(100)))
    return whole + cents / 100 if cents else whole


def _decimal(rng: random.Random, low: float, high: float, decimals: int) -> float | int:
    value = round(rng.uniform(low, high), decimals)
    return int(value) if value == int(value) else value


def _flight(rng: random.Random) -> str:
    return f"{_capitals(rng, 2)}{rng.randint(10, 9899)}"


def _hex(rng: random.Random) -> str:
    return "".join(rng.choice("0123456789abcdef") for _ in range(rng.choice((7, 8))))


def _record(rng: random.Random) -> str:
    """An id without a fixed prefix: ``K7-20914``, ``83112``, ``c41f90ab``."""
    lettered = f"{_capitals(rng, 1)}{rng.randint(1, 9)}-{_digits(rng, 5)}"
    return rng.choice((lettered, _digits(rng, 6), _hex(rng), f"{_capitals(rng, 3)}{_digits(rng, 4)}"))


def _peak(rng: random.Random) -> str:
    return rng.choice(words.MOUNTAINS) if rng.random() < 0.6 else f"Mount {coined(rng)}"


def _river(rng: random.Random) -> str:
    return rng.choice(words.RIVERS) if rng.random() < 0.7 else coined(rng)


def _datafile(rng: random.Random) -> str:
    stem = rng.choice(("{t}", "{t}_{y}", "{a}_{t}", "{t}-{m}", "{c}_{t}")).format(
        t=rng.choice(words.TABLES), y=rng.randint(2015, 2026), a=rng.choice(words.ADJECTIVES),
        m=rng.choice(words.MONTHS)[:3].lower(), c=coined(rng).lower(),
    )  # fmt: skip
    return f"{stem}.{rng.choice(('csv', 'csv', 'parquet', 'tsv', 'xlsx'))}"


def _photo(rng: random.Random) -> str:
    """The file of a camera (``IMG_2041.jpg``) or of a person (``otter-3.png``)."""
    stem = rng.choice(("IMG_{d}", "DSC{d}", "PXL_{d}", "{n}-{k}", "{a}_{n}", "{c}{k}")).format(
        d=_digits(rng, 4), n=rng.choice(words.NOUNS), k=rng.randint(1, 40), a=rng.choice(words.ADJECTIVES),
        c=coined(rng).lower(),
    )  # fmt: skip
    return f"{stem}.{rng.choice(('jpg', 'jpg', 'png', 'heic', 'tif'))}"


def _course(rng: random.Random) -> str:
    form = rng.choice(("Introduction to {}", "Advanced {}", "Applied {}", "{} for Beginners", "{} II", "{} Lab"))
    subject = rng.choice(words.SUBJECTS)
    return form.format(subject.title())


_PLAIN: dict[str, Maker] = {
    "first_name": _first, "last_name": _last, "full_name": _full_name, "person": _person, "username": _username,
    "email": _email, "phone": _phone, "city": _city, "country": _from(words.COUNTRIES), "street": _street,
    "postcode": _postcode, "company": _company, "restaurant": _restaurant, "hotel": _hotel, "place": _place,
    "product": _product, "title": _title, "two_words": _two_words, "noun": _from(words.NOUNS), "coined": coined,
    "colour": _from(words.COLOURS), "language": _from(words.LANGUAGES), "currency": _from(words.CURRENCIES),
    "ingredient": _from(words.INGREDIENTS), "dish": _from(words.DISHES), "cuisine": _from(words.CUISINES),
    "genre": _from(words.GENRES), "room": _from(words.ROOMS), "team": _from(words.TEAMS), "topic": _from(words.TOPICS),
    "exercise": _from(words.EXERCISES), "weekday": _from(words.WEEKDAYS), "month": _from(words.MONTHS),
    "sky": _from(words.SKIES), "timezone": _from(words.TIMEZONES), "table": _from(words.TABLES),
    "team_name": _team_name, "domain": _domain, "url": _url, "path": _path, "folder": _folder, "filename": _filename,
    "slug": _slug, "branch": _branch, "date": moments.date, "time": moments.time, "instant": moments.instant,
    "price": _price, "flight": _flight, "hex": _hex, "record": _record,
    "uuid": lambda rng: str(uuid.UUID(int=rng.getrandbits(128), version=4)),
    "chore": lambda rng: _fill(rng.choice(words.CHORES), rng),
    "message": lambda rng: _fill(rng.choice(words.MESSAGES), rng), "year": lambda rng: rng.randint(1950, 2026),
    "ticker": lambda rng: _capitals(rng, rng.randint(3, 4)), "airport": lambda rng: _capitals(rng, 3),
    "plate": lambda rng: f"{_capitals(rng, rng.randint(2, 3))}-{_digits(rng, rng.randint(3, 4))}",
    "latitude": lambda rng: _decimal(rng, -60, 70, rng.randint(1, 4)),
    "longitude": lambda rng: _decimal(rng, -180, 180, rng.randint(1, 4)),
    "playlist": lambda rng: f"{rng.choice(words.ADJECTIVES).capitalize()} {rng.choice(words.GENRES).capitalize()}",
    "version": lambda rng: f"{rng.randint(0, 9)}.{rng.randint(0, 20)}.{rng.randint(0, 9)}",
    "repo": lambda rng: f"{_last(rng).lower()}/{_slug(rng)}",
    "job": _from(words.JOBS), "subject": _from(words.SUBJECTS), "course": _course, "mountain": _peak, "river": _river,
    "lake": lambda rng: f"Lake {coined(rng)}", "number_column": _from(words.NUMBER_COLUMNS),
    "text_column": _from(words.TEXT_COLUMNS), "column": _from((*words.NUMBER_COLUMNS, *words.TEXT_COLUMNS)),
    "newspaper": lambda rng: _fill(rng.choice(words.NEWSPAPERS), rng).title(),
    "news_term": lambda rng: _fill(rng.choice(words.NEWS_TERMS), rng), "mailing_list": _from(words.MAILING_LISTS),
    "datafile": _datafile, "photo": _photo,
    "web_colour": lambda rng: "#" + "".join(rng.choice("0123456789abcdef") for _ in range(6)),
    "post": lambda rng: _fill(rng.choice(words.POSTS), rng), "claim": lambda rng: _fill(rng.choice(words.CLAIMS), rng),
    "moment": lambda rng: f"{moments.date(rng)} {moments.time(rng)}", "clock": lambda rng: f"{moments.time(rng)}:00Z",
    "year_month": lambda rng: moments.date(rng)[:7], "handle": lambda rng: f"@{_username(rng)}",
    "hashtag": lambda rng: f"#{rng.choice(words.ADJECTIVES)}{rng.choice(words.NOUNS)}",
}  # fmt: skip
_FRAGMENTS: dict[str, Maker] = {
    "noun": _PLAIN["noun"], "adj": _from(words.ADJECTIVES), "first": _first, "last": _last, "room": _PLAIN["room"],
    "ingredient": _PLAIN["ingredient"], "product": _from(words.PRODUCTS), "topic": _PLAIN["topic"], "city": _city,
    "weekday": _PLAIN["weekday"], "time": moments.time, "n": lambda rng: rng.randint(3, 60),
}  # fmt: skip


def _int(rng: random.Random, arguments: Sequence[str], known: Known) -> int:
    """``int LOW HIGH [STEP]``."""
    low, high, *step = (int(a) for a in arguments)
    return rng.randrange(low, high + 1, step[0] if step else 1)


def _number(rng: random.Random, arguments: Sequence[str], known: Known) -> float | int:
    """``number LOW HIGH DECIMALS``; a whole number has no decimals, as a person writes it."""
    return _decimal(rng, float(arguments[0]), float(arguments[1]), int(arguments[2]))


def _pick(rng: random.Random, arguments: Sequence[str], known: Known) -> str:
    """``pick one|two words|three``."""
    return rng.choice(" ".join(arguments).split("|"))


def _pick_number(rng: random.Random, arguments: Sequence[str], known: Known) -> int:
    """``pick_number 1|2|5``."""
    return int(rng.choice(arguments[0].split("|")))


def _code(rng: random.Random, arguments: Sequence[str], known: Known) -> str:
    """``code ORD-#####``: ``#`` becomes a digit, ``@`` a capital."""
    return "".join({"#": _digits(rng, 1), "@": _capitals(rng, 1)}.get(c, c) for c in arguments[0])


def _list(rng: random.Random, arguments: Sequence[str], known: Known) -> list[Any]:
    """``list LOW HIGH MAKER``: distinct values."""
    low, high, *rest = arguments
    values: list[Any] = []
    count = rng.randint(int(low), int(high))
    while len(values) < count:
        value = make(" ".join(rest), rng)
        if value not in values:
            values.append(value)
    return values


def _rows(rng: random.Random, arguments: Sequence[str], known: Known) -> list[dict[str, Any]]:
    """``rows LOW HIGH item=product;pieces=int 1 9``: a list of objects, in the order of their schema."""
    low, high, *rest = arguments
    makers = dict(part.split("=", 1) for part in " ".join(rest).split(";"))
    return [{name: make(maker, rng) for name, maker in makers.items()} for _ in range(rng.randint(int(low), int(high)))]


def _as_many(rng: random.Random, arguments: Sequence[str], known: Known) -> list[Any]:
    """``as_many PARAMETER MAKER``: a list of distinct values, as long as the one of the parameter."""
    name, *rest = arguments
    count = str(len(known[name]))
    return _list(rng, (count, count, *rest), known)


def _more(rng: random.Random, arguments: Sequence[str], known: Known) -> int:
    """``more PARAMETER LOW HIGH``: a whole number greater by that much."""
    name, low, high = arguments
    return int(known[name]) + rng.randint(int(low), int(high))


def _above(rng: random.Random, arguments: Sequence[str], known: Known) -> Any:
    """``above PARAMETER MAKER``: greater than the value there, or that value where it is the greatest."""
    name, *rest = arguments
    drawn = (make(" ".join(rest), rng) for _ in range(60))
    return next((value for value in drawn if value > known[name]), known[name])


def _cased(rng: random.Random, arguments: Sequence[str], known: Known) -> str:
    """``cased lower MAKER``: in small letters, or in capitals with ``upper``."""
    case, *rest = arguments
    text = str(make(" ".join(rest), rng))
    return {"lower": text.lower, "upper": text.upper}[case]()


def _country_of(rng: random.Random, arguments: Sequence[str], known: Known) -> str:
    """``country_of PARAMETER``: of the city there; any, if the city is made up."""
    return str(fact("country_of", known[arguments[0]]) or rng.choice(words.COUNTRIES))


_WITH_ARGUMENTS: dict[str, Callable[[random.Random, Sequence[str], Known], Any]] = {
    "int": _int, "number": _number, "pick": _pick, "pick_number": _pick_number, "code": _code, "list": _list,
    "rows": _rows, "as_many": _as_many, "more": _more, "above": _above, "country_of": _country_of, "cased": _cased,
    "later_date": moments.later_date, "later_time": moments.later_time, "later_moment": moments.later_moment,
    "moment_as": moments.moment_as, "unix_time": moments.unix_time,
}  # fmt: skip
