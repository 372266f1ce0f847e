"""Train and validation that share neither a function nor a near-duplicate.

A random split by row tests memory: nearly every validation function has been trained on. Here
functions that are ever declared together form a group, near-duplicates join their groups, and whole
groups go to one side. Where one group swallows everything, single functions are held out instead
and the conversations that touch both sides are left out, counted. Conversations without functions
are held out in the same share. Rows are columns of numbers, so that millions fit into memory.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from callama.contract.messages import Conversation
from callama.data.groups import Indices, link

Side = Literal["train", "validation", "straddles_split", "near_duplicate_across_split", "over_mix", "other_split"]
SIDES: tuple[Side, ...] = ("train", "validation")
LEFT_OUT: Mapping[Side, str] = {
    "straddles_split": "shows functions of both sides",
    "near_duplicate_across_split": "nearly the same as conversations of the other side",
    "over_mix": "its source has more conversations than its share in --mix",
    "other_split": "labels.split says neither train nor validation, and of other conversations it does",
}
PLACES: tuple[Side, ...] = (*SIDES, *LEFT_OUT)
"""Where a row can go; a column of sides holds indices into this."""
TRAIN, VALIDATION, STRADDLES, NEAR, OVER_MIX, OTHER = range(len(PLACES))
LABEL = "split"
UNLABELLED, OTHER_LABEL = -1, -2
OVERFILL = 1.1
"""How far a side may go beyond its quota."""
Sides = NDArray[np.int8]


@dataclass(frozen=True)
class Rows:
    """What the split knows of n conversations.

    ``functions`` are indices into the sorted ``names``, those of row i at ``bounds[i]:bounds[i + 1]``, none
    twice; ``near`` names each row's group of near-duplicates (``near.near_groups``); ``labels`` index
    ``SIDES``, or are ``UNLABELLED`` or ``OTHER_LABEL`` (``held_out``, ``test``).
    """

    names: Sequence[str]
    functions: NDArray[np.int32]
    bounds: Indices
    near: NDArray[np.uint64]
    labels: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.near)

    @property
    def counts(self) -> Indices:
        """How many functions each row has."""
        return np.diff(self.bounds)

    def where(self, chosen: NDArray[np.bool_]) -> Rows:
        """The chosen rows alone."""
        functions = self.functions[np.repeat(chosen, self.counts)]
        bounds = np.append(0, np.cumsum(self.counts[chosen]))
        return Rows(self.names, functions, bounds, self.near[chosen], self.labels[chosen])

    def count_in(self, chosen: NDArray[np.bool_]) -> Indices:
        """How many of each row's functions are among the chosen of ``names``."""
        running: Indices = np.append(0, np.cumsum(chosen[self.functions]))
        return running[self.bounds[1:]] - running[self.bounds[:-1]]


@dataclass(frozen=True)
class Split:
    """Where each row goes, as indices into ``PLACES``, and how that was found."""

    sides: Sides
    method: str


def functions_of(conversation: Conversation) -> frozenset[str]:
    """Every function that a conversation shows or calls."""
    return frozenset([t.name for t in conversation.tools] + conversation.called())


def split(rows: Rows, val_ratio: float, seed: int) -> Split:
    """Assigns every conversation to a side; the same for any order of equal rows and one seed.

    Where labels say ``train`` of some conversations and ``validation`` of others, they are believed
    (``callama synth`` writes them, because there one tool appears under several names), and the rest is
    drawn so that it shares no function with the other side's; near-duplicates of the other side are left
    out all the same. Where only one of the two is said, all that is not labelled otherwise is drawn. What
    is labelled otherwise is left out in both cases: a test set is not trained on.
    """
    labels = set(np.unique(rows.labels).tolist())
    if {TRAIN, VALIDATION} <= labels:
        return _by_label(rows, val_ratio, seed)
    if OTHER_LABEL in labels and not labels.isdisjoint((TRAIN, VALIDATION)):
        asked = rows.labels != OTHER_LABEL
        drawn = split(rows.where(asked), val_ratio, seed)
        sides = np.full(len(rows), OTHER, np.int8)
        sides[asked] = drawn.sides
        return Split(sides, drawn.method)
    everything = np.full(len(rows), TRAIN, np.int8)
    if val_ratio <= 0:
        return Split(everything, "no validation asked for")
    drawn = _draw(rows, val_ratio, seed)
    sides = _without_near(drawn.sides, rows)
    with_functions = set(np.unique(sides[rows.counts > 0]).tolist())
    if with_functions and not {TRAIN, VALIDATION} <= with_functions:
        return Split(everything, f"none: {_why_none(rows, val_ratio, seed)}")
    return Split(sides, drawn.method)


