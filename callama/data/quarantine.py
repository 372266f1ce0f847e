"""What a data step does with a record that it cannot keep: a reason, counted, and the record put aside.

Nothing is lost in silence: each step names its reasons in an enum of codes with one sentence each,
and every dropped record stands in a quarantine file beside the output, with the fragment at fault.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import IO, Any, Self

from callama.data.records import Record

MAX_FRAGMENT_CHARS = 2_000


class Reason(StrEnum):
    """A code with a sentence that explains it to the person who reads the report."""

    sentence: str

    def __new__(cls, code: str, sentence: str) -> Self:
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member


class DropError(Exception):
    """A record cannot be kept. Never leaves a data step: it becomes a line of the quarantine file."""

    def __init__(self, reason: Reason, detail: str = "", fragment: str = "") -> None:
        super().__init__(f"{reason}: {detail or reason.sentence}")
        self.reason, self.detail, self.fragment = reason, detail, fragment


@dataclass
class Tally:
    """Counts of a step: ``read`` is always ``kept`` plus the sum of ``drops``."""

    read: int = 0
    kept: int = 0
    with_calls: int = 0
    repaired: int = 0
    drops: Counter[Reason] = field(default_factory=Counter)
    repairs: Counter[Reason] = field(default_factory=Counter)

    @property
    def dropped(self) -> int:
        """Records in the quarantine file."""
        return self.drops.total()

    def to_dict(self) -> dict[str, Any]:
        """The report's form: most frequent first, each code with its sentence."""
        return {
            "read": self.read,
            "kept": self.kept,
            "kept_with_calls": self.with_calls,
            "kept_after_repair": self.repaired,
            "dropped": self.dropped,
            "drops": _explained(self.drops),
            "repairs": _explained(self.repairs),
        }


def _explained(counts: Mapping[Reason, int]) -> dict[str, Any]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {reason.value: {"count": count, "meaning": reason.sentence} for reason, count in ordered}


def quarantine_line(record: Record, error: DropError) -> str:
    """One JSON Lines entry: where the record stood, why it was dropped, and the record itself."""
    entry: dict[str, Any] = {"row": record.number, "where": record.where, "reason": error.reason.value}
    entry["detail"] = error.detail or error.reason.sentence
    entry["fragment"] = error.fragment[:MAX_FRAGMENT_CHARS]
    if record.fault:
        return json.dumps({**entry, "text": record.raw})
    try:
        return json.dumps({**entry, "record": record.value}, allow_nan=False)
    except (RecursionError, ValueError):  # too deep for the writer, or a number beyond a double's range
        return json.dumps({**entry, "text": record.raw})


def write_quarantined(file: IO[str], record: Record, error: DropError) -> None:
    """Appends the entry of one dropped record."""
    file.write(quarantine_line(record, error) + "\n")
