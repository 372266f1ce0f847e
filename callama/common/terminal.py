"""Text of models and strangers on a terminal: what would steer it is spelled."""

from __future__ import annotations

import re

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """The same with its control characters, line breaks and tabs excepted, as escapes (``\\x1b``)."""
    return _CONTROLS.sub(lambda sign: f"\\x{ord(sign[0]):02x}", text)
