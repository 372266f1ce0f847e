"""Bounds of a number that its description says in words ("5 to 30", "at least 3"), where they are the number's own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from callama.synth.schema_said import around, is_of_else, leads_in

_N = r"(-?\d{1,12}(?:,\d{3})*(?:\.\d+)?)(?!\d|[.,]\d|e\d)"
_UNIT = r"(?:\s?(?:%|°\s?[CF]?))?"
_BETWEEN = re.compile(
    rf"(?:\b(?:between|from)\s+{_N}{_UNIT}\s+(?:and|to)\s+{_N}|"
    rf"(?<![\w.,-]){_N}{_UNIT}\s?(?:to|through|–|—|-|\.\.\.?)\s?{_N})(?![\w-]*[A-Za-z\d-])",
    re.IGNORECASE,
)
_LEAST = re.compile(rf"(?:\b(?:at least|min(?:imum)?(?: of| is)?:?|no less than|not less than)|≥|>=)\s*{_N}", re.I)
_MOST = re.compile(rf"(?:\b(?:at most|max(?:imum)?(?: of| is)?:?|up to|no more than|not more than)|≤|<=)\s*{_N}", re.I)
_ABOVE = re.compile(rf"\b(?<!no )(?<!not )(?:greater|more|larger|higher) than\s+{_N}", re.IGNORECASE)
_UNDER = re.compile(rf"\b(?<!no )(?<!not )(?:less|fewer|smaller|lower) than\s+{_N}", re.IGNORECASE)
_ASIDE = re.compile(r"\bdefault(?:s?(?: is| to|:|=)?)?\s*-?[\d.,]*\d|\be\.g\.,?\s*-?[\d.,]*\d", re.IGNORECASE)
# Words beside bounds that speak of nothing else: "a whole number from", "5 to 30 degrees Celsius", "50 items per page".
_BESIDE = tuple(re.findall(
    r"\w+",
    "integer range ranges from positive whole any on scale limit allowed minimum maximum and optional decimal to",
))  # fmt: skip
_TAIL = re.compile(
    r"\s*(?:(?:in\s)?(?!per\b)[\w°%/²³]+)?(?:\s(?:celsius|fahrenheit|inclusive|exclusive|allowed|only|long|max\w*|min\w*|old|"
    r"each|total|returned|to return|per \w+|at once|at a time))*\W*$",
    re.IGNORECASE,
)
_MUST_BE = re.compile(r"\b(?:must|should|has to|needs to|can|may) be\s*$", re.IGNORECASE)
_ENDS_OPEN = re.compile(r"\b(?:of|the|an?|see|than)\s*$", re.IGNORECASE)


def with_bounds_said(words: Sequence[str], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A number's schema with the bounds that its description says, where it has none of its own; ``words`` are those of
    its name. "Orders more than 500 need approval" bounds no amount."""
    if {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"} & schema.keys() or words[-1:] == ["id"]:
        return schema
    text = _ASIDE.sub("", str(schema.get("description", "")))
    found: dict[str, float] = {}
    if (both := _said(_BETWEEN, text, words)) and "ISO" not in text[: both.start()]:
        low, high = (_number(end) for end in both.groups() if end is not None)
        if low < high:
            found = {"minimum": low, "maximum": high}
    else:
        ends = (("minimum", _LEAST), ("maximum", _MOST), ("exclusiveMinimum", _ABOVE), ("exclusiveMaximum", _UNDER))
        found = {key: _number(end[1]) for key, form in ends if (end := _said(form, text, words))}
        least, most = ([found[key] for key in found if key.lower().endswith(end)] for end in ("minimum", "maximum"))
        found = {} if least and most and min(least) >= max(most) else found
    return {**schema, **found}


def _said(form: re.Pattern[str], text: str, words: Sequence[str]) -> re.Match[str] | None:
    """The first bounds of a form that are the value's."""
    return next((found for found in form.finditer(text) if _bounds_it(found, words)), None)


def _bounds_it(found: re.Match[str], words: Sequence[str]) -> bool:
    before, after, first = around(found.string, found.start(), found.end())
    if not _TAIL.match(after) and not any(form.match(after.lstrip()) for form in (_MOST, _UNDER, _LEAST)):
        return False
    before = re.sub("|".join(form.pattern for form in (_LEAST, _ABOVE)), "", before, flags=re.IGNORECASE)
    if leads_in(before, words, _BESIDE) or _MUST_BE.search(before):
        return True
    compares = found.re in (_ABOVE, _UNDER)
    return first and not compares and not is_of_else(before) and not _ENDS_OPEN.search(before)


def _number(text: str) -> float:
    value = float(text.replace(",", ""))
    return int(value) if value == int(value) else value
