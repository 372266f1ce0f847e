"""``callama merge``: base plus adapter becomes one checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from callama.cli.common import print_json
from callama.common.errors import UsageError
from callama.common.files import read_manifest
from callama.weights.merge import merge_to_folder
from callama.weights.native import DTYPES


def merge(
    base: Annotated[Path, typer.Argument(help="Native checkpoint that the adapter was trained on.")],
    adapter: Annotated[Path, typer.Argument(help="Adapter folder, or a training job's folder (its newest is taken).")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    dtype: Annotated[str | None, typer.Option(help=f"One of {', '.join(DTYPES)}; default: the base's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Add a LoRA adapter to its base, in fp32, and write the merged native checkpoint.

    Example: callama merge models/smollm2-135m checkpoints/demo checkpoints/demo-merged
    """
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"--dtype must be one of {', '.join(DTYPES)}, found {dtype!r}")
    merge_to_folder(base, adapter, out, dtype=dtype)
    if as_json:
        print_json({"folder": str(out), **read_manifest(out)})
    else:
        print(f"{out}: merged")
