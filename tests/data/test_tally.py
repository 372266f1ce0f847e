"""Counts of the parts of a run add up, every one of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

from callama.data.reasons import Drop, Repair
from callama.data.tally import Tally


def part(count: int) -> Tally:
    """Built of every field that there is, so that a new one cannot be forgotten."""
    return Tally(
        read=4 * count, kept=3 * count, with_calls=2 * count, repaired=count,
        drops=Counter({Drop.OVER_MIX: count}), repairs=Counter({Repair.APOSTROPHE: count}),
        over_mix=Counter({"a.json": count}), unread=Counter({"notes": count}),
        arguments=Counter({("f", "a", "words"): count}), ungrounded={("f", "a"): (7, "'x'")},
    )  # fmt: skip


def test_a_sum_lacks_no_count() -> None:
    assert all(getattr(part(1), field.name) for field in fields(Tally)), "a new count: give it to part()"
    total = part(1)
    total.add(part(2))
    assert total == part(3)
