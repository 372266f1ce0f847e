"""``callama evaluate``: figures of one model, or of two side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from callama.cli.common import print_json
from callama.common.errors import UsageError
from callama.common.files import require_writable, write_json
from callama.evaluate.report import RATES, example, table
from callama.evaluate.run import Evaluation
from callama.evaluate.run import evaluate as run_evaluation


def evaluate(
    suite: Annotated[Path, typer.Argument(help="Conversations; every assistant turn is a case.")],
    model: Annotated[Path, typer.Option("--model", help="Native checkpoint to evaluate ('tuned' in the report).")],
    base: Annotated[Path | None, typer.Option("--base", help="Checkpoint to compare with ('base').")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the report as JSON here.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N conversations.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 160,
    slots: Annotated[int, typer.Option(min=1, help="Requests that are generated side by side.")] = 16,
    examples: Annotated[int, typer.Option(min=0, help="Cases to show verbatim.")] = 6,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Measure how well a model calls functions, with 95 % intervals.

    Example: callama evaluate datasets/demo/held_out.jsonl --model checkpoints/demo-merged --base models/smollm2-135m
    """
    if out is not None:
        if out.is_dir():
            raise UsageError(f"{out} is a folder; name a file for the report")
        require_writable(out.parent)
    models = ({"base": base} if base is not None else {}) | {"tuned": model}
    result = run_evaluation(suite, models, limit=limit, max_new_tokens=max_new_tokens, slots=slots)
    if as_json:
        print_json(result.report)
    else:
        _print(result, suite, examples)
    if out is not None:
        write_json(out, result.report)
        print(f"report: {out}", file=sys.stderr)


def _print(result: Evaluation, suite: Path, examples: int) -> None:
    names = list(result.outcomes)
    console = Console(highlight=False, width=None if Console().is_terminal else 110)
    cases = len(result.outcomes[names[0]])
    console.print(table(f"{suite.name}: {cases} cases", {name: result.report[name] for name in names}))
    for name, meaning in RATES.items():
        console.print(f"  {name:17} {meaning}", markup=False)
    # Spread over the whole suite, so that what is shown was not chosen for its looks.
    shown = min(examples, cases)
    for index in (i * cases // shown for i in range(shown)):
        print("\n" + example({name: result.outcomes[name][index] for name in names}))
