"""What is remembered of a conversation to recognise it again: a few small numbers and a MinHash signature.

Two conversations are exact duplicates if the same is said and called in them; they are near
duplicates if what is said in them overlaps by ``minhash.SIMILAR``, as their signatures estimate it.
Pairs are looked for by the keys of the signatures' bands, so that few signatures need be read again.
"""

from __future__ import annotations

import re
from hashlib import blake2b

import numpy as np

from callama.contract.messages import Conversation
from callama.data.minhash import Hashes, Signatures, mixed

# 12 bands of 5 values: two conversations at similarity 0.85 share a band with probability 0.999.
N_BANDS, BAND_PLACES = 12, 5
_WORD = re.compile(r"\w+")
_DIGITS = re.compile(r"\d+")
FEATURES = np.dtype(
    [
        ("kept", "?"),
        ("source", "<u2"),
        ("line_bytes", "<u4"),
        ("exact", "<u8", 2),
        ("phrasing", "<u8"),
        ("bands", "<u8", N_BANDS),
    ]
)


def band_keys(signatures: Signatures) -> Hashes:
    """One number for each band of each signature, shape ``(n, N_BANDS)``: equal where the band is."""
    keys = np.zeros((len(signatures), N_BANDS), np.uint64)
    for place in range(BAND_PLACES):
        keys = mixed(keys ^ signatures[:, place : N_BANDS * BAND_PLACES : BAND_PLACES])
    return keys


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
    words = " ".join(_WORD.findall(first[:100].lower())[:6])
    called = next((m.tool_calls[0].name for m in conversation.messages if m.tool_calls), "")
    return f"{_DIGITS.sub('0', words)} → {called}"
