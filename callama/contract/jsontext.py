"""JSON text under one strict reading: no NaN, no infinity, no repeated keys, no lone surrogates.

Python's reader accepts all four; other readers do not, so a value that only Python can read would
train a model to write what nobody can parse.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from callama.common.errors import CallamaError

MAX_TEXT_CHARS = 1_000_000


def _refuse_constant(word: str) -> NoReturn:
    raise CallamaError(f"{word} is not JSON")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        keys = [k for k, _ in pairs]
        raise CallamaError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} occurs twice")
    return out


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)


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
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except json.JSONDecodeError as error:
        raise CallamaError(f"not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise CallamaError("not readable: nested too deeply") from None
    except UnicodeEncodeError:
        raise CallamaError("not Unicode: a lone surrogate") from None
    except ValueError as error:
        raise CallamaError(f"not JSON: {error}") from None
    return value


def dumps(value: Any) -> str:
    """The one way JSON is written in prompts and answers: ``{"a": 1}``, Unicode as it is.

    Raises:
        CallamaError: the value holds NaN or infinity.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise CallamaError(f"cannot be written as JSON: {error}") from None


def result_value(content: str) -> Any:
    """What a tool's result becomes inside the list of results: JSON objects and arrays as
    themselves, everything else as a string, so that reading it back is unambiguous."""
    if content[:1] in ("{", "[") or content[:1].isspace():
        try:
            value = loads_strict(content)
        except CallamaError:
            return content
        if isinstance(value, dict | list):
            return value
    return content


def canonical_result(content: str) -> str:
    """A tool's result in the spelling that survives a round trip: JSON objects and arrays are
    respelled by ``dumps``, any other text stays as it is."""
    value = result_value(content)
    return value if isinstance(value, str) else dumps(value)
