"""``callama synth``: training conversations from the catalogue of tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from callama.cli.common import print_json
from callama.common.errors import UsageError
from callama.common.parallel import available_cores
from callama.synth.write import write_sets


def _weight(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        return name, float(number)
    except ValueError:
        raise UsageError(f"--weight {text}: expected NAME=NUMBER, e.g. --weight parallel_same=30") from None


def synth(
    out: Annotated[Path, typer.Option("--out", help="Folder for train.jsonl and held_out.jsonl.")],
    count: Annotated[int, typer.Option(min=1, help="Conversations to train and validate on.")] = 4000,
    held_out_count: Annotated[int, typer.Option(min=0, help="Conversations on tools that training never sees.")] = 120,
    val_ratio: Annotated[float, typer.Option(min=0, max=0.9, help="Share with tools kept for validation.")] = 0.05,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 1,
    scenario: Annotated[list[str] | None, typer.Option(help="Only these scenarios (repeat the option).")] = None,
    weight: Annotated[
        list[str] | None, typer.Option(metavar="NAME=N", help="How often a scenario occurs (repeat the option).")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object.")] = False,
) -> None:
    """Write conversations about the catalogue's tools, and a test set about held-out ones.

    A scenario's weight is its share among the weights of all; 0 leaves it out. docs/scenarios.md lists them.

    Example: callama synth --count 4000 --seed 1 --weight parallel_same=30 --out datasets/demo
    """
    report = write_sets(
        out, count, held_out_count, val_ratio=val_ratio, seed=seed, scenarios=scenario,
        weights=dict(map(_weight, weight or ())), workers=workers or available_cores(),
    )  # fmt: skip
    if as_json:
        print_json(report)
        return
    for name, counts in report.items():
        total = sum(counts.values())
        print(f"{out / name}: {total:,} conversations: " + ", ".join(f"{k} {v:,}" for k, v in counts.items()))