def _why_none(rows: Rows, val_ratio: float, seed: int) -> str:
    """Why no function can be held out: the ratio is too small for the smallest group, or there are no two groups."""
    nodes = _Nodes(rows)
    for with_near in (True, False):
        sizes = _groups(rows, nodes, with_near)[1]
        least, total = int(sizes[sizes > 0].min()), int(sizes.sum())
        ratio = math.ceil(100 * least / (OVERFILL * total)) / 100
        sides = _whole_groups(rows, nodes, with_near, ratio, seed) if val_ratio < ratio < 1 else None
        if sides is not None and {TRAIN, VALIDATION} <= set(np.unique(_without_near(sides, rows)[rows.counts > 0])):
            return (
                f"no group of functions is small enough for a ratio of {val_ratio:g}; the smallest has {least:,} of "
                f"{total:,} conversations with functions: --val-ratio {ratio:g} would hold it out"
            )
    return "every way to hold a function out leaves one side without functions"


def _by_label(rows: Rows, val_ratio: float, seed: int) -> Split:
    free = rows.labels == UNLABELLED
    sides = np.where(rows.labels == OTHER_LABEL, np.int8(OTHER), rows.labels)
    if not free.any():
        return Split(_without_near(sides, rows), "by label")
    drawn = split(rows.where(free), val_ratio, seed)
    sides[free] = drawn.sides
    for side, other in ((TRAIN, VALIDATION), (VALIDATION, TRAIN)):
        shown = np.zeros(len(rows.names), np.bool_)
        shown[rows.where(rows.labels == other).functions] = True
        sides[free & (sides == side) & (rows.count_in(shown) > 0)] = STRADDLES
    return Split(_without_near(sides, rows), f"by label, the rest {drawn.method}")


def _draw(rows: Rows, val_ratio: float, seed: int) -> Split:
    """The finest way that holds enough out: whole groups with near-duplicates, without them, single functions."""
    nodes = _Nodes(rows)
    for method, with_near in (("by group of functions and near-duplicates", True), ("by group of functions", False)):
        if (sides := _whole_groups(rows, nodes, with_near, val_ratio, seed)) is not None:
            return Split(sides, method)
    return Split(_by_function(rows, nodes, val_ratio, seed), "by function, straddling conversations left out")


class _Nodes:
    """What groups are made of: functions and near-duplicates, numbered in the order of their names, so that a
    group's least number has its least name. ``of_name`` and ``of_near`` are the numbers of each name and of each
    row's near-duplicates."""

    def __init__(self, rows: Rows) -> None:
        self._names = rows.names
        self._groups, group_of_row = np.unique(rows.near, return_inverse=True)
        self._first = bisect_left(rows.names, self._name_of_group(0))
        place = np.arange(len(rows.names))
        self.of_name: Indices = place + len(self._groups) * (place >= self._first)
        self.of_near: Indices = self._first + group_of_row

    def __len__(self) -> int:
        return len(self._names) + len(self._groups)

    @staticmethod
    def _name_of_group(group: int) -> str:
        return f"near {group:016x}"  # no function's name has a space

    def _name(self, node: int) -> str:
        behind = node - self._first
        if 0 <= behind < len(self._groups):
            return self._name_of_group(self._groups[behind])
        return self._names[node if behind < 0 else node - len(self._groups)]

    def in_order(self, nodes: Indices, seed: int) -> Indices:
        """The nodes in an order that looks random but follows from seed and names."""
        digests = bytearray()
        for node in nodes.tolist():
            digests += hashlib.sha256(f"{seed}:{self._name(node)}".encode()).digest()[:16]
        high, low = np.frombuffer(digests, ">u8").reshape(-1, 2).T
        return nodes[np.lexsort((low, high))]

    def take(self, sizes: Indices, quota: float, seed: int) -> NDArray[np.bool_]:
        """Marks nodes until their sizes fill the quota; one that would overfill it is passed over."""
        taken = np.zeros(len(self), np.bool_)
        filled = 0
        for node in self.in_order(np.flatnonzero(sizes), seed).tolist():
            if filled + sizes[node] <= quota * OVERFILL:
                taken[node] = True
                filled += sizes[node]
        return taken


