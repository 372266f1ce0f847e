"""Python literals, which Hermes' and ToolACE's data hold where JSON is meant; nothing of them is ever run."""

from __future__ import annotations

import ast
from typing import Any

from callama.common.errors import CallamaError
from callama.contract.jsontext import dumps, loads_strict

# ast reads what it is given in one go; no genuine call comes near this.
MAX_CHARS = 100_000


def read_literal(text: str) -> Any:
    """The value of a Python literal, as JSON knows it.

    Raises:
        CallamaError: not a literal, too long, a key given twice, or a value that JSON does not know.
    """
    if len(text) > MAX_CHARS:
        raise CallamaError(f"a literal of {len(text):,} characters; the limit is {MAX_CHARS:,}")
    try:
        return value_of(ast.parse(text, mode="eval").body)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        # Not with Python's own words: they hold addresses in memory, which differ from run to run.
        raise CallamaError("not a Python literal") from None


def json_or_literal(text: str) -> Any:
    """The value of JSON text, or of the Python literal that stands in its place.

    Raises:
        CallamaError: neither; it says what is wrong with both.
    """
    try:
        return loads_strict(text)
    except CallamaError as error:
        try:
            return read_literal(text)
        except CallamaError as other:
            raise CallamaError(f"{error}; {other}") from None


def value_of(node: ast.expr) -> Any:
    """The value of a literal that was parsed; the errors of ``ast.literal_eval`` and CallamaError."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Dict):
            seen: set[Any] = set()
            for key in inner.keys:
                if key is None:
                    raise ValueError("** in an object")
                name = ast.literal_eval(key)
                if name in seen:
                    raise CallamaError(f"the key {str(name)[:80]!r} occurs twice")
                seen.add(name)
    text = dumps(ast.literal_eval(node))
    # JSON writes a sign beyond 16 bits as a pair of surrogates, which Python leaves as two.
    return loads_strict(text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass"))
