"""MinHash of what is said in a conversation: near-duplicates are recognised by it, in cleaning and across the split.

Shingles are pairs of words. Their hashes are made of the words' hashes by arithmetic on whole
batches, and the library permutes them: nothing is done per shingle in Python. The tools offered do
not count: the same dialogue under another list of tools trains the same answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from callama.contract.jsontext import dumps
from callama.contract.messages import Conversation

Signatures = NDArray[np.uint32]
PLACES = 128
SIMILAR = 0.85
"""From this estimated Jaccard similarity on, two conversations count as near-duplicates."""

_SHINGLE_WORDS = 2
_SEED = 42
_REMEMBERED_WORDS = 200_000


class _WordHashes(dict[str, float]):
    """53 bits for each word, the same in every process; forgets all when it has grown large.

    They are floats because numpy takes those from an iterator at twice the rate of integers.
    """

    def __missing__(self, word: str) -> float:
        if len(self) >= _REMEMBERED_WORDS:
            self.clear()
        hashed = float(int.from_bytes(blake2b(word.encode("utf-8"), digest_size=8).digest(), "little") >> 11)
        self[word] = hashed
        return hashed


_hash_of = _WordHashes()


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


def signatures(texts: Sequence[str]) -> Signatures:
    """MinHash signatures, shape ``(len(texts), PLACES)``; equal on every machine."""
    words = [text.lower().split() for text in texts]
    # Texts of fewer words than a shingle get empty ones in front, so that each text has a shingle at least.
    words = [[""] * (_SHINGLE_WORDS - len(some)) + some for some in words]
    ends = np.cumsum([len(some) for some in words], dtype=np.int64)
    hashes = map(_hash_of.__getitem__, chain.from_iterable(words))
    of_word = np.fromiter(hashes, np.float64, int(ends[-1]) if words else 0).astype(np.uint64)
    shingles = of_word[: -(_SHINGLE_WORDS - 1)]
    for place in range(1, _SHINGLE_WORDS):
        shingles = mixed(shingles) + of_word[place : len(shingles) + place]
    inside = np.ones(len(shingles), np.bool_)
    for place in range(1, _SHINGLE_WORDS):
        inside[ends[:-1] - place] = False  # would reach into the next text
    lasts = np.cumsum([len(some) - _SHINGLE_WORDS + 1 for some in words])
    offsets = np.concatenate([[0], lasts]).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(mixed(shingles[inside]), offsets, PLACES, _SEED)
    return np.asarray(matrix.to_rows(), dtype=np.uint32).reshape(len(texts), PLACES)


def mixed(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spreads 64 bits so that each depends on all (splitmix64's finaliser)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
