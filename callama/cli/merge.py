"""``callama merge``: base plus adapter becomes one checkpoint, and what that costs is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from callama.cli.common import print_json
from callama.common.errors import UsageError
from callama.common.files import read_manifest
from callama.weights.budget import MergeError
from callama.weights.merge import MAX_CHANGED, merge_to_folder
from callama.weights.source import DTYPES


def merge(
    base: Annotated[Path, typer.Argument(help="Native checkpoint that the adapter was trained on.")],
    adapter: Annotated[Path, typer.Argument(help="Adapter folder, or a training job's folder (its newest is taken).")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    dtype: Annotated[str | None, typer.Option(help=f"One of {', '.join(DTYPES)}; default: the base's.")] = None,
    max_changed: Annotated[
        float, typer.Option(min=0, max=1, help="Largest share of greedy tokens that rounding may change; else refused.")
    ] = MAX_CHANGED,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Add a LoRA adapter to its base, in fp32, and write the merged native checkpoint.

    First the error of merging is measured on a probe set: logits of the adapter on its base against
    those of the merged weights, for each dtype.

    Example: callama merge models/smollm2-135m checkpoints/demo checkpoints/demo-merged
    """
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"--dtype must be one of {', '.join(DTYPES)}, found {dtype!r}")
    errors = merge_to_folder(base, adapter, out, dtype=dtype, max_changed=max_changed)
    if as_json:
        print_json({"folder": str(out), **read_manifest(out)})
    else:
        print_errors(errors)
        print(f"{out}: merged")


def print_errors(errors: dict[str, MergeError]) -> None:
    """The error of merging, a line a dtype."""
    print("merged against adapter on base:  max |Δlogit|  mean |Δlogit|  greedy tokens changed")
    for name, error in errors.items():
        print(f"  {name:28}  {error.max_logit:14.3g} {error.mean_logit:14.3g}  {error.changed_tokens:.2%}")
