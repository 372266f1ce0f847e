"""Conversations that say nearly the same: found by MinHash, so that they can be kept on one side of a split.

The share of equal places in two signatures (``minhash``) estimates the Jaccard similarity of what is
said (Broder 1997). Pairs are looked for among rows whose signatures agree in a whole band of places,
never among all pairs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from callama.data.minhash import PLACES, SIMILAR, Signatures

# Grouping joins from a lower estimate on, so that the estimate's error (0.032 at 0.85) separates no pair.
_JOIN = 0.75
# Bands of 5: rows of similarity 0.85 share one with probability 0.999999, rows of 0.5 with 0.54.
_GROUPING_BAND = 5
# The audit looks with a finer net than the grouping did: 1 - 4e-11 at 0.85.
_AUDIT_BAND = 4
# Where very many rows share a band, each is compared with its nearest in the order of further bands.
_WINDOW = 64
_SEED = 1


def near_groups(signatures: Signatures) -> list[str]:
    """For each row of ``(n, 128)`` signatures a name of its group: rows that are linked by near-duplicates share one.

    The names follow from the rows' content alone, so the rows' order changes nothing.
    """
    if not len(signatures):
        return []
    distinct, row_of = np.unique(signatures, axis=0, return_inverse=True)
    parent = np.arange(len(distinct))

    def find(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for left, right in _candidates(distinct, _GROUPING_BAND):
        apart = _roots(parent)[left] != _roots(parent)[right]
        left, right = left[apart], right[apart]
        alike = _similarity(distinct, left, right) >= _JOIN
        for a, b in zip(left[alike].tolist(), right[alike].tolist(), strict=True):
            low, high = sorted((find(a), find(b)))
            parent[high] = low
    names = {int(root): distinct[root].tobytes().hex()[:32] for root in np.unique(_roots(parent))}
    return [names[root] for root in _roots(parent)[row_of.reshape(-1)].tolist()]


def near_pairs(signatures: Signatures, side: NDArray[np.int8]) -> int:
    """How many pairs of near-duplicates there are between rows of side 0 and of side 1; other rows do not count."""
    chosen = np.flatnonzero((side == 0) | (side == 1))
    if not len(chosen):
        return 0
    order = chosen[np.lexsort(signatures[chosen].T[:3])]
    signatures, side = signatures[order], side[order]
    found: set[tuple[int, int]] = set()
    for left, right in _candidates(signatures, _AUDIT_BAND):
        across = side[left] != side[right]
        left, right = left[across], right[across]
        alike = _similarity(signatures, left, right) >= SIMILAR
        found.update(zip(left[alike].tolist(), right[alike].tolist(), strict=True))
    return len({(min(pair), max(pair)) for pair in found})


def _roots(parent: NDArray[np.int64]) -> NDArray[np.int64]:
    """The root of every row; shortens the paths on the way."""
    while not np.array_equal(above := parent[parent], parent):
        parent[:] = above
    return parent


def _similarity(signatures: Signatures, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
    out = np.empty(len(left))
    for start in range(0, len(left), 65_536):  # 64 MiB at a time
        part = slice(start, start + 65_536)
        out[part] = (signatures[left[part]] == signatures[right[part]]).mean(1)
    return out


def _candidates(signatures: Signatures, band: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of rows that agree in a whole band of places, as two arrays of row numbers at a time."""
    starts = range(0, PLACES - band + 1, band)
    odd = np.random.default_rng(_SEED).integers(1 << 62, size=band, dtype=np.uint64) * 2 + 1
    # Equal bands have equal keys; unequal ones with equal keys only cost a comparison.
    keys = [(signatures[:, s : s + band].astype(np.uint64) * odd).sum(1, dtype=np.uint64) for s in starts]
    for index, key in enumerate(keys):
        order = np.lexsort((keys[index - 2], keys[index - 1], key))
        key = key[order]
        for shift in range(1, min(_WINDOW, len(key) - 1) + 1):
            (same,) = np.nonzero(key[shift:] == key[:-shift])
            if not len(same):
                break
            yield order[same], order[same + shift]
