"""Data sets from the engine: a file to train and validate on, and a test set about held-out tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from callama.common.files import atomic_folder
from callama.common.progress import Meter
from callama.contract.messages import Conversation, dump_line
from callama.synth.catalogue import Side
from callama.synth.engine import synthesise

TRAIN, HELD_OUT = "train.jsonl", "held_out.jsonl"


def write_sets(
    out: Path,
    count: int,
    held_out_count: int,
    *,
    val_ratio: float,
    seed: int,
    scenarios: Sequence[str] | None = None,
) -> dict[str, dict[str, int]]:
    """Writes ``train.jsonl`` (each conversation labelled ``split``: train or validation) and ``held_out.jsonl``;
    returns the number of conversations by file and scenario."""
    validation = round(count * val_ratio)

    def side(name: Side, number: int) -> Iterator[Conversation]:
        return synthesise(number, seed, side=name, scenarios=scenarios)

    def labelled() -> Iterator[Conversation]:
        parts: tuple[tuple[Side, int], ...] = (("train", count - validation), ("validation", validation))
        for name, number in parts:
            for conversation in side(name, number):
                yield replace(conversation, labels={**conversation.labels, "split": name})

    sets = {TRAIN: labelled(), HELD_OUT: side("held_out", held_out_count)}
    report: dict[str, dict[str, int]] = {}
    with (
        atomic_folder(out, {"kind": "conversations", "seed": seed}) as folder,
        Meter("writing", count + held_out_count, "conversations") as meter,
    ):
        for name, conversations in sets.items():
            counts: Counter[str] = Counter()
            with (folder / name).open("w", encoding="utf-8") as file:
                for conversation in conversations:
                    file.write(dump_line(conversation) + "\n")
                    counts[str(conversation.labels["scenario"])] += 1
                    meter.advance()
            report[name] = dict(sorted(counts.items()))
    return report
