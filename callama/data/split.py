"""Train and validation that share neither a function nor a near-duplicate.

A random split by row tests memory: nearly every validation function has been trained on. Here
functions that are ever declared together form a group, near-duplicates join their groups, and whole
groups go to one side. Where one group swallows everything, single functions are held out instead
and the conversations that touch both sides are left out, counted. Conversations without functions
are held out in the same share.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from callama.contract.messages import Conversation

Side = Literal["train", "validation", "straddles_split", "near_duplicate_across_split", "over_mix"]
SIDES: tuple[Side, ...] = ("train", "validation")
LEFT_OUT: Mapping[Side, str] = {
    "straddles_split": "shows functions of both sides",
    "near_duplicate_across_split": "nearly the same as conversations of the other side",
    "over_mix": "its source has more conversations than its share in --mix",
}
LABEL = "split"


class Row(NamedTuple):
    """What the split knows of a conversation: its functions, the name of its group of near-duplicates
    (``near.near_groups``) and the side that its label asks for, if it has one."""

    functions: frozenset[str]
    near: str
    label: Any = None


@dataclass(frozen=True)
class Split:
    """The side of each conversation, in order (a key of ``LEFT_OUT`` where it can be on none), and how it was found."""

    sides: list[Side]
    method: str


def functions_of(conversation: Conversation) -> frozenset[str]:
    """Every function that a conversation shows or calls."""
    return frozenset([t.name for t in conversation.tools] + conversation.called())


def split(rows: Sequence[Row], val_ratio: float, seed: int) -> Split:
    """Assigns every conversation to a side; the same for any order of equal rows and one seed.

    Where labels say ``train`` of some conversations and ``validation`` of others, they are believed
    (``callama synth`` writes them, because there one tool appears under several names), and the rest is
    drawn so that it shares no function with the other side's; near-duplicates of the other side are left
    out all the same.
    """
    if set(SIDES) <= {row.label for row in rows}:
        return _by_label(rows, val_ratio, seed)
    if val_ratio <= 0:
        return Split(["train"] * len(rows), "no validation asked for")
    drawn = _draw(rows, val_ratio, seed)
    sides = _without_near(drawn.sides, rows)
    with_functions = {side for side, row in zip(sides, rows, strict=True) if row.functions}
    if with_functions and not set(SIDES) <= with_functions:
        return Split(["train"] * len(rows), "none: every way to hold a function out leaves one side without functions")
    return Split(sides, drawn.method)


def _by_label(rows: Sequence[Row], val_ratio: float, seed: int) -> Split:
    rest = [row for row in rows if row.label not in SIDES]
    if not rest:
        return Split(_without_near([row.label for row in rows], rows), "by label")
    drawn = split(rest, val_ratio, seed)
    shown = {side: {name for row in rows if row.label == side for name in row.functions} for side in SIDES}
    across = {side: shown[other] for side, other in zip(SIDES, reversed(SIDES), strict=True)}
    of_rest = iter(drawn.sides)
    sides: list[Side] = []
    for row in rows:
        side = row.label if row.label in SIDES else next(of_rest)
        crosses = row.label not in SIDES and not row.functions.isdisjoint(across.get(side, ()))
        sides.append("straddles_split" if crosses else side)
    return Split(_without_near(sides, rows), f"by label, the rest {drawn.method}")


def _draw(rows: Sequence[Row], val_ratio: float, seed: int) -> Split:
    """The finest way that holds enough out: whole groups with near-duplicates, without them, single functions."""
    for method, with_near in (("by group of functions and near-duplicates", True), ("by group of functions", False)):
        if (held := _whole_groups(rows, with_near, val_ratio, seed)) is not None:
            return Split([_side(_tie(row, with_near), held) for row in rows], method)
    return Split(_by_function(rows, val_ratio, seed), "by function, straddling conversations left out")


def _near(row: Row) -> str:
    # No function's name has a space.
    return f"near {row.near}"


def _tie(row: Row, with_near: bool) -> Set[str]:
    """What a conversation ties together: its functions and, if wanted or there are none, its near-duplicates."""
    return row.functions | {_near(row)} if with_near or not row.functions else row.functions


def _rank(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def _groups(ties: Iterable[Set[str]]) -> dict[str, str]:
    """Name → least name of its group, whatever the order (union-find with path halving)."""
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for tie in ties:
        roots = sorted({find(name) for name in tie})
        for other in roots[1:]:
            parent[other] = roots[0]
    return {name: find(name) for name in parent}


def _take(sizes: Mapping[str, int], quota: float, seed: int) -> set[str]:
    """Names in seeded order until their sizes fill the quota; one that would overfill it is passed over."""
    taken: set[str] = set()
    filled = 0
    for name in sorted(sizes, key=lambda n: _rank(seed, n)):
        if filled + sizes[name] <= quota * 1.1:
            taken.add(name)
            filled += sizes[name]
    return taken


def _whole_groups(rows: Sequence[Row], with_near: bool, val_ratio: float, seed: int) -> set[str] | None:
    """Names of the groups held out; None where groups are too large to fill half of the quota.

    Groups with functions and groups of plain chat are drawn apart, so that neither stands in for the other.
    """
    group = _groups(_tie(row, with_near) for row in rows)
    of_row = [group[next(iter(_tie(row, with_near)))] for row in rows]
    with_functions = {name for name, row in zip(of_row, rows, strict=True) if row.functions}
    sizes = Counter(name for name in of_row if name in with_functions)
    plain = Counter(name for name in of_row if name not in with_functions)
    quota = val_ratio * sizes.total()
    held = _take(sizes, quota, seed)
    if sizes and (sum(sizes[name] for name in held) < quota / 2 or len(held) == len(sizes)):
        return None
    held |= _take(plain, val_ratio * plain.total(), seed)
    return {name for name in group if group[name] in held}


def _by_function(rows: Sequence[Row], val_ratio: float, seed: int) -> list[Side]:
    uses = Counter(name for row in rows for name in row.functions)
    with_functions = sum(bool(row.functions) for row in rows)
    held = _take(uses, val_ratio * with_functions, seed)
    if not held and len(uses) > 1:
        held = {min(uses, key=lambda n: (uses[n], _rank(seed, n)))}
    plain = Counter(_near(row) for row in rows if not row.functions)
    held |= _take(plain, val_ratio * plain.total(), seed)
    return [_side(row.functions or {_near(row)}, held) for row in rows]


def _side(names: Set[str], held: Set[str]) -> Side:
    inside = names & held
    return "train" if not inside else "validation" if inside == names else "straddles_split"


def _without_near(sides: Sequence[Side], rows: Sequence[Row]) -> list[Side]:
    """Where near-duplicates stand on both sides, the fewer of them are left out (of equally many, training's)."""
    counts: dict[str, Counter[Side]] = defaultdict(Counter)
    for side, row in zip(sides, rows, strict=True):
        counts[row.near][side] += 1
    fewer: dict[str, Side] = {
        near: "train" if count["train"] <= count["validation"] else "validation"
        for near, count in counts.items()
        if count["train"] and count["validation"]
    }
    return [
        "near_duplicate_across_split" if fewer.get(row.near) == side else side
        for side, row in zip(sides, rows, strict=True)
    ]
