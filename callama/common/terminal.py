"""Text of models and strangers on a terminal or a page: what would steer it is spelled."""

from __future__ import annotations

import re
import unicodedata

# Joiners hold emoji and scripts together; everything else that acts without being seen is spelled out.
_HARMLESS = "\n\t\u200c\u200d"
_ACTING = ("Cc", "Cf", "Cs", "Zl", "Zp")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_TURNING = re.compile(r"[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The same with its control characters, line breaks and tabs excepted, and what turns text around, as escapes
    (``\\x1b``, ``\\u202e``)."""
    text = _CONTROLS.sub(lambda sign: f"\\x{ord(sign[0]):02x}", text)
    return _TURNING.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text)


def visible(text: str) -> str:
    """Text that is safe to show: what could drive a terminal or turn text around is written as ``\\u001b``."""
    return "".join(f"\\u{ord(c):04x}" if c not in _HARMLESS and unicodedata.category(c) in _ACTING else c for c in text)
