"""What is remembered of a conversation to recognise it again: four small numbers and a MinHash signature.

Two conversations are exact duplicates if the same is said and called in them; they are near
duplicates if their word pairs overlap by ``SIMILAR``, as 60 MinHash values estimate it. The tools
offered do not count: the same dialogue under another list of tools trains the same answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from operator import add

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from callama.contract.jsontext import dumps
from callama.contract.messages import Conversation

SIMILAR = 0.85
N_PERMUTATIONS = 60
# 12 bands of 5 values: two conversations at similarity 0.85 share a band with probability 0.999.
N_BANDS = 12
_MINHASH_SEED = 42
_OPENING_WORDS = 6
_WORD = re.compile(r"\w+")
_DIGITS = re.compile(r"\d+")
FEATURES = np.dtype(
    [
        ("kept", "?"),
        ("source", "<u2"),
        ("exact", "<u8", 2),
        ("phrasing", "<u8"),
        ("signature", "<u4", N_PERMUTATIONS),
    ]
)


def said_text(conversation: Conversation) -> str:
    """All that users, assistants and tools say and call, in order, without ids and system text."""
    parts: list[str] = []
    for message in conversation.messages:
        if message.role == "system":
            continue
        parts.append(message.role)
        if message.content is not None:
            parts.append(message.content)
        for call in message.tool_calls:
            parts.append(f"{call.name} {dumps(call.arguments)}")
    return "\x1f".join(parts)


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


def signatures(texts: Sequence[str]) -> NDArray[np.uint32]:
    """MinHash signatures, one row a text: ``(len(texts), N_PERMUTATIONS)``."""
    words = [text.lower().split() for text in texts]
    shingles = [list(map(add, ["", *some], some)) for some in words]
    rows = RMinHash.digests_from_token_sets(shingles, N_PERMUTATIONS, _MINHASH_SEED)
    return np.asarray(rows, dtype=np.uint32).reshape(len(texts), N_PERMUTATIONS)
