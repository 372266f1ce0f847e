"""Formulas agree with what they stand for, use nothing but their own small language, and say where they fail."""

from __future__ import annotations

import datetime
import math
import random
import re
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callama.common.errors import CallamaError
from callama.synth import words
from callama.synth.catalogue import invent, load_catalogue
from callama.synth.facts import fact
from callama.synth.formulas import names_in, work_out
from callama.synth.speech import ask, put
from callama.synth.stage import result_of
from callama.synth.truths import correlation, dice, factors, in_base, is_prime, moon, roman, temperature

_RNG = random.Random(1)


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("tidy(wall.width * 2, 1)", 5), ("(coats or 3) + 1", 4), ("'yes' if wall.width > 2 else 'no'", "yes"),
        ("{'a': 1, 'b': 2}[kind]", 2), ("len(list) - sum(list or [])", -1), ("abs(0 - 3) ** 2 // 2 % 3", 1),
        ("kind and coats", None),
    ],
)  # fmt: skip
def test_formulas(formula: str, value: object) -> None:
    known = {"wall.width": 2.5, "kind": "b", "list": [1, 2]}
    assert work_out(formula, known, _RNG) == value


@pytest.mark.parametrize(
    "formula",
    ["1 +", "().__class__", "(lambda: 1)()", "[x for x in list]", "__import__('os')", "f'{kind}'", "1 / 0", "kind(1)"],
)
def test_nothing_else_can_stand_in_a_formula(formula: str) -> None:
    with pytest.raises(CallamaError, match="cannot be worked out"):
        work_out(formula, {"kind": "b", "list": [1]}, _RNG)


def test_names() -> None:
    assert names_in("whole(low, wall.width) if unit == 'm' else {'a': b}[c]") == {"low", "wall.width", "unit", "b", "c"}


@given(st.integers(1, 3999), st.integers(2, 36))
def test_numbers_in_other_writings(number: int, base: int) -> None:
    assert int(in_base(number, base), base) == number
    values = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
    letters = [values[c] for c in roman(number)]
    assert sum(-a if a < b else a for a, b in zip(letters, [*letters[1:], 0], strict=True)) == number


@given(st.integers(2, 20000))
def test_factors(number: int) -> None:
    assert math.prod(factors(number)) == number
    assert all(is_prime(f) for f in factors(number))
    assert is_prime(number) is (len(factors(number)) == 1)


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=3, max_size=6))
def test_correlation(pairs: list[tuple[int, int]]) -> None:
    xs, ys = list(dict.fromkeys(x for x, _ in pairs)), list(dict.fromkeys(y for _, y in pairs))
    count = min(len(xs), len(ys))
    if count < 2:
        return
    xs, ys = xs[:count], ys[:count]
    assert correlation(xs, ys) == pytest.approx(statistics.correlation(xs, ys))
    for method in ("spearman", "kendall"):
        assert correlation(xs, [x * x + x for x in xs], method) == pytest.approx(1)
        assert correlation(xs, [-x for x in xs], method) == pytest.approx(-1)


def test_known_values() -> None:
    assert dice(2, 7, 6, True) == pytest.approx(1 / 6)
    assert dice(2, 11) == pytest.approx(3 / 36)
    assert temperature(212, "fahrenheit", "kelvin") == pytest.approx(373.15)
    # Of the almanac: a full moon on 2025-03-14, a new one on 2025-03-29.
    assert (moon("2025-03-14"), moon("2025-03-29")) == ("full moon", "new moon")
    assert (fact("capital", "Italy"), fact("capital", "Velmara")) == ("Rome", None)


def test_the_facts_are_complete() -> None:
    for kind, names in (
        ("capital", words.COUNTRIES), ("country_of", words.CITIES), ("height_m", words.MOUNTAINS),
        ("length_km", words.RIVERS), ("per_dollar", words.CURRENCIES),
    ):  # fmt: skip
        assert all(fact(kind, name) for name in names), kind


def test_results_agree_with_the_request() -> None:
    specs = {s.name: s for s in load_catalogue().specs}

    def played(name: str) -> tuple[dict[str, object], dict[str, object]]:
        asked = ask(specs[name], rng)
        return dict(asked.flat), result_of(asked, rng)

    for seed in range(60):
        rng = random.Random(seed)
        flat, result = played("stats.mean")
        assert result["mean"] == pytest.approx(statistics.mean(flat["numbers"]), abs=0.006)  # type: ignore[arg-type]
        flat, result = played("dilute_solution")
        assert result["stock_ml"] + result["water_ml"] == pytest.approx(flat["volume_ml"], abs=0.2)  # type: ignore[operator]
        flat, result = played("wine_pairing")
        assert result["price"] <= flat.get("budget", 60)  # type: ignore[operator]
        flat, result = played("cinema.showtimes")
        assert result["film"] == flat.get("film", result["film"])
        assert str(result["at"]) > str(flat.get("after", ""))
        flat, result = played("fixtures.list")
        assert str(result["on"]) >= str(flat.get("from_date", ""))
        _, result = played("today")
        assert f"{datetime.date.fromisoformat(str(result['date'])):%A}" == result["weekday"]
        flat, result = played("password.generate")
        assert len(str(result["password"])) == flat["length"]


@pytest.mark.parametrize(
    ("unit", "include_end", "length"),
    [("days", True, 8), ("days", None, 7), ("weeks", True, 1.1), ("weeks", None, 1), ("workdays", True, 5),
     (None, None, 7)],
)  # fmt: skip
def test_the_last_day_is_a_day(unit: str | None, include_end: bool | None, length: float) -> None:
    """From a Sunday to a Sunday: a day more, no week, and no workday."""
    spec = next(s for s in load_catalogue().specs if s.name == "date_difference")
    flat = {"start": "2025-03-02", "end": "2025-03-09", "unit": unit, "include_end": include_end}
    assert invent(spec, flat, _RNG)["length"] == length
    assert invent(spec, {**flat, "end": "2025-03-10", "unit": "workdays"}, _RNG)["length"] == 5 + bool(include_end)


def test_dice_that_need_not_show_the_very_sum_are_asked_so() -> None:
    spec = next(s for s in load_catalogue().specs if s.name == "DiceOdds")
    asked = [*spec.requests, *spec.missing["Dice"].requests]
    assert all(re.search(r"reach|need", text) for text in asked)


@pytest.mark.parametrize(
    ("article", "words_"),
    [
        ("an", ["apple", "hour", "MX", "AAAA", "8", "18", "11.7", "onion", "umbrella", "FM-12", "80", "11500"]),
        ("a", ["unit", "user", "one", "euro", "house", "1", "180", "UTC", "B", "useful", "U6", "Uruguay"]),
    ],
)
def test_articles(article: str, words_: list[str]) -> None:
    for word in words_:
        assert put("It is a {x}.", lambda _, w=word: w) == f"It is {article} {word}."  # type: ignore[misc]
    assert put("Via {x}", lambda _: "Oslo") == "Via Oslo"
