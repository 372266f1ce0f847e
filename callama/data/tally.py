"""The counts of a cleaning run, and the report made of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from callama.contract.messages import Conversation
from callama.data.grounding import GROUNDS, Audited, Ground
from callama.data.quarantine import Reason
from callama.data.reasons import Drop, Repair

# What arguments are counted by: function, path, ground. A plain tuple, because thousands go between processes.
ArgumentKey = tuple[str, str, Ground]
MAX_KEYS = 200  # names of keys that are counted one by one; data may have a new one in every record
OTHER_KEYS = "other keys"
REPAIRS = {repair.value: repair for repair in Repair}


@dataclass
class Tally:
    """Counts of a run or a part of it: ``read`` is always ``kept`` plus the sum of ``drops``.

    ``over_mix`` counts by source what was beyond its share, ``unread`` by name the keys that no format
    reads, in records that passed their checks; ``ungrounded`` has the first value of each
    function's argument that nobody said, with its row.
    """

    read: int = 0
    kept: int = 0
    with_calls: int = 0
    repaired: int = 0
    drops: Counter[Reason] = field(default_factory=Counter)
    repairs: Counter[Reason] = field(default_factory=Counter)
    over_mix: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    arguments: Counter[ArgumentKey] = field(default_factory=Counter)
    ungrounded: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)

    @property
    def dropped(self) -> int:
        """Records in the quarantine file."""
        return self.drops.total()

    def keep(self, conversation: Conversation, audited: Sequence[Audited]) -> None:
        """Counts a conversation as kept; its ``labels`` name its repairs."""
        self._count(conversation, audited, 1)
        for function, path, value, ground in audited:
            if ground == "ungrounded":
                example = (int(conversation.labels["row"]), repr(value)[:100])
                self.ungrounded.setdefault((function, path), example)

    def drop_after_all(self, conversation: Conversation, audited: Sequence[Audited], reason: Reason) -> None:
        """Takes back a conversation that was counted as kept."""
        self._count(conversation, audited, -1)
        self.drops[reason] += 1
        if reason is Drop.OVER_MIX:
            self.over_mix[conversation.labels["file"]] += 1

    def _count(self, conversation: Conversation, audited: Sequence[Audited], sign: int) -> None:
        repairs = conversation.labels["repairs"]
        self.kept += sign
        self.with_calls += sign * any(message.tool_calls for message in conversation.messages)
        self.repaired += sign * bool(repairs)
        for code in repairs:
            self.repairs[REPAIRS[code]] += sign
        for function, path, _, ground in audited:
            self.arguments[function, path, ground] += sign

    def add(self, other: Tally) -> None:
        """Adds the counts of a later part."""
        self.read += other.read
        self.kept += other.kept
        self.with_calls += other.with_calls
        self.repaired += other.repaired
        self.drops.update(other.drops)
        self.repairs.update(other.repairs)
        for key, count in other.unread.items():
            self.unread[key if key in self.unread or len(self.unread) < MAX_KEYS else OTHER_KEYS] += count
        self.over_mix.update(other.over_mix)
        self.arguments.update(other.arguments)
        for argument, example in other.ungrounded.items():
            self.ungrounded.setdefault(argument, example)

    @property
    def grounds(self) -> Counter[str]:
        """Scalar arguments of kept calls by how they are grounded."""
        totals: Counter[str] = Counter()
        for (_, _, ground), count in self.arguments.items():
            totals[ground] += count
        return totals

    def to_dict(self) -> dict[str, Any]:
        """The report's form: most frequent first, each code with its sentence."""
        return {
            "read": self.read,
            "kept": self.kept,
            "kept_with_calls": self.with_calls,
            "kept_after_repair": self.repaired,
            "dropped": self.dropped,
            "drops": explained(self.drops),
            "over_mix_by_source": dict(sorted(self.over_mix.items())),
            "repairs": explained(self.repairs),
            "keys_not_read": dict(self.unread.most_common()),
            "grounding": self._grounding(),
        }

    def _grounding(self) -> dict[str, Any]:
        functions: dict[str, Counter[str]] = defaultdict(Counter)
        for (function, _, ground), count in self.arguments.items():
            functions[function][ground] += count
        examples: dict[str, dict[str, Any]] = defaultdict(dict)
        for (function, path), (row, value) in self.ungrounded.items():
            examples[function][path] = {"row": row, "value": value}
        worst = sorted(functions, key=lambda name: (-functions[name]["ungrounded"], name))
        return {
            "arguments": {ground: self.grounds[ground] for ground in GROUNDS},
            "functions": {name: _function(functions[name], examples[name]) for name in worst},
        }


def _function(counts: Counter[str], examples: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {ground: counts[ground] for ground in GROUNDS if counts[ground]}
    return {**out, "examples_of_ungrounded": examples} if counts["ungrounded"] else out


def explained(counts: Mapping[Reason, int]) -> dict[str, Any]:
    """Reasons with count and sentence, most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {reason.value: {"count": count, "meaning": reason.sentence} for reason, count in ordered if count}
