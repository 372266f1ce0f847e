"""``callama evaluate``: figures of one model, or of two side by side."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from callama.cli.common import print_json
from callama.common.errors import UsageError
from callama.common.files import require_writable, write_json
from callama.evaluate.local import LocalModel
from callama.evaluate.rates import ARGUMENTS, RATES
from callama.evaluate.report import example, paired_line, table
from callama.evaluate.run import Evaluation, Model
from callama.evaluate.run import evaluate as run_evaluation
from callama.evaluate.suites import Suite, load_file


def evaluate(
    suites: Annotated[list[str] | None, typer.Argument(metavar="SUITE...", help="Conversation files.")] = None,
    model: Annotated[str, typer.Option("--model", help="Native checkpoint to evaluate ('tuned' in the report).")] = "",
    base: Annotated[Path | None, typer.Option("--base", help="Checkpoint to compare with ('base').")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Report as JSON; answers are kept beside it.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N conversations of a suite.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 160,
    slots: Annotated[int, typer.Option(min=1, help="Requests that are answered side by side.")] = 16,
    examples: Annotated[int, typer.Option(min=0, help="Cases of each suite to show verbatim.")] = 6,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Measure how well a model calls functions, with 95 % intervals. A run with --out that was interrupted goes
    on where it stopped.

    Example: callama evaluate datasets/demo/held_out.jsonl --model checkpoints/demo-merged --base models/smollm2-135m
    """
    if not suites:
        raise UsageError("no suite to test on; name a conversation file")
    if out is not None:
        if out.is_dir():
            raise UsageError(f"{out} is a folder; name a file for the report")
        require_writable(out.parent)
    loaded = _load(suites, limit)
    folders = ({"base": base} if base is not None else {}) | {"tuned": Path(model)}
    models: dict[str, Model] = {
        name: LocalModel(folder, max_new_tokens=max_new_tokens, slots=slots) for name, folder in folders.items()
    }
    result = run_evaluation(loaded, models, out=out)
    report = result.report | {"decoding": {"temperature": 0.0, "constrained": False, "max_new_tokens": max_new_tokens}}
    if as_json:
        print_json(report)
    else:
        _print(result, examples)
    if out is not None:
        write_json(out, report)
        print(f"report: {out}", file=sys.stderr)


def _load(names: list[str], limit: int | None) -> list[Suite]:
    suites = [load_file(Path(name), limit) for name in names]
    if len({suite.name for suite in suites}) < len(suites):
        raise UsageError(f"two suites have the same name: {', '.join(suite.name for suite in suites)}; rename one")
    for suite in suites:
        if broken := sum(suite.facts.get("broken_records", {}).values()):
            print(f"{suite.name}: {broken} broken records left out: {suite.facts['broken_records']}", file=sys.stderr)
    return suites


def _print(result: Evaluation, examples: int) -> None:
    console = Console(highlight=False, width=None if Console().is_terminal else 110)
    shown_rates: set[str] = set()
    for suite, outcomes in result.outcomes.items():
        figures: Mapping[str, Any] = result.report.get("suites", {suite: result.report})[suite]
        columns = {name: figures[name] for name in outcomes}
        cases = len(next(iter(outcomes.values())))
        console.print(table(f"{suite}: {cases} cases", columns))
        if "paired" in figures:
            first, second = outcomes
            console.print(f"  {paired_line((first, second), figures['paired'])}", markup=False, soft_wrap=True)
        shown_rates |= {name for name in RATES if any(c[name]["count"] for c in columns.values())}
        # Spread over the whole suite, so that what is shown was not chosen for its looks.
        shown = min(examples, cases)
        for index in (i * cases // shown for i in range(shown)):
            print("\n" + example({name: of[index] for name, of in outcomes.items()}))
    for name, meaning in {**RATES, **ARGUMENTS}.items():
        if name in shown_rates or name in ARGUMENTS:
            console.print(f"  {name:17} {meaning}", markup=False)
