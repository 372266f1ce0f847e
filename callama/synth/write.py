"""Data sets from the engine: a file to train and validate on, and a test set about held-out tools. Processes
make groups of conversations by their numbers, so that their number changes nothing but the time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from callama.common.errors import UsageError
from callama.common.files import atomic_folder
from callama.common.parallel import ordered_map
from callama.common.progress import Meter
from callama.contract.messages import dump_line
from callama.synth.catalogue import FOLDER, Side, load_catalogue
from callama.synth.engine import GROUP_SIZE, group
from callama.synth.scenarios import shares

TRAIN, HELD_OUT = "train.jsonl", "held_out.jsonl"
_CHUNK = 600  # conversations that a worker makes at once


@dataclass(frozen=True)
class _Chunk:
    """Conversations ``start`` to ``stop`` of one side; ``start`` opens a group."""

    side: Side
    seed: int
    start: int
    stop: int
    weights: Mapping[str, float]
    folder: Path
    split: str = ""


def _lines(chunk: _Chunk) -> list[tuple[str, str]]:
    """The scenario and the line of each conversation of a chunk."""
    size = GROUP_SIZE[chunk.side]
    out: list[tuple[str, str]] = []
    for number in range(chunk.start // size, -(-chunk.stop // size)):
        for made in group(number, chunk.seed, side=chunk.side, weights=chunk.weights, folder=chunk.folder):
            labels = {**made.labels, "split": chunk.split} if chunk.split else made.labels
            out.append((str(made.labels["scenario"]), dump_line(replace(made, labels=labels))))
    return out[: chunk.stop - chunk.start]


def _chunks(count: int, chunk: _Chunk) -> Iterator[_Chunk]:
    for start in range(0, count, _CHUNK):
        yield replace(chunk, start=start, stop=min(start + _CHUNK, count))


def write_sets(
    out: Path,
    count: int,
    held_out_count: int,
    *,
    val_ratio: float,
    seed: int,
    scenarios: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    workers: int = 1,
    folder: Path = FOLDER,
) -> dict[str, dict[str, int]]:
    """Writes ``train.jsonl`` (each conversation labelled ``split``: train or validation) and ``held_out.jsonl``;
    returns the number of conversations by file and scenario.

    Args:
        out: the folder.
        count: conversations to train and validate on, ``val_ratio`` of them for validation.
        held_out_count: conversations about held-out tools.
        val_ratio: between 0 and 1.
        seed: of the random choices.
        scenarios: names to draw from; all by default.
        weights: how often scenarios occur, in place of their default weights.
        workers: processes; the files are the same for any number.
        folder: the catalogue.

    Raises:
        UsageError: an unknown scenario, a negative weight or a negative count.
        CallamaError: the catalogue is damaged, or no tool of a side can play a scenario.
    """
    chosen = shares(scenarios, weights)
    if min(count, held_out_count) < 0:
        raise UsageError(f"the count must not be negative, found {min(count, held_out_count)}")
    load_catalogue(folder)
    validation = round(count * val_ratio)

    def part(side: Side, number: int, split: str = "") -> list[_Chunk]:
        return list(_chunks(number, _Chunk(side, seed, 0, 0, chosen, folder, split)))

    sets = {
        TRAIN: part("train", count - validation, "train") + part("validation", validation, "validation"),
        HELD_OUT: part("held_out", held_out_count),
    }
    report: dict[str, dict[str, int]] = {}
    with (
        atomic_folder(out, {"kind": "conversations", "seed": seed}) as target,
        Meter("writing", count + held_out_count, "conversations") as meter,
    ):
        for name, chunks in sets.items():
            counts: Counter[str] = Counter()
            with (target / name).open("w", encoding="utf-8") as file:
                for lines in ordered_map(_lines, chunks, workers):
                    for scenario, line in lines:
                        file.write(line + "\n")
                        counts[scenario] += 1
                    meter.advance(len(lines))
            report[name] = dict(sorted(counts.items()))
    return report
