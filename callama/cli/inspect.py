"""``callama inspect``: what training will see, token by token, or a page about the whole data set."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.rule import Rule

from callama.cli.paint import legend, painted
from callama.common.errors import UsageError
from callama.common.parallel import available_cores
from callama.data.dataset import Dataset
from callama.data.look.check import conversation_fault, conversation_runs, example_fault
from callama.data.look.runs import Run, runs_of
from callama.data.look.source import Source, open_source
from callama.data.read import read_conversations


def inspect(
    file: Annotated[Path, typer.Argument(help="Conversations (.jsonl, .json), a built folder or an .arrow file.")],
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", help="Needed for conversations; a built data set names its own.")
    ] = None,
    record: Annotated[int, typer.Option(help="The first record (of each side) to show, counted from 0.")] = 0,
    limit: Annotated[int, typer.Option(help="How many records (of each side) to show.")] = 3,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page about the whole file instead.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that read for the page. 0: one per core.")] = 0,
) -> None:
    """Show conversations with the supervised tokens coloured by kind, or write a page about all of them.

    Example: callama inspect datasets/demo-built --html datasets/demo-built.html
    """
    if record < 0 or limit < 1:
        raise UsageError(f"--record must be at least 0 and --limit at least 1, found {record} and {limit}")
    source = open_source(file, tokenizer)
    if html is not None:
        # The page's libraries are loaded only where a page is asked for.
        from callama.common.html.page import require_page_place, write_page
        from callama.data.look.page import page
        from callama.data.look.survey import survey

        require_page_place(html)
        write_page(html, page(survey(source, workers or available_cores())))
        print(f"page: {html}")
        return
    console = Console(soft_wrap=True, highlight=False)
    if source.built:
        shown = [row for side in source.sides for row in _rows(source, side, record, limit)]
    else:
        shown = _conversations(source, record, limit)
    if not shown:
        raise UsageError(f"{file} has no record {record}")
    console.print(legend())
    for title, fault, runs in shown:
        console.print(Rule(title, align="left", style="bold"))
        console.print(painted(runs))
        verdict, style = (f"✗ {fault}", "bold red") if fault else ("✓ reads back as what was meant", "green")
        console.print(verdict, markup=False, style=style)


def _conversations(source: Source, first: int, limit: int) -> list[tuple[str, str, list[Run]]]:
    taken = islice(enumerate(read_conversations(source.path)), first, first + limit)
    return [
        (f"record {number}", conversation_fault(c, source.renderer), conversation_runs(c, source.renderer))
        for number, c in taken
    ]


def _rows(source: Source, side: str, first: int, limit: int) -> list[tuple[str, str, list[Run]]]:
    data, out = Dataset(source.sides[side]), []
    for index in range(first, min(first + limit, len(data))):
        example = data[index]
        trained = int(example.supervised.sum())
        title = f"{side} {index} (record {example.source}) · {len(example.input_ids):,} tokens, {trained:,} supervised"
        title += f" · {example.cut_tokens:,} cut off" if example.cut_tokens else ""
        runs = runs_of(example.input_ids, example.kinds, example.supervised, source.renderer.tokenizer)
        out.append((title, example_fault(example, source.renderer), runs))
    return out
