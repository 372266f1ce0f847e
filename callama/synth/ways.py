"""Ways in which people bend a sentence: a slip of the pen, a number in words, a day counted from today,
a value said in a sentence of its own. Each keeps the call that is asked for decidable.
"""

from __future__ import annotations

import datetime
import random
import re
from collections.abc import Sequence

from callama.synth.catalogue import ToolSpec, slots
from callama.synth.moments import long_date

NUMBER_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip
# An ordinary word of a template: no slot, no name, no part of a value.
_PLAIN_WORD = re.compile(r"(?<![\w{.'\"/-])[a-z]{5,}(?![\w}.'\"/-]*\})(?![\w'])")
_DAYS = (("today", 0), ("tomorrow", 1), ("tomorrow", 1), ("the day after tomorrow", 2))
_ON_DAY = re.compile(r"\b([Oo])n (today|tomorrow|the day after tomorrow)\b")


def misspelt(word: str, rng: random.Random) -> str:
    """A word with two letters swapped, one doubled or one left out; the first letter stays.

    Args:
        word: of at least four letters.
    """
    spots = [i for i in range(1, len(word) - 1) if word[i].isalpha() and word[i + 1].isalpha()]
    at = rng.choice(spots)
    kinds = (
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        word[:at] + word[at] + word[at:],
        word[:at] + word[at + 1 :],
    )
    return next(w for w in rng.sample(kinds, len(kinds)) if w != word)


def with_slip(template: str, rng: random.Random) -> str:
    """A template with one ordinary word misspelt; its slots stay."""
    words = list(_PLAIN_WORD.finditer(template))
    if not words:
        return template
    word = rng.choice(words)
    return template[: word.start()] + misspelt(word[0], rng) + template[word.end() :]


def number_word(value: object, before: str, behind: str) -> str | None:
    """``3`` as "three" where that can stand: not in "3%", "#3", "3-day" or "v3"."""
    if isinstance(value, bool) or not isinstance(value, int) or not 2 <= value < len(NUMBER_WORDS):
        return None
    if re.search(r"[\w$€£#/.:(-]$", before) or re.match(r"[\w%°/:x-]|\.\d| ?[x°%]", behind):
        return None
    return NUMBER_WORDS[value]


def from_today(template: str, path: str, date: str, rng: random.Random) -> str:
    """A template whose date is counted from today, and today is said: ``It is 2025-03-14 today. … tomorrow``."""
    said, days = rng.choice(_DAYS)
    today = (datetime.date.fromisoformat(date) - datetime.timedelta(days)).isoformat()
    opening = rng.choice(("Today is {}.", "It is {} today.", "It's {} today.")).format(
        long_date(today) if rng.random() < 0.4 else today
    )
    text = _ON_DAY.sub(lambda m: m[2] if m[1] == "o" else m[2].capitalize(), template.replace(f"{{{path}}}", said))
    return f"{opening} {text[:1].upper()}{text[1:]}"


def in_two_sentences(spec: ToolSpec, rng: random.Random) -> str:
    """A template that leaves a value out and adds it behind: ``Book a table on {date}. For {party_size} people.``

    Empty if the catalogue has no sentences for that.
    """
    found = [
        (request, reply)
        for gap in spec.missing.values()
        for reply in gap.replies
        if _is_told(reply)
        for request in gap.requests
    ]
    if not found:
        return ""
    request, reply = rng.choice(found)
    return f"{request}{'' if request[-1:] in '.!?' else '.'} {reply}"


def _is_told(reply: str) -> bool:
    """Whether a reply can stand behind a request: a sentence with words of its own, "please" not among them."""
    return reply.endswith(".") and not reply.startswith(("{", "It's {")) and "please" not in reply


def date_slots(spec: ToolSpec, template: str) -> Sequence[str]:
    """The slots of a template that hold a date."""
    return [p for p in slots(template) if p in spec.leaves and spec.leaves[p].get("format") == "date"]
