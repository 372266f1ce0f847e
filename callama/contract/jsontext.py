"""JSON text under one strict reading: no NaN, no infinity, no repeated keys, no lone surrogates.

Python's reader accepts all four; other readers do not, so a value that only Python can read would
train a model to write what nobody can parse. Depth is bounded by a number, not by Python's stack,
so that what is readable never depends on who asks.
"""

from __future__ import annotations

import json
from functools import lru_cache
from math import isinf
from typing import Any, NoReturn

from callama.common.errors import CallamaError

MAX_TEXT_CHARS = 1_000_000
MAX_NESTING = 200
# What stands around a value in a call ({"tool_uses": [{"parameters": …}]}) or in a list of results.
_MAX_WRAPPING = 4
_REMEMBERED_CHARS = 16_384
_CONTAINERS = (dict, list, tuple)


def _refuse_constant(word: str) -> NoReturn:
    raise CallamaError(f"{word} is not JSON")


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A decoder's hook for objects.

    Raises:
        CallamaError: a key occurs twice; Python's own reader would keep the last value in silence.
    """
    out = dict(pairs)
    if len(out) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise CallamaError(f"the key {key[:80]!r} occurs twice")
            seen.add(key)
    return out


def _finite(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise CallamaError(f"cannot be written as JSON: {digits[:40]} is beyond the range of numbers")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=unique_keys)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def _check_nesting(value: Any, limit: int) -> None:
    level, depth = [value], 0
    while level:
        if depth > limit:
            raise CallamaError(f"nested more than {limit} deep")
        level = [c for v in level if isinstance(v, _CONTAINERS) for c in (v.values() if isinstance(v, dict) else v)]
        depth += 1


def check_json(value: Any, limit: int = MAX_NESTING) -> None:
    """Makes sure that ``dumps`` can write a value and every JSON reader can read what it wrote.

    Raises:
        CallamaError: NaN, infinity, a lone surrogate, something that JSON does not know, or
            nesting beyond ``limit``.
    """
    _check_nesting(value, limit)
    text = dumps(value)
    try:
        text.isascii() or text.encode("utf-8")
    except UnicodeEncodeError:
        raise CallamaError("not Unicode: a lone surrogate") from None


def loads_strict(text: str) -> Any:
    """Parses one JSON value.

    Raises:
        CallamaError: not JSON by RFC 8259, a repeated key, nested too deeply, a number that is
            not finite, a lone surrogate, or more than a million characters.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise CallamaError(f"JSON text of {len(text):,} characters; the limit is {MAX_TEXT_CHARS:,}")
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise CallamaError(f"not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise CallamaError(f"nested more than {MAX_NESTING} deep") from None
    except ValueError:
        raise CallamaError("not readable: an integer of thousands of digits") from None
    # The decoder has refused all else that check_json looks for; these texts can hold neither of the rest.
    if not text.isascii() or "\\u" in text or text.count("{") + text.count("[") > MAX_NESTING:
        check_json(value, MAX_NESTING + _MAX_WRAPPING)
    return value


def dumps(value: Any) -> str:
    """The one way JSON is written in prompts and answers: ``{"a": 1}``, Unicode as it is.

    Raises:
        CallamaError: the value holds NaN, infinity, or something that JSON does not know.
    """
    try:
        return _ENCODER.encode(value)
    except (ValueError, TypeError) as error:
        raise CallamaError(f"cannot be written as JSON: {error}") from None


def _json_result(content: str) -> str | None:
    """The canonical spelling of a result that is a JSON object or array; None for any other text."""
    if content.lstrip()[:1] not in ("{", "["):
        return None
    # Read when the conversation is, and again when its turns are written.
    return (_spelled if len(content) <= _REMEMBERED_CHARS else _spelled.__wrapped__)(content)


@lru_cache(maxsize=64)
def _spelled(content: str) -> str | None:
    try:
        value = loads_strict(content)
        _check_nesting(value, MAX_NESTING)
    except CallamaError:
        return None
    return dumps(value)


def result_json(content: str) -> str:
    """What a tool's result becomes inside the list of results: JSON objects and arrays stand there as
    themselves, everything else as a string, so that reading it back is unambiguous."""
    return _json_result(content) or dumps(content)


def canonical_result(content: str) -> str:
    """A tool's result in the spelling that survives a round trip: JSON objects and arrays are
    respelled by ``dumps``, any other text stays as it is."""
    return _json_result(content) or content
