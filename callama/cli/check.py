"""``callama check``: the round-trip contract over whole files, for people and for CI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from callama.cli.common import print_json
from callama.cli.paint import painted
from callama.common.parallel import available_cores
from callama.data.look.check import Checked
from callama.data.look.check import check as check_source
from callama.data.look.source import open_source


def check(
    files: Annotated[list[Path], typer.Argument(help="Conversations (.jsonl, .json), built folders or .arrow files.")],
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", help="Needed for conversations; a built data set names its own.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes. 0: one per core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object.")] = False,
) -> None:
    """Check that everything supervised reads back as what was meant; exit status 1 where it does not.

    Example: callama check datasets/demo/train.jsonl datasets/demo-built --tokenizer models/smollm2-135m
    """
    sources = [open_source(file, tokenizer) for file in files]
    console = Console(soft_wrap=True, highlight=False)
    results: dict[str, Checked] = {}
    for source in sources:
        results[str(source.path)] = done = check_source(source, workers or available_cores())
        if not as_json:
            _print(console, source.path, done)
    if as_json:
        print_json({path: done.to_dict() for path, done in results.items()})
    if any(done.offenders for done in results.values()):
        raise typer.Exit(1)


def _print(console: Console, path: Path, done: Checked) -> None:
    answers = ", ".join(f"{kind} {count:,}" for kind, count in sorted(done.answers.items()))
    counts = f"{done.conversations:,} conversations, {done.answers.total():,} answers ({answers})"
    if done.first is None:
        console.print(f"[green]✓[/] {_plain(path)}: {counts}; all read back")
        return
    console.print(f"[bold red]✗[/] {_plain(path)}: {counts}; {done.offenders:,} do not read back")
    console.print(f"first: {done.first.side} {done.first.record}: {done.first.fault}", markup=False, style="red")
    console.print(painted(done.first.runs))


def _plain(path: Path) -> str:
    return str(path).replace("[", "\\[")
