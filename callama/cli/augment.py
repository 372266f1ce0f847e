"""``callama augment``: cleaned conversations become the scenarios that their data lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from callama.cli.common import names_of, print_json
from callama.synth.augment.run import SCENARIOS, augment_file


def augment(
    file: Annotated[Path, typer.Argument(help="Cleaned conversations: .jsonl or .json.")],
    out: Annotated[Path, typer.Option("--out", help="New conversations to write, .jsonl.")],
    scenarios: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,NAME…", help=f"Only these, with commas between them: {', '.join(SCENARIOS)}."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same file.")] = 1,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: all cores.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object.")] = False,
) -> None:
    """Make new conversations of cleaned ones: distractors, refusals, questions, errors, several calls at once.

    Each result passes the audits of cleaned data; what does not goes to OUT.quarantine.jsonl.

    Example: callama augment cleaned.jsonl --out augmented.jsonl
    """
    report = augment_file(file, out, scenarios=names_of(scenarios), seed=seed, workers=workers)
    if as_json:
        print_json(report)
        return
    made = report["made"]
    print(f"{out}: {sum(made.values()):,} conversations: " + ", ".join(f"{k} {v:,}" for k, v in made.items()))
    if dropped := report["dropped"]:
        print(f"{out}.quarantine.jsonl: {sum(dropped.values()):,} refused: "
              + ", ".join(f"{k} {v:,}" for k, v in dropped.items()))  # fmt: skip
    print(f"{report['nothing_fits']:,} of {report['read']:,} conversations fit no change")
