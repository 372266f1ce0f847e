"""Conversations that say nearly the same: found by MinHash, so that they can be kept on one side of a split.

The share of equal places in two signatures (``minhash``) estimates the Jaccard similarity of what is
said (Broder 1997). Pairs are looked for among rows whose signatures agree in a whole band of places,
never among all pairs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from callama.data.groups import Indices, link
from callama.data.minhash import PLACES, SIMILAR, Hashes, SignatureFile, Signatures, mixed

# Grouping joins from a lower estimate on, so that the estimate's error (0.032 at 0.85) separates no pair.
_JOIN = 0.75
# Bands of 5: rows of similarity 0.85 share one with probability 0.999999, rows of 0.5 with 0.54.
_GROUPING_BAND = 5
# The audit looks with a finer net than the grouping did: 1 - 4e-11 at 0.85.
_AUDIT_BAND = 4
# Where very many rows share a band, each is compared with its nearest in the order of further bands.
_WINDOW = 64
_SEED = 1
# Bands whose keys are made in one pass over the signatures: 8 bytes a row for each.
_KEYS_AT_ONCE = 3
# Signatures in memory at a time: 16 MiB.
_CHUNK_ROWS = 1 << 15


def near_groups(signatures: Signatures | SignatureFile, rows: Indices | None = None) -> Hashes:
    """For each of the ``rows`` (None: all) a name of its group: rows that are linked by near-duplicates share one.

    The names follow from the rows' content alone, so the rows' order changes nothing.
    """
    rows = np.arange(len(signatures)) if rows is None else rows
    (keys,) = _keys(signatures, rows, PLACES)
    names, first, row_of = np.unique(keys, return_index=True, return_inverse=True)
    distinct = rows[first]
    del keys, first
    least = np.arange(len(distinct))
    for left, right in _candidates(signatures, distinct, _GROUPING_BAND):
        apart = least[left] != least[right]
        left, right = left[apart], right[apart]
        alike = _similarity(signatures, distinct[left], distinct[right]) >= _JOIN
        link(least, left[alike], right[alike])
    return names[least[row_of]]


def near_pairs(signatures: Signatures | SignatureFile, side: NDArray[np.int8]) -> int:
    """How many pairs of near-duplicates there are between rows of side 0 and of side 1; other rows do not count."""
    chosen = np.flatnonzero((side == 0) | (side == 1))
    found: set[tuple[int, int]] = set()
    for left, right in _candidates(signatures, chosen, _AUDIT_BAND):
        left, right = chosen[left], chosen[right]
        across = side[left] != side[right]
        left, right = left[across], right[across]
        alike = _similarity(signatures, left, right) >= SIMILAR
        found.update(zip(left[alike].tolist(), right[alike].tolist(), strict=True))
    return len({(min(pair), max(pair)) for pair in found})


def _similarity(signatures: Signatures | SignatureFile, left: Indices, right: Indices) -> NDArray[np.float64]:
    out = np.empty(len(left))
    for start in range(0, len(left), _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        out[part] = np.count_nonzero(signatures[left[part]] == signatures[right[part]], axis=1) / PLACES
    return out


def _keys(signatures: Signatures | SignatureFile, rows: Indices, band: int, first: int = 0) -> Iterator[Hashes]:
    """For each band from the ``first`` on, one number for each row. Equal bands have equal keys; unequal ones
    with equal keys only cost a comparison, or for all places one row in 2^64 its own group."""
    odd = np.random.default_rng(_SEED).integers(1 << 62, size=PLACES, dtype=np.uint64) * 2 + 1
    bands = [slice(start, start + band) for start in range(0, PLACES - band + 1, band)][first:]
    for together in (bands[at : at + _KEYS_AT_ONCE] for at in range(0, len(bands), _KEYS_AT_ONCE)):
        keys = [np.empty(len(rows), np.uint64) for _ in together]  # each is let go when it was used
        for start in range(0, len(rows), _CHUNK_ROWS):
            part = slice(start, start + _CHUNK_ROWS)
            values = signatures[rows[part]]
            for key, places in zip(keys, together, strict=True):
                key[part] = mixed(values[:, places].astype(np.uint64) @ odd[places])
        while keys:
            yield keys.pop(0)


def _candidates(signatures: Signatures | SignatureFile, rows: Indices, band: int) -> Iterator[tuple[Indices, Indices]]:
    """Pairs of places in ``rows`` whose signatures agree in a whole band, as two arrays of many at a time: a
    look-up of few signatures costs nearly as much as one of thousands."""
    waiting: list[tuple[Indices, Indices]] = []
    count = 0
    for pairs in _pairs(signatures, rows, band):
        waiting.append(pairs)
        count += len(pairs[0])
        if count >= _CHUNK_ROWS:
            yield _joined(waiting)
            waiting, count = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(pairs: list[tuple[Indices, Indices]]) -> tuple[Indices, Indices]:
    return np.concatenate([left for left, _ in pairs]), np.concatenate([right for _, right in pairs])


def _pairs(signatures: Signatures | SignatureFile, rows: Indices, band: int) -> Iterator[tuple[Indices, Indices]]:
    if not len(rows):
        return
    before, last = _keys(signatures, rows, band, PLACES // band - 2)
    for key in _keys(signatures, rows, band):
        order = np.argsort(key)
        in_order = key[order]
        same = in_order[1:] == in_order[:-1]
        # Only rows whose key another one has too; those beside one another in the order of further bands.
        shared = np.sort(order[np.append(same, False) | np.append(False, same)])
        order = shared[np.lexsort((before[shared], last[shared], key[shared]))]
        in_order = key[order]
        for shift in range(1, min(_WINDOW, len(order) - 1) + 1):
            (same,) = np.nonzero(in_order[shift:] == in_order[:-shift])
            if not len(same):
                break
            yield order[same], order[same + shift]
        before, last = last, key
