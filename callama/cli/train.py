"""``callama train``: fine-tune as a configuration file says."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from callama.cli.common import print_json, status_of
from callama.common.progress import duration
from callama.train.config import load_config
from callama.train.loop import train as run_training
from callama.train.zero import wait_for_all


def train(
    config: Annotated[Path, typer.Argument(help="A JSON file of settings, such as configs/demo.json.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="Settings to change.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove an earlier run's checkpoints and start over.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Fine-tune with LoRA, QLoRA or all weights, as ``method`` in the settings says.

    Example: callama train configs/demo.json train.micro_batch_size=4 scheduler.max_lr=5e-4
    """
    result = run_training(load_config(config, overrides or ()), resume=resume, fresh=fresh)
    if as_json:
        print_json(result)
        end_as_asked(result)
    else:
        print_summary(result)


def end_as_asked(result: dict[str, Any]) -> None:
    """Ends the process with the status of the signal that ended the run, so that no later command takes a part of a
    training for all of it."""
    if result["ended_by"]:
        wait_for_all()  # where one process ends with such a status, a launcher kills the others
        sys.exit(status_of(signal.Signals[result["ended_by"]]))


def print_summary(result: dict[str, Any]) -> None:
    """What came out, in a few lines; then ``end_as_asked``."""
    print_lines(result)
    end_as_asked(result)


def print_lines(result: dict[str, Any]) -> None:
    """What came out, in a few lines."""
    losses = [
        f", {name} loss {result[f'{name}_loss']:.4f}"
        for name in ("train", "validation")
        if result[f"{name}_loss"] is not None
    ]
    print(f"{result['step']} steps in {duration(result['seconds'])}" + "".join(losses))
    print(
        f"{result['tokens_per_second']:,.0f} tokens/s, {result['supervised_tokens_per_second']:,.0f} supervised, "
        f"peak memory {result['peak_memory_bytes'] / 2**30:.2f} GiB"
    )
    print(f"checkpoint: {result['checkpoint'] or 'none, as the settings say'}")
