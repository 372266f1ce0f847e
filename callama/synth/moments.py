"""Makers of dates and times: in ISO's forms, in any other that a schema asks for, and what comes after another."""

from __future__ import annotations

import datetime
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from callama.synth.words import MONTHS

_FIRST_DAY = datetime.date(2024, 1, 1)
_DAYS = 4 * 365
_INSTANT = "%Y-%m-%dT%H:%M:%SZ"
# Makers of what comes after another moment, and where among their arguments its form stands.
LATER = {"later_date": 3, "later_moment": 1}


def date(rng: random.Random) -> str:
    """``2025-03-14``."""
    return (_FIRST_DAY + datetime.timedelta(days=rng.randrange(_DAYS))).isoformat()


def time(rng: random.Random) -> str:
    """``14:30``."""
    return f"{rng.randint(6, 22):02}:{rng.choice((0, 15, 30, 45, rng.randrange(60))):02}"


def instant(rng: random.Random) -> str:
    """``2025-03-14T14:30:00Z``."""
    return f"{date(rng)}T{time(rng)}:00Z"


def moment_as(rng: random.Random, arguments: Sequence[str], known: Mapping[str, Any]) -> str:
    """``moment_as %d.%m.%Y``: in a form of ``strftime``; ``%-d`` has no zero in front, on any system."""
    return _written(datetime.datetime.strptime(instant(rng), _INSTANT), " ".join(arguments))


def unix_time(rng: random.Random, arguments: Sequence[str], known: Mapping[str, Any]) -> int:
    """``unix_time 1`` in seconds since 1970, ``unix_time 1000`` in milliseconds."""
    day = datetime.datetime.strptime(instant(rng), _INSTANT).replace(tzinfo=datetime.UTC)
    return int(day.timestamp()) * int(arguments[0])


def later_date(rng: random.Random, arguments: Sequence[str], known: Mapping[str, Any]) -> str:
    """``later_date PARAMETER LOW HIGH [FORM]``: days after it, in its form."""
    name, low, high, *form = arguments
    days = datetime.timedelta(days=rng.randint(int(low), int(high)))
    written = " ".join(form) or "%Y-%m-%d"
    return _written(_read(known[name], written) + days, written)


def later_time(rng: random.Random, arguments: Sequence[str], known: Mapping[str, Any]) -> str:
    """``later_time PARAMETER``: the same day, later."""
    hour = int(known[arguments[0]][:2])
    return f"{rng.randint(hour + 1, 23):02}:{rng.choice((0, 15, 30, 45)):02}"


def later_moment(rng: random.Random, arguments: Sequence[str], known: Mapping[str, Any]) -> str:
    """``later_moment PARAMETER [FORM]``: a quarter of an hour to four hours after it, in its form."""
    name, *form = arguments
    written = " ".join(form) or _INSTANT
    minutes = datetime.timedelta(
        minutes=15 * rng.randint(1, 16 if re.search("%-?d", written) else 4)
    )  # times stay on their day
    return _written(_read(known[name], written) + minutes, written)


def are_in_order(kind: str, arguments: Sequence[str], base: str, value: str) -> bool:
    """Whether ``later_date`` or ``later_moment`` could have made the value: after its base, a moment within a day."""
    written = " ".join(arguments[LATER[kind] :]) or ("%Y-%m-%d" if kind == "later_date" else _INSTANT)
    between = _read(value, written) - _read(base, written)
    return datetime.timedelta() < between and (kind == "later_date" or between.days < 1)


def _written(moment: datetime.datetime, form: str) -> str:
    return moment.strftime(
        re.sub("%-([a-zA-Z])", lambda found: moment.strftime(f"%{found[1]}").lstrip("0") or "0", form)
    )


def _read(text: str, form: str) -> datetime.datetime:
    return datetime.datetime.strptime(text, form.replace("%-", "%"))


def long_date(iso: str) -> str:
    """``2025-03-14`` as ``March 14, 2025``."""
    day = datetime.date.fromisoformat(iso)
    return f"{MONTHS[day.month - 1]} {day.day}, {day.year}"
