"""Train and validation that share no function.

A random split by row tests memory: nearly every validation function has been trained on. Here
functions that are ever declared together form a group, and whole groups go to one side. Where one
group swallows everything, single functions are held out instead and the conversations that touch
both sides are left out, counted.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from callama.contract.messages import Conversation

Side = Literal["train", "validation", "straddles"]
LABEL = "split"


@dataclass(frozen=True)
class Split:
    """The side of each conversation, in order, and how it was found."""

    sides: list[Side]
    method: str


def functions_of(conversation: Conversation) -> frozenset[str]:
    """Every function that a conversation shows or calls."""
    return frozenset([t.name for t in conversation.tools] + conversation.called())


def _rank(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def _groups(rows: Sequence[frozenset[str]]) -> dict[str, str]:
    """Function → representative of its group (union-find with path halving)."""
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for row in rows:
        names = sorted(row)
        for other in names[1:]:
            parent[find(other)] = find(names[0])
    return {name: find(name) for row in rows for name in row}


def _take(sizes: Counter[str], quota: float, seed: int) -> set[str]:
    """Names in seeded order until their sizes fill the quota; one that would overfill it is passed over."""
    taken: set[str] = set()
    filled = 0
    for name in sorted(sizes, key=lambda n: _rank(seed, n)):
        if filled + sizes[name] <= quota * 1.1:
            taken.add(name)
            filled += sizes[name]
    return taken


def split(conversations: Iterable[Conversation], val_ratio: float, seed: int) -> Split:
    """Assigns every conversation to a side; the same for any order of equal data and one seed.

    A label ``split`` that says ``train`` or ``validation`` on every conversation is believed
    (``callama synth`` writes it, because there one tool appears under several names).
    """
    rows: list[frozenset[str]] = []
    labels: list[Any] = []
    keys: list[str] = []
    for index, conversation in enumerate(conversations):
        rows.append(functions_of(conversation))
        labels.append(conversation.labels.get(LABEL))
        keys.append(f"row {index}")
    if rows and all(label in ("train", "validation") for label in labels):
        return Split(list(labels), "by label")
    quota = val_ratio * len(rows)
    if quota <= 0:
        return Split(["train"] * len(rows), "no validation asked for")
    group = _groups(rows)
    of_row = [group[min(row)] if row else key for row, key in zip(rows, keys, strict=True)]
    taken = _take(Counter(of_row), quota, seed)
    sides: list[Side] = ["validation" if g in taken else "train" for g in of_row]
    if sides.count("validation") >= quota / 2 and "train" in sides:
        return Split(sides, "by group of functions")
    return Split(_by_function(rows, quota, seed), "by function, straddling conversations left out")


def _by_function(rows: Sequence[frozenset[str]], quota: float, seed: int) -> list[Side]:
    uses: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        for name in row:
            uses[name] += 1
    held = _take(Counter(uses), quota, seed)
    if not held and len(uses) > 1:
        held = {min(uses, key=lambda n: (uses[n], _rank(seed, n)))}
    sides: list[Side] = []
    for row in rows:
        inside = row & held
        sides.append("train" if not inside else "validation" if inside == row else "straddles")
    return sides
