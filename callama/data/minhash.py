"""MinHash of what is said in a conversation: near-duplicates are recognised by it, in cleaning and across the split.

Shingles are pairs of words, or the only word. Their hashes are made by arithmetic on the bytes of a
whole batch, and the library permutes them: nothing is done per word in Python. Scripts without spaces
between words would give one shingle a sentence, which the smallest change makes another; there the
words are overlapping pieces of the text. The tools offered do not count: the same dialogue under
another list of tools trains the same answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache, partial, reduce
from operator import add
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from callama.contract.jsontext import dumps
from callama.contract.messages import Conversation

Signatures = NDArray[np.uint32]
Hashes = NDArray[np.uint64]
PLACES = 128
NO_SIGNATURES: Signatures = np.zeros((0, PLACES), np.uint32)
SIMILAR = 0.85
"""From this estimated Jaccard similarity on, two conversations count as near-duplicates."""

_SEED = 42
_BASE = 0x9E3779B97F4A7C15  # odd, so that its powers can be divided by
# Beyond that only an exact repetition is recognised.
_MAX_CHARS = 1_000_000
# Scripts without spaces between words. The pieces that stand for words are as long as words: two characters of
# Chinese and Japanese, three of Thai, Lao, Tibetan, Burmese and Khmer; a pair of them is one character longer.
_HAN = "\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
_THAI = "\u0e00-\u109f\u1780-\u17ff"
_RUN = re.compile(f"[{_HAN}]+|(?P<thai>[{_THAI}]+)")
# So many fit into a processor's cache, eight bytes for each of theirs.
_TEXTS_AT_ONCE = 64


class SignatureFile:
    """Signatures on disk, read like an array of shape ``(n, PLACES)``: what is held of them is what was asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = path.stat().st_size // (4 * PLACES)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Signatures:
        if not self._count:
            return NO_SIGNATURES
        # Mapped anew each time, so that pages of earlier look-ups do not add up.
        return np.array(np.memmap(self._path, np.uint32, "r").reshape(-1, PLACES)[rows], copy=isinstance(rows, slice))


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
    parts = [texts[at : at + _TEXTS_AT_ONCE] for at in range(0, len(texts), _TEXTS_AT_ONCE)]
    return np.concatenate([NO_SIGNATURES, *map(_signatures, parts)])


def _signatures(texts: Sequence[str]) -> Signatures:
    words, first = _word_hashes([_spaced(text[:_MAX_CHARS].lower()).encode("utf-8") for text in texts])
    pairs = words.copy()
    pairs[1:] += mixed(words[:-1])
    counts = np.diff(first)
    alone, opening = first[:-1][counts == 1], first[:-1][counts > 1]
    pairs[alone] = words[alone]
    pairs = np.delete(pairs, opening)  # with the end of the text before
    offsets = np.cumsum([0, *(counts - (counts > 1))])
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(mixed(pairs), offsets.astype(np.uint64), PLACES, _SEED)
    return np.asarray(matrix.to_rows(), dtype=np.uint32).reshape(len(texts), PLACES)


def _spaced(text: str) -> str:
    """The text with spaces between words in scripts that have none."""
    return text if text.isascii() else _RUN.sub(_pieces, text)[:_MAX_CHARS]


def _pieces(run: re.Match[str]) -> str:
    text, length = run[0], 3 if run["thai"] else 2
    shifted = (text[start:] for start in range(min(length, len(text))))
    return f" {' '.join(reduce(partial(map, add), shifted))} "


def _word_hashes(texts: Sequence[bytes]) -> tuple[Hashes, NDArray[np.int64]]:
    """64 bits for each word of all texts; where each text's words start, and last where they end.

    A word's bytes count as the digits of a number, lowest first, of which 64 bits are kept; the
    numbers of all words come from one running sum over the bytes.
    """
    data = np.frombuffer(b" ".join([b"", *texts, b""]) or b" ", np.uint8)
    powers, inverse = _powers(1 << len(data).bit_length())
    is_word = data > ord(" ")
    edges = np.flatnonzero(is_word[1:] != is_word[:-1])
    starts, ends = edges[::2], edges[1::2]
    sums = np.cumsum(data * powers[: len(data)])
    bounds = np.cumsum([0, *(len(text) + 1 for text in texts)])
    return (sums[ends] - sums[starts]) * inverse[starts], np.searchsorted(starts, bounds)


@lru_cache(maxsize=2)
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """The base's first powers, and what undoes a multiplication by each, modulo 2^64."""
    base, inverse = (np.full(count, number, np.uint64) for number in (_BASE, pow(_BASE, -1, 1 << 64)))
    base[0] = inverse[0] = 1
    return np.cumprod(base), np.cumprod(inverse)


def mixed(value: Hashes) -> Hashes:
    """Spreads 64 bits so that each depends on all (splitmix64's finaliser)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
