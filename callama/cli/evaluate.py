"""``callama evaluate``: figures of one model, or of two side by side."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from callama.cli.common import print_json
from callama.common.errors import UsageError, advised_when_out_of_memory
from callama.common.files import require_file, require_writable, write_json
from callama.evaluate.bfcl.suites import CATEGORIES, load_bfcl
from callama.evaluate.bfcl.wheel import FOLDER
from callama.evaluate.endpoint import ENDPOINT_TOKENS, KEY_VARIABLE, Endpoint
from callama.evaluate.journal import require_own
from callama.evaluate.local import LEAST_TOKENS, LEAST_TOKENS_OF_STEPS, Asked, LocalModel, enough_tokens
from callama.evaluate.model import Model
from callama.evaluate.prose import perplexity, read_prose
from callama.evaluate.rates import ARGUMENTS, RATES
from callama.evaluate.report import example, paired_line, table
from callama.evaluate.run import Evaluation
from callama.evaluate.run import evaluate as run_evaluation
from callama.evaluate.suites import Suite, load_file

_SUITE = f"A conversation file, 'bfcl' or 'bfcl:CATEGORY'; may be repeated. Categories: {', '.join(CATEGORIES)}."
_ENDPOINT = f"OpenAI-compatible server that has the model, such as http://localhost:8000/v1; key in ${KEY_VARIABLE}."

_LONGEST = (
    "Longest answer, in tokens. Default: what the longest wanted call needs and a quarter more, "
    f"at least {LEAST_TOKENS} ({LEAST_TOKENS_OF_STEPS} for multi-turn dialogues); {ENDPOINT_TOKENS} for an endpoint."
)


def evaluate(
    files: Annotated[list[str] | None, typer.Argument(metavar="[SUITE]...", help="The same as --suite.")] = None,
    model: Annotated[str, typer.Option("--model", help="Native checkpoint, or the endpoint's model; 'tuned'.")] = "",
    base: Annotated[Path | None, typer.Option("--base", help="Checkpoint to compare with ('base').")] = None,
    adapter: Annotated[
        Path | None, typer.Option("--adapter", help="LoRA folder on top of --model, applied without merging.")
    ] = None,
    constrained: Annotated[
        bool, typer.Option("--constrained", help="Allow only text or calls that fit the offered tools.")
    ] = False,
    suite: Annotated[list[str] | None, typer.Option("--suite", help=_SUITE)] = None,
    endpoint: Annotated[str | None, typer.Option("--endpoint", help=_ENDPOINT)] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Report as JSON; answers are kept beside it.")] = None,
    text: Annotated[Path | None, typer.Option("--text", help="Plain text to measure perplexity on.")] = None,
    bfcl: Annotated[Path, typer.Option("--bfcl", help="Where `callama pull bfcl` put the benchmark.")] = FOLDER,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N conversations of a suite.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help=_LONGEST)] = None,
    slots: Annotated[int, typer.Option(min=1, help="Requests that are answered side by side.")] = 16,
    examples: Annotated[int, typer.Option(min=0, help="Cases of each suite to show verbatim.")] = 6,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Measure how well a model calls functions, with 95 % intervals. A run with --out that was interrupted goes
    on where it stopped.

    Example: callama evaluate datasets/demo/held_out.jsonl --model checkpoints/demo-merged --base models/smollm2-135m
    """
    names = [*(files or ()), *(suite or ())]
    if not names or not model:
        raise UsageError(f"{'--model is' if names else 'a suite is'} missing; see `callama evaluate --help`")
    if out is not None:
        if out.is_dir():
            raise UsageError(f"{out} is a folder; name a file for the report")
        require_writable(out.parent)
        require_own(out)
    if text is not None:
        require_file(text, "plain text")
    suites = _load(names, bfcl, limit)
    if endpoint is not None and (adapter is not None or constrained):
        raise UsageError("--adapter and --constrained are for checkpoints here, not for --endpoint")
    if text is not None and endpoint is not None and base is None:
        raise UsageError(
            "--text measures checkpoints here: a server behind --endpoint gives no probabilities of a text"
        )
    given = max_new_tokens
    if max_new_tokens is None:
        folders = [*([base] if base else ()), *([Path(model)] if endpoint is None else ())]
        cases = [case for suite in suites for case in suite.cases]
        needs = [enough_tokens(folder, cases) for folder in folders]
        max_new_tokens = max(needs + ([ENDPOINT_TOKENS] if endpoint else []))
    asked: Asked = {"max_new_tokens": max_new_tokens, "slots": slots, "constrained": constrained}
    checkpoints = {"base": LocalModel(base, **asked)} if base is not None else {}
    models: dict[str, Model] = {**checkpoints}
    if endpoint is None:
        checkpoints["tuned"] = LocalModel(Path(model), **asked, adapter=adapter)
        models["tuned"] = checkpoints["tuned"]
    else:
        models["tuned"] = Endpoint(endpoint, model, max_new_tokens=max_new_tokens, slots=slots)
    if checkpoints and given is not None:
        _warn_of_long_calls(suites, next(iter(checkpoints.values())))
    texts = {name: read_prose(checkpoint, text) for name, checkpoint in checkpoints.items()} if text else {}
    with advised_when_out_of_memory(_how_to_take_less(slots, out)):
        result = run_evaluation(suites, models, out=out)
    tuned = models["tuned"]
    temperature = tuned.temperature if isinstance(tuned, Endpoint) else 0.0
    report = result.report | {
        "decoding": {"temperature": temperature, "constrained": constrained, "max_new_tokens": max_new_tokens}
    }
    if out is not None:  # before anything is printed: who reads it may be gone
        write_json(out, report)
    if text is not None:
        report["text"] = {name: perplexity(checkpoints[name], prose) for name, prose in texts.items()}
        if out is not None:
            write_json(out, report)
    if as_json:
        print_json(report)
    else:
        _print(result, report, examples)
    if out is not None:
        print(f"report: {out}", file=sys.stderr)


