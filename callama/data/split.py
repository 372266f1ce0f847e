"""Train and validation that share no function.

A random split by row tests memory: nearly every validation function has been trained on. Here
functions that are ever declared together form a group, and whole groups go to one side. Where one
group swallows everything, single functions are held out instead and the conversations that touch
both sides are left out, counted. Conversations without functions are held out in the same share.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence, Set
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


def _text_key(conversation: Conversation) -> str:
    """Groups conversations without functions: equal ones must not stand on both sides either."""
    said = json.dumps([m.to_dict() for m in conversation.messages])
    return f"text {hashlib.sha256(said.encode()).hexdigest()}"


def _groups(rows: Sequence[frozenset[str]]) -> dict[str, str]:
    """Function → least name of its group, whatever the rows' order (union-find with path halving)."""
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for row in rows:
        roots = sorted({find(name) for name in row})
        for other in roots[1:]:
            parent[other] = roots[0]
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
    for conversation in conversations:
        rows.append(functions_of(conversation))
        labels.append(conversation.labels.get(LABEL))
        keys.append("" if rows[-1] else _text_key(conversation))
    if rows and all(label in ("train", "validation") for label in labels):
        return Split(list(labels), "by label")
    if val_ratio <= 0:
        return Split(["train"] * len(rows), "no validation asked for")
    plain = Counter(key for key in keys if key)
    held_texts = _take(plain, val_ratio * plain.total(), seed)
    group = _groups(rows)
    sizes = Counter(group[min(row)] for row in rows if row)
    quota = val_ratio * sizes.total()
    held_groups = _take(sizes, quota, seed)
    if sum(sizes[name] for name in held_groups) >= quota / 2 and (len(held_groups) < len(sizes) or not sizes):
        held, method = {name for name in group if group[name] in held_groups}, "by group of functions"
    else:
        held, method = _single_functions(rows, quota, seed), "by function, straddling conversations left out"
    sides = [_side(row or {key}, held | held_texts) for row, key in zip(rows, keys, strict=True)]
    if sizes and not {"train", "validation"} <= {side for side, row in zip(sides, rows, strict=True) if row}:
        return Split(["train"] * len(rows), "none: every way to hold a function out leaves one side without functions")
    return Split(sides, method)


def _side(names: Set[str], held: Set[str]) -> Side:
    inside = names & held
    return "train" if not inside else "validation" if inside == names else "straddles"


def _single_functions(rows: Sequence[frozenset[str]], quota: float, seed: int) -> set[str]:
    uses = Counter(name for row in rows for name in row)
    held = _take(uses, quota, seed)
    if not held and len(uses) > 1:
        held = {min(uses, key=lambda n: (uses[n], _rank(seed, n)))}
    return held
