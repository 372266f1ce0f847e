"""The two ways a user can be told that something is wrong.

The command line turns both into one message without a traceback; anything else that escapes is a
bug of ours and keeps its traceback, unless it is that memory has run out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class CallamaError(Exception):
    """Work that could not be done: a damaged file, data that contradicts itself. Exit status 1.

    The message says what was found, what was expected, where, and what to do next.
    """


class UsageError(CallamaError):
    """A command that could not have worked: a missing file, an unknown key. Exit status 2."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed. Torch, which need not be loaded, names only those of GPUs."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in str(error)


@contextmanager
def advised_when_out_of_memory(advice: str) -> Iterator[None]:
    """Where memory runs out in the block, one sentence says what to do.

    Raises:
        CallamaError: it has run out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise CallamaError(f"out of memory; {advice}") from None
        raise