def _load(names: list[str], bfcl: Path, limit: int | None) -> list[Suite]:
    suites: list[Suite] = []
    for name in names:
        suites += load_bfcl(name, bfcl, limit) if name.partition(":")[0] == "bfcl" else [load_file(Path(name), limit)]
    if len({suite.name for suite in suites}) < len(suites):
        raise UsageError(f"two suites have the same name: {', '.join(suite.name for suite in suites)}; rename one")
    for suite in suites:
        if broken := sum(suite.facts["broken_records"].values()):
            print(f"{suite.name}: {broken} broken records left out: {suite.facts['broken_records']}", file=sys.stderr)
    return suites


def _how_to_take_less(slots: int, out: Path | None) -> str:
    fewer = f"give fewer --slots than {slots}" if slots > 1 else "leave out the conversations with the longest prompts"
    kept = "" if out is None else f"; the answers so far are kept beside {out} and are not asked for again"
    return f"{fewer}, or take a device with more memory{kept}"


def _warn_of_long_calls(suites: list[Suite], checkpoint: LocalModel) -> None:
    for suite in suites:
        if lengths := checkpoint.calls_too_long(suite.cases):
            limit = f"--max-new-tokens {checkpoint.max_new_tokens}"
            print(
                f"{suite.name}: the wanted calls of {len(lengths)} of {len(suite.cases)} cases are longer than {limit} "
                f"and cannot be given; the longest needs {max(lengths)}",
                file=sys.stderr,
            )


def _print(result: Evaluation, report: Mapping[str, Any], examples: int) -> None:
    console = Console(highlight=False, width=None if Console().is_terminal else 110)
    present: set[str] = set()
    for suite, outcomes in result.outcomes.items():
        figures: Mapping[str, Any] = report.get("suites", {suite: report})[suite]
        columns = {name: figures[name] for name in outcomes}
        cases = len(next(iter(outcomes.values())))
        console.print(table(f"{suite}: {cases} cases", columns))
        if "paired" in figures:
            first, second = outcomes
            console.print(f"  {paired_line((first, second), figures['paired'])}", markup=False, soft_wrap=True)
        present |= {name for name in RATES if any(c[name]["count"] for c in columns.values())}
        present |= {name for name in ARGUMENTS if any(c["arguments"][name]["count"] for c in columns.values())}
        # Spread over the whole suite, so that what is shown was not chosen for its looks.
        shown = min(examples, cases)
        for index in (i * cases // shown for i in range(shown)):
            print("\n" + example({name: of[index] for name, of in outcomes.items()}))
    print()
    for name, meaning in {**RATES, **ARGUMENTS}.items():
        if name in present:
            console.print(f"  {name:17} {meaning}", markup=False)
    for name, found in report.get("text", {}).items():
        interval = f"[{found['low']:.2f}, {found['high']:.2f}]"
        console.print(f"  {found['file']}: perplexity of {name} {found['perplexity']:.2f} {interval}, "
                      f"{found['bits_per_byte']:.3f} bits per byte", markup=False, soft_wrap=True)  # fmt: skip
