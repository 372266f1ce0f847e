"""What each piece of rendered text is: the loss mask and the loss curves by kind follow from it."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Kind(IntEnum):
    """Kind of a token or character. Everything but PROMPT was said by the assistant."""

    PROMPT = 0
    TEXT = 1
    CALL_SYNTAX = 2
    FUNCTION_NAME = 3
    ARGUMENT_KEY = 4
    ARGUMENT_VALUE = 5
    END_OF_TURN = 6


class Segment(NamedTuple):
    """A run of text of one kind."""

    text: str
    kind: Kind
