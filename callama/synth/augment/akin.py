"""Words that may mean the same thing, as far as their first letters tell: "logic" and "logical", "ship" and "shipment".

Errs on the side of likeness: it serves to refuse, never to accept.
"""

from __future__ import annotations

from collections.abc import Collection

_LEAST, _MOST = 4, 6  # letters that are compared


def akin(one: str, other: str) -> bool:
    """Whether two words, in lower case, have the same stem."""
    length = min(len(one), len(other), _MOST)
    return one == other or (length >= _LEAST and one[:length] == other[:length])


def share_words(some: Collection[str], others: Collection[str]) -> bool:
    """Whether a word of the one is akin to a word of the other."""
    return any(akin(one, other) for one in some for other in others)
