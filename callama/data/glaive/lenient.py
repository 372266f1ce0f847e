"""JSON text as glaive's rows hold it: strict, but for raw line breaks and tabs inside strings.

Those are the one damage that a reader can undo without guessing; everything else stays an error.
"""

from __future__ import annotations

import json
import re
from typing import Any

from callama.common.errors import CallamaError
from callama.contract.jsontext import MAX_NESTING, check_json, loads_strict
from callama.data.reasons import Repair

_CONTROL = re.compile(r"[\x00-\x1f]")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        raise ValueError("repeated key")
    return out


_RAW_CONTROL_ALLOWED = json.JSONDecoder(strict=False, object_pairs_hook=_unique_keys)


def _checked(value: Any, text: str) -> Any:
    # loads_strict leaves room for the wrapping of a whole answer; a bare value has none.
    if text.count("{") + text.count("[") > MAX_NESTING:
        check_json(value)
    return value


def loads_lenient(text: str) -> tuple[Any, tuple[Repair, ...]]:
    """The value of a JSON text, and what had to be mended to read it.

    Raises:
        CallamaError: what ``loads_strict`` said of the text as it stands.
    """
    try:
        return _checked(loads_strict(text), text), ()
    except CallamaError as error:
        if not _CONTROL.search(text):
            raise
        try:
            # The strict reader sees the respelled text too: NaN, infinity and surrogates stay refused.
            value = loads_strict(json.dumps(_RAW_CONTROL_ALLOWED.decode(text)))
            return _checked(value, text), (Repair.RAW_CONTROL,)
        except (CallamaError, RecursionError, ValueError):
            raise error from None
