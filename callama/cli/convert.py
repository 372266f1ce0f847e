"""``callama convert``: a model or adapter in one format becomes the same in another."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from callama.cli.common import print_json
from callama.common.errors import UsageError
from callama.common.files import read_manifest
from callama.weights.convert import TARGETS, Target
from callama.weights.convert import convert as convert_model
from callama.weights.source import DTYPES

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


def convert(
    source: Annotated[Path, typer.Argument(help="Native, Meta or Hugging Face folder, .gguf file, or adapter.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; a file for gguf.")],
    to: Annotated[str, typer.Option("--to", help=f"One of {', '.join(TARGETS)}.")],
    dtype: Annotated[str | None, typer.Option(help=f"One of {', '.join(DTYPES)}; default: the source's.")] = None,
    shard_size: Annotated[str | None, typer.Option(help="Weights per file of --to hf; default 5GB.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Convert a model, or with --to peft an adapter; the source's kind is seen from its files.

    What callama wrote is held against the checksums in its MANIFEST.json (or GGUF file) while it is read.

    Example: callama convert checkpoints/demo-merged exports/demo-hf --to hf
    """
    if to not in TARGETS:
        raise UsageError(f"--to must be one of {', '.join(TARGETS)}, found {to!r}")
    target: Target = to  # type: ignore[assignment]
    convert_model(source, out, target, dtype=dtype, shard_size=_bytes(shard_size))
    if as_json:
        print_json({"out": str(out), **(read_manifest(out) if out.is_dir() else {"bytes": out.stat().st_size})})
    else:
        print(f"{out}: {to}")


def _bytes(text: str | None) -> int | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)([KMG]B)", text.strip().upper())
    if match is None or (size := int(float(match[1]) * _UNITS[match[2]])) <= 0:
        raise UsageError(f"--shard-size must be a size such as 500MB or 5GB, found {text!r}")
    return size
