"""``callama clean``: raw glaive rows become canonical conversations, everything else is quarantined."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from callama.cli.common import print_json
from callama.common import progress
from callama.data.clean import CleanResult, clean_file
from callama.data.quarantine import DropError
from callama.data.records import Record


def clean(
    source: Annotated[Path, typer.Argument(help="Raw glaive rows: a .json list or .jsonl of {system, chat}.")],
    out: Annotated[Path, typer.Option("--out", help="Cleaned conversations: .jsonl, or .json for a list.")],
    remove_no_fc: Annotated[
        bool, typer.Option("--remove-no-fc", help="Drop conversations in which no function is called.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Name every dropped row on standard error.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Clean raw glaive-function-calling-v2 rows; dropped rows go to OUT.quarantine.jsonl, counted by reason.

    Example: callama clean glaive-function-calling-v2.json --out cleaned.jsonl --remove-no-fc
    """
    result = clean_file(source, out, remove_no_fc=remove_no_fc, on_drop=print_drop if verbose else None)
    if as_json:
        print_json(result.to_dict())
    else:
        print_summary(result)


def print_drop(record: Record, error: DropError) -> None:
    """One line on standard error about one dropped record."""
    line = f"row {record.number} ({record.where}): {error}".encode("utf-8", "replace").decode()
    progress.console.print(line, markup=False)


def print_summary(result: CleanResult) -> None:
    """The counts on standard output, and where the files are."""
    tally = result.tally
    counted = f"{tally.read:,} read = {tally.kept:,} kept + {tally.dropped:,} dropped"
    table = Table(title=f"{escape(result.source.name)}: {counted}")
    table.add_column("what")
    table.add_column("count", justify="right")
    table.add_column("meaning", overflow="fold")
    table.add_row("kept", f"{tally.kept:,}", f"of which {tally.with_calls:,} with a call")
    table.add_row("repaired", f"{tally.repaired:,}", "kept conversations with at least one repair", end_section=True)
    for title, counts in (("drop", tally.drops), ("repair", tally.repairs)):
        for reason, count in counts.most_common():
            table.add_row(f"{title}: {reason.value}", f"{count:,}", reason.sentence)
        table.add_section()
    console = Console()
    console.print(table)
    console.print(f"output      {result.out}", markup=False, soft_wrap=True)
    console.print(f"quarantine  {result.quarantine}", markup=False, soft_wrap=True)
    console.print(f"report      {result.report}", markup=False, soft_wrap=True)
    if not tally.kept:
        progress.console.print(f"warning: nothing was kept; {result.quarantine} says why", markup=False)
