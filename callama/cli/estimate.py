"""``callama estimate``: what a run will need in memory and time, before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from callama.cli.common import print_json
from callama.common.errors import CallamaError
from callama.common.progress import duration
from callama.train.ds_config import load_any_config
from callama.train.estimate import GIB, Estimate, refusal
from callama.train.estimate import estimate as estimate_run


def estimate(
    config: Annotated[Path, typer.Argument(help="A JSON file of settings, for callama train or ds_finetune.py.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="Settings to change.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Estimate memory and time of a training run. Exit status 1 where it cannot fit, with what would make it fit.

    The device is that of hardware.memory_gib where the settings have it, otherwise this machine's; only for
    this machine's the time is measured, on one block of the model.

    Example: callama estimate configs/llama3_8b_24gb.json model_config.max_seq_len=4096
    """
    settings = load_any_config(config, overrides or ())
    found = estimate_run(settings, timed=True)
    if as_json:
        print_json(found.as_dict())
    else:
        _print(found)
        if found.device == "cpu" and not settings.train.recompute:
            print("on a CPU malloc keeps freed memory, in long runs as much again and more: see docs/training.md")
    if not found.fits:
        raise CallamaError(refusal(found))


def _print(found: Estimate) -> None:
    of = f"each of {found.devices} devices" if found.devices > 1 else "the device"
    conversations = sum(max(1, len(document) - 1) for document in found.load.documents)
    print(f"memory of {of} ({found.device}) at a micro-batch of {found.load.tokens:,} tokens in {conversations} pieces")
    for name, size in {"program": found.program, **found.parts}.items():
        if size:
            print(f"  {name:12} {size / GIB:8.2f} GiB")
    word = "fits" if found.fits else "does not fit"
    print(f"  {'peak':12} {found.peak / GIB:8.2f} GiB of {found.available / GIB:.1f} GiB: {word} (not all at once)")
    if found.seconds_per_step is not None:
        low, high = found.seconds_per_step
        whole = ""
        if found.seconds is not None and found.limited is not None and found.steps is not None:
            least, most = found.seconds
            whole = f", {found.steps:,} steps"
            if found.validation is not None:
                shortest, longest = found.validation
                whole += f" and {found.validations} validations of {shortest:.1f} to {longest:.1f} s"
            whole += f": {duration(least)} to {duration(most)}"
            if found.max_minutes is not None and found.limited[1] > 60 * found.max_minutes:
                ends = "ends" if found.limited[0] > 60 * found.max_minutes else "may end"
                whole += f" (train.max_minutes {ends} it after {found.max_minutes:g} minutes, with fewer steps)"
        left_out = "answers to validation.questions, checkpoints" if found.validation else "checkpoints"
        if found.devices > 1:
            left_out += ", the processes' talking to each other"
        print(f"time: {low:.2f} to {high:.2f} s a step{whole}; from one block measured here, without {left_out}")
