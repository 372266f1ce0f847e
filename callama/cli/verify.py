"""``callama verify``: is a folder still what its manifest says?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from callama.cli.common import print_json
from callama.common.verify import verify_folder


def verify(
    folder: Annotated[Path, typer.Argument(help="A folder that callama wrote.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Check every file of a folder against the sha256 in its MANIFEST.json.

    Example: callama verify models/smollm2-135m
    """
    result = verify_folder(folder)
    if as_json:
        print_json({"folder": str(folder), "files": result.files, "bytes": result.nbytes, "extra": result.extra})
        return
    print(f"{folder}: {result.files} files, {result.nbytes:,} bytes, all as in MANIFEST.json")
    for name in result.extra:
        print(f"  not in the manifest: {name}")
