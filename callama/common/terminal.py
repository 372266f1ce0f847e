"""Text of models and strangers on a terminal or a page: what would steer it is spelled."""

from __future__ import annotations

import re
import unicodedata

# Joiners hold emoji and scripts together; everything else that acts without being seen is spelled out.
_HARMLESS = "\n\t\u200c\u200d"
_ACTING = ("Cc", "Cf", "Cs", "Zl", "Zp")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """The same with its control characters, line breaks and tabs excepted, as escapes (``\\x1b``)."""
    return _CONTROLS.sub(lambda sign: f"\\x{ord(sign[0]):02x}", text)


def visible(text: str) -> str:
    """Text that is safe to show: what could drive a terminal or turn text around is written as ``\\u001b``."""
    return "".join(f"\\u{ord(c):04x}" if c not in _HARMLESS and unicodedata.category(c) in _ACTING else c for c in text)