def _whole_groups(rows: Rows, nodes: _Nodes, with_near: bool, val_ratio: float, seed: int) -> Sides | None:
    """The sides, with whole groups held out; None where groups are too large to fill half of the quota.

    Groups with functions and groups of plain chat are drawn apart, so that neither stands in for the other.
    """
    group, sizes, plain = _groups(rows, nodes, with_near)
    quota = val_ratio * int(sizes.sum())
    held = nodes.take(sizes, quota, seed)
    if sizes.any() and (sizes[held].sum() < quota / 2 or held.sum() == (sizes > 0).sum()):
        return None
    held |= nodes.take(plain, val_ratio * int(plain.sum()), seed)
    return np.where(held[group], VALIDATION, TRAIN).astype(np.int8)


def _groups(rows: Rows, nodes: _Nodes, with_near: bool) -> tuple[Indices, Indices, Indices]:
    """Each row's group, and how many rows each node's group has: of those with functions, and of plain chat."""
    shows = rows.counts > 0
    functions = nodes.of_name[rows.functions]
    first = nodes.of_near.copy()
    first[shows] = functions[rows.bounds[:-1][shows]]
    least = np.arange(len(nodes))
    link(least, np.repeat(first, rows.counts), functions)
    if with_near:
        link(least, first, nodes.of_near)
    group = least[first]
    with_functions = np.zeros(len(nodes), np.bool_)
    with_functions[group[shows]] = True
    sizes = np.bincount(group, minlength=len(nodes))
    return group, np.where(with_functions, sizes, 0), np.where(with_functions, 0, sizes)


def _by_function(rows: Rows, nodes: _Nodes, val_ratio: float, seed: int) -> Sides:
    shows = rows.counts > 0
    uses = np.bincount(nodes.of_name[rows.functions], minlength=len(nodes))
    held = nodes.take(uses, val_ratio * int(shows.sum()), seed)
    if not held.any() and (uses > 0).sum() > 1:
        rarest = np.flatnonzero(uses == uses[uses > 0].min())
        held[nodes.in_order(rarest, seed)[0]] = True
    inside = rows.count_in(held[nodes.of_name])
    sides = np.where(inside == 0, TRAIN, np.where(inside == rows.counts, VALIDATION, STRADDLES)).astype(np.int8)
    plain = np.bincount(nodes.of_near[~shows], minlength=len(nodes))
    chat = nodes.take(plain, val_ratio * int(plain.sum()), seed)
    sides[~shows & chat[nodes.of_near]] = VALIDATION
    return sides


def _without_near(sides: Sides, rows: Rows) -> Sides:
    """Where near-duplicates stand on both sides, the fewer of them are left out (of equally many, training's)."""
    groups, of_row = np.unique(rows.near, return_inverse=True)
    trained, held = (np.bincount(of_row[sides == side], minlength=len(groups)) for side in (TRAIN, VALIDATION))
    fewer = np.where(trained <= held, TRAIN, VALIDATION)
    out = sides.copy()
    out[((trained > 0) & (held > 0))[of_row] & (fewer[of_row] == sides)] = NEAR
    return out
