"""The grounding audit: can each argument of a call be derived from the dialogue before it?

An argument counts as derivable if it stands there as it is, in another case or spelling, as a
reformatted number, date, time or currency, if most of its words were said, or if nothing had to be
derived (a value of the schema's enum, its default, a boolean). Short codes (``AAPL`` for Apple) need
knowledge from outside and are counted apart. The audit errs on the side of trust: what it calls
ungrounded was, most likely, made up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from callama.contract.jsontext import dumps
from callama.contract.messages import Conversation, Message

Ground = Literal["verbatim", "reformatted", "words", "choice", "code", "ungrounded"]
GROUNDS: tuple[Ground, ...] = ("verbatim", "reformatted", "words", "choice", "code", "ungrounded")
# Of a text's words, so many must have been said: the rest are articles, endings and glue.
SAID_SHARE = 0.75
_WORD = re.compile(r"[^\W_]+")
_NUMBER = re.compile(r"\d+(?:[,\u202f ]\d{3})*(?:\.\d+)?")
_DATE = re.compile(r"\b(\d{4})-(\d{1,2})-(\d{1,2})\b")
_TIME = re.compile(r"\b(\d{1,2}):(\d{2})(?::\d{2})?\b")
# A ticker, a country, a language, a unit: "AAPL", "CN", "fr", "C".
_CODE = re.compile(r"[A-Z]{1,5}|[a-z]{2}|[a-z]{2}-[A-Z]{2}")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_RELATIVE_DAYS = frozenset(("today", "tomorrow", "tonight", "yesterday", "now", "monday", "tuesday", "wednesday",
                            "thursday", "friday", "saturday", "sunday", "week", "weekend", "month"))  # fmt: skip
_NUMBER_WORDS = {
    word: value
    for value, words in {
        0: "zero", 1: "one a an single once", 2: "two twice couple", 3: "three", 4: "four", 5: "five", 6: "six",
        7: "seven", 8: "eight", 9: "nine", 10: "ten", 11: "eleven", 12: "twelve dozen", 13: "thirteen",
        14: "fourteen", 15: "fifteen", 16: "sixteen", 17: "seventeen", 18: "eighteen", 19: "nineteen",
        20: "twenty", 30: "thirty", 40: "forty", 50: "fifty", 60: "sixty", 70: "seventy", 80: "eighty",
        90: "ninety", 100: "hundred", 1000: "thousand", 1_000_000: "million", 0.5: "half",
    }.items()
    for word in words.split()
}  # fmt: skip
_CURRENCIES = {
    "usd": ("dollar", "$"), "eur": ("euro", "€"), "gbp": ("pound", "£"), "jpy": ("yen", "¥"), "inr": ("rupee", "₹"),
    "cny": ("yuan", "renminbi"), "cad": ("canadian",), "aud": ("australian",), "chf": ("franc",), "krw": ("won", "₩"),
    "mxn": ("peso",), "rub": ("ruble", "rouble"), "brl": ("real",), "btc": ("bitcoin",),
}  # fmt: skip


class Audited(NamedTuple):
    """One scalar argument of a call: ``path`` as ``filters.city`` or ``names[]``."""

    function: str
    path: str
    value: Any
    ground: Ground


def audit(conversation: Conversation) -> list[Audited]:
    """Audits every scalar argument of every call, in order."""
    if not any(message.tool_calls for message in conversation.messages):
        return []
    schemas = {tool.name: tool.parameters for tool in conversation.tools}
    out: list[Audited] = []
    for index, message in enumerate(conversation.messages):
        if message.tool_calls:
            said = _Said(conversation.messages[:index], message.content)
            for call in message.tool_calls:
                for path, value, schema in _leaves(call.arguments, schemas[call.name]):
                    out.append(Audited(call.name, path, value, _ground(value, schema, said)))
    return out


def _leaves(arguments: dict[str, Any], schema: dict[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    pending: list[tuple[str, Any, Any]] = [("", arguments, schema)]
    while pending:
        path, value, schema = pending.pop()
        schema = schema if isinstance(schema, dict) else {}
        if isinstance(value, dict):
            declared = schema.get("properties", {})
            pending += [(f"{path}.{k}" if path else k, v, declared.get(k)) for k, v in reversed(value.items())]
        elif isinstance(value, list):
            pending += [(f"{path}[]", item, schema.get("items")) for item in reversed(value)]
        else:
            yield path, value, schema


class _Said:
    """The dialogue before a call, prepared for look-ups only as far as they are needed."""

    def __init__(self, messages: Sequence[Message], announcement: str | None) -> None:
        self._messages, self._announcement = messages, announcement

    @cached_property
    def text(self) -> str:
        """Everything in lower case. System text counts: it may hold the date or the user's name."""
        parts = [message.content or "" for message in self._messages]
        parts += [dumps(call.arguments) for message in self._messages for call in message.tool_calls]
        return "\n".join([*parts, self._announcement or ""]).lower()

    @cached_property
    def words(self) -> frozenset[str]:
        """All words, and their stems without a plural's or verb's ending."""
        words = set(_WORD.findall(self.text))
        return frozenset(words | {_stem(word) for word in words})

    @cached_property
    def joined(self) -> str:
        """All words without anything between them."""
        return "".join(_WORD.findall(self.text))

    @cached_property
    def numbers(self) -> frozenset[float]:
        """All numbers, in digits or words."""
        found = {float(re.sub(r"[,\u202f ]", "", digits)) for digits in _NUMBER.findall(self.text)}
        # "1 500" may also be two numbers, and "10k" is a thousand times ten.
        found |= {float(part) for digits in _NUMBER.findall(self.text) for part in re.split(r"[,\u202f ]", digits)}
        found |= {n * 1000 for n in found if f"{n:g}k" in self.text}
        named = [float(_NUMBER_WORDS[word]) for word in _WORD.findall(self.text) if word in _NUMBER_WORDS]
        found.update(named)
        # "twenty five", "two hundred", "5 million"
        found |= {a + b for a, b in pairwise(named) if a >= 20 > b}
        scales = [scale for scale in (100.0, 1000.0, 1_000_000.0) if scale in named]
        found |= {n * scale for scale in scales for n in list(found) if n < 1000}
        return frozenset(found)


