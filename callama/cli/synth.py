"""``callama synth``: training conversations from the catalogue of tools, or about functions of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from callama.cli.common import names_of, print_json
from callama.common import progress
from callama.common.errors import CallamaError, UsageError
from callama.common.files import require_writable
from callama.common.parallel import available_cores
from callama.common.places import require_apart, require_kind
from callama.evaluate.endpoint import KEY_VARIABLE
from callama.synth.own_sets import QUARANTINE, write_own_sets
from callama.synth.write import write_sets
from callama.teach.run import Teaching, teach
from callama.tools.load import load_tools

_SHOWN = 10
_MOST = 100_000_000
_MOST_WEIGHT = 1e6


def _weight(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        weight = float(number)
    except ValueError:
        raise UsageError(f"--weight {text}: expected NAME=NUMBER, e.g. --weight parallel_same=30") from None
    if not 0 <= weight <= _MOST_WEIGHT:
        raise UsageError(f"--weight {text}: expected a number from 0 to {_MOST_WEIGHT:,.0f}")
    return name, weight


def synth(
    out: Annotated[Path, typer.Option("--out", help="Folder for train.jsonl and held_out.jsonl.")],
    count: Annotated[int, typer.Option(min=1, max=_MOST, help="Conversations to train and validate on.")] = 4000,
    held_out_count: Annotated[
        int, typer.Option(min=0, max=_MOST, help="Conversations on tools that training never sees.")
    ] = 120,
    held_out_each: Annotated[
        int | None,
        typer.Option(
            min=1, max=_MOST, help="In place of --held-out-count: so many of every scenario that these tools can play."
        ),
    ] = None,
    val_ratio: Annotated[float, typer.Option(min=0, max=0.9, help="Share with tools kept for validation.")] = 0.05,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 1,
    scenarios: Annotated[
        list[str] | None, typer.Option(metavar="NAME,NAME…", help="Only these scenarios, with commas between them.")
    ] = None,
    weight: Annotated[
        list[str] | None, typer.Option(metavar="NAME=N", help="How often a scenario occurs (repeat the option).")
    ] = None,
    tools: Annotated[
        list[Path] | None,
        typer.Option(
            help="Your own functions in place of the catalogue's: an OpenAI list of tools, an MCP tools/list reply, an "
            "OpenAPI 3 document or a Python module, which is imported and so runs (repeat the option)."
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores by default.")] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help=f"With --tools: an OpenAI-compatible server that writes --count and --held-out-count conversations, "
            f"at two requests each; a key is taken from {KEY_VARIABLE}."
        ),
    ] = None,
    teacher_model: Annotated[
        str | None, typer.Option(help="The teacher's name on its server; default: default.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0, help="Requests a minute to the teacher, at most; no limit by default.")
    ] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Requests to the teacher at one time; default: 4.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object.")] = False,
) -> None:
    """Write conversations about the catalogue's tools, and a test set about held-out ones; or about your own functions.

    A scenario's weight is its share among the weights of all; 0 leaves it out. docs/scenarios.md lists them. With
    --tools, a scenario of --scenarios that these functions cannot play is named, and the exit status is 1.

    Example: callama synth --count 4000 --seed 1 --weight parallel_same=30 --out datasets/demo

    Example: callama synth --tools mine.json --count 2000 --out datasets/mine

    Example: callama synth --tools openapi.yaml --teacher http://localhost:8000/v1 --teacher-model NAME --rate 60
    --count 500 --out datasets/taught
    """
    if teacher is not None and not tools:
        raise UsageError("--teacher writes about your own functions: give them with --tools")
    if teacher is not None and weight:
        raise UsageError("--weight has no effect with --teacher, which takes all scenarios alike; use --scenarios")
    given = {"--teacher-model": teacher_model, "--rate": rate, "--slots": slots}
    if teacher is None and (idle := [name for name, value in given.items() if value is not None]):
        raise UsageError(f"{idle[0]} is for a teacher: give its address with --teacher")
    if held_out_each is not None and tools:
        raise UsageError("--held-out-each is for the catalogue's held-out tools; with --tools use --held-out-count")
    common: dict[str, Any] = {"val_ratio": val_ratio, "seed": seed, "scenarios": names_of(scenarios)}
    weights = dict(map(_weight, weight or ()))
    require_writable(out.parent)
    require_kind(out, "conversations")
    if not tools:
        common |= {"weights": weights, "workers": workers or available_cores(), "held_out_each": held_out_each}
        sets = write_sets(out, count, held_out_count, **common)
        _print(sets, out, as_json)
        return
    require_apart(out, *tools, what="where these tools are")
    loaded = load_tools(tools)
    if teacher is None:
        report = write_own_sets(out, loaded, count, held_out_count, weights=weights, workers=workers, **common)
    else:
        teaching = Teaching(teacher, teacher_model or "default", requests_per_minute=rate or 0, slots=slots or 4)
        report = teach(out, loaded, count, held_out_count, teaching, **common)
    if as_json:
        print_json(report)
    else:
        _print(report["files"], out, as_json)
        _print_remarks(report, out)
    if lacking := report["not_played"]:
        raise CallamaError(f"{out} is written, but holds nothing of these scenarios: {', '.join(lacking)}")


def _print(report: dict[str, dict[str, int]], out: Path, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    for name, counts in report.items():
        total = sum(counts.values())
        print(f"{out / name}: {total:,} conversations: " + ", ".join(f"{k} {v:,}" for k, v in counts.items()))


def _print_remarks(report: dict[str, Any], out: Path) -> None:
    if usage := report.get("teacher"):
        print(
            f"teacher: {usage['requests']:,} requests, {usage['prompt_tokens']:,} tokens read, "
            f"{usage['completion_tokens']:,} written"
            + (f"; {lost:,} without an answer" if (lost := usage["unanswered"]) else "")
        )
    if dropped := report["dropped"]:
        listed = ", ".join(f"{reason} {number:,}" for reason, number in dropped.items())
        print(f"{out / QUARANTINE}: {sum(dropped.values()):,} refused: {listed}")
    for title, key in (("not used", "unused_functions"), ("note", "remarks")):
        for text in report[key][:_SHOWN]:
            progress.console.print(f"{title}: {text}", markup=False)
        if len(report[key]) > _SHOWN:
            progress.console.print(f"{title}: … and {len(report[key]) - _SHOWN:,} more in report.json", markup=False)
    never = [name for name, number in report["calls"].items() if not number]
    # Where nothing is called at all, the scenarios are without calls, and no count would help.
    if 0 < len(never) < len(report["calls"]):
        progress.console.print(f"note: never called: {', '.join(never[:_SHOWN])}; raise --count", markup=False)
