"""Data sets about a user's own functions, without a model: the catalogue's scenarios, generic sentences, and
every conversation through the audits of cleaned data.

The work is cut into chunks whose seeds depend on the seed and their number alone, so that any number
of workers writes the same bytes. What an audit refuses is replaced within its chunk.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from callama.synth.catalogue import Side, load_catalogue
from callama.synth.engine import group, synthesise
from callama.synth.own import write_own_catalogue
from callama.synth.scenarios import shares
from callama.synth.stage import NoSceneError
from callama.synth.write import HELD_OUT, TRAIN
from callama.tools.loaded import Loaded, Remark

QUARANTINE, REPORT = "quarantine.jsonl", "report.json"
CHUNK = 300
# Conversations tried for each that is wanted, before a chunk gives up.
_SPARE: Mapping[Side, int] = {"train": 6, "validation": 24, "held_out": 12}
_LEAST_TRIED = 600  # a function without parameters has few requests, and hardly one of them may be a small side's
# A request belongs to one side by what it says, so that no side has a request of another.
_SHARES: Mapping[Side, range] = {"train": range(5), "validation": range(5, 6), "held_out": range(6, 8)}
_LEAST_TOOLS = {"choice": 2, "parallel_different": 2, "long_list": 12}
_MAX_SAID_CHARS = 600
_TRIED_GROUPS = 4


class Unusable(Reason):
    """Why a made conversation is refused, beside the audits' reasons."""

    TOO_FEW_TOOLS = "too_few_tools", "Fewer functions could be shown than the scenario needs."
    RECITED = (
        "recited",
        f"The assistant says more than {_MAX_SAID_CHARS} characters: a list that nobody would read out.",
    )
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
    asked_for = shares(scenarios, weights)
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
        remarks = [*loaded.remarks, *write_own_catalogue(loaded, Path(temporary))]
        chosen = {name: weight for name, weight in asked_for.items() if _playable(name, seed, Path(temporary))}
        if not chosen:
            raise _cannot_play(asked_for)
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
            "files": files, "calls": {s.name: total.calls[s.name] for s in load_catalogue(Path(temporary)).specs},
            "not_played": [name for name in scenarios or () if name not in chosen],
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


def _cannot_play(names: Iterable[str]) -> CallamaError:
    named = sorted(names)
    why = "some scenarios need more than one function, or one with required parameters"
    if named == ["languages"]:
        why = "own functions are asked for in English only"
    return CallamaError(f"no function can play {', '.join(named)}: {why}")


def _playable(name: str, seed: int, folder: Path) -> bool:
    for number in range(_TRIED_GROUPS):
        try:
            made = group(number, seed, side="held_out", weights={name: 1.0}, folder=folder)
        except NoSceneError:
            return False
        if all(len(conversation.tools) >= _LEAST_TOOLS.get(name, 0) for conversation in made):
            return True
    return False


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
            max(_SPARE[chunk.side] * chunk.wanted, _LEAST_TRIED),
            chunk.seed,
            side=chunk.side,
            scenarios=list(chunk.weights),
            weights=chunk.weights,
            folder=chunk.folder,
        ):
            if len(out.lines) == chunk.wanted:
                return out
            if _share(conversation) in _SHARES[chunk.side]:
                tried += 1
                _take(conversation, chunk, out)
    except NoSceneError:
        raise _cannot_play(chunk.weights) from None
    if len(out.lines) < chunk.wanted:
        worst = "; ".join(f"{reason}: {number}" for reason, number in out.drops.most_common(3))
        raise CallamaError(f"only {len(out.lines)} of {tried} conversations pass the audits ({worst})")
    return out


def _share(conversation: Conversation) -> int:
    """Which eighth of all requests the first one belongs to; letter case and punctuation do not count."""
    said = next(message.content or "" for message in conversation.messages if message.role == "user")
    bare = " ".join(re.findall(r"\w+", said.casefold()))
    return hashlib.blake2b(bare.encode(), digest_size=1).digest()[0] % 8


def _take(conversation: Conversation, chunk: Chunk, out: Outcome) -> None:
    scenario = str(conversation.labels["scenario"])
    if chunk.side != "held_out":
        conversation = replace(conversation, labels={**conversation.labels, "split": chunk.side})
    try:
        if not conversation.tools and scenario != "no_tools":
            raise DropError(Unusable.NO_TOOLS)
        if len(conversation.tools) < _LEAST_TOOLS.get(scenario, 0):
            raise DropError(Unusable.TOO_FEW_TOOLS, f"{len(conversation.tools)} for {scenario}")
        if any(m.role == "assistant" and len(m.content or "") > _MAX_SAID_CHARS for m in conversation.messages):
            raise DropError(Unusable.RECITED)
        check_made(conversation)
    except DropError as error:
        out.drops[error.reason.value] += 1
        record = Record(len(out.lines), f"{chunk.side}, seed {chunk.seed}", "", conversation.to_dict())
        out.quarantined.append(quarantine_line(record, error))
        return
    out.lines.append(dump_line(conversation))
    out.scenarios[scenario] += 1
    out.calls.update(conversation.called())
