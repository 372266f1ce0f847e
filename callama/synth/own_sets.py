"""Data sets about a user's own functions, without a model: the catalogue's scenarios, generic sentences, and
every conversation through the audits of cleaned data.

The work is cut into chunks whose seeds depend on the seed and their number alone, so that any number
of workers writes the same bytes. What an audit refuses is replaced within its chunk.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from callama.common.errors import CallamaError
from callama.common.files import atomic_folder, require_replaceable
from callama.common.parallel import available_cores, ordered_map
from callama.common.progress import Meter
from callama.contract.messages import Conversation, dump_line
from callama.data.audit import check_made
from callama.data.quarantine import DropError, Reason, quarantine_line
from callama.data.records import Record
from callama.synth.catalogue import Side
from callama.synth.engine import synthesise
from callama.synth.own import write_own_catalogue
from callama.synth.scenarios import shares
from callama.synth.stage import NoSceneError
from callama.synth.write import HELD_OUT, TRAIN
from callama.tools.loaded import Loaded, Remark

QUARANTINE, REPORT = "quarantine.jsonl", "report.json"
CHUNK = 300
_SPARE = 3  # conversations tried for each that is wanted, before a chunk gives up


class Unusable(Reason):
    """Why a made conversation is refused, beside the audits' reasons."""

    NO_TOOLS = "no_tools_left", "No function could be shown beside the one that is absent."


class Chunk(NamedTuple):
    """A part of one file: which conversations, and the catalogue that they are made from."""

    side: Side
    wanted: int
    seed: int
    weights: Mapping[str, float]
    folder: Path


@dataclass
class Outcome:
    """What a chunk, or all of them, gave."""

    lines: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)
    scenarios: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    drops: Counter[str] = field(default_factory=Counter)

    def count(self, other: Outcome) -> None:
        """Adds the counts of a chunk, not its lines."""
        self.scenarios += other.scenarios
        self.calls += other.calls
        self.drops += other.drops


def write_own_sets(
    out: Path,
    loaded: Loaded,
    count: int,
    held_out_count: int,
    *,
    val_ratio: float,
    seed: int,
    scenarios: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Writes ``train.jsonl`` (labelled ``split``), ``held_out.jsonl`` (the same functions, other requests),
    ``quarantine.jsonl`` and ``report.json`` into the folder ``out``; returns the report.

    Raises:
        UsageError: an unknown scenario, or ``out`` is not ours to replace.
        CallamaError: no function can be used, or none can play the scenarios.
    """
    require_replaceable(out)
    chosen = shares(scenarios, weights)
    validation = round(count * val_ratio)
    parts: dict[str, list[tuple[Side, int]]] = {
        TRAIN: [("train", count - validation), ("validation", validation)], HELD_OUT: [("held_out", held_out_count)],
    }  # fmt: skip
    total = Outcome()
    files: dict[str, dict[str, int]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="callama-own-") as temporary,
        atomic_folder(out, {"kind": "conversations", "seed": seed}) as folder,
        Meter("writing", count + held_out_count, "conversations") as meter,
        (folder / QUARANTINE).open("w", encoding="utf-8") as quarantine,
    ):
        remarks = [*loaded.remarks, *write_own_catalogue(loaded.tools, Path(temporary))]
        for name, sides in parts.items():
            counts: Counter[str] = Counter()
            with (folder / name).open("w", encoding="utf-8") as file:
                chunks = _chunks(sides, seed, chosen, Path(temporary))
                for outcome in ordered_map(play, chunks, workers or available_cores()):
                    file.writelines(f"{line}\n" for line in outcome.lines)
                    quarantine.writelines(f"{line}\n" for line in outcome.quarantined)
                    counts += outcome.scenarios
                    total.count(outcome)
                    meter.advance(len(outcome.lines))
            files[name] = dict(sorted(counts.items()))
        report = {
            "files": files, "calls": {t.name: total.calls[t.name] for t in loaded.tools},
            "dropped": dict(sorted(total.drops.items())), **remarks_report(remarks),
        }  # fmt: skip
        (folder / REPORT).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return report


def remarks_report(remarks: Sequence[Remark]) -> dict[str, Any]:
    """What could not be used, and what else the user should know of, in the report's form."""
    return {
        "unused_functions": [str(remark) for remark in remarks if remark.lost],
        "remarks": [str(remark) for remark in remarks if not remark.lost],
    }


def _chunks(
    sides: Sequence[tuple[Side, int]], seed: int, weights: Mapping[str, float], folder: Path
) -> Iterator[Chunk]:
    for side, count in sides:
        for number, start in enumerate(range(0, count, CHUNK)):
            yield Chunk(side, min(CHUNK, count - start), seed * 1_000_003 + number, weights, folder)


def play(chunk: Chunk) -> Outcome:
    """The conversations of a chunk that pass the audits.

    Raises:
        UsageError: an unknown scenario.
        CallamaError: no function can play the scenarios, or hardly anything passes.
    """
    out, tried = Outcome(), 0
    try:
        for conversation in synthesise(
            _SPARE * chunk.wanted,
            chunk.seed,
            side=chunk.side,
            scenarios=list(chunk.weights),
            weights=chunk.weights,
            folder=chunk.folder,
        ):
            if len(out.lines) == chunk.wanted:
                return out
            tried += 1
            _take(conversation, chunk, out)
    except NoSceneError:
        named = ", ".join(chunk.weights)
        raise CallamaError(f"no function can play {named}: some scenarios need more than one function") from None
    if len(out.lines) < chunk.wanted:
        worst = "; ".join(f"{reason}: {number}" for reason, number in out.drops.most_common(3))
        raise CallamaError(f"only {len(out.lines)} of {tried} conversations pass the audits ({worst})")
    return out


def _take(conversation: Conversation, chunk: Chunk, out: Outcome) -> None:
    scenario = str(conversation.labels["scenario"])
    if chunk.side != "held_out":
        conversation = replace(conversation, labels={**conversation.labels, "split": chunk.side})
    try:
        if not conversation.tools and scenario != "no_tools":
            raise DropError(Unusable.NO_TOOLS)
        check_made(conversation)
    except DropError as error:
        out.drops[error.reason.value] += 1
        record = Record(len(out.lines), f"{chunk.side}, seed {chunk.seed}", "", conversation.to_dict())
        out.quarantined.append(quarantine_line(record, error))
        return
    out.lines.append(dump_line(conversation))
    out.scenarios[scenario] += 1
    out.calls.update(conversation.called())
