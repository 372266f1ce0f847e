"""``callama verify``: is a folder, or a GGUF file, still what callama wrote?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from callama.cli.common import print_json
from callama.common.verify import Verified, verify_folder
from callama.weights.gguf_in import verify_gguf


def verify(
    place: Annotated[Path, typer.Argument(help="A folder, or a .gguf file, that callama wrote.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Check every file of a folder against the sha256 in its MANIFEST.json, or a .gguf file against its own CRC-32.

    Example: callama verify models/smollm2-135m
    """
    result = Verified(1, verify_gguf(place), []) if place.is_file() else verify_folder(place)
    if as_json:
        print_json({"folder": str(place), "files": result.files, "bytes": result.nbytes, "extra": result.extra})
        return
    if place.is_file():
        print(f"{place}: {result.nbytes:,} bytes, as the CRC-32 inside says")
        return
    print(f"{place}: {result.files} files, {result.nbytes:,} bytes, all as in MANIFEST.json")
    for name in result.extra:
        print(f"  not in the manifest: {name}")
