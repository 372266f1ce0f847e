"""A form or a bound counts where the description says that the value is that, not where it names one in passing."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from callama.synth.moments import are_in_order
from callama.synth.own import _after
from callama.synth.schema_makers import SCHEMA, maker_of
from callama.synth.values import make

STRING = {"type": "string"}


def values_of(name: str, schema: dict[str, Any]) -> set[Any]:
    rng = random.Random(1)
    return {make(maker_of(name, schema), rng) for _ in range(60)}


@pytest.mark.parametrize(
    ("name", "description", "form"),
    [
        ("date", "Date in M/D/YYYY", r"[1-9]\d?/[1-9]\d?/\d{4}"),
        ("date", "Date of the event, M/D/YYYY", r"[1-9]\d?/[1-9]\d?/\d{4}"),
        ("birthday", "D MMM YYYY", r"[1-9]\d? [A-Z][a-z]{2} \d{4}"),
        ("date", "Date, like MMMM D, YYYY", r"[A-Z][a-z]+ [1-9]\d?, \d{4}"),
        ("date", "d.M.yyyy", r"[1-9]\d?\.[1-9]\d?\.\d{4}"),
        ("date", "Date, not DD/MM/YYYY but YYYY-MM-DD", r"\d{4}-\d\d-\d\d"),
        ("start", "Start of the trip (format: DD.MM.YYYY)", r"\d\d\.\d\d\.\d{4}"),
        ("deadline", "Deadline of the task in DD-MM-YYYY format", r"\d\d-\d\d-\d{4}"),
        ("due", "When it is due. Must be given as YYYY/MM/DD.", r"\d{4}/\d\d/\d\d"),
        ("valid", "The day until which it holds, formatted as DD.MM.YYYY", r"\d\d\.\d\d\.\d{4}"),
        ("expiry", "Card expiry MM/YY", r"\d\d/\d\d"),
        ("start_time", "ISO 8601, YYYY-MM-DDTHH:MM:SS±HH:MM", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"),
        ("start_time", "YYYY-MM-DDTHH:MM:SS+02:00", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+02:00"),
        ("start_time", "YYYY-MM-DDTHH:MM:SS.sssZ", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z"),
        ("time", "h:mm AM/PM", r"[1-9]\d?:\d\d [AP]M"),
        ("code", "6-digit code", r"\d{6}"),
        ("otp", "The 6-digit code sent by SMS", r"\d{6}"),
        ("otp", "4 to 6 digit one-time password", r"\d{6}"),
        ("account_number", "The customer's 10-digit account number", r"\d{10}"),
        ("reference", "Booking reference: six letters", r"[A-Z]{6}"),
        ("zip", "5-digit zip code", r"\d{5}"),
        ("phone", "Phone number with 10 digits", r"\d{10}"),
        ("phone", "10-digit phone number", r"\d{10}"),
        ("card_number", "Credit card number (16 digits)", r"\d{16}"),
        ("card", "Last four digits of the card", r"\d{4}"),
        ("plate", "Two letters followed by four digits", r"[A-Z]{2}\d{4}"),
        ("country", "Country as two-letter code", r"DE|FR|[A-Z]{2}"),
        ("country", "Two-letter code of the country", r"DE|FR|[A-Z]{2}"),
        ("country", "Country code (two letters)", r"DE|FR|[A-Z]{2}"),
        ("state", "Two letter abbreviation", r"CA|NY|[A-Z]{2}"),
        ("session", "Session UUID", r"[0-9a-f]{8}-[0-9a-f-]{27}"),
        ("user", "UUID of the user", r"[0-9a-f]{8}-[0-9a-f-]{27}"),
        ("job", "Unique identifier (UUID v4)", r"[0-9a-f]{8}-[0-9a-f-]{27}"),
        ("ticker", "Ticker symbol in uppercase", r"[A-Z]+"),
        ("symbol", "Stock symbol, uppercase letters", r"[A-Z]+"),
        ("city", "Name of the city, in lowercase without spaces", r"[^A-Z]+"),
        ("name", "Lowercase name of the package", r"[^A-Z]+"),
        ("country", "Country, uppercase ISO 3166-1 alpha-2", r"[A-Z]{2}"),
        ("label", "The label. Must be lowercase.", r"[^A-Z]+"),
        ("timestamp", "Unix timestamp", r"17\d{8}"),
    ],
)
def test_a_form_counts_where_the_value_is_said_to_be_that(name: str, description: str, form: str) -> None:
    made = values_of(name, {**STRING, "description": description})
    assert all(re.fullmatch(form, text) for text in made), made
    assert len(made) > 5


@pytest.mark.parametrize(
    ("name", "description", "maker"),
    [
        ("address", "Address with 5-digit zip code", "street"),
        ("address", "Address incl. 5 digit ZIP", "street"),
        ("address", "Street and number, 5-digit zip code, city", "street"),
        ("city", "City, followed by two-letter country code", "city"),
        ("city", "City name or IATA code", "city"),
        ("location", "City name and 2-letter country code separated by a comma", "city"),
        ("name", "Name, at least two letters", "two_words"),
        ("name", "Name with minimum three letters", "two_words"),
        ("username", "3 to 12 letters", "username"),
        ("username", "Username with up to 12 letters", "username"),
        ("password", "At least one lowercase letter and 3 digits", "two_words"),
        ("password", "Password; must contain lowercase, uppercase and 8 digits", "two_words"),
        ("comment", "Comment with at most 500 letters; 3 letters minimum", "message"),
        ("time", "Time, two digits for hours", "time"),
        ("card", "Card with 3-digit CVV", "two_words"),
        ("message", "Message text; use YYYY-MM-DD for dates", "message"),
        ("title", "Title. The date YYYY-MM-DD is added", "title"),
        ("query", "Search. Dates are written YYYY-MM-DD", "two_words"),
        ("filename", "File with a date like YYYY-MM-DD in its name", "filename"),
        ("text", "Text (dates: YYYY-MM-DD)", "message"),
        ("query", "Query; UUID is not accepted", "two_words"),
        ("name", "Name or UUID of the user", "two_words"),
        ("customer", "Customer (UUID or email)", "full_name"),
        ("message", "The message. Do not write in uppercase", "message"),
        ("message", "The message, never all caps", "message"),
        ("name", "Not in lowercase", "two_words"),
        ("city", "City, first letter in uppercase", "city"),
        ("name", "Name with first letter uppercase", "two_words"),
        ("text", "Text whose uppercase letters are counted", "message"),
        ("text", "The text to be put in lowercase", "message"),
        ("text", "Text, lowercase or uppercase", "message"),
        ("title", "Title; lowercase is fine", "title"),
        ("os", "Operating system, unix time of day", "two_words"),
        ("query", "ISBN, title or author", "two_words"),
        ("query", "ISBN or title", "two_words"),
        ("username", "Name, must match the regex ^[a-z]+$", "username"),
        ("prompt", "Prompt for a model that answers with a JSON object", "two_words"),
    ],
)
def test_a_form_that_is_named_in_passing_decides_nothing(name: str, description: str, maker: str) -> None:
    assert maker_of(name, {**STRING, "description": description}) == maker


def test_the_rest_of_a_date_that_cannot_be_read_is_no_date() -> None:
    assert maker_of("date", {**STRING, "description": "January the D, YYYY"}) == SCHEMA


@pytest.mark.parametrize("form", ["%-m/%-d/%Y", "%-d %b %Y", "%B %-d, %Y"])
def test_ends_are_behind_starts_in_forms_without_zeros(form: str) -> None:
    rng, later = random.Random(1), _after("start", f"moment_as {form}")
    assert later == f"later_date start 1 14 {form}"
    for _ in range(100):
        start = make(f"moment_as {form}", rng)
        end = make(later, rng, {"start": start})
        assert are_in_order("later_date", later.split(" ")[1:], start, end)


@pytest.mark.parametrize(
    ("name", "description", "low", "high"),
    [
        ("quantity", "Number of items, between 1 and 100", 1, 100), ("rating", "1-5 stars", 1, 5),
        ("rating", "Rating from 1 to 5", 1, 5), ("days", "Number of days of forecast (1-16)", 1, 16),
        ("limit", "Max 50 results, default 10", 1, 50), ("limit", "Maximum of 5000 rows", 1, 5000),
        ("limit", "How many results to return, up to 50", 1, 50), ("limit", "Up to 100 items per page", 1, 100),
        ("seats", "between 1 and 10 inclusive", 1, 10), ("size", "min 2 max 6", 2, 6),
        ("size", "At least 2 and no more than 6", 2, 6), ("count", "How many, no more than 3 per order", 1, 3),
        ("level", "Level, 0..10", 0, 10), ("temperature", "Temperature from -10 to 40 °C", -10, 40),
        ("heat", "Target, 5 to 30 degrees Celsius", 5, 30), ("age", "Age in years, at least 18", 18, 118),
        ("volume", "Volume level. Must be between 0 and 11.", 0, 11), ("amount", "Must be greater than 3", 4, 104),
        ("people", "The number of guests must be less than 20", 1, 19), ("percent", "Percent, 0-100%", 0, 100),
        ("count", "Number greater than 5 and less than 9", 6, 8), ("quantity", "Pack of 6 to 12, up to 5 packs", 1, 5),
    ],
)  # fmt: skip
def test_bounds_count_where_they_are_the_numbers(name: str, description: str, low: int, high: int) -> None:
    made = values_of(name, {"type": "integer", "description": description})
    assert all(low <= value <= high for value in made) and len(made) >= 3
    assert len(made) > 5 or {low, high} <= made


@pytest.mark.parametrize(
    ("name", "description"),
    [
        ("price", "Price, from 5 to 10 per cent off"), ("amount", "Amount. Orders more than 500 need approval"),
        ("amount", "Orders more than 500 need approval"), ("amount", "Amount; fewer than 10 items ship free"),
        ("weight", "Weight in kg; more than 30 kg costs extra"), ("order", "ID of the order, see RFC 2119-2120"),
        ("order_id", "ID of the order from 2024 to 2025"), ("when", "Year of the 1914-1918 war"),
        ("max_length", "Maximum length; text between 1 and 100 characters"), ("count", "more than 1e9"),
        ("employees", "Companies with more than 50 employees"), ("fee", "Not needed if the total is at least 40"),
    ],
)  # fmt: skip
def test_bounds_of_something_else_bound_nothing(name: str, description: str) -> None:
    for kind in ("integer", "number"):
        schema = {"type": kind}
        assert maker_of(name, {**schema, "description": description}) == maker_of(name, schema)


@pytest.mark.parametrize(
    ("name", "description", "is_moment"),
    [
        ("timestamp", "", True), ("created", "When it was created", True), ("sent_at", "Time of sending", True),
        ("start_at", "Unix epoch", True), ("created", "Creation date", True),
        ("timestamp", "Position in the video in seconds", False), ("start_at", "Offset in seconds", False),
        ("timestamp", "Timestamp in the video in seconds", False), ("created", "Number of created items", False),
        ("look_at", "Where to look", False), ("looked_at", "Shelf looked at", False),
    ],
)  # fmt: skip
def test_a_whole_number_is_a_moment_where_nothing_else_is_said(name: str, description: str, is_moment: bool) -> None:
    assert (maker_of(name, {"type": "integer", "description": description}) == "unix_time 1") == is_moment


@pytest.mark.parametrize("name", ["rate", "interest_rate", "threshold", "height", "weight", "max_weight"])
def test_what_is_measured_has_decimals_at_times(name: str) -> None:
    assert any(isinstance(value, float) for value in values_of(name, {"type": "number"}))
    assert any(isinstance(value, float) for value in values_of(name, {"type": "number", "minimum": 0}))
    for whole in ({"type": "integer"}, {"type": "number", "description": "A whole number"},
                  {"type": "number", "default": 50}):  # fmt: skip
        assert all(isinstance(value, int) for value in values_of(name, whole))
    assert all(isinstance(value, int) for value in values_of("heart_rate", {"type": "number"}))
