"""Runs functions of the user's own module with the arguments of a call.

Only for a person who was asked first. Arguments are read by the function's type hints (a date from its text);
whatever the function raises is an error that the model gets to see, as it would from a service.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import PydanticUserError, validate_call
from pydantic_core import PydanticSerializationError, to_jsonable_python

from callama.common.errors import CallamaError
from callama.common.signals import EndedError
from callama.contract.jsontext import canonical_result, dumps


def run(function: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
    """What the function returns, as JSON text or as the text that it is; ``{"error": …}`` where it raises or
    what it returns has no JSON form. Halves of characters (of a file's name that is no UTF-8), which no tokenizer
    takes, are replaced. Never raises but where a signal ends it all."""
    return _run(function, arguments).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _run(function: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
    try:
        value = _checked(function)(**arguments)
        if inspect.isawaitable(value):
            value = asyncio.run(_awaited(value))
        return canonical_result(value if isinstance(value, str) else dumps(to_jsonable_python(value, fallback=_plain)))
    except (KeyboardInterrupt, EndedError):
        raise
    except (PydanticSerializationError, CallamaError) as error:
        return dumps({"error": f"what {getattr(function, '__name__', 'it')} returned has no JSON form: {error}"})
    except BaseException as error:
        # The user's code may raise anything, SystemExit among it.
        return dumps({"error": f"{type(error).__name__}: {error}"})


def _plain(value: object) -> object:
    """Numbers and arrays of numpy, torch and their like as Python's; what else is unknown as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        return validate_call(function)
    except (PydanticUserError, NameError, TypeError, ValueError):
        return function  # hints that cannot be read were said when the tools were loaded


async def _awaited(value: Any) -> Any:
    return await value
