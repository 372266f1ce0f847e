"""``callama clean``: records in any of the known formats become canonical conversations, the rest is quarantined."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from callama.cli.common import print_json
from callama.common import progress
from callama.common.errors import UsageError
from callama.data.clean import CleanResult, clean_files
from callama.data.formats.registry import FORMATS
from callama.data.reasons import Drop
from callama.data.work import Rules

_DEFAULT = Rules()
_SHOWN_KEYS = 12


def clean(
    sources: Annotated[
        list[Path], typer.Argument(help="Files of records: .json lists, .jsonl, .jsonl.gz, .jsonl.zst, Parquet.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Cleaned conversations: .jsonl, or .json for a list.")],
    format_name: Annotated[
        str | None, typer.Option("--format", help=f"{', '.join(FORMATS)}; by default each record shows its own.")
    ] = None,
    mix: Annotated[str, typer.Option(help="Shares of the sources in the output, like 3:1; default: take all.")] = "",
    remove_no_fc: Annotated[
        bool, typer.Option("--remove-no-fc", help="Drop conversations in which no function is called.")
    ] = False,
    keep_tails: Annotated[
        bool, typer.Option("--keep-tails", help="Do not cut last exchanges of thanks and apologies.")
    ] = False,
    balance_endings: Annotated[
        bool, typer.Option("--balance-endings", help="Let conversations end on questions, calls and answers in turn.")
    ] = False,
    keep_duplicates: Annotated[
        bool, typer.Option("--keep-duplicates", help="Do not drop exact and near duplicates.")
    ] = False,
    max_per_phrasing: Annotated[
        int, typer.Option(help="Conversations that may open alike and call the same function; 0: any number.")
    ] = _DEFAULT.max_per_phrasing,
    require_grounded: Annotated[
        bool, typer.Option("--require-grounded", help="Drop calls with arguments that nobody said before.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Draws which endings are cut and who is thinned out.")] = _DEFAULT.seed,
    workers: Annotated[int | None, typer.Option(help="Processes; default: all cores.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Name every dropped row on standard error.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Clean function-calling data; dropped rows go to OUT.quarantine.jsonl, counted by reason.

    Example: callama clean glaive-function-calling-v2.json --out cleaned.jsonl --remove-no-fc
    """
    rules = Rules(
        remove_no_fc=remove_no_fc,
        cut_tails=not keep_tails,
        balance=balance_endings,
        remove_duplicates=not keep_duplicates,
        max_per_phrasing=max_per_phrasing,
        require_grounded=require_grounded,
        seed=seed,
    )
    result = clean_files(
        sources,
        out,
        rules,
        format_name=format_name,
        mix=parse_mix(mix),
        workers=workers,
        on_drop=print_drop if verbose else None,
    )
    if as_json:
        print_json(result.to_dict())
    else:
        print_summary(result)


def parse_mix(text: str) -> list[float]:
    """``"3:1"`` → ``[3.0, 1.0]``; nothing for an empty text.

    Raises:
        UsageError: not numbers with colons between them.
    """
    try:
        return [float(share) for share in text.split(":")] if text else []
    except ValueError:
        raise UsageError(f"--mix must be numbers with colons between them, like 3:1, found {text!r}") from None


def print_drop(number: int, where: str, why: str) -> None:
    """One line on standard error about one dropped record."""
    line = f"row {number} ({where}): {why}".encode("utf-8", "replace").decode()
    progress.console.print(line, markup=False)


def print_summary(result: CleanResult) -> None:
    """The counts on standard output, and where the files are."""
    tally = result.tally
    counted = f"{tally.read:,} read = {tally.kept:,} kept + {tally.dropped:,} dropped"
    table = Table(title=f"{escape(', '.join(source.name for source in result.sources))}: {counted}")
    table.add_column("what")
    table.add_column("count", justify="right")
    table.add_column("meaning", overflow="fold")
    table.add_row("kept", f"{tally.kept:,}", f"of which {tally.with_calls:,} with a call")
    table.add_row("changed", f"{tally.repaired:,}", "kept conversations with at least one repair", end_section=True)
    for title, counts in (("drop", tally.drops), ("repair", tally.repairs)):
        for reason, count in counts.most_common():
            if count:
                table.add_row(f"{title}: {reason.value}", f"{count:,}", reason.sentence)
                if reason is Drop.OVER_MIX:
                    for name, of_source in sorted(tally.over_mix.items()):
                        table.add_row("", f"{of_source:,}", f"from {escape(name)}")
        table.add_section()
    grounds = tally.grounds
    if total := grounds.total():
        share = grounds["ungrounded"] / total
        table.add_row("ungrounded", f"{grounds['ungrounded']:,}", f"of {total:,} arguments ({share:.1%}) were not said")
    console = Console()
    console.print(table)
    if tally.unread:
        shown = [f"{key} {count:,}" for key, count in tally.unread.most_common(_SHOWN_KEYS)]
        more = len(tally.unread) - len(shown)
        line = f"keys not read: {', '.join(shown)}{f' and {more:,} more, in the report' if more else ''}"
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"output      {result.out}", markup=False, soft_wrap=True)
    console.print(f"quarantine  {result.quarantine}", markup=False, soft_wrap=True)
    console.print(f"report      {result.report}", markup=False, soft_wrap=True)
    if not tally.kept:
        progress.console.print(f"warning: nothing was kept; {result.quarantine} says why", markup=False)
