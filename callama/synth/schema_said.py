"""Whether a description says that its value *is* something ("Name, in lowercase", "Code (six digits)") or only mentions
it ("Address with 5-digit zip code", "Use YYYY-MM-DD for dates").

What is said of the value stands alone in its clause, but for words that lead it in and the parameter's own name, or
behind the noun that the description begins with. What does neither is of something else, and decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Where a clause begins, and where it ends: a colon belongs to what it leads in ("Format: YYYY").
_BEGINS = re.compile(
    r"[;(\n]|,(?!\d{3})|[.!?](?=\s+\S)|\s[-–—]\s|\b(?:and|but)\s+(?=at (?:least|most)\b|(?:not? )?\w+ than\b)"
)
_ENDS = re.compile(rf"[):]|[.!?](?=\s|$)|{_BEGINS.pattern}")
_LEADS = frozenset(re.findall(
    r"\w+",
    "in as is be are must should shall the a an of form format formatted written given use using only always exactly "
    "value it this valid expected required string code number iso 8601",
))  # fmt: skip
_LED = re.compile(
    r"\b(?:in|as|format|form|using|is|be|formatted|written)(?:\s(?:in|as|the|an?|form|format|of|all|only|valid))*\W*$",
    re.IGNORECASE,
)
_OF_ELSE = re.compile(
    r"\b(?:not|never|no|without|or|with|where|whose|if|when|contain\w*|includ\w*|incl|follow\w*)\b|n't\b", re.IGNORECASE
)
# What may stand behind a form that is the value's: "in lowercase without spaces", "DD.MM.YYYY format".
_NOTHING_ELSE = re.compile(
    r"[\s'\"`]*(?:format|form|notation|style|string|long|only|please)?\W*$|\s+with(?:out)?\b", re.IGNORECASE
)
_OF_IT = re.compile(
    r"(?:[ -]?v\d| string| format| value)?(?:\s(?:of|for|that|which|to|as|in|from|identifying)\b(?!.*\bor\b)|\W*$)",
    re.I,
)
_OR_ELSE = re.compile(r",[^.;]*\bor\b", re.IGNORECASE)


def around(text: str, start: int, end: int) -> tuple[str, str, bool]:
    """What stands before and behind a place in its clause, and whether the clause is the first."""
    begins = [found.end() for found in _BEGINS.finditer(text, 0, start)]
    ends = _ENDS.search(text, end)
    return text[begins[-1] if begins else 0 : start], text[end : ends.start() if ends else len(text)], not begins


def leads_in(before: str, words: Sequence[str], more: Sequence[str] = ()) -> bool:
    """Whether nothing but words that lead in, and the parameter's own, stand before something in its clause."""
    return {*re.findall(r"[^\W_]+", before.lower())} <= {*_LEADS, *words, *more}


def is_of_else(before: str) -> bool:
    """Whether words in front make something a mention: a part of the value, a denial, one of several."""
    return bool(_OF_ELSE.search(before))


def is_form_of_all(found: re.Match[str], words: Sequence[str]) -> bool:
    """Whether a form (a date's, letters of one case) is said to be the whole value's."""
    before, after, first = around(found.string, found.start(), found.end())
    if not _NOTHING_ELSE.match(after):
        return False
    return leads_in(before, words) or (first and bool(_LED.search(before)) and not is_of_else(before))


def is_kind_of_all(found: re.Match[str], words: Sequence[str]) -> bool:
    """Whether a noun ("UUID") is said to be what the value is: "Session UUID", "UUID of the user"."""
    before, after, first = around(found.string, found.start(), found.end())
    if not _OF_IT.match(after) or _OR_ELSE.match(found.string, found.end()):
        return False
    named = first and not is_of_else(before) and not re.search(r"\b(?:and|that|to)\b", before)
    return named or leads_in(before, words, ("unique",))