def _stem(word: str) -> str:
    for ending in ("ing", "ies", "es", "ed", "s"):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            return word[: -len(ending)]
    return word


def _ground(value: Any, schema: dict[str, Any], said: _Said) -> Ground:
    if value is None or isinstance(value, bool) or value == "":
        return "choice"
    if _contains(said.text, value.lower() if isinstance(value, str) else repr(value)):
        return "verbatim"
    # "default" may hold any JSON; 1 and True are equal to Python but no such value comes here.
    if value in schema.get("enum", ()) or ("default" in schema and value == schema["default"]):
        return "choice"
    if "const" in schema:
        return "choice"
    if not isinstance(value, str):
        return "reformatted" if not said.numbers.isdisjoint(_number_forms(value)) else "ungrounded"
    ground = _ground_text(value.lower(), said)
    return "code" if ground == "ungrounded" and _CODE.fullmatch(value) else ground


def _contains(text: str, value: str) -> bool:
    """Whether a value stands in a text, and not only inside a longer word or number."""
    start = text.find(value)
    while start >= 0:
        end = start + len(value)
        before, behind = text[start - 1 : start], text[end : end + 1]
        if not (before.isalnum() and value[0].isalnum()) and not (behind.isalnum() and value[-1].isalnum()):
            return True
        start = text.find(value, start + 1)
    return False


def _number_forms(value: float) -> set[float]:
    """What may have been said in place of a number: its percentage, its fraction, its positive form."""
    try:
        number = abs(float(value))
    except OverflowError:  # a whole number of hundreds of digits
        return set()
    return {number, round(number * 100, 6), round(number / 100, 6)}


def _ground_text(value: str, said: _Said) -> Ground:
    words = _WORD.findall(value)
    if not words:
        return "ungrounded"
    if _said_without_spaces(words, said) or _said_as_currency(value, said):
        return "reformatted"
    if _DATE.search(value) or _TIME.search(value):
        return "reformatted" if _said_as_time(value, said) else "ungrounded"
    if re.fullmatch(r"[\d.,]+", value):
        try:
            return "reformatted" if float(value.replace(",", "")) in said.numbers else "ungrounded"
        except ValueError:
            return "ungrounded"
    missing = [word for word in words if not _word_said(word, said)]
    return "words" if len(missing) <= (1 - SAID_SHARE) * len(words) else "ungrounded"


def _word_said(word: str, said: _Said) -> bool:
    if word in said.words or _stem(word) in said.words:
        return True
    return word.isdigit() and len(word) < 16 and float(word) in said.numbers


def _said_without_spaces(words: Sequence[str], said: _Said) -> bool:
    """``new_york`` for "New York", ``5551234567`` for "555-123-4567", ``john.doe`` for "John Doe"."""
    joined = "".join(words)
    return len(joined) > 2 and joined in said.joined


def _said_as_currency(value: str, said: _Said) -> bool:
    signs = _CURRENCIES.get(value, ())
    return any(sign in said.text for sign in signs)


def _said_as_time(value: str, said: _Said) -> bool:
    """Whether a date's day and month, and a time's hour, were said in any spelling."""
    for _, month, day in _DATE.findall(value):
        if said.words & _RELATIVE_DAYS:
            continue
        # A month without a day ("in May") gives a date at its start or end.
        named = 1 <= int(month) <= 12 and any(word.startswith(_MONTHS[int(month) - 1]) for word in said.words)
        ordinal = f"{int(day)}" in said.words or f"{day}" in said.words or _ordinal(int(day)) in said.words
        if not ((named and (ordinal or int(day) in (1, 28, 29, 30, 31))) or (ordinal and float(month) in said.numbers)):
            return False
    for hour, minute in _TIME.findall(value):
        of_day = int(hour)
        hours = {of_day, of_day % 12 or 12}
        midnight = of_day == 0 and int(minute) == 0
        spoken = {"noon"} if of_day == 12 else {"midnight"} if of_day in (0, 24) else set()
        spoken |= {f"{h}{half}" for h in hours for half in ("am", "pm")} | {str(h) for h in hours}
        if not midnight and not spoken & said.words and not {float(h) for h in hours} & said.numbers:
            return False
    return True


def _ordinal(day: int) -> str:
    ending = "th" if 10 <= day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{ending}"
