"""A batch of records cleaned: the part of cleaning that runs in every worker process.

It depends on nothing but the records and the rules, so that the outcome is the same wherever and in
whatever company a record is cleaned. What needs a view of the whole file happens in ``select``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from callama.contract.messages import Conversation, dump_line
from callama.data.fingerprint import FEATURES, band_keys, digest, draw, phrasing
from callama.data.formats.dress import unread
from callama.data.formats.registry import clean_record
from callama.data.grounding import Audited, audit
from callama.data.minhash import PLACES, said_text, signatures
from callama.data.quarantine import DropError, quarantine_line
from callama.data.reasons import Drop, Repair
from callama.data.records import MAX_RECORD_CHARS, Record, decoded
from callama.data.rules import balance_ending, cut_tail
from callama.data.tally import Tally


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


@dataclass
class Cleaned:
    """A batch's outcome. ``lines`` has one line a record, in order: a kept conversation or a quarantine
    entry; ``features`` are the bytes of one ``FEATURES`` a record, ``signatures`` those of its MinHash
    signature; ``drops`` names the dropped."""

    lines: bytes
    features: bytes
    signatures: bytes
    tally: Tally
    drops: list[tuple[int, str, str]]
    progress: float


def clean_batch(batch: Batch, rules: Rules) -> Cleaned:
    """Cleans the records of a batch."""
    tally = Tally(read=len(batch.records))
    lines: list[bytes] = []
    drops: list[tuple[int, str, str]] = []
    texts: list[str] = []
    phrasings: list[bytes] = []
    kept: list[int] = []
    for index, raw in enumerate(batch.records):
        record = decoded(raw)
        try:
            conversation, audited = _clean(record, batch, rules)
            line = _line(conversation)
        except DropError as error:
            tally.drops[error.reason] += 1
            drops.append((record.number, record.where, str(error)))
            lines.append(quarantine_line(record, error, batch.file).encode() + b"\n")
            continue
        tally.keep(conversation, audited)
        for key in unread(record.value, conversation.labels["source"]):
            tally.unread[key[:80].encode("utf-8", "replace").decode()] += 1
        lines.append(line.encode() + b"\n")
        texts.append(said_text(conversation))
        phrasings.append(digest(phrasing(conversation))[:8])
        kept.append(index)
    features = np.zeros(len(batch.records), FEATURES)
    signed = np.zeros((len(batch.records), PLACES), np.uint32)
    features["source"] = batch.source
    if kept:
        features["kept"][kept] = True
        features["exact"][kept] = np.frombuffer(b"".join(map(digest, texts)), "<u8").reshape(-1, 2)
        features["phrasing"][kept] = np.frombuffer(b"".join(phrasings), "<u8")
        if rules.remove_duplicates:
            signed[kept] = signatures(texts)
            features["bands"] = band_keys(signed)
    features["line_bytes"] = [len(line) for line in lines]
    return Cleaned(b"".join(lines), features.tobytes(), signed.tobytes(), tally, drops, batch.progress)


def _line(conversation: Conversation) -> str:
    """The conversation as a record that can be read again."""
    line = dump_line(conversation)
    if len(line) > MAX_RECORD_CHARS:
        raise DropError(Drop.RECORD_TOO_LONG, f"{len(line):,} characters when cleaned, written in ASCII")
    return line


def _clean(record: Record, batch: Batch, rules: Rules) -> tuple[Conversation, list[Audited]]:
    conversation, repairs = clean_record(record, batch.format_name)
    if rules.remove_no_fc and not conversation.called():
        raise DropError(Drop.NO_FUNCTION_CALL)
    lot = draw(said_text(conversation), rules.seed) if rules.balance else 0
    changes: list[Repair | None] = []
    if rules.cut_tails:
        conversation, change = cut_tail(conversation)
        changes.append(change)
    if rules.balance:
        conversation, change = balance_ending(conversation, lot)
        changes.append(change)
    audited = audit(conversation)
    if rules.require_grounded:
        for argument in audited:
            if argument.ground == "ungrounded":
                detail = f"{argument.function}: {argument.path} was not said before the call"
                raise DropError(Drop.UNGROUNDED_ARGUMENT, detail, repr(argument.value)[:500])
    labels = {**conversation.labels, "repairs": [repair.value for repair in (*repairs, *filter(None, changes))]}
    if batch.file:
        labels["file"] = batch.file
    return Conversation(conversation.messages, conversation.tools, labels), audited
