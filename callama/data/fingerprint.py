"""What is remembered of a conversation to recognise it again: four small numbers and a MinHash signature.

Two conversations are exact duplicates if the same is said and called in them; they are near
duplicates if what is said in them overlaps by ``minhash.SIMILAR``, as their signatures estimate it.
"""

from __future__ import annotations

import re
from hashlib import blake2b

import numpy as np

from callama.contract.messages import Conversation
from callama.data.minhash import PLACES

# 12 bands of 5 values: two conversations at similarity 0.85 share a band with probability 0.999.
N_BANDS, BAND_PLACES = 12, 5
_OPENING_WORDS = 6
_WORD = re.compile(r"\w+")
_DIGITS = re.compile(r"\d+")
FEATURES = np.dtype(
    [
        ("kept", "?"),
        ("source", "<u2"),
        ("exact", "<u8", 2),
        ("phrasing", "<u8"),
        ("signature", "<u4", PLACES),
    ]
)


def digest(text: str) -> bytes:
    """16 bytes that stand for a text."""
    return blake2b(text.encode("utf-8"), digest_size=16).digest()


def draw(text: str, seed: int) -> int:
    """A whole number below 2^64 that looks random but follows from text and seed."""
    return int.from_bytes(blake2b(text.encode("utf-8"), digest_size=8, key=str(seed).encode()).digest(), "little")


def phrasing(conversation: Conversation) -> str:
    """What makes two conversations equally phrased: the first six words that the user says, digits
    masked, and the function that is called first, if any."""
    first = next(m.content or "" for m in conversation.messages if m.role == "user")
    words = _WORD.findall(_DIGITS.sub("0", first[:100].lower()))[:_OPENING_WORDS]
    called = next((call.name for m in conversation.messages for call in m.tool_calls), "")
    return f"{' '.join(words)} → {called}"
