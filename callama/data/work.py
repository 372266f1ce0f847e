"""A batch of records cleaned: the part of cleaning that runs in every worker process.

It depends on nothing but the records and the rules, so that the outcome is the same wherever and in
whatever company a record is cleaned. What needs a view of the whole file happens in ``select``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from callama.contract.messages import Conversation, dump_line
from callama.data.fingerprint import FEATURES, digest, draw, phrasing, said_text, signatures
from callama.data.formats.registry import clean_record
from callama.data.grounding import Audited, Ground, audit
from callama.data.quarantine import DropError, Reason, quarantine_line
from callama.data.reasons import Drop, Repair
from callama.data.records import Record, decoded
from callama.data.rules import balance_ending, cut_tail

REPAIRS = {repair.value: repair for repair in Repair}


@dataclass(frozen=True)
class Rules:
    """What cleaning does beyond reading and checking; the defaults of the command line."""

    remove_no_fc: bool = False
    cut_tails: bool = True
    balance: bool = False
    remove_duplicates: bool = True
    max_per_phrasing: int = 100
    require_grounded: bool = False
    seed: int = 3


class Batch(NamedTuple):
    """Records of one source, not decoded yet; ``progress`` is the share of it read at their end."""

    records: list[Record]
    source: int
    file: str
    format_name: str | None
    progress: float


class ArgumentKey(NamedTuple):
    """What the audit counts by."""

    function: str
    path: str
    ground: Ground


@dataclass
class Effects:
    """What was changed in a conversation and how its arguments are grounded; can be taken back when
    the conversation is dropped after all."""

    repairs: tuple[Repair, ...] = ()
    grounds: list[ArgumentKey] = field(default_factory=list)
    has_calls: bool = False

    def dumps(self) -> str:
        """As JSON, for the staged line."""
        return json.dumps([self.repairs, self.grounds, self.has_calls])

    @classmethod
    def loads(cls, text: str) -> Effects:
        """What ``dumps`` wrote."""
        repairs, grounds, has_calls = json.loads(text)
        return cls(tuple(REPAIRS[code] for code in repairs), [ArgumentKey(*key) for key in grounds], has_calls)


@dataclass
class Cleaned:
    """A batch's outcome. ``lines`` has one staged line a record, in order: a kept conversation, a tab
    and its effects, or a quarantine entry; ``features`` one row a record."""

    lines: list[bytes]
    features: NDArray[np.void]
    drops: list[tuple[int, str, Reason, str]]
    effects: list[Effects]
    ungrounded: dict[tuple[str, str], tuple[int, str]]
    progress: float


def clean_batch(batch: Batch, rules: Rules) -> Cleaned:
    """Cleans the records of a batch."""
    features = np.zeros(len(batch.records), FEATURES)
    features["source"] = batch.source
    out = Cleaned([], features, [], [], {}, batch.progress)
    texts: list[str] = []
    kept: list[int] = []
    for index, raw in enumerate(batch.records):
        record = decoded(raw)
        try:
            conversation, repairs, audited = _clean(record, batch, rules)
        except DropError as error:
            out.drops.append((record.number, record.where, error.reason, str(error)))
            out.lines.append(quarantine_line(record, error, batch.file).encode() + b"\n")
            continue
        effects = Effects(repairs, [ArgumentKey(*a[:2], a.ground) for a in audited], bool(conversation.called()))
        out.effects.append(effects)
        for argument in audited:
            if argument.ground == "ungrounded":
                out.ungrounded.setdefault(argument[:2], (record.number, repr(argument.value)[:100]))
        out.lines.append(f"{dump_line(conversation)}\t{effects.dumps()}\n".encode())
        text = said_text(conversation)
        texts.append(text)
        kept.append(index)
        row = features[index]
        row["kept"] = True
        row["exact"] = np.frombuffer(digest(text), "<u8")
        row["phrasing"] = np.frombuffer(digest(phrasing(conversation))[:8], "<u8")[0]
    if rules.remove_duplicates and kept:
        features["signature"][kept] = signatures(texts)
    return out


def _clean(record: Record, batch: Batch, rules: Rules) -> tuple[Conversation, tuple[Repair, ...], list[Audited]]:
    conversation, repairs = clean_record(record, batch.format_name)
    if rules.remove_no_fc and not conversation.called():
        raise DropError(Drop.NO_FUNCTION_CALL)
    audited = audit(conversation)
    if rules.require_grounded:
        for argument in audited:
            if argument.ground == "ungrounded":
                detail = f"{argument.function}: {argument.path} was not said before the call"
                raise DropError(Drop.UNGROUNDED_ARGUMENT, detail, repr(argument.value)[:500])
    lot = draw(said_text(conversation), rules.seed) if rules.balance else 0
    changes: list[Repair | None] = []
    if rules.cut_tails:
        conversation, change = cut_tail(conversation)
        changes.append(change)
    if rules.balance:
        conversation, change = balance_ending(conversation, lot)
        changes.append(change)
    if cuts := tuple(change for change in changes if change):
        repairs += cuts
        audited = audit(conversation)
    labels = {**conversation.labels, "repairs": [repair.value for repair in repairs]}
    if batch.file:
        labels["file"] = batch.file
    return replace(conversation, labels=labels), repairs, audited
