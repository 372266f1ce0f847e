"""``callama consolidate``: what DeepSpeed's processes hold in parts becomes one adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from callama.cli.common import print_json
from callama.common.files import read_manifest
from callama.weights.shards import consolidate as consolidate_shards


def consolidate(
    checkpoint: Annotated[Path, typer.Argument(help="A DeepSpeed checkpoint, or its job's folder (newest is taken).")],
    out: Annotated[Path, typer.Argument(help="Folder to write, in PEFT's layout.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Join the parts of a ZeRO checkpoint into one LoRA adapter, running no code of its files.

    Example: callama consolidate checkpoints/ds_llama3_fc checkpoints/converted_lora_state
    """
    numbers = consolidate_shards(checkpoint, out)
    if as_json:
        print_json({"folder": str(out), "parameters": numbers, **read_manifest(out)})
    else:
        print(f"{out}: an adapter of {numbers:,} parameters")
