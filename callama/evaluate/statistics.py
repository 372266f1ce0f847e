"""Intervals and tests: what a difference between two counts is worth.

Single rates get Wilson's interval; ratios whose parts come from the same cases (arguments, F1) get a
bootstrap over cases, because arguments of one case stand or fall together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

_Z95 = 1.959963984540054
RESAMPLES = 2000


def wilson(hits: int, count: int) -> dict[str, Any]:
    """A rate with its 95 % interval (Wilson 1927, JASA 22:209); an empty count has no rate."""
    if not count:
        return {"rate": None, "low": None, "high": None, "hits": 0, "count": 0}
    share, z2 = hits / count, _Z95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return {"rate": share, "low": low, "high": high, "hits": hits, "count": count}


def ratio(parts: Sequence[float], wholes: Sequence[int], seed: int = 0) -> dict[str, Any]:
    """sum(parts) / sum(wholes) with a 95 % percentile bootstrap over cases (Efron 1979, Annals of
    Statistics 7:1); one part and one whole per case, the same resamples for the same ``seed``."""
    hits, count = sum(parts), sum(wholes)
    if not count:
        return {"rate": None, "low": None, "high": None, "hits": 0, "count": 0}
    both = np.stack([np.asarray(parts, np.float64), np.asarray(wholes, np.float64)])
    both = both[:, both[1] > 0]
    cases = both.shape[1]
    generator = np.random.default_rng(seed)
    rates = []
    for _ in range(RESAMPLES):
        part, whole = both[:, generator.integers(cases, size=cases)].sum(axis=1)
        rates.append(part / whole)
    low, high = np.percentile(rates, [2.5, 97.5])
    return {"rate": hits / count, "low": float(low), "high": float(high), "hits": hits, "count": count}


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> dict[str, Any]:
    """McNemar's exact test (binomial, two-sided) of two models on the same cases: ``p`` is how often chance
    alone would give a difference as large if neither were better.

    Raises:
        ValueError: the lists differ in length.
    """
    pairs = list(zip(first, second, strict=True))
    lost, won = pairs.count((True, False)), pairs.count((False, True))
    changed = lost + won
    tail = sum(math.comb(changed, k) for k in range(min(lost, won) + 1))
    p = min(1.0, 2 * tail / (1 << changed))  # whole numbers, divided once: exact at any size
    return {"both": pairs.count((True, True)), "neither": pairs.count((False, False)),
            "only_first": lost, "only_second": won, "p": p}  # fmt: skip


def perplexity_of(nats: float) -> float:
    """Of a mean loss. JSON knows no infinity, curves are fp32; a model that far off has lost the language anyway."""
    return math.exp(min(nats, 50.0))
