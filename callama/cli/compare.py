"""``callama compare``: what improved and what got worse between two evaluations."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from callama.cli.common import print_json
from callama.common.html.page import write_page
from callama.common.terminal import printable
from callama.evaluate.compare import Comparison, Pair, Row
from callama.evaluate.compare import compare as compare_reports
from callama.evaluate.look.page import page
from callama.evaluate.report import cell, paired_line


def compare(
    first: Annotated[Path, typer.Argument(metavar="A.json", help="Report of `callama evaluate`.")],
    second: Annotated[Path | None, typer.Argument(metavar="B.json", help="Another; without it, A's base.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write one self-contained page here.")] = None,
    examples: Annotated[int, typer.Option(min=0, help="Regressions to show verbatim.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object.")] = False,
) -> None:
    """Compare two models case by case: the tested ones of two reports, or base and tuned of one.

    Example: callama compare checkpoints/demo-report.json --html checkpoints/demo-report.html
    """
    found = compare_reports(first, second)
    if html is not None:
        write_page(html, page(found))
        print(f"page: {html}", file=sys.stderr)
    if as_json:
        places = {name: [[p.suite, p.first["case"]] for p in of] for name, of in
                  (("worse", found.worse), ("better", found.better))}  # fmt: skip
        counts = {"cases": len(found.pairs), "alone": found.alone, "failed": found.failed}
        print_json({"names": found.names, **counts, **found.test, **places})
        return
    console = Console(highlight=False, width=None if Console().is_terminal else 110)
    console.print(_table("right turns by suite", [row for _, row, _ in found.by_suite()], found))
    console.print(_table("right turns by scenario", found.by_scenario(), found))
    console.print(_table("right arguments of matched calls by type", found.by_argument_type(), found, each=True))
    console.print(paired_line(found.names, found.test), markup=False, soft_wrap=True)
    if found.alone:
        console.print(f"{found.alone} answers to cases that only one of them has were left out")
    if found.left_out:
        failed = ", ".join(f"{count:,} by {name}" for count, name in zip(found.failed, found.names, strict=True))
        said = f"{found.left_out:,} cases that not both answered were left out (failed: {failed})"
        console.print(said, markup=False, soft_wrap=True)
    for pair in found.worse[:examples]:
        print(f"\n{_verbatim(pair, found.names)}")
    if len(found.worse) > examples:
        print(f"\n{len(found.worse) - examples} more got worse; --html shows every one")


def _table(title: str, rows: list[Row], found: Comparison, *, each: bool = False) -> Table:
    """Both models' rates over the same cases; with ``each``, over what is counted of each by itself."""
    out = Table("", title=title, title_justify="left")
    if not each:
        out.add_column("cases", justify="right")
    for name in found.names:
        if each:
            out.add_column("count", justify="right")
        out.add_column(escape(f"{name}  [95 % interval]"), justify="right")
    for row in rows:
        first, second = str(row.first["count"]), str(row.second["count"])
        cells = (
            (first, cell(row.first), second, cell(row.second)) if each else (first, cell(row.first), cell(row.second))
        )
        out.add_row(escape(row.name), *cells)
    return out


def _verbatim(pair: Pair, names: tuple[str, str]) -> str:
    first, second = pair.first, pair.second
    return printable(
        f"worse: {pair.suite}, case {first['case']} [{first['scenario']}]\n  asked   {first['request']}\n"
        f"  wanted  {first['wanted']}\n  ✓ {names[0]}: {first['said']}\n  ✗ {names[1]}: {second['said']}"
    )
