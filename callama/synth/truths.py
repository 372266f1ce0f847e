"""What formulas of the catalogue can use: true answers to what tools are asked (a median, a pace, the phase of
the Moon, the capital of Peru), and draws inside bounds.
"""

from __future__ import annotations

import datetime
import math
import random
import re
import statistics
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from callama.synth import values
from callama.synth.facts import fact

_NEW_MOON, _MONTH = datetime.date(2000, 1, 6), 29.530588
_PHASES = (
    "new moon", "waxing crescent", "first quarter", "waxing gibbous", "full moon", "waning gibbous", "last quarter",
    "waning crescent",
)  # fmt: skip
_ROMAN = (
    (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"),
    (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
)  # fmt: skip
_PER_YEAR = {"yearly": 1, "quarterly": 4, "monthly": 12, "daily": 365}


def tidy(value: float, places: int = 2) -> float | int:
    """Rounded; without decimals where there are none."""
    rounded = round(value, places)
    return int(rounded) if rounded == int(rounded) else rounded


def significant(value: float, digits: int = 4) -> float | int:
    """Rounded to so many digits that count."""
    return tidy(float(f"{value:.{digits}g}"), 12)


def power_text(value: float) -> str | int:
    """A whole number; in powers of ten where it is too long to read."""
    return int(value) if value < 10**12 else f"about {value:.3e}"


def later(day: str, days: int) -> str:
    """A day so many days after another (before it where negative), as ``YYYY-MM-DD``."""
    return (datetime.date.fromisoformat(day[:10]) + datetime.timedelta(int(days))).isoformat()


def days_between(start: str, end: str) -> int:
    """Days from one date to another."""
    return (datetime.date.fromisoformat(end) - datetime.date.fromisoformat(start)).days


def workdays_between(start: str, end: str) -> int:
    """Days from one date to another that are neither Saturday nor Sunday; the last does not count."""
    first = datetime.date.fromisoformat(start)
    return sum((first + datetime.timedelta(n)).weekday() < 5 for n in range(days_between(start, end)))


def weekday(day: str) -> str:
    """The name of a date's weekday."""
    return f"{datetime.date.fromisoformat(day):%A}"


def moon(day: str) -> str:
    """The Moon's phase on a date."""
    return _PHASES[round(_moon_age(day) / _MONTH * 8) % 8]


def moon_lit(day: str) -> int:
    """How much of the Moon is lit on a date, in percent."""
    return round((1 - math.cos(2 * math.pi * _moon_age(day) / _MONTH)) * 50)


def _moon_age(day: str) -> float:
    return ((datetime.date.fromisoformat(day) - _NEW_MOON).days - 0.76) % _MONTH


def clock(minutes: float) -> str:
    """Minutes and seconds as ``4:09``; of a pace."""
    seconds = round(minutes * 60)
    return f"{seconds // 60}:{seconds % 60:02}"


def is_prime(number: int) -> bool:
    """Whether a whole number is prime."""
    return number > 1 and all(number % n for n in range(2, math.isqrt(number) + 1))


def factors(number: int, powers: bool = False) -> list[Any]:
    """Prime factors in order; as ``2^3`` where ``powers`` are wanted."""
    found: list[int] = []
    divisor = 2
    while number > 1:
        if number % divisor == 0:
            found.append(divisor)
            number //= divisor
        else:
            divisor += 1
    if not powers:
        return found
    return [f"{p}^{found.count(p)}" if found.count(p) > 1 else str(p) for p in sorted(set(found))]


def in_base(number: int, base: int, capitals: bool = False) -> str:
    """A whole number's digits in a base from 2 to 36."""
    digits = ""
    while number:
        number, rest = divmod(number, base)
        digits = (string.digits + string.ascii_lowercase)[rest] + digits
    return (digits.upper() if capitals else digits) or "0"


def roman(number: int) -> str:
    """A whole number below 4000 in Roman numerals."""
    out = ""
    for value, letters in _ROMAN:
        out += letters * (number // value)
        number %= value
    return out


def molar_mass(formula: str) -> float:
    """Grams per mole of a formula such as ``C2H5OH``."""
    parts = re.findall(r"([A-Z][a-z]?)(\d*)", formula)
    return float(sum(fact("atomic_mass", element) * int(count or 1) for element, count in parts))


def convert(value: float, from_unit: str, to_unit: str) -> float | int:
    """A length, weight or speed in another unit."""
    return tidy(value * fact("units", from_unit) / fact("units", to_unit), 4)


def temperature(degrees: float, from_scale: str, to_scale: str) -> float:
    """Degrees of another scale (celsius, fahrenheit, kelvin)."""
    to_celsius = {"celsius": degrees, "fahrenheit": (degrees - 32) / 1.8, "kelvin": degrees - 273.15}[from_scale]
    return {"celsius": to_celsius, "fahrenheit": to_celsius * 1.8 + 32, "kelvin": to_celsius + 273.15}[to_scale]


def annuity(principal: float, percent: float, years: int) -> float:
    """The monthly payment of a loan with ``percent`` interest a year."""
    rate = percent / 1200
    return principal * rate / (1 - (1 + rate) ** (-12 * years))


def growth(start: float, percent: float, years: int, deposit: float | None, compounding: str | None) -> float:
    """What an amount becomes with interest, and a deposit at the end of each month."""
    times = _PER_YEAR[compounding or "yearly"]
    grown = start * (1 + percent / 100 / times) ** (times * years)
    month = (1 + percent / 100 / times) ** (times / 12)
    return float(grown + (deposit or 0) * (month ** (12 * years) - 1) / (month - 1))


def spread(data: Sequence[float], sample: bool = False) -> float:
    """The standard deviation, of a sample or of a population."""
    return statistics.stdev(data) if sample else statistics.pstdev(data)


def line(xs: Sequence[float], ys: Sequence[float], through_origin: bool = False) -> list[float]:
    """Slope and intercept of the best straight line."""
    fit = statistics.linear_regression(xs, ys, proportional=bool(through_origin))
    return [fit.slope, fit.intercept]


def correlation(xs: Sequence[float], ys: Sequence[float], method: str | None = None) -> float:
    """Pearson's, Spearman's or Kendall's coefficient; values do not repeat."""
    if method == "kendall":
        pairs = [(i, j) for j in range(len(xs)) for i in range(j)]
        return sum(1 if (xs[i] < xs[j]) is (ys[i] < ys[j]) else -1 for i, j in pairs) / len(pairs)
    if method == "spearman":
        xs, ys = ([sorted(data).index(value) for value in data] for data in (xs, ys))
    return float(statistics.correlation(xs, ys))


def dice(count: int, target: int, sides: int = 6, exactly: bool = False) -> float:
    """The chance that so many dice show a sum, or at least that sum."""
    ways = {0: 1}
    for _ in range(count):
        sums: dict[int, int] = {}
        for total, number in ways.items():
            for face in range(1, sides + 1):
                sums[total + face] = sums.get(total + face, 0) + number
        ways = sums
    hits = sum(n for total, n in ways.items() if total == target or (total > target and not exactly))
    return float(hits / sides**count)


def survey(population: int, margin: float, confidence: str | None = None) -> int:
    """How many to ask for a margin of error in percent."""
    z = {"90%": 1.645, "95%": 1.96, "99%": 2.576}[confidence or "95%"]
    endless = z * z * 0.25 / (margin / 100) ** 2
    return math.ceil(endless / (1 + (endless - 1) / population))


def matches(teams: int, mode: str) -> int:
    """Matches of a tournament: knockout, round_robin, or two groups and a final."""
    if mode == "knockout":
        return teams - 1
    return math.comb(teams, 2) if mode == "round_robin" else math.comb(teams // 2, 2) + math.comb(-(-teams // 2), 2) + 1


def words_in(text: str, unique: bool = False) -> int:
    """The number of words, or of different ones."""
    found = re.findall(r"[\w'’-]+(?:[:.]\w+)*", text.lower())
    return len(set(found)) if unique else len(found)


def in_case(text: str, style: str) -> str:
    """A text in upper, lower, title or snake case."""
    if style == "snake":
        return "_".join(re.findall(r"\w+", text.lower().replace("'", "")))
    return {"upper": text.upper(), "lower": text.lower(), "title": string.capwords(text)}[style]


def equal_share(first: Sequence[Any], second: Sequence[Any]) -> float:
    """The share of places where two lists agree."""
    return sum(bool(a == b) for a, b in zip(first, second, strict=True)) / len(first)


def share_below(value: float, among: Sequence[float]) -> float:
    """The share of values that are smaller, in percent."""
    return 100 * sum(other < value for other in among) / len(among)


def total_of(rows: Sequence[Mapping[str, float]], key: str) -> float:
    """The sum of one field of a list of objects."""
    return float(sum(row[key] for row in rows))


def _whole(rng: random.Random, low: float, high: float) -> int:
    return rng.randint(min(int(low), int(high)), int(high))


def _decimal(rng: random.Random, low: float, high: float, places: int) -> float | int:
    return tidy(rng.uniform(low, high), places)


def _cost(rng: random.Random, low: float, high: float) -> float | int:
    """A price between two others; where the upper one is small, between its half and itself."""
    return tidy(rng.uniform(min(low, high / 2), high))


def _clock_before(rng: random.Random, time: str) -> str:
    """A time of day a quarter to a whole hour earlier."""
    minutes = int(time[:2]) * 60 + int(time[3:]) - rng.randint(15, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _clock_after(rng: random.Random, time: str) -> str:
    """A later time of the same day."""
    minutes = int(time[:2]) * 60 + int(time[3:])
    minutes = rng.randint(minutes + 1, min(minutes + 90, 1439))
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _password(rng: random.Random, length: int, symbols: bool | None, exclude: Sequence[str] | None) -> str:
    signs = string.ascii_letters + string.digits + ("!#%+-=?@" if symbols else "")
    allowed = [c for c in signs if c not in (exclude or ())]
    return "".join(rng.choice(allowed) for _ in range(length))


def _some_of(rng: random.Random, items: Sequence[Any]) -> list[Any]:
    chosen = rng.sample(range(len(items)), rng.randint(1, len(items)))
    return [items[i] for i in sorted(chosen)]


def _file_like(rng: random.Random, pattern: str) -> str:
    """A file's name that matches a pattern such as ``*.txt``."""
    name = pattern.replace(".*", ".txt").replace("*", values.make("noun", rng))
    return name if "." in name else f"{name}.txt"


def _shares(rng: random.Random, names: Sequence[str]) -> list[str]:
    """``["12.5 percent opens", …]``."""
    return [f"{_decimal(rng, 1, 60, 1)} percent {name}" for name in names]


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        abs, min, max, sum, len, round, sorted, str, math.ceil, math.sqrt, math.log10, math.gcd, math.comb,
        math.perm, statistics.mean, statistics.median, fact, tidy, significant, power_text, later, days_between,
        workdays_between, weekday, moon, moon_lit, clock, is_prime, factors, in_base, roman, molar_mass, convert,
        temperature, annuity, growth, spread, line, correlation, dice, survey, matches, words_in, in_case,
        equal_share, share_below, total_of,
    )
} | {"gcd_of": lambda numbers: math.gcd(*numbers)}  # fmt: skip
RANDOM: Mapping[str, Callable[..., Any]] = {
    "whole": _whole, "decimal": _decimal, "cost": _cost, "clock_before": _clock_before, "clock_after": _clock_after,
    "password": _password, "some_of": _some_of, "file_like": _file_like, "shares": _shares,
    "pick": lambda rng, *options: rng.choice(options), "any_of": lambda rng, items: rng.choice(items),
    "make": lambda rng, maker: values.make(maker, rng),
    "several": lambda rng, count, maker: values.make(f"list {count} {count} {maker}", rng),
}  # fmt: skip
