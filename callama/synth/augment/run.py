"""A file of cleaned conversations in, a file of new ones out; what an audit refuses is counted and put aside.

Every record gets one change, drawn from its number and the seed among those that fit, so that the
number of workers changes nothing. The tools that serve as distractors are taken from the same file.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from callama.common.errors import CallamaError, UsageError
from callama.common.files import atomic_file, require_file
from callama.common.parallel import available_cores, ordered_map
from callama.common.progress import Meter
from callama.contract.messages import Conversation, Tool, dump_line
from callama.data.audit import check_made
from callama.data.quarantine import DropError, quarantine_line
from callama.data.read import conversation_of
from callama.data.reasons import Drop
from callama.data.records import Record, decoded, read_records
from callama.synth.augment.changes import CHANGES, joined

PARALLEL = "parallel"
SCENARIOS = (*CHANGES, PARALLEL)
BATCH = 200
MAX_POOL = 300


@dataclass
class Augmented:
    """What a batch, or all of them, gave: ``read`` = ``made`` + ``drops`` + ``unfit``."""

    read: int = 0
    lines: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)
    made: Counter[str] = field(default_factory=Counter)
    drops: Counter[str] = field(default_factory=Counter)
    unfit: int = 0

    def count(self, other: Augmented) -> None:
        """Adds the counts of a batch, not its lines."""
        self.read += other.read
        self.made += other.made
        self.drops += other.drops
        self.unfit += other.unfit


def augment_file(
    source: Path, out: Path, *, scenarios: Sequence[str] | None = None, seed: int = 1, workers: int | None = None
) -> dict[str, Any]:
    """Writes ``out`` (JSON Lines, new conversations only), ``OUT.quarantine.jsonl`` and ``OUT.report.json``; returns
    the report.

    Raises:
        UsageError: no such file, an unknown scenario, or ``out`` is the source.
        CallamaError: no record is a conversation (``callama clean`` makes them), or nothing was made.
    """
    require_file(source, "cleaned conversations")
    names = list(dict.fromkeys(scenarios)) if scenarios is not None else list(SCENARIOS)
    if not names:
        raise UsageError(f"no scenario given; known: {', '.join(SCENARIOS)}")
    if unknown := [n for n in names if n not in SCENARIOS]:
        raise UsageError(f"unknown scenario {unknown[0]!r}; known: {', '.join(SCENARIOS)}")
    places = [out, out.with_name(f"{out.name}.quarantine.jsonl"), out.with_name(f"{out.name}.report.json")]
    if any(place.exists() and place.samefile(source) for place in places):
        raise UsageError(f"{out}: the source itself would be overwritten; choose another file to write")
    pool = _pool(source, seed)
    aside: list[str] = []
    faults: Counter[str] = Counter()
    total = Augmented()
    with (
        atomic_file(places[0]) as to_out, atomic_file(places[1]) as to_quarantine, atomic_file(places[2]) as to_report,
    ):  # fmt: skip
        with (
            to_out.open("w", encoding="utf-8") as file, to_quarantine.open("w", encoding="utf-8") as quarantine,
            Meter("augmenting", None, "conversations") as meter,
        ):  # fmt: skip
            work = partial(augment_batch, scenarios=names, seed=seed, pool=pool)
            for done in ordered_map(work, _batches(source, aside, faults), workers or available_cores()):
                file.writelines(f"{line}\n" for line in done.lines)
                quarantine.writelines(f"{line}\n" for line in done.quarantined)
                total.count(done)
                meter.advance(done.read, f"{total.made.total():,} made")
            quarantine.writelines(f"{line}\n" for line in aside)
        total.read += faults.total()
        total.drops += faults
        report = {
            "source": str(source), "seed": seed, "read": total.read, "made": dict(sorted(total.made.items())),
            "dropped": dict(sorted(total.drops.items())), "nothing_fits": total.unfit,
        }  # fmt: skip
        if not total.made:
            raise CallamaError(
                f"{source}: nothing could be made of {total.read:,} conversations "
                f"({total.drops.total():,} refused by the audits, {total.unfit:,} to which no change fits)"
            )
        to_report.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def _pool(source: Path, seed: int) -> list[Tool]:
    """Up to 300 of the file's different tools, each with the same chance.

    Raises:
        CallamaError: no record is a conversation: what is wrong with the first.
    """
    rng, seen = random.Random(f"{seed}:pool"), set[str]()
    out: list[Tool] = []
    first_fault: CallamaError | None = None
    count = 0
    for record in read_records(source):
        try:
            conversation = conversation_of(source, record)
        except CallamaError as error:
            first_fault = first_fault or error
            continue
        count += 1
        for tool in conversation.tools:
            if tool.name in seen:
                continue
            seen.add(tool.name)
            if len(out) < MAX_POOL:
                out.append(tool)
            elif (place := rng.randrange(len(seen))) < MAX_POOL:
                out[place] = tool
    if first_fault and not count:
        raise first_fault
    return out


def _batches(source: Path, aside: list[str], faults: Counter[str]) -> Iterator[list[tuple[int, Conversation]]]:
    """The conversations with their numbers; what is none is put ``aside`` for the quarantine."""
    numbered = _numbered(source, aside, faults)
    while batch := list(islice(numbered, BATCH)):
        yield batch


def _numbered(source: Path, aside: list[str], faults: Counter[str]) -> Iterator[tuple[int, Conversation]]:
    for record in read_records(source):
        try:
            yield record.number, conversation_of(source, record)
        except CallamaError as error:
            reason = Drop.WRONG_SHAPE
            faults[reason.value] += 1
            aside.append(quarantine_line(decoded(record), DropError(reason, str(error))))


def augment_batch(
    batch: Sequence[tuple[int, Conversation]], scenarios: Sequence[str], seed: int, pool: Sequence[Tool]
) -> Augmented:
    """One change for every conversation of a batch; for a parallel one the next of the batch is the partner."""
    out = Augmented(read=len(batch))
    for position, (number, conversation) in enumerate(batch):
        rng = random.Random(f"{seed}:{number}")
        partners = [other for _, other in batch[position + 1 : position + 6]]
        if (made := _changed(conversation, partners, scenarios, rng, pool)) is None:
            out.unfit += 1
            continue
        name, new = made
        kept = {key: value for key, value in conversation.labels.items() if key in ("split", "side")}
        labels = {**kept, "scenario": name, "augmented_from": number}
        new = Conversation.from_dict(replace(new, labels=labels).to_dict())
        try:
            check_made(new)
        except DropError as error:
            out.drops[error.reason.value] += 1
            out.quarantined.append(quarantine_line(Record(number, f"record {number}", "", new.to_dict()), error))
            continue
        out.lines.append(dump_line(new))
        out.made[name] += 1
    return out


def _changed(
    conversation: Conversation,
    partners: Sequence[Conversation],
    scenarios: Sequence[str],
    rng: random.Random,
    pool: Sequence[Tool],
) -> tuple[str, Conversation] | None:
    """The first that fits, in an order of chance."""
    for name in rng.sample(scenarios, len(scenarios)):
        if name == PARALLEL:
            sides = conversation.labels.get("split"), conversation.labels.get("side")
            for partner in partners:
                same = (partner.labels.get("split"), partner.labels.get("side")) == sides
                if same and (new := joined(conversation, partner, rng)) is not None:
                    return name, new
        elif (new := CHANGES[name](conversation, rng, pool)) is not None:
            return name, new
    return None
